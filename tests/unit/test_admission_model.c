/* SPDX-License-Identifier: Apache-2.0 */
/* The scripts of admission in a real Redis against a plain model in C: random steps of reserve,
 * intent, settle, release, unknown, repeat, expire, flush and rebuild, every reply compared, and
 * every so often everything that is kept.
 *
 * MODEL_STEPS says how many (`make model`: a million), MODEL_SEED which.  The scripts run with a
 * clock of the test's own in KEYS[2] and without times to live: a time to live is a step here. */
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/redis.h"
#include "common/model/admission_wire.h"
#include "common/model/book_redis.h"
#include "common/model/limit_cache.h"
#include "tests/unit/admission_model_fixture.h"
#include "tests/unit/redis_fixture.h"

#include <event2/event.h>

#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STEPS_DEFAULT = 20000 };
#else
enum { STEPS_DEFAULT = 100000 };
#endif

/* A reply: numbers, and a text when it is a stale book's generation. */
struct expected {
    int step;
    const char *what;
    int count; /* of numbers; 1: an integer */
    int64_t numbers[EXPECT_MAX];
    bool has_text;
    char text[64];
};

/* How the story goes, and what waits for its reply. */
static struct story {
    struct event_base *base;
    struct redis *redis;
    char *sha[SCRIPT_COUNT];
    uint64_t random;
    int day;
    int step;
    int next;                                /* number of the next call */
    struct expected expected[PIPELINE + 64]; /* a ring */
    int64_t sent, answered;
    int64_t kinds[16];
    char found[1024];
} m;

static struct redis_fixture *server;

static uint64_t draw(uint64_t below)
{
    m.random ^= m.random << 13;
    m.random ^= m.random >> 7;
    m.random ^= m.random << 17;
    return (m.random >> 11) % below;
}

/* --- talking to Redis ------------------------------------------------------------------------- */

static void on_reply(const struct redis_reply *reply, void *arg)
{
    const struct expected *expected = arg;
    bool ok = true;

    m.answered++;
    if (expected->count == 1 && !expected->has_text) {
        ok = reply->kind == REDIS_INT && reply->number == expected->numbers[0];
    } else if (expected->count > 0) {
        ok = reply->kind == REDIS_LIST &&
             reply->count == (size_t)expected->count + expected->has_text;
        for (int i = 0; ok && i < expected->count; i++)
            ok =
                reply->items[i].kind == REDIS_INT && reply->items[i].number == expected->numbers[i];
        if (ok && expected->has_text)
            ok = reply->items[1].kind == REDIS_TEXT &&
                 strcmp(reply->items[1].text, expected->text) == 0;
    }
    if (ok && reply->kind != REDIS_LOST && reply->kind != REDIS_ERROR)
        return;
    fprintf(stderr, "step %d, %s: expected", expected->step, expected->what);
    for (int i = 0; i < expected->count; i++)
        fprintf(stderr, " %" PRId64, expected->numbers[i]);
    fprintf(stderr, " %s; got kind %d %" PRId64 " %s", expected->text, (int)reply->kind,
            reply->number, reply->text ? reply->text : "");
    for (size_t i = 0; i < reply->count; i++)
        fprintf(stderr, " %" PRId64 "%s", reply->items[i].number,
                reply->items[i].text ? reply->items[i].text : "");
    fprintf(stderr, "\n");
    fail_msg("the model and Redis differ");
}

static void turn_until(int64_t left)
{
    while (m.sent - m.answered > left)
        event_base_loop(m.base, EVLOOP_ONCE);
}

static void send_words(const char *const *words, const size_t *lens, int count,
                       const struct expected *expected)
{
    struct expected *slot = &m.expected[m.sent % (PIPELINE + 64)];

    if (m.sent - m.answered >= PIPELINE)
        turn_until(PIPELINE / 2);
    *slot = *expected;
    slot->step = m.step;
    m.sent++;
    redis_command(m.redis, words, lens, count, on_reply, slot);
}

