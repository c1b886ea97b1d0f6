/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that keep books of budgets, for the tests of these. */
#include "tests/unit/book_fixture.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/io/metrics.h"
#include "common/model/book_ledger.h"
#include "common/model/book_redis.h"
#include "common/model/book_store.h"
#include "tests/unit/redis_fixture.h"

enum { REBUILD_MS = 2000 };

#define ONE_DOLLAR_A_DAY "{\"budget_usd\": {\"day\": \"1.000000000\"}}"

struct redis_fixture *fixture_redis;
struct redis *fixture_side;
struct process one, two;
static struct call_store *calls;

/* --- Redis ------------------------------------------------------------------------------------ */

void await_redis(struct redis *redis)
{
    for (int tries = 0; !redis_is_ready(redis); tries++) {
        assert_true(tries < 2000);
        turn_loop_ms(5);
    }
}

static void on_answer(const struct redis_reply *reply, void *arg)
{
    struct side_answer *answer = arg;

    answer->is_there = true;
    answer->kind = reply->kind;
    answer->number = reply->number;
    snprintf(answer->text, sizeof(answer->text), "%s", reply->text ? reply->text : "");
}

struct side_answer side_ask(const char *const *words, int count)
{
    struct side_answer answer = {.is_there = false};

    redis_command(fixture_side, words, NULL, count, on_answer, &answer);
    await_flag(&answer.is_there);
    assert_int_not_equal(answer.kind, REDIS_LOST);
    assert_int_not_equal(answer.kind, REDIS_ERROR);
    return answer;
}

void flush_redis(void)
{
    COMMAND("FLUSHALL");
}

static struct side_answer field_of(const char *key, const char *name)
{
    return COMMAND("EVAL", redis_book_script, "1", key, name);
}

struct side_answer book_field(const char *name)
{
    return field_of("{t:acme}:book", name);
}

void book_set_field(const char *name, const char *value)
{
    COMMAND("EVAL", redis_book_script, "1", "{t:acme}:book", name, value);
}

/* --- processes -------------------------------------------------------------------------------- */

void process_start(struct process *process, int connection)
{
    const struct redis_options options = {.url = redis_fixture_url(fixture_redis)};
    struct err err = {0};

    process->redis = redis_new(fixture_base, &options, &err);
    process->cache = limit_cache_new(fixture_base, fixture_pg[connection]);
    assert_non_null(process->redis);
    assert_non_null(process->cache);
    process->admission = admission_new(fixture_base, process->redis);
    process->books =
        book_rebuild_new(fixture_base, fixture_pg[connection], process->redis, process->cache);
    assert_non_null(process->books);
    await_redis(process->redis);
    while (!limit_cache_is_ready(process->cache))
        turn_loop_ms(2);
}

static void process_stop(struct process *process)
{
    if (!process->books)
        return;
    book_rebuild_free(process->books);
    admission_free(process->admission);
    redis_free(process->redis);
    limit_cache_free(process->cache);
    *process = (struct process){.books = NULL};
}

static void on_polled(bool ok, void *arg)
{
    assert_true(ok);
    *(bool *)arg = true;
}

void process_refresh(struct process *process)
{
    bool done = false;

    assert_true(limit_cache_poll(process->cache, on_polled, &done));
    await_flag(&done);
}

/* --- limits ----------------------------------------------------------------------------------- */

void put_limits(const char *tenant, const char *document)
{
    sql_run("INSERT INTO limits (owner_kind, owner, document) VALUES ('tenant', '%s', '%s') "
            "ON CONFLICT (owner_kind, owner) DO UPDATE SET document = excluded.document;"
            "INSERT INTO budget_books (tenant) VALUES ('%s') "
            "ON CONFLICT (tenant) DO UPDATE SET generation = budget_books.generation + 1",
            tenant, document, tenant);
    process_refresh(&one);
}

/* --- calls ------------------------------------------------------------------------------------ */

static void on_admitted(const struct admission_answer *answer, void *arg)
{
    struct call *call = arg;

    call->answer = *answer;
    call->is_answered = true;
}

struct call running_call(int64_t amount)
{
    struct call call = {.job = fixture_queue_job(PRIORITY_NORMAL), .amount = amount};

    call.token = sql_number("INSERT INTO runs (job, tenant, priority, run, run_token, worker,"
                            "    deadline, dispatch_seq, est_tokens, lease_until, calls, attempts,"
                            "    deferrals, crashes, started_at) "
                            "SELECT job, tenant, priority, 1, nextval('run_tokens'), '%s',"
                            "    deadline, 4, est_tokens, now() + interval '1 h', 0, 0, 0, 0, now()"
                            " FROM queue WHERE job = '%s' RETURNING run_token",
                            hex(fixture_worker), hex(call.job));
    sql_run("DELETE FROM queue WHERE job = '%s'", hex(call.job));
    return call;
}

