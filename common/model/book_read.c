/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a whole book in pieces: head, pages of HSCAN, head again. */
#include "common/base/str.h"
#include "common/io/redis.h"
#include "common/model/book_redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_SIZE = 128, CURSOR_SIZE = 32, FIELD_SIZE = BOOK_ACCOUNT_SIZE + 2 };

struct book_reading {
    struct redis *redis;
    struct book_reader reader;
    void *arg;
    char *tenant;
    char generation[ADMISSION_GENERATION_SIZE];
    int64_t version;
    bool is_last; /* the head that comes is the second */
};

static void end(struct book_reading *reading, enum book_outcome outcome)
{
    reading->reader.on_end(outcome, reading->generation, reading->version, reading->arg);
    free(reading->tenant);
    free(reading);
}

/* The next word of a record up to a space; false at the end. */
static bool take_number(const char **at, const char *stop, int64_t *out)
{
    const char *space = memchr(*at, ' ', (size_t)(stop - *at));
    const char *word_end = space ? space : stop;
    bool ok = str_to_i64(*at, (size_t)(word_end - *at), out);

    *at = space ? space + 1 : stop;
    return ok;
}

static void give_record(struct book_reading *reading, const char *name, const char *value,
                        size_t len)
{
    struct book_record_found record = {.is_unknown = value[0] == 'U'};
    const char *at = value + 2;

    if (len < 3 || value[1] != ' ' || (value[0] != 'R' && value[0] != 'U') ||
        !admission_name_parse(name, strlen(name), &record.job, &record.run, &record.call) ||
        !take_number(&at, value + len, &record.amount_nano) ||
        !take_number(&at, value + len, &record.at_us) ||
        !take_number(&at, value + len, &record.owner))
        return;
    record.accounts = at;
    reading->reader.on_record(&record, reading->arg);
}

/* Replies end with a NUL that is not counted, so their texts serve as strings. */
static void give(struct book_reading *reading, const struct redis_reply *field,
                 const struct redis_reply *value)
{
    struct book_account account = {.account = NULL};

    if (field->kind != REDIS_TEXT || value->kind != REDIS_TEXT || field->len < 2)
        return;
    if (memcmp(field->text, "r:", 2) == 0) {
        give_record(reading, field->text + 2, value->text, value->len);
    } else if (memcmp(field->text, "a:", 2) == 0 &&
               book_account_read(value->text, value->len, &account)) {
        account.account = field->text + 2;
        reading->reader.on_account(&account, reading->arg);
    }
}

static void scan(struct book_reading *reading, const char *cursor);
static void on_head(const struct book_head *head, void *arg);

static void on_page(const struct redis_reply *reply, void *arg)
{
    struct book_reading *reading = arg;
    const struct redis_reply *page;
    char cursor[CURSOR_SIZE];

    if (reply->kind != REDIS_LIST || reply->count != 2 || reply->items[0].kind != REDIS_TEXT ||
        reply->items[1].kind != REDIS_LIST || !redis_base(reading->redis)) {
        end(reading, BOOK_AWAY);
        return;
    }
    page = &reply->items[1];
    for (size_t i = 0; i + 1 < page->count; i += 2)
        give(reading, &page->items[i], &page->items[i + 1]);
    snprintf(cursor, sizeof(cursor), "%s", reply->items[0].text);
    if (strcmp(cursor, "0") != 0) {
        scan(reading, cursor);
        return;
    }
    reading->is_last = true;
    book_head(reading->redis, reading->tenant, on_head, reading);
}

static void scan(struct book_reading *reading, const char *cursor)
{
    char key[KEY_SIZE];
    const char *const args[] = {"HSCAN", key, cursor, "COUNT", "1000"};

    snprintf(key, sizeof(key), "{t:%s}:book", reading->tenant);
    redis_command(reading->redis, args, NULL, 5, on_page, reading);
}

static void on_head(const struct book_head *head, void *arg)
{
    struct book_reading *reading = arg;

    if (head->is_away) {
        end(reading, BOOK_AWAY);
    } else if (reading->is_last) {
        end(reading,
            head->version == reading->version && strcmp(head->generation, reading->generation) == 0
                ? BOOK_DONE
                : BOOK_NOT_OURS);
    } else {
        snprintf(reading->generation, sizeof(reading->generation), "%s", head->generation);
        reading->version = head->version;
        scan(reading, "0");
    }
}

void book_read(struct redis *redis, const char *tenant, const struct book_reader *reader, void *arg)
{
    struct book_reading *reading = xcalloc(1, sizeof(*reading));

    reading->redis = redis;
    reading->reader = *reader;
    reading->arg = arg;
    reading->tenant = xstrdup(tenant);
    book_head(redis, tenant, on_head, reading);
}