static void send_script(enum script script, const struct script_args *args,
                        const struct expected *expected)
{
    const char *words[64] = {"EVALSHA", m.sha[script], "2", script_args_get(args, 0)};
    size_t lens[64];
    char now[32];
    int count = 4;

    snprintf(now, sizeof(now), "%" PRId64, kept.now_us);
    words[count++] = now;
    for (int i = 0; i < count; i++)
        lens[i] = strlen(words[i]);
    for (size_t i = 1; i < args->count; i++) {
        lens[count] = script_args_len(args, i);
        words[count++] = script_args_get(args, i);
    }
    send_words(words, lens, count, expected);
}

/* A plain command whose reply does not matter. */
static void send_plain(const char *a, const char *b, const char *c)
{
    const char *const words[] = {a, b, c};
    const struct expected any = {.what = a};

    send_words(words, NULL, c ? 3 : b ? 2 : 1, &any);
}

static void on_found(const struct redis_reply *reply, void *arg)
{
    (void)arg;
    m.answered++;
    m.found[0] = '\0';
    if (reply->kind == REDIS_TEXT)
        snprintf(m.found, sizeof(m.found), "%s", reply->text);
    else if (reply->kind == REDIS_INT)
        snprintf(m.found, sizeof(m.found), "%" PRId64, reply->number);
    else if (reply->kind == REDIS_ERROR)
        fail_msg("%s", reply->text);
}

/* Asks at once. */
static const char *look_for(const char *const *words, int count)
{
    turn_until(0);
    m.sent++;
    redis_command(m.redis, words, NULL, count, on_found, NULL);
    turn_until(0);
    return m.found;
}

static const char *look(const char *a, const char *b, const char *c)
{
    const char *const words[] = {a, b, c};

    return look_for(words, c ? 3 : b ? 2 : 1);
}

static const char *look_in_book(const char *key, const char *field)
{
    const char *const words[] = {"EVAL", redis_book_script, "1", key, field};

    return look_for(words, 5);
}

/* How many leases stand in the state of a scope. */
static const char *look_leases(const char *key)
{
    const char *const words[] = {"EVAL", redis_leases_script, "1", key};

    return look_for(words, 4);
}

/* --- steps ------------------------------------------------------------------------------------ */

static void ask(struct call *call, int asked_generation)
{
    const struct applied_limit limits[] = {
        {LIMIT_TENANT, "", &kept.limits[call->tenant].tenant},
        {LIMIT_WORKFLOW, workflow_name(call->workflow), &kept.limits[call->tenant].workflow}};
    struct budget_windows windows = {0};
    char generation[48] = "";
    const struct admission_request request = {.tenant = tenant_name(call->tenant),
                                              .job = model_job(call->number),
                                              .run = 1,
                                              .call = 1,
                                              .run_token = 5,
                                              .lease_s = LEASE_S,
                                              .tokens = call->tokens,
                                              .amount_nano = call->amount,
                                              .limits = limits,
                                              .limit_count = SCOPES,
                                              .windows = has_money(call->tenant) ? &windows : NULL,
                                              .generation = generation};
    struct book *book = &kept.books[call->tenant];
    bool has_rates = call->tenant != 1;
    struct expected expected = {.what = "ask", .count = 1};
    struct refusal worst = {.wait = -1};
    struct scope scopes[SCOPES];
    struct call taken = {.number = 0};
    struct script_args args;
    struct wire_map map;

    windows_of(call->day, &windows);
    generation_text(asked_generation, generation);
    script_args_init(&args);
    assert_true(wire_tenant(&request, &args, &map));
    if (has_money(call->tenant) &&
        (book->state != BOOK_LIVE || book->generation != asked_generation)) {
        expected.has_text = true;
        expected.numbers[0] = 3;
        if (book->state != BOOK_NONE) {
            generation_text(book->generation, generation);
            snprintf(expected.text, sizeof(expected.text), "%s%s",
                     book->state == BOOK_BUILDING ? "building:" : "", generation);
        }
        send_script(SCRIPT_ADMIT, &args, &expected);
        script_args_release(&args);
        return;
    }
    if (has_money(call->tenant) && !call->has_record)
        model_money(call, &worst);
    if (has_rates && !call->has_rates)
        model_rates(call, scopes, &taken, &worst);
    if (worst.wait >= 0) {
        expected =
            (struct expected){.what = "ask refused",
                              .count = 8,
                              .numbers = {worst.is_never ? 2 : 1, worst.dimension, worst.index,
                                          worst.wait, worst.interval, worst.limit, worst.free, 0}};
        m.kinds[1]++;
        m.kinds[REFUSALS + worst.dimension]++;
    } else {
        if (has_money(call->tenant) && !call->has_record)
            take_money(call);
        if (has_rates && !call->has_rates)
            take_rates(call, scopes, &taken);
        expected.numbers[0] = (has_money(call->tenant) ? 1 : 0) + (has_rates ? 2 : 0);
        if (call->ledger == NONE) {
            call->ledger = RESERVED;
            call->generation = asked_generation;
        }
        m.kinds[0]++;
    }
    send_script(SCRIPT_ADMIT, &args, &expected);
    script_args_release(&args);
}