enum admission_outcome process_ask(struct process *process, struct call *call)
{
    const struct tenant_limits *known = limit_cache_tenant(process->cache, "acme");
    struct applied_limit applied[LIMIT_SCOPE_COUNT];
    struct budget_windows windows;
    struct admission_request request = {
        .tenant = "acme",
        .job = call->job,
        .run = 1,
        .call = 1,
        .run_token = call->token,
        .amount_nano = call->amount,
        .limits = applied,
        .windows = &windows,
        .now_us = clock_now_us(),
        .generation = known->generation,
        .run_id = limit_cache_run_id(process->cache),
    };

    request.limit_count =
        limit_cache_apply(process->cache, "acme", "k1", "nightly", NULL, "fast", applied);
    assert_true(limit_cache_windows(process->cache, "acme", request.now_us, &windows));
    snprintf(call->generation, sizeof(call->generation), "%s", known->generation);
    snprintf(call->day, sizeof(call->day), "%s", windows.day);
    call->is_answered = false;
    assert_non_null(admission_ask(process->admission, &request, on_admitted, call));
    await_flag(&call->is_answered);
    return call->answer.outcome;
}

struct intended {
    bool is_told;
    enum intent_outcome outcome;
};

static void on_intended(enum intent_outcome outcome, void *arg)
{
    *(struct intended *)arg = (struct intended){.is_told = true, .outcome = outcome};
}

enum intent_outcome try_intent(const struct call *call)
{
    struct intended intended = {.is_told = false};
    struct call_intent intent = {
        .job = call->job,
        .run_token = call->token,
        .call = 1,
        .lease_s = 60,
        .event_seq = 1,
        .tenant = "acme",
        .key_id = "k1",
        .workflow = "nightly",
        .route = "fast",
        .provider = "p",
        .model = "m",
        .price = {1, 1, 1},
        .reserved_nano = call->amount,
        .budget_day = call->day,
        .budget_windows = "t",
        .budget_generation = *call->generation ? call->generation : NULL,
        .known_generation = INT64_MAX, /* as of an intent that was about to commit */
    };

    assert_true(call_intent(calls, &intent, on_intended, &intended));
    await_flag(&intended.is_told);
    return intended.outcome;
}

bool intend(const struct call *call)
{
    return try_intent(call) == INTENT_GO;
}

void process_tell(struct process *process, const struct call *call, enum admission_end end,
                  int64_t cost)
{
    struct admission_settlement settlement = {
        .tenant = "acme",
        .job = call->job,
        .run = 1,
        .call = 1,
        .holds = ADMISSION_HOLDS_MONEY,
        .end = end,
        .cost_nano = cost,
        .tokens = -1,
    };

    admission_settle(process->admission, &settlement);
}

void process_await_settled(struct process *process)
{
    for (int tries = 0; admission_settles_kept(process->admission) > 0; tries++) {
        assert_true(tries < 4000);
        turn_loop_ms(2);
    }
}

void settle_in_postgres(const struct call *call, int64_t cost)
{
    sql_run("UPDATE calls SET state = 'settled', cost_nano = %lld WHERE job = '%s';"
            "DELETE FROM runs WHERE job = '%s'",
            (long long)cost, hex(call->job), hex(call->job));
}

void process_settle(struct process *process, const struct call *call, int64_t cost)
{
    settle_in_postgres(call, cost);
    process_tell(process, call, ADMISSION_SETTLED, cost);
    process_await_settled(process);
}

/* --- books ------------------------------------------------------------------------------------ */

void process_begin_rebuild(struct process *process)
{
    book_rebuild_want(process->books, "acme",
                      limit_cache_tenant(process->cache, "acme")->generation, BOOK_STALE);
}

void process_await_rebuilt(struct process *process)
{
    int64_t until_us = clock_monotonic_us() + REBUILD_MS * US_PER_MS;

    while (book_rebuild_outstanding(process->books) > 0) {
        assert_true(clock_monotonic_us() < until_us);
        turn_loop_ms(2);
    }
}

void process_await_current(struct process *process)
{
    process_await_rebuilt(process);
    assert_string_equal(book_field("gen").text,
                        limit_cache_tenant(process->cache, "acme")->generation);
}

void process_rebuild(struct process *process)
{
    process_begin_rebuild(process);
    process_await_current(process);
}

void process_rebuild_lost(struct process *process)
{
    flush_redis();
    process_rebuild(process);
}

