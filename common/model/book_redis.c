/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a tenant's book in Redis: mark, write, publish, and small questions about it. */
#include "common/model/book_redis.h"

#include "common/base/str.h"
#include "common/model/script.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 0x1p62 /* beyond all amounts, and an int64_t holds it */

enum { RECORD_SIZE = 128 + BOOK_RECORD_ACCOUNTS_MAX * BOOK_ACCOUNT_SIZE };

struct book_call {
    union {
        book_done_fn *plain;
        book_head_fn *head;
        book_accounts_fn *accounts;
    } done;
    void *arg;
    /* Of book_accounts: the names, for the answer. */
    char **names;
    size_t name_count;
};

static struct book_call *call_new(void *arg)
{
    struct book_call *call = xcalloc(1, sizeof(*call));

    call->arg = arg;
    return call;
}

static void call_free(struct book_call *call)
{
    for (size_t i = 0; i < call->name_count; i++)
        free(call->names[i]);
    free(call->names);
    free(call);
}

static void begin(struct script_args *args, const char *tenant, const char *what,
                  const char *generation)
{
    script_args_init(args);
    script_args_add_prefix(args, 't', tenant);
    script_args_add(args, what);
    script_args_add(args, generation);
}

static void send(struct redis *redis, const char *run_id, struct script_args *args,
                 script_done_fn *done, struct book_call *call)
{
    const struct script_spec spec = {.script = SCRIPT_BOOK, .args = args, .run_id = run_id};

    script_call(redis, &spec, done, call);
}

static void on_plain(enum script_result result, const struct redis_reply *reply, bool may_have_run,
                     void *arg)
{
    struct book_call *call = arg;
    enum book_outcome outcome = BOOK_AWAY;

    (void)may_have_run;
    if (result == SCRIPT_ANSWERED && reply->kind == REDIS_INT)
        outcome = reply->number == 1 ? BOOK_DONE : BOOK_NOT_OURS;
    if (call->done.plain)
        call->done.plain(outcome, call->arg);
    call_free(call);
}

static void send_plain(struct redis *redis, const char *run_id, struct script_args *args,
                       book_done_fn *done, void *arg)
{
    struct book_call *call = call_new(arg);

    call->done.plain = done;
    send(redis, run_id, args, on_plain, call);
}

void book_mark(struct redis *redis, const char *run_id, const char *tenant, const char *generation,
               book_done_fn *done, void *arg)
{
    struct script_args args;

    begin(&args, tenant, "mark", generation);
    send_plain(redis, run_id, &args, done, arg);
}

static void add_account(struct script_args *args, const struct book_account *account)
{
    const int64_t numbers[] = {account->spent_nano, account->reserved_nano, account->unknown_nano};
    char name[BOOK_ACCOUNT_SIZE + 2];

    snprintf(name, sizeof(name), "a:%s", account->account);
    script_args_add(args, name);
    script_args_add_packed(args, numbers, sizeof(numbers) / sizeof(numbers[0]));
}

static void add_record(struct script_args *args, const struct book_record *record)
{
    char name[ADMISSION_NAME_SIZE];
    char field[ADMISSION_NAME_SIZE + 2];
    char value[RECORD_SIZE];
    int len;

    admission_name_format(record->job, record->run, record->call, name);
    snprintf(field, sizeof(field), "r:%s", name);
    len =
        snprintf(value, sizeof(value), "%c %" PRId64 " %" PRId64 " %" PRId64,
                 record->is_unknown ? 'U' : 'R', record->amount_nano, record->at_us, record->owner);
    for (int i = 0; i < record->account_count && i < BOOK_RECORD_ACCOUNTS_MAX; i++)
        len += snprintf(value + len, sizeof(value) - (size_t)len, " %s", record->accounts[i]);
    script_args_add(args, field);
    script_args_add(args, value);
}

void book_write(struct redis *redis, const char *run_id, const char *tenant, const char *generation,
                const struct book_account *accounts, size_t account_count,
                const struct book_record *records, size_t record_count, book_done_fn *done,
                void *arg)
{
    struct script_args args;

    begin(&args, tenant, "write", generation);
    for (size_t i = 0; i < account_count; i++)
        add_account(&args, &accounts[i]);
    for (size_t i = 0; i < record_count; i++)
        add_record(&args, &records[i]);
    send_plain(redis, run_id, &args, done, arg);
}