static void settle(struct call *call, char how)
{
    static const struct {
        char how;
        enum admission_end end;
    } ends[] = {{'S', ADMISSION_SETTLED},
                {'R', ADMISSION_RELEASED},
                {'U', ADMISSION_UNKNOWN},
                {'X', ADMISSION_UNDONE}};
    bool is_back = how == 'R' || how == 'X';
    unsigned parts = (has_money(call->tenant) ? 1 : 0) + (call->tenant != 1 ? 2 : 0);
    int64_t used = how == 'U' ? -1 : call->used;
    struct expected expected = {.what = "settle", .count = 1};
    enum admission_end end = ADMISSION_SETTLED;
    char name[ADMISSION_NAME_SIZE];
    struct script_args args;

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (ends[i].how == how)
            end = ends[i].end;
    name_of(call, name);
    script_args_init(&args);
    wire_settle('t', tenant_name(call->tenant), name, end, call->cost, used, parts, &args);
    if (call->has_rates)
        end_rates(call, is_back ? 0 : used, how == 'X');
    call->owes = false;
    if (has_money(call->tenant) && !model_settle_money(call, how, call->cost)) {
        expected.numbers[0] = 1;
        call->owes = true;
        call->owed = how;
    }
    send_script(SCRIPT_SETTLE, &args, &expected);
    script_args_release(&args);
    m.kinds[2]++;
}

/* The ledger first, Redis second. */
static void settle_as_the_ledger_may(struct call *call)
{
    static const char sent_ends[] = {'S', 'S', 'S', 'R', 'U', 'U'};
    char how;

    switch (call->ledger) {
    case RESERVED: /* the intent was never written */
        call->ledger = RELEASED;
        settle(call, 'X');
        return;
    case SENT:
        how = sent_ends[draw(sizeof(sent_ends))];
        break;
    case UNKNOWN:
        how = draw(4) == 0 ? 'S' : 'U';
        break;
    default:
        return;
    }
    call->ledger = how == 'S' ? SETTLED : how == 'R' ? RELEASED : UNKNOWN;
    settle(call, how);
}

/* What was said before, again: nothing may change.  Only the last word is ever repeated. */
static void repeat_settle(struct call *call)
{
    if (call->ledger == SETTLED)
        settle(call, 'S');
    else if (call->ledger == RELEASED)
        settle(call, 'R');
    else if (call->ledger == UNKNOWN)
        settle(call, 'U');
}

/* The intent: only under the generation it was reserved with. */
static void intent(struct call *call)
{
    const struct book *book = &kept.books[call->tenant];

    if (call->ledger != RESERVED)
        return;
    if (!has_money(call->tenant) || call->generation == book->ledger_generation)
        call->ledger = SENT;
    else
        settle_as_the_ledger_may(call);
}