void process_await_no_wants(struct process *process)
{
    for (int tries = 0; book_rebuild_outstanding(process->books) > 0; tries++) {
        assert_true(tries < 4000);
        turn_loop_ms(2);
    }
}

enum admission_outcome process_reserve(struct process *process, struct call *call)
{
    for (int tries = 0; tries < 5; tries++) {
        if (process_ask(process, call) != ADMISSION_STALE)
            return call->answer.outcome;
        process_rebuild(process);
    }
    return ADMISSION_STALE;
}

const char *book_account_today(const char *of)
{
    static char name[BOOK_TEXT_SIZE];
    struct budget_windows windows;

    assert_true(limit_cache_windows(one.cache, "acme", clock_now_us(), &windows));
    snprintf(name, sizeof(name), "a:%s|%s", of, windows.id[BUDGET_DAY]);
    return name;
}

void assert_day(const char *expected)
{
    struct side_answer answer = book_field(book_account_today("tenant"));

    assert_string_equal(answer.kind == REDIS_NIL ? "0 0 0" : answer.text, expected);
}

struct summing {
    bool is_done;
    struct ledger ledger;
    const struct limit_cache *cache;
};

static void on_summed(const struct pg_reply *reply, void *arg)
{
    struct summing *summing = arg;

    assert_int_equal(reply->status, PG_OK);
    assert_true(ledger_read(reply->result, summing->cache, &summing->ledger));
    summing->is_done = true;
}

/* How many accounts with money in them the book has. */
static int64_t accounts_in_use(const char *key)
{
    static const char script[] =
        "local used, pairs = 0, redis.call('HGETALL', KEYS[1]) "
        "for i = 1, #pairs, 2 do "
        "  if pairs[i]:sub(1, 2) == 'a:' and pairs[i + 1] ~= string.rep('\\0', 24) then "
        "    used = used + 1 "
        "  end "
        "end "
        "return used";

    return COMMAND("EVAL", script, "1", key).number;
}

void assert_book_is_ledger(const char *tenant)
{
    struct summing summing = {.cache = one.cache};
    const struct ledger_book *book;
    char key[BOOK_TEXT_SIZE], name[2 * BOOK_TEXT_SIZE], value[BOOK_TEXT_SIZE];
    int64_t in_use = 0;

    process_refresh(&one);
    snprintf(key, sizeof(key), "{t:%s}:book", tenant);
    book_sum(fixture_pg[0], &tenant, 1, on_summed, &summing);
    await_flag(&summing.is_done);
    book = ledger_find(&summing.ledger, tenant);
    assert_non_null(book);
    assert_string_equal(field_of(key, "gen").text, book->generation);
    for (size_t i = 0; i < book->account_count; i++) {
        const struct book_account *account = &book->accounts[i].book;
        struct side_answer answer;

        snprintf(name, sizeof(name), "a:%s", account->account);
        snprintf(value, sizeof(value), "%lld %lld %lld", (long long)account->spent_nano,
                 (long long)account->reserved_nano, (long long)account->unknown_nano);
        answer = field_of(key, name);
        assert_string_equal(answer.text, value);
        in_use += strcmp(value, "0 0 0") != 0;
    }
    assert_int_equal(accounts_in_use(key), in_use);
    ledger_release(&summing.ledger);
}

/* --- set up ----------------------------------------------------------------------------------- */

int book_set_up(void **state)
{
    fixture_reset(state);
    sql_run("TRUNCATE limits, usage_deltas, usage_cells, usage_totals, usage_hours, usage_days,"
            "         usage_months, usage_user_hours, usage_user_days, usage_user_months, gates,"
            "         budget_alerts;"
            "UPDATE budget_binding SET run_id = '', generation = generation + 1");
    flush_redis();
    process_start(&one, 0);
    put_limits("acme", ONE_DOLLAR_A_DAY);
    calls = call_store_new(fixture_pg[1]);
    assert_non_null(calls);
    return 0;
}

int book_tear_down(void **state)
{
    (void)state;
    call_store_free(calls);
    process_stop(&two);
    process_stop(&one);
    return 0;
}

int book_group_start(void **state)
{
    struct redis_options options = {.url = NULL};
    struct err err = {0};

    if (!metrics_setup(&err))
        fail_msg("%s", err.message);
    fixture_start(state);
    fixture_redis = redis_fixture_start(&err);
    if (!fixture_redis)
        fail_msg("%s", err.message);
    options.url = redis_fixture_url(fixture_redis);
    fixture_side = redis_new(fixture_base, &options, &err);
    assert_non_null(fixture_side);
    await_redis(fixture_side);
    return 0;
}

int book_group_stop(void **state)
{
    redis_free(fixture_side);
    redis_fixture_stop(fixture_redis);
    return fixture_stop(state);
}