void book_publish(struct redis *redis, const char *run_id, const char *tenant,
                  const char *generation, size_t fields, book_done_fn *done, void *arg)
{
    struct script_args args;

    begin(&args, tenant, "publish", generation);
    script_args_add_number(&args, (int64_t)fields);
    send_plain(redis, run_id, &args, done, arg);
}

void book_prune(struct redis *redis, const char *tenant, const char *generation,
                const char *const *accounts, size_t count, book_done_fn *done, void *arg)
{
    char name[BOOK_ACCOUNT_SIZE + 2];
    struct script_args args;

    begin(&args, tenant, "prune", generation);
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "a:%s", accounts[i]);
        script_args_add(&args, name);
    }
    send_plain(redis, NULL, &args, done, arg);
}

void book_forget(struct redis *redis, const char *tenant, const char *generation,
                 book_done_fn *done, void *arg)
{
    struct script_args args;

    begin(&args, tenant, "forget", generation);
    send_plain(redis, NULL, &args, done, arg);
}

/* --- questions -------------------------------------------------------------------------------- */

static void on_head(enum script_result result, const struct redis_reply *reply, bool may_have_run,
                    void *arg)
{
    struct book_call *call = arg;
    struct book_head head = {.is_away = true, .generation = ""};

    (void)may_have_run;
    if (result == SCRIPT_ANSWERED && reply->kind == REDIS_LIST && reply->count == 4 &&
        reply->items[0].kind == REDIS_TEXT)
        head = (struct book_head){.generation = reply->items[0].text,
                                  .version = reply->items[1].number,
                                  .live = reply->items[2].number,
                                  .fields = reply->items[3].number};
    call->done.head(&head, call->arg);
    call_free(call);
}

void book_head(struct redis *redis, const char *tenant, book_head_fn *done, void *arg)
{
    struct book_call *call = call_new(arg);
    struct script_args args;

    call->done.head = done;
    begin(&args, tenant, "head", "");
    send(redis, NULL, &args, on_head, call);
}

/* As script_args_add_packed writes it. */
static bool read_number(const char *bytes, int64_t *out)
{
    uint64_t bits = 0;
    double number;

    for (size_t i = sizeof(bits); i-- > 0;)
        bits = bits << 8 | (uint8_t)bytes[i];
    memcpy(&number, &bits, sizeof(number));
    if (!(number >= -NUMBER_MAX && number <= NUMBER_MAX))
        return false;
    *out = (int64_t)number;
    return true;
}

bool book_account_read(const char *bytes, size_t len, struct book_account *out)
{
    return len == 3 * sizeof(double) && read_number(bytes, &out->spent_nano) &&
           read_number(bytes + sizeof(double), &out->reserved_nano) &&
           read_number(bytes + 2 * sizeof(double), &out->unknown_nano);
}

static void on_accounts(enum script_result result, const struct redis_reply *reply,
                        bool may_have_run, void *arg)
{
    struct book_call *call = arg;
    bool ok =
        result == SCRIPT_ANSWERED && reply->kind == REDIS_LIST && reply->count == call->name_count;
    struct book_account *values = ok ? xcalloc(call->name_count + 1, sizeof(*values)) : NULL;

    (void)may_have_run;
    for (size_t i = 0; ok && i < call->name_count; i++) {
        const struct redis_reply *value = &reply->items[i];

        if (value->kind == REDIS_TEXT)
            ok = book_account_read(value->text, value->len, &values[i]);
        values[i].account = call->names[i];
    }
    call->done.accounts(ok ? values : NULL, ok ? call->name_count : 0, call->arg);
    free(values);
    call_free(call);
}

void book_accounts(struct redis *redis, const char *run_id, const char *tenant,
                   const char *generation, const char *const *accounts, size_t count,
                   book_accounts_fn *done, void *arg)
{
    struct book_call *call = call_new(arg);
    char name[BOOK_ACCOUNT_SIZE + 2];
    struct script_args args;

    call->done.accounts = done;
    call->names = xcalloc(count + 1, sizeof(*call->names));
    begin(&args, tenant, "accounts", generation);
    for (size_t i = 0; i < count; i++) {
        call->names[call->name_count++] = xstrdup(accounts[i]);
        snprintf(name, sizeof(name), "a:%s", accounts[i]);
        script_args_add(&args, name);
    }
    send(redis, run_id, &args, on_accounts, call);
}