/* Redis forgets what a call took when its lease has ended. */
static void expire(struct call *call)
{
    char name[ADMISSION_NAME_SIZE];
    char key[128];

    if (!call->has_rates || call->rates_until_us > kept.now_us)
        return;
    name_of(call, name);
    snprintf(key, sizeof(key), "{t:%s}:h:%s", tenant_name(call->tenant), name);
    send_plain("DEL", key, NULL);
    call->has_rates = false;
    m.kinds[3]++;
}

static void forget_book(struct book *book)
{
    int ledger_generation = book->ledger_generation;

    memset(book, 0, sizeof(*book));
    book->ledger_generation = ledger_generation;
}

static void forget_records(int tenant)
{
    for (int i = 0; i < NAMES; i++)
        if (kept.calls[i].tenant == tenant)
            kept.calls[i].has_record = kept.calls[i].is_unknown = false;
}

static void flush(void)
{
    send_plain("FLUSHALL", NULL, NULL);
    for (int i = 0; i < TENANTS; i++) {
        forget_book(&kept.books[i]);
        forget_records(i);
        kept.tenant_scopes[i] = (struct scope){.exists = false};
        for (int w = 0; w < WORKFLOWS; w++)
            kept.workflow_scopes[i][w] = (struct scope){.exists = false};
    }
    for (int i = 0; i < NAMES; i++)
        kept.calls[i].has_rates = false;
    m.kinds[4]++;
}

/* --- rebuilding ------------------------------------------------------------------------------- */

static void book_args(struct script_args *args, int tenant, const char *what, int generation)
{
    char text[48];

    generation_text(generation, text);
    script_args_init(args);
    script_args_add_prefix(args, 't', tenant_name(tenant));
    script_args_add(args, what);
    script_args_add(args, text);
}

static void mark(int tenant)
{
    const struct expected expected = {.what = "mark", .count = 1, .numbers = {1}};
    struct book *book = &kept.books[tenant];
    struct script_args args;
    int generation = ++book->ledger_generation;

    forget_book(book);
    forget_records(tenant);
    book->state = BOOK_BUILDING;
    book->generation = generation;
    book_args(&args, tenant, "mark", generation);
    send_script(SCRIPT_BOOK, &args, &expected);
    script_args_release(&args);
    m.kinds[5]++;
}

/* Old calls of the ledger that have left the window of names are in base. */
static struct account base_days[TENANTS][DAYS], base_months[TENANTS][DAYS];
static struct account base_workflows[TENANTS][WORKFLOWS][DAYS];

/* What the ledger holds of a call, added to accounts. */
static void add_ledger(const struct call *call, struct account *accounts[ACCOUNTS])
{
    for (int i = 0; i < ACCOUNTS; i++) {
        if (call->ledger != SENT && call->ledger != UNKNOWN && call->ledger != SETTLED)
            continue;
        accounts[i]->exists = true;
        accounts[i]->spent += call->ledger == SETTLED ? call->cost : 0;
        accounts[i]->reserved += call->ledger == SENT ? call->amount : 0;
        accounts[i]->unknown += call->ledger == UNKNOWN ? call->amount : 0;
    }
}

static void write_field(int tenant, const char *field, const char *value)
{
    const struct expected expected = {.what = "write", .count = 1, .numbers = {1}};
    struct script_args args;

    book_args(&args, tenant, "write", kept.books[tenant].generation);
    script_args_add(&args, field);
    script_args_add(&args, value);
    send_script(SCRIPT_BOOK, &args, &expected);
    script_args_release(&args);
}

static void write_numbers(int tenant, const char *field, const int64_t numbers[3])
{
    const struct expected expected = {.what = "write", .count = 1, .numbers = {1}};
    struct script_args args;

    book_args(&args, tenant, "write", kept.books[tenant].generation);
    script_args_add(&args, field);
    script_args_add_packed(&args, numbers, 3);
    send_script(SCRIPT_BOOK, &args, &expected);
    script_args_release(&args);
}

static int write_account(int tenant, const char *scope, const char *window_format, int window,
                         const struct account *account)
{
    const int64_t numbers[] = {account->spent, account->reserved, account->unknown};
    char field[128];
    char window_id[16];

    if (!account->exists)
        return 0;
    snprintf(window_id, sizeof(window_id), window_format[0] == 'd' ? "d%08d" : "m%06d", window);
    snprintf(field, sizeof(field), "a:%s|%s", scope, window_id);
    write_numbers(tenant, field, numbers);
    return 1;
}

static int write_record(struct call *call)
{
    char accounts[ACCOUNTS][BOOK_ACCOUNT_SIZE];
    char name[ADMISSION_NAME_SIZE];
    char field[ADMISSION_NAME_SIZE + 2];
    char value[4 * BOOK_ACCOUNT_SIZE];

    if (call->ledger != SENT && call->ledger != UNKNOWN)
        return 0;
    account_names_of(call, accounts);
    name_of(call, name);
    snprintf(field, sizeof(field), "r:%s", name);
    snprintf(value, sizeof(value), "%c %" PRId64 " 1 5 %s %s %s", call->ledger == SENT ? 'R' : 'U',
             call->amount, accounts[0], accounts[1], accounts[2]);
    write_field(call->tenant, field, value);
    call->has_record = true;
    call->is_unknown = call->ledger == UNKNOWN;
    kept.books[call->tenant].live += call->ledger == SENT;
    return 1;
}

/* From the ledger alone. */
static void publish(int tenant)
{
    const struct expected expected = {.what = "publish", .count = 1, .numbers = {1}};
    struct book *book = &kept.books[tenant];
    struct script_args args;
    int fields = 0;
    int first = m.day > 8 ? m.day - 8 : 0; /* current windows and some before */

    memcpy(book->days, base_days[tenant], sizeof(book->days));
    memcpy(book->months, base_months[tenant], sizeof(book->months));
    memcpy(book->workflow_days, base_workflows[tenant], sizeof(book->workflow_days));
    for (int i = 0; i < NAMES; i++) {
        struct account *accounts[ACCOUNTS];

        if (kept.calls[i].number == 0 || kept.calls[i].tenant != tenant)
            continue;
        accounts_of(&kept.calls[i], accounts);
        add_ledger(&kept.calls[i], accounts);
        fields += write_record(&kept.calls[i]);
    }
    for (int day = 0; day <= m.day; day++) {
        if (day < first) { /* not asked for any more: left out */
            book->days[day].exists = book->workflow_days[0][day].exists = false;
            book->workflow_days[1][day].exists = false;
        }
        fields += write_account(tenant, "tenant", "d", day, &book->days[day]);
        fields += write_account(tenant, "workflow:nightly", "d", day, &book->workflow_days[0][day]);
        fields += write_account(tenant, "workflow:hourly", "d", day, &book->workflow_days[1][day]);
        if (day % 4 == 0)
            fields += write_account(tenant, "tenant", "m", day / 4, &book->months[day / 4]);
    }
    book_args(&args, tenant, "publish", book->generation);
    script_args_add_number(&args, fields);
    send_script(SCRIPT_BOOK, &args, &expected);
    script_args_release(&args);
    book->state = BOOK_LIVE;
    book->version = 1;
    m.kinds[6]++;
}

/* What waited for the rebuild is said again. */
static void pay_debts(int tenant)
{
    for (int i = 0; i < NAMES; i++)
        if (kept.calls[i].number > 0 && kept.calls[i].tenant == tenant && kept.calls[i].owes)
            settle(&kept.calls[i], kept.calls[i].owed);
}

/* --- what is kept, compared ------------------------------------------------------------------- */

static void check_account(int tenant, const char *scope, const char *window,
                          const struct account *account)
{
    char key[64];
    char field[128];
    char value[96] = "";

    snprintf(key, sizeof(key), "{t:%s}:book", tenant_name(tenant));
    snprintf(field, sizeof(field), "a:%s|%s", scope, window);
    if (account->exists)
        snprintf(value, sizeof(value), "%" PRId64 " %" PRId64 " %" PRId64, account->spent,
                 account->reserved, account->unknown);
    assert_string_equal(look_in_book(key, field), value);
}

/* When nothing is owed, Redis is the ledger to the nano-dollar. */
static void check_ledger(int tenant)
{
    struct account days[1], months[1];
    const struct book *book = &kept.books[tenant];

    days[0] = base_days[tenant][m.day];
    months[0] = base_months[tenant][m.day / 4];
    for (int i = 0; i < NAMES; i++) {
        const struct call *call = &kept.calls[i];
        struct account ignored = {.exists = false};
        struct account *accounts[ACCOUNTS] = {&ignored, &ignored, &ignored};

        if (call->number == 0 || call->tenant != tenant)
            continue;
        if (call->owes)
            return;
        accounts[0] = call->day == m.day ? &days[0] : &ignored;
        accounts[1] = call->day / 4 == m.day / 4 ? &months[0] : &ignored;
        add_ledger(call, accounts);
        if (call->ledger == RESERVED && call->has_record) {
            accounts[0]->reserved += call->amount;
            accounts[1]->reserved += call->amount;
        }
    }
    assert_int_equal(days[0].spent, book->days[m.day].spent);
    assert_int_equal(days[0].reserved, book->days[m.day].reserved);
    assert_int_equal(days[0].unknown, book->days[m.day].unknown);
    assert_int_equal(months[0].spent, book->months[m.day / 4].spent);
    assert_int_equal(months[0].reserved, book->months[m.day / 4].reserved);
}

static void look_at_all(void)
{
    struct budget_windows windows;
    char key[64];
    char number[32];

    windows_of(m.day, &windows);
    for (int tenant = 0; tenant < TENANTS; tenant++) {
        const struct book *book = &kept.books[tenant];

        snprintf(key, sizeof(key), "{t:%s}:m:tenant", tenant_name(tenant));
        snprintf(number, sizeof(number), "%d", kept.tenant_scopes[tenant].lease_count);
        assert_string_equal(look_leases(key), number);
        if (!has_money(tenant) || book->state != BOOK_LIVE)
            continue;
        snprintf(key, sizeof(key), "{t:%s}:book", tenant_name(tenant));
        snprintf(number, sizeof(number), "%" PRId64, book->version);
        assert_string_equal(look_in_book(key, "ver"), number);
        snprintf(number, sizeof(number), "%" PRId64, book->live);
        assert_string_equal(look_in_book(key, "live"), number);
        check_account(tenant, "tenant", windows.id[BUDGET_DAY], &book->days[m.day]);
        check_account(tenant, "tenant", windows.id[BUDGET_MONTH], &book->months[m.day / 4]);
        for (int w = 0; w < WORKFLOWS; w++) {
            char scope[32];

            snprintf(scope, sizeof(scope), "workflow:%s", workflow_name(w));
            check_account(tenant, scope, windows.id[BUDGET_DAY], &book->workflow_days[w][m.day]);
        }
        check_ledger(tenant);
    }
}

/* --- the story -------------------------------------------------------------------------------- */

/* A slot of the window of names is used again: its old call must have ended for good. */
static void retire(struct call *call)
{
    struct account *accounts[ACCOUNTS];
    struct book *book = &kept.books[call->tenant];

    if (call->number == 0)
        return;
    if (book->state == BOOK_BUILDING) {
        publish(call->tenant);
        pay_debts(call->tenant);
    }
    intent(call);
    if (call->ledger == SENT || call->ledger == UNKNOWN) {
        call->ledger = SETTLED;
        settle(call, 'S');
    }
    if (call->has_record || call->has_rates)
        settle(call, call->ledger == SETTLED ? 'S' : 'X');
    accounts[0] = &base_days[call->tenant][call->day];
    accounts[1] = &base_months[call->tenant][call->day / 4];
    accounts[2] = &base_workflows[call->tenant][call->workflow][call->day];
    add_ledger(call, accounts);
}

static struct call *new_call(void)
{
    struct call *call = &kept.calls[m.next % NAMES];

    retire(call);
    *call = (struct call){.number = ++m.next,
                          .tenant = (int)draw(TENANTS),
                          .workflow = (int)draw(WORKFLOWS),
                          .amount = (int64_t)draw(1000) * 1000 + 1,
                          .tokens = (int64_t)draw(200) + 1,
                          .day = m.day};
    if (draw(200) == 0)
        call->amount = INT64_C(400000001); /* never fits */
    call->cost = (int64_t)draw((uint64_t)call->amount + 1);
    call->used = (int64_t)draw((uint64_t)call->tokens * 5 / 4 + 1);
    return call;
}

static struct call *any_call(void)
{
    int recent = m.next < NAMES ? m.next : NAMES - 8;

    return recent > 0 ? &kept.calls[((uint64_t)m.next - 1 - draw((uint64_t)recent)) % NAMES] : NULL;
}

static void pass_time(void)
{
    kept.now_us += (int64_t)draw(60000);
    if (draw(2000) == 0)
        kept.now_us += (int64_t)draw(40 * US_PER_S);
    if (draw(3000) == 0)
        kept.now_us -= (int64_t)draw(3 * US_PER_S); /* the clock is set back */
    if (draw(8000) == 0 && m.day + 1 < DAYS)
        m.day++;
}

static void rebuild_step(int tenant)
{
    struct book *book = &kept.books[tenant];

    if (!has_money(tenant))
        return;
    if (book->state == BOOK_BUILDING) {
        publish(tenant);
        pay_debts(tenant);
    } else if (book->state == BOOK_NONE || draw(40) == 0) {
        mark(tenant);
    }
}

static void take_step(void)
{
    struct call *call = any_call();
    uint64_t what = draw(1000);

    pass_time();
    if (what < 380 || !call) {
        call = new_call();
        ask(call, kept.books[call->tenant].ledger_generation);
    } else if (what < 560) {
        intent(call);
    } else if (what < 860) {
        intent(call);
        settle_as_the_ledger_may(call);
    } else if (what < 900) {
        repeat_settle(call);
    } else if (what < 930 && (call->ledger == NONE || call->ledger == RESERVED)) {
        /* By name again: after a lost reply, or because it was refused.  The ledger's windows are
         * those of the first question. */
        ask(call, call->ledger == RESERVED ? call->generation
                                           : kept.books[call->tenant].ledger_generation);
    } else if (what < 970) {
        expire(call);
    } else if (what < 998) {
        rebuild_step((int)draw(TENANTS));
    } else if (draw(30) == 0) {
        flush();
    }
}

/* --- running ---------------------------------------------------------------------------------- */

static void replace(char **text, const char *from, const char *to)
{
    struct buf out;
    const char *rest = *text;
    const char *at;
    size_t len;

    buf_init(&out, 1024 * 1024);
    while ((at = strstr(rest, from)) != NULL) {
        buf_append(&out, rest, (size_t)(at - rest));
        buf_puts(&out, to);
        rest = at + strlen(from);
    }
    buf_puts(&out, rest);
    free(*text);
    *text = buf_detach(&out, &len);
}

/* The scripts as they ship, but for the clock and the times to live. */
static void load_scripts(void)
{
    for (int i = 0; i < SCRIPT_COUNT; i++) {
        char *text = xstrdup(script_text((enum script)i));

        if (i == SCRIPT_ADMIT || i == SCRIPT_SETTLE) {
            assert_non_null(strstr(text, "local time = call('TIME')"));
            assert_non_null(strstr(text, ", 'PX', "));
        }
        replace(&text, "local time = call('TIME')", "local time = {0, KEYS[2]}");
        replace(&text, ", 'PX', ttl)", ")");
        replace(&text, ", 'PX', format('%d', lease_ms))", ")");
        m.sha[i] = xstrdup(look("SCRIPT", "LOAD", text));
        free(text);
    }
}

static void setup_limits(void)
{
    const struct limit_set none = {-1, -1, -1, -1, -1, -1, -1, {-1, -1, -1}, false};

    for (int i = 0; i < TENANTS; i++)
        kept.limits[i] = (struct limits_of){none, none};
    for (int i = 0; i < 2; i++) {
        kept.limits[i].tenant.budget_nano[BUDGET_DAY] = INT64_C(60000000) * (i ? 5 : 2);
        kept.limits[i].tenant.budget_nano[BUDGET_MONTH] = INT64_C(60000000) * (i ? 14 : 6);
        kept.limits[i].workflow.budget_nano[BUDGET_DAY] = INT64_C(60000000) * (i ? 3 : 1);
    }
    for (int i = 0; i < TENANTS; i += 2) {
        kept.limits[i].tenant.requests_per_minute = i ? 1000 : 121;
        kept.limits[i].tenant.tokens_per_minute = i ? 9001 : 30000;
        kept.limits[i].tenant.max_concurrency = i ? 60 : 40;
        kept.limits[i].workflow.max_concurrency = i ? 26 : 24;
        kept.limits[i].workflow.tokens_per_minute = i ? 6000 : 20001;
    }
}

static void test_a_plain_model_and_the_scripts_agree_after_every_step(void **state)
{
    const char *steps_text = getenv("MODEL_STEPS");
    const char *seed_text = getenv("MODEL_SEED");
    int steps = steps_text ? atoi(steps_text) : STEPS_DEFAULT;
    const struct redis_options options = {.url = redis_fixture_url(server),
                                          .command_timeout_ms = 60000};
    struct err err;
    (void)state;

    m.random = (seed_text ? (uint64_t)strtoull(seed_text, NULL, 10) : (uint64_t)clock_now_us()) | 1;
    printf("seed %" PRIu64 ", %d steps\n", m.random, steps);
    kept.now_us = INT64_C(1763730000000000);
    m.base = event_base_new();
    m.redis = redis_new(m.base, &options, &err);
    assert_non_null(m.redis);
    while (!redis_is_ready(m.redis))
        event_base_loop(m.base, EVLOOP_ONCE);
    setup_limits();
    load_scripts();
    for (m.step = 1; m.step <= steps; m.step++) {
        take_step();
        if (m.step % LOOK_EVERY == 0)
            look_at_all();
    }
    turn_until(0);
    printf("%" PRId64 " admitted, %" PRId64 " refused, %" PRId64 " settled, %" PRId64
           " expired, %" PRId64 " flushes, %" PRId64 " marks, %" PRId64 " books published\n",
           m.kinds[0], m.kinds[1], m.kinds[2], m.kinds[3], m.kinds[4], m.kinds[5], m.kinds[6]);
    printf("refused by requests %" PRId64 ", tokens %" PRId64 ", concurrency %" PRId64
           ", budget %" PRId64 "\n",
           m.kinds[REFUSALS], m.kinds[REFUSALS + 1], m.kinds[REFUSALS + 2], m.kinds[REFUSALS + 3]);
    assert_true(m.kinds[0] > steps / 20);
    for (int i = ADMISSION_REQUESTS; i <= ADMISSION_BUDGET; i++)
        assert_true(m.kinds[REFUSALS + i] > 0);
    for (int i = 0; i < SCRIPT_COUNT; i++)
        free(m.sha[i]);
    redis_free(m.redis);
    event_base_free(m.base);
}

static int start_server(void **state)
{
    struct err err;
    (void)state;

    signal(SIGPIPE, SIG_IGN);
    server = redis_fixture_start(&err);
    if (!server)
        fprintf(stderr, "%s\n", err.message);
    return server ? 0 : -1;
}

static int stop_server(void **state)
{
    (void)state;
    redis_fixture_stop(server);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_plain_model_and_the_scripts_agree_after_every_step),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
