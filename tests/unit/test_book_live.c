/* SPDX-License-Identifier: Apache-2.0 */
/* Books of budgets through trouble, against a real Postgres and a real Redis: lost, flushed, torn,
 * old, raced for; they always end as the ledger says, and no call is paid for meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/money.h"
#include "common/io/metrics.h"
#include "common/io/redis.h"
#include "common/model/admission.h"
#include "common/model/book_ledger.h"
#include "common/model/book_rebuild.h"
#include "common/model/book_redis.h"
#include "common/model/book_store.h"
#include "common/model/budget_alert_store.h"
#include "common/model/call_resolve_store.h"
#include "common/model/call_store.h"
#include "common/model/limit_cache.h"
#include "scheduler/reconcile.h"
#include "tests/unit/redis_fixture.h"
#include "tests/unit/scheduler_fixture.h"

#define CENT INT64_C(10000000)
#define ONE_DOLLAR_A_DAY "{\"budget_usd\": {\"day\": \"1.000000000\"}}"

enum { TEXT_SIZE = 512, TENANTS = 1000, ROWS_EACH = 100 };

static struct redis_fixture *server;
static struct redis *side; /* for looking on and meddling */
static struct call_store *calls;

/* What one process has. */
struct process {
    struct redis *redis;
    struct limit_cache *cache;
    struct admission *admission;
    struct book_rebuild *books;
};
static struct process one, two;

/* --- the loop and the servers ----------------------------------------------------------------- */

static void await_redis(struct redis *redis)
{
    for (int tries = 0; !redis_is_ready(redis); tries++) {
        assert_true(tries < 2000);
        turn_loop_ms(5);
    }
}

struct answer {
    bool is_there;
    enum redis_kind kind;
    int64_t number;
    char text[TEXT_SIZE];
};

static void on_answer(const struct redis_reply *reply, void *arg)
{
    struct answer *answer = arg;

    answer->is_there = true;
    answer->kind = reply->kind;
    answer->number = reply->number;
    snprintf(answer->text, sizeof(answer->text), "%s", reply->text ? reply->text : "");
}

static struct answer command(const char *const *words, int count)
{
    struct answer answer = {.is_there = false};

    redis_command(side, words, NULL, count, on_answer, &answer);
    await_flag(&answer.is_there);
    assert_int_not_equal(answer.kind, REDIS_LOST);
    assert_int_not_equal(answer.kind, REDIS_ERROR);
    return answer;
}

#define COMMAND(...)                            \
    command((const char *const[]){__VA_ARGS__}, \
            (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *)))

static void flush(void)
{
    COMMAND("FLUSHALL");
}

/* A field of acme's book. */
static struct answer field(const char *name)
{
    return COMMAND("HGET", "{t:acme}:book", name);
}

static void set_field(const char *name, const char *value)
{
    COMMAND("HSET", "{t:acme}:book", name, value);
}

static void process_start(struct process *process, int connection)
{
    const struct redis_options options = {.url = redis_fixture_url(server)};
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

static void refresh(struct process *process)
{
    bool done = false;

    assert_true(limit_cache_poll(process->cache, on_polled, &done));
    await_flag(&done);
}

/* --- limits ----------------------------------------------------------------------------------- */

/* As PUT does when the accounts change. */
static void put_limits(const char *tenant, const char *document)
{
    sql_run("INSERT INTO limits (owner_kind, owner, document) VALUES ('tenant', '%s', '%s') "
            "ON CONFLICT (owner_kind, owner) DO UPDATE SET document = excluded.document;"
            "INSERT INTO budget_books (tenant) VALUES ('%s') "
            "ON CONFLICT (tenant) DO UPDATE SET generation = budget_books.generation + 1",
            tenant, document, tenant);
    refresh(&one);
}

/* --- calls ------------------------------------------------------------------------------------ */

struct call {
    struct id job;
    int64_t token;
    int64_t amount;
    char generation[GENERATION_TEXT_SIZE];
    char day[BUDGET_DAY_SIZE];
    struct admission_answer answer;
    bool is_answered;
};

static void on_admitted(const struct admission_answer *answer, void *arg)
{
    struct call *call = arg;

    call->answer = *answer;
    call->is_answered = true;
}

/* A job of acme that runs: its first call is about to be made. */
static struct call running_call(int64_t amount)
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

static enum admission_outcome ask(struct process *process, struct call *call)
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

/* An intent as the statement of call_store makes it, for transactions left open. */
#define INTENT                                                                                   \
    "WITH binding AS (SELECT generation FROM budget_binding FOR SHARE),"                         \
    "     book AS (SELECT generation FROM budget_books WHERE tenant = 'acme' FOR SHARE) "        \
    "INSERT INTO calls (job, call, run, tenant, key_id, workflow, route, provider, model,"       \
    "                   input_nano_per_mtok, cached_nano_per_mtok, output_nano_per_mtok,"        \
    "                   reserved_nano, state, cost_nano, budget_day, budget_generation) "        \
    "SELECT '%s'::uuid, 1, 1, 'acme', 'k1', 'nightly', 'fast', 'p', 'm', 1, 1, 1, %lld, 'sent'," \
    "       %lld, '%s', '%s' "                                                                   \
    "FROM binding, book "                                                                        \
    "WHERE binding.generation || '.' || book.generation = '%s'"

#define INTENT_OF(call)                                                                  \
    hex((call)->job), (long long)(call)->amount, (long long)(call)->amount, (call)->day, \
        (call)->generation, (call)->generation

struct intended {
    bool is_told;
    enum intent_outcome outcome;
};

static void on_intended(enum intent_outcome outcome, void *arg)
{
    *(struct intended *)arg = (struct intended){.is_told = true, .outcome = outcome};
}

static enum intent_outcome try_intent(const struct call *call)
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
    };

    assert_true(call_intent(calls, &intent, on_intended, &intended));
    await_flag(&intended.is_told);
    return intended.outcome;
}

static bool intent(const struct call *call)
{
    return try_intent(call) == INTENT_GO;
}

static void tell(struct process *process, const struct call *call, enum admission_end end,
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

static void await_settled(struct process *process)
{
    for (int tries = 0; admission_settles_kept(process->admission) > 0; tries++) {
        assert_true(tries < 4000);
        turn_loop_ms(2);
    }
}

static void settle_in_postgres(const struct call *call, int64_t cost)
{
    sql_run("UPDATE calls SET state = 'settled', cost_nano = %lld WHERE job = '%s';"
            "DELETE FROM runs WHERE job = '%s'",
            (long long)cost, hex(call->job), hex(call->job));
}

static void settle(struct process *process, const struct call *call, int64_t cost)
{
    settle_in_postgres(call, cost);
    tell(process, call, ADMISSION_SETTLED, cost);
    await_settled(process);
}

/* --- books ------------------------------------------------------------------------------------ */

struct current {
    bool is_told;
    bool is_current;
};

static void on_current(bool is_current, void *arg)
{
    struct current *current = arg;

    current->is_told = true;
    current->is_current = is_current;
}

static void begin_rebuild(struct process *process, struct current *current)
{
    *current = (struct current){.is_told = false};
    book_rebuild_await(process->books, "acme",
                       limit_cache_tenant(process->cache, "acme")->generation, on_current, current);
}

static void rebuild(struct process *process)
{
    struct current current;

    begin_rebuild(process, &current);
    await_flag(&current.is_told);
    assert_true(current.is_current);
}

/* After Redis lost everything. */
static void rebuild_lost(struct process *process)
{
    flush();
    rebuild(process);
}

static void await_no_wants(struct process *process)
{
    for (int tries = 0; book_rebuild_outstanding(process->books) > 0; tries++) {
        assert_true(tries < 4000);
        turn_loop_ms(2);
    }
}

/* Whatever it takes, as a worker does it. */
static enum admission_outcome reserve(struct process *process, struct call *call)
{
    for (int tries = 0; tries < 5; tries++) {
        if (ask(process, call) != ADMISSION_STALE)
            return call->answer.outcome;
        rebuild(process);
    }
    return ADMISSION_STALE;
}

/* The account of the tenant's day: "<spent> <reserved> <unknown>". */
static void assert_day(const char *expected)
{
    char name[TEXT_SIZE];
    struct budget_windows windows;
    struct answer answer;

    assert_true(limit_cache_windows(one.cache, "acme", clock_now_us(), &windows));
    snprintf(name, sizeof(name), "a:tenant|%s", windows.id[BUDGET_DAY]);
    answer = field(name);
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

/* Every account in the ledger is in the book, and nothing else is. */
static void assert_book_is_ledger(const char *tenant)
{
    struct summing summing = {.cache = one.cache};
    const struct ledger_book *book;
    char key[TEXT_SIZE], name[2 * TEXT_SIZE], value[TEXT_SIZE];

    refresh(&one);
    snprintf(key, sizeof(key), "{t:%s}:book", tenant);
    book_sum(fixture_pg[0], &tenant, 1, on_summed, &summing);
    await_flag(&summing.is_done);
    book = ledger_find(&summing.ledger, tenant);
    assert_non_null(book);
    assert_string_equal(COMMAND("HGET", key, "gen").text, book->generation);
    for (size_t i = 0; i < book->account_count; i++) {
        const struct book_account *account = &book->accounts[i].book;
        struct answer answer;

        snprintf(name, sizeof(name), "a:%s", account->account);
        snprintf(value, sizeof(value), "%lld %lld %lld", (long long)account->spent_nano,
                 (long long)account->reserved_nano, (long long)account->unknown_nano);
        answer = COMMAND("HGET", key, name);
        assert_string_equal(answer.text, value);
    }
    ledger_release(&summing.ledger);
}

/* --- set up ----------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    fixture_reset(state);
    sql_run("TRUNCATE limits, usage_deltas, usage_cells, usage_totals, usage_hours, usage_days,"
            "         usage_months, usage_user_hours, usage_user_days, usage_user_months, gates,"
            "         budget_alerts;"
            "UPDATE budget_binding SET run_id = '', generation = generation + 1");
    flush();
    process_start(&one, 0);
    put_limits("acme", ONE_DOLLAR_A_DAY);
    calls = call_store_new(fixture_pg[1]);
    assert_non_null(calls);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    call_store_free(calls);
    process_stop(&two);
    process_stop(&one);
    return 0;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_first_call_makes_the_binding_and_the_book(void **state)
{
    struct call call = running_call(10 * CENT);

    (void)state;
    assert_int_equal(ask(&one, &call), ADMISSION_STALE);
    rebuild(&one);
    assert_string_equal(limit_cache_run_id(one.cache), redis_run_id(one.redis));
    assert_int_equal(ask(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    assert_day("0 100000000 0");
    settle(&one, &call, 3 * CENT);
    assert_day("30000000 0 0");
    assert_book_is_ledger("acme");
}

static void test_reserved_flushed_rebuilt_then_sent_is_refused(void **state)
{
    struct call late = running_call(60 * CENT), next = running_call(60 * CENT);

    (void)state;
    assert_int_equal(reserve(&one, &late), ADMISSION_GO);
    flush();
    rebuild(&one);
    assert_int_equal(try_intent(&late), INTENT_STALE_BOOK); /* its reservation is gone */
    assert_int_equal(sql_number("SELECT count(*) FROM calls"), 0);
    assert_day("0 0 0");
    tell(&one, &late, ADMISSION_UNDONE, 0);
    await_settled(&one);
    assert_int_equal(ask(&one, &next), ADMISSION_GO);
    assert_true(intent(&next));
    assert_day("0 600000000 0");
    assert_int_equal(ask(&one, &late), ADMISSION_WAIT); /* both never fit together */
}

static void test_intent_under_way_is_waited_for_and_summed(void **state)
{
    struct call call = running_call(60 * CENT);
    struct current current;

    (void)state;
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    other_run("BEGIN");
    other_run(INTENT, INTENT_OF(&call));
    flush();
    begin_rebuild(&one, &current);
    turn_loop_ms(300);
    assert_false(current.is_told);
    other_run("COMMIT");
    await_flag(&current.is_told);
    assert_true(current.is_current);
    assert_day("0 600000000 0");
    settle(&one, &call, 7 * CENT); /* by its name, which the ledger gave back */
    assert_day("70000000 0 0");
}

static void test_flush_in_the_middle_of_a_rebuild_begins_again(void **state)
{
    struct call call = running_call(60 * CENT);
    struct current current;

    (void)state;
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    flush();
    other_run("BEGIN; LOCK TABLE usage_deltas IN ACCESS EXCLUSIVE MODE"); /* holds up the sums */
    begin_rebuild(&one, &current);
    for (int tries = 0; strncmp(field("gen").text, "building:", 9) != 0; tries++) {
        assert_true(tries < 500);
        turn_loop_ms(2);
    }
    flush();
    other_run("COMMIT");
    await_flag(&current.is_told);
    assert_true(current.is_current);
    assert_day("0 600000000 0");
    assert_book_is_ledger("acme");
}

static void test_settlement_between_mark_and_publish_is_kept_and_taken(void **state)
{
    struct call call = running_call(60 * CENT);
    struct current current;

    (void)state;
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    flush();
    other_run("BEGIN; LOCK TABLE usage_deltas IN EXCLUSIVE MODE"); /* lets the sums pass, not it */
    other_run("LOCK TABLE usage_days IN ACCESS EXCLUSIVE MODE");
    begin_rebuild(&one, &current);
    for (int tries = 0; strncmp(field("gen").text, "building:", 9) != 0; tries++) {
        assert_true(tries < 500);
        turn_loop_ms(2);
    }
    other_run("UPDATE calls SET state = 'settled', cost_nano = 70000000 WHERE job = '%s'",
              hex(call.job));
    tell(&one, &call, ADMISSION_SETTLED, 7 * CENT);
    turn_loop_ms(100);
    assert_int_equal(admission_settles_kept(one.admission), 1);
    other_run("COMMIT");
    await_flag(&current.is_told);
    assert_true(current.is_current);
    await_settled(&one);
    assert_day("70000000 0 0");
    assert_book_is_ledger("acme");
}

static void test_settlement_after_the_sums_moves_the_record_that_they_found(void **state)
{
    struct call call = running_call(60 * CENT);

    (void)state;
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    flush();
    rebuild(&one); /* it was sent when summed */
    settle(&one, &call, 7 * CENT);
    settle(&one, &call, 7 * CENT); /* told twice */
    assert_day("70000000 0 0");
    assert_book_is_ledger("acme");
}

static void test_mark_of_a_dead_rebuilder_is_built_over(void **state)
{
    struct call call = running_call(60 * CENT);
    char mark[TEXT_SIZE];
    int64_t since_us = clock_monotonic_us();

    (void)state;
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    sql_run("UPDATE budget_books SET generation = generation + 1 WHERE tenant = 'acme'");
    refresh(&one);
    COMMAND("DEL", "{t:acme}:book");
    snprintf(mark, sizeof(mark), "building:%s", limit_cache_tenant(one.cache, "acme")->generation);
    set_field("gen", mark);
    book_rebuild_want(one.books, "acme", limit_cache_tenant(one.cache, "acme")->generation,
                      BOOK_STALE);
    await_no_wants(&one);
    assert_true(clock_monotonic_us() - since_us > 1900 * US_PER_MS); /* it had its time */
    assert_day("0 600000000 0");
    assert_book_is_ledger("acme");
}

static void test_two_rebuilders_at_once_agree(void **state)
{
    struct current first, second;
    struct call call = running_call(60 * CENT);

    (void)state;
    process_start(&two, 1);
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    for (int round = 0; round < 10; round++) {
        flush();
        begin_rebuild(&one, &first);
        begin_rebuild(&two, &second);
        await_flag(&first.is_told);
        await_flag(&second.is_told);
        assert_true(first.is_current);
        assert_true(second.is_current);
        assert_book_is_ledger("acme");
    }
    assert_day("0 600000000 0");
}

static void on_bumped(const struct pg_reply *reply, void *arg)
{
    int *rows = arg;

    assert_int_equal(reply->status, PG_OK);
    *rows = pg_rows(reply->result);
}

/* All saw the same loss; one makes the book anew, the others find it made. */
static void test_one_of_many_raises_the_generation(void **state)
{
    enum { PROCESSES = 8 };
    struct book_seen seen = {
        .tenant = "acme",
        .generation = sql_number("SELECT generation FROM budget_books WHERE tenant = 'acme'")};
    int rows[PROCESSES], raised = 0;

    (void)state;
    for (int i = 0; i < PROCESSES; i++) {
        rows[i] = -1;
        book_bump(fixture_pg[i % 2], &seen, 1, on_bumped, &rows[i]);
    }
    for (int i = 0; i < PROCESSES; i++) {
        for (int tries = 0; rows[i] < 0; tries++) {
            assert_true(tries < 2000);
            turn_loop_ms(5);
        }
        raised += rows[i];
    }
    assert_int_equal(raised, 1);
    assert_int_equal(sql_number("SELECT generation FROM budget_books WHERE tenant = 'acme'"),
                     seen.generation + 1);
}

static void test_old_copy_of_redis_is_not_believed(void **state)
{
    struct call before = running_call(10 * CENT), after = running_call(80 * CENT),
                third = running_call(20 * CENT);
    struct err err = {0};

    (void)state;
    assert_int_equal(reserve(&one, &before), ADMISSION_GO);
    assert_true(intent(&before));
    settle(&one, &before, 10 * CENT);
    COMMAND("SAVE");
    assert_int_equal(ask(&one, &after), ADMISSION_GO);
    assert_true(intent(&after));
    settle(&one, &after, 80 * CENT);
    redis_fixture_crash(server);
    assert_true(redis_fixture_restart(server, &err));
    turn_loop_ms(50);
    await_redis(side);
    await_redis(one.redis);
    assert_day("100000000 0 0"); /* the copy: as if 80 cents had never been spent */
    assert_string_equal(field("gen").text, after.generation);
    assert_int_equal(ask(&one, &third), ADMISSION_STALE);
    assert_true(third.answer.is_other_redis);
    rebuild(&one);
    assert_int_equal(ask(&one, &third), ADMISSION_WAIT);
    assert_day("900000000 0 0");
    assert_book_is_ledger("acme");
}

static void test_new_budget_counts_what_was_spent_before(void **state)
{
    struct call first = running_call(50 * CENT), second = running_call(50 * CENT),
                third = running_call(60 * CENT);

    (void)state;
    put_limits("acme", "{\"requests_per_minute\": 1000}");
    ask(&one, &first);
    ask(&one, &second);
    assert_true(intent(&first));
    assert_true(intent(&second));
    settle_in_postgres(&first, 30 * CENT);
    put_limits("acme", "{\"budget_usd\": {\"total\": \"1.000000000\"}, \"workflows\": "
                       "{\"*\": {\"budget_usd\": {\"month\": \"0.900000000\"}}}}");
    assert_int_equal(reserve(&one, &third), ADMISSION_WAIT);
    assert_string_equal(field("a:tenant|t").text, "300000000 500000000 0");
    settle(&one, &second, 5 * CENT); /* its reservation was not made there, and is settled there */
    assert_string_equal(field("a:tenant|t").text, "350000000 0 0");
    assert_int_equal(ask(&one, &third), ADMISSION_WAIT);
    assert_int_equal(third.answer.scope, LIMIT_WORKFLOW);
    assert_book_is_ledger("acme");
}

static void test_call_over_midnight_stays_in_its_day(void **state)
{
    struct call call = running_call(60 * CENT), next = running_call(90 * CENT);

    (void)state;
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    sql_run("UPDATE calls SET budget_day = budget_day - 1 WHERE job = '%s'", hex(call.job));
    flush();
    rebuild(&one);
    assert_day("0 0 0");
    assert_int_equal(ask(&one, &next), ADMISSION_GO);
    assert_true(intent(&next));
    settle(&one, &call, 30 * CENT);
    assert_day("0 900000000 0");
    sql_assert_text("300000000",
                    "SELECT sum(cost_nano)::text FROM calls WHERE budget_day = '%s'::date - 1",
                    call.day);
    assert_book_is_ledger("acme"); /* yesterday's account too */
}

static void test_totals_outlive_the_ledger(void **state)
{
    struct call call = running_call(10 * CENT), next = running_call(90 * CENT);

    (void)state;
    put_limits("acme", "{\"budget_usd\": {\"total\": \"1.000000000\"}}");
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    settle(&one, &call, 20 * CENT);
    sql_run("DELETE FROM calls"); /* as a partition goes */
    flush();
    rebuild(&one);
    assert_string_equal(field("a:tenant|t").text, "200000000 0 0");
    assert_int_equal(ask(&one, &next), ADMISSION_WAIT);
}

/* --- reconcile -------------------------------------------------------------------------------- */

static struct fixture_scheduler *scheduler;

static void scheduler_start(void)
{
    reconcile_declare_metrics();
    scheduler = fixture_scheduler_new("one");
    scheduler->scheduler.books_pg = fixture_pg[0];
    scheduler->scheduler.limits = one.cache;
    scheduler->scheduler.budget_redis = one.redis;
    scheduler->scheduler.admission = one.admission;
    scheduler->scheduler.books = one.books;
    scheduler->scheduler.reconcile = reconcile_new();
    fixture_lead(scheduler);
}

static void scheduler_stop(void)
{
    reconcile_free(scheduler->scheduler.reconcile);
    fixture_scheduler_free(scheduler);
}

static int64_t metric_value(const char *name)
{
    struct buf text;
    const char *at;
    int64_t value = -1;

    buf_init(&text, 16 * 1024 * 1024);
    assert_true(metrics_render(&text));
    for (at = strstr(text.data, name); at; at = strstr(at + 1, name))
        if (at == text.data || at[-1] == '\n') {
            value = atoll(strchr(at, ' ') + 1);
            break;
        }
    buf_release(&text);
    return value;
}

/* Makes a reservation look as if it was made long ago. */
static void age_record(const struct call *call)
{
    char name[ADMISSION_NAME_SIZE + 2] = "r:", state, accounts[TEXT_SIZE], aged[2 * TEXT_SIZE];
    long long amount, at, owner;
    struct answer answer;

    admission_name_format(call->job, 1, 1, name + 2);
    answer = field(name);
    assert_int_equal(
        sscanf(answer.text, "%c %lld %lld %lld %399[^\n]", &state, &amount, &at, &owner, accounts),
        5);
    snprintf(aged, sizeof(aged), "%c %lld %lld %lld %s", state, amount, at - 60 * US_PER_S, owner,
             accounts);
    set_field(name, aged);
}

static void reconcile(void)
{
    assert_true(fixture_pass(scheduler, "reconcile"));
    await_settled(&one);
}

static void test_dead_reservations_become_what_the_ledger_says(void **state)
{
    struct call settled = running_call(10 * CENT), never_sent = running_call(11 * CENT),
                lost = running_call(12 * CENT), live = running_call(13 * CENT),
                undecided = running_call(14 * CENT);

    (void)state;
    scheduler_start();
    assert_int_equal(reserve(&one, &settled), ADMISSION_GO);
    assert_int_equal(ask(&one, &never_sent), ADMISSION_GO);
    assert_int_equal(ask(&one, &lost), ADMISSION_GO);
    assert_int_equal(ask(&one, &live), ADMISSION_GO);
    assert_int_equal(ask(&one, &undecided), ADMISSION_GO);
    assert_true(intent(&settled) && intent(&lost) && intent(&live));
    settle_in_postgres(&settled, 3 * CENT);
    sql_run("UPDATE calls SET state = 'unknown' WHERE job = '%s'", hex(lost.job));
    sql_run("DELETE FROM runs WHERE job IN ('%s', '%s')", hex(lost.job), hex(never_sent.job));
    assert_day("0 600000000 0");
    reconcile(); /* all are young: their workers may be about to speak */
    assert_day("0 600000000 0");
    age_record(&settled);
    age_record(&never_sent);
    age_record(&lost);
    age_record(&live);
    age_record(&undecided);
    reconcile();
    assert_day("30000000 270000000 120000000"); /* live and undecided are still out */
    settle(&one, &live, 1 * CENT);
    sql_run("DELETE FROM runs WHERE job = '%s'", hex(undecided.job));
    reconcile();
    assert_day("40000000 0 120000000");
    assert_book_is_ledger("acme");
    scheduler_stop();
}

static void test_unknown_call_that_was_resolved_behind_redis_is_moved(void **state)
{
    struct call call = running_call(10 * CENT);

    (void)state;
    scheduler_start();
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    sql_run("UPDATE calls SET state = 'unknown' WHERE job = '%s'", hex(call.job));
    tell(&one, &call, ADMISSION_UNKNOWN, 0);
    await_settled(&one);
    assert_day("0 0 100000000");
    settle_in_postgres(&call, 4 * CENT);
    reconcile();
    assert_day("40000000 0 0");
    assert_book_is_ledger("acme");
    scheduler_stop();
}

static void test_drift_is_found_counted_and_mended(void **state)
{
    struct call call = running_call(10 * CENT);
    struct budget_windows windows;
    char name[TEXT_SIZE];
    int64_t before;

    (void)state;
    scheduler_start();
    before = metric_value("nightshift_budget_drift_nano_total");
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    settle(&one, &call, 4 * CENT);
    reconcile();
    reconcile();
    assert_int_equal(metric_value("nightshift_budget_drift_nano_total"), before);
    assert_true(limit_cache_windows(one.cache, "acme", clock_now_us(), &windows));
    snprintf(name, sizeof(name), "a:tenant|%s", windows.id[BUDGET_DAY]);
    set_field(name, "39999000 0 0");
    set_field("ver", "1000000");
    reconcile(); /* perhaps somebody is just late to tell Redis */
    assert_int_equal(metric_value("nightshift_budget_drift_nano_total"), before);
    reconcile();
    assert_int_equal(metric_value("nightshift_budget_drift_nano_total"), before + 1000);
    await_no_wants(&one);
    assert_day("40000000 0 0");
    assert_book_is_ledger("acme");
    reconcile();
    assert_int_equal(metric_value("nightshift_budget_drift_nano_total"), before + 1000);
    scheduler_stop();
}

static void test_shadow_budget_beside_an_enforced_one_is_no_drift(void **state)
{
    struct call call = running_call(10 * CENT);
    struct budget_windows windows;
    char name[TEXT_SIZE];
    int64_t before;

    (void)state;
    scheduler_start();
    before = metric_value("nightshift_budget_drift_nano_total");
    put_limits("acme", "{\"budget_usd\": {\"day\": \"1.000000000\"}, \"workflows\": {\"nightly\": "
                       "{\"shadow\": true, \"budget_usd\": {\"day\": \"0.010000000\"}}}}");
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    settle(&one, &call, 4 * CENT);
    assert_true(limit_cache_windows(one.cache, "acme", clock_now_us(), &windows));
    snprintf(name, sizeof(name), "a:workflow:nightly|%s", windows.id[BUDGET_DAY]);
    assert_string_equal(field(name).text, "40000000 0 0");
    reconcile();
    reconcile();
    assert_int_equal(book_rebuild_outstanding(one.books), 0);
    assert_int_equal(metric_value("nightshift_budget_drift_nano_total"), before);
    assert_string_equal(field(name).text, "40000000 0 0");
    assert_book_is_ledger("acme");
    rebuild_lost(&one);
    assert_string_equal(field(name).text, "40000000 0 0");
    scheduler_stop();
}

static void test_calls_that_a_shadow_budget_missed_are_summed_and_no_drift(void **state)
{
    struct call missed = running_call(10 * CENT);
    struct budget_windows windows;
    int64_t before;

    (void)state;
    scheduler_start();
    before = metric_value("nightshift_budget_drift_nano_total");
    put_limits("acme", "{\"shadow\": true, \"budget_usd\": {\"day\": \"1.000000000\"}}");
    rebuild_lost(&one);
    sql_run("UPDATE budget_books SET bumped_at = now() - interval '1 h'");
    assert_true(limit_cache_windows(one.cache, "acme", clock_now_us(), &windows));
    snprintf(missed.day, sizeof(missed.day), "%s", windows.day);
    assert_true(intent(&missed)); /* as while Redis is away */
    settle(&one, &missed, 4 * CENT);
    assert_day("0 0 0");
    reconcile();
    reconcile();
    await_no_wants(&one);
    assert_day("40000000 0 0");
    assert_int_equal(metric_value("nightshift_budget_drift_nano_total"), before);
    scheduler_stop();
}

static void test_call_that_had_not_heard_of_the_new_budget_is_summed_later(void **state)
{
    struct call call = running_call(10 * CENT), late = running_call(20 * CENT);
    int64_t before;

    (void)state;
    scheduler_start();
    before = metric_value("nightshift_budget_drift_nano_total");
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    settle(&one, &call, 4 * CENT);
    late = (struct call){.job = late.job, .token = late.token, .amount = late.amount};
    snprintf(late.day, sizeof(late.day), "%s", call.day);
    assert_true(intent(&late)); /* without a generation */
    settle(&one, &late, 20 * CENT);
    assert_day("40000000 0 0");
    reconcile();
    await_no_wants(&one);
    assert_day("240000000 0 0");
    assert_book_is_ledger("acme");
    reconcile();
    assert_int_equal(metric_value("nightshift_budget_drift_nano_total"), before);
    scheduler_stop();
}

static void test_call_outside_any_budget_hides_no_drift(void **state)
{
    struct call call = running_call(10 * CENT), outside = running_call(20 * CENT);
    struct budget_windows windows;
    char name[TEXT_SIZE];
    int64_t before;

    (void)state;
    scheduler_start();
    before = metric_value("nightshift_budget_drift_nano_total");
    put_limits("acme",
               "{\"workflows\": {\"nightly\": {\"budget_usd\": {\"day\": \"1.000000000\"}}}}");
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    settle(&one, &call, 4 * CENT);
    snprintf(outside.day, sizeof(outside.day), "%s", call.day);
    assert_true(intent(&outside));
    sql_run("UPDATE calls SET workflow = 'free' WHERE job = '%s'", hex(outside.job));
    assert_book_is_ledger(
        "acme"); /* a call that is out, and of no account: no record of it is kept */
    settle(&one, &outside, 20 * CENT);
    reconcile();
    assert_true(limit_cache_windows(one.cache, "acme", clock_now_us(), &windows));
    snprintf(name, sizeof(name), "a:workflow:nightly|%s", windows.id[BUDGET_DAY]);
    set_field(name, "39999000 0 0");
    set_field("ver", "1000000");
    reconcile();
    assert_string_equal(field(name).text, "39999000 0 0"); /* perhaps somebody is just late */
    reconcile();
    assert_int_equal(metric_value("nightshift_budget_drift_nano_total"), before + 1000);
    await_no_wants(&one);
    assert_string_equal(field(name).text, "40000000 0 0");
    assert_book_is_ledger("acme");
    scheduler_stop();
}

static void test_lost_book_is_noticed_without_a_job(void **state)
{
    struct call call = running_call(10 * CENT);

    (void)state;
    scheduler_start();
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    settle(&one, &call, 4 * CENT);
    flush();
    assert_true(fixture_pass(scheduler, "books"));
    await_no_wants(&one);
    assert_day("40000000 0 0");
    scheduler_stop();
}

static void test_rescue_tells_redis_at_once(void **state)
{
    struct call call = running_call(10 * CENT);

    (void)state;
    scheduler_start();
    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    sql_run("UPDATE runs SET calls = 1 WHERE job = '%s';"
            "UPDATE workers SET beat_at = now() - interval '7 s'",
            hex(call.job));
    scheduler->scheduler.rescue_memory.last_us = clock_monotonic_us();
    scheduler->scheduler.rescue_memory.skipped_an_error = true;
    assert_true(fixture_pass(scheduler, "rescue"));
    for (int tries = 0; tries < 100; tries++)
        turn_loop_ms(2);
    await_settled(&one);
    assert_day("0 0 100000000");
    assert_book_is_ledger("acme");
    scheduler_stop();
}

/* --- resolving -------------------------------------------------------------------------------- */

struct resolved {
    bool is_told;
    enum admin_outcome outcome;
    int64_t cost;
};

static void on_resolved(const struct admin_reply *reply, void *arg)
{
    struct resolved *resolved = arg;
    struct resolved_call call;

    resolved->outcome = reply->outcome;
    if (reply->outcome == ADMIN_DONE) {
        resolved_call_read(reply, &call);
        resolved->cost = call.cost_nano;
        assert_string_equal(call.tenant, "acme");
        assert_int_equal(call.run, 1);
    }
    resolved->is_told = true;
}

static struct resolved resolve(const struct call *call, const struct call_resolution *resolution)
{
    struct resolved resolved = {.is_told = false};

    assert_true(
        call_resolve(fixture_pg[0], call->job, 1, resolution, "key:admin", on_resolved, &resolved));
    await_flag(&resolved.is_told);
    return resolved;
}

static void test_unknown_call_is_resolved_once_by_cost_or_usage(void **state)
{
    struct call sent = running_call(10 * CENT), by_cost = running_call(10 * CENT),
                by_usage = running_call(10 * CENT);
    const struct call_resolution cost = {.cost_nano = 123};
    /* at the prices of the row, rounded up once */
    const struct call_resolution usage = {
        .cost_nano = -1, .input_tokens = 100, .cached_input_tokens = 30, .output_tokens = 7};
    const struct price price = {1000001, 2000000, 3000000};

    (void)state;
    assert_int_equal(reserve(&one, &sent), ADMISSION_GO);
    assert_int_equal(ask(&one, &by_cost), ADMISSION_GO);
    assert_int_equal(ask(&one, &by_usage), ADMISSION_GO);
    assert_int_equal(resolve(&sent, &cost).outcome, ADMIN_MISSING);
    assert_true(intent(&sent) && intent(&by_cost) && intent(&by_usage));
    assert_int_equal(resolve(&sent, &cost).outcome, ADMIN_CONFLICT);
    sql_run("UPDATE calls SET input_nano_per_mtok = 1000001, cached_nano_per_mtok = 2000000,"
            "    output_nano_per_mtok = 3000000;"
            "UPDATE calls SET state = 'unknown' WHERE job IN ('%s', '%s')",
            hex(by_cost.job), hex(by_usage.job));
    assert_int_equal(resolve(&by_cost, &cost).cost, 123);
    assert_int_equal(resolve(&by_cost, &cost).outcome, ADMIN_CONFLICT);
    assert_int_equal(resolve(&by_usage, &usage).cost, money_cost(&price, 100, 30, 7));
    assert_int_equal(sql_number("SELECT sum(cost_nano)::int8 FROM usage_deltas"),
                     123 + money_cost(&price, 100, 30, 7));
    assert_int_equal(sql_number("SELECT sum(unknown_nano)::int8 FROM usage_deltas"), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM audit WHERE action = 'call.resolve'"
                                "  AND object = 'call:%s_1'",
                                hex(by_usage.job)),
                     1);
}

/* --- alerts ----------------------------------------------------------------------------------- */

static int64_t alerts(int percent)
{
    return sql_number("SELECT count(*) FROM budget_alerts WHERE percent = %d", percent);
}

static void spend(int64_t cost)
{
    struct call call = running_call(cost);

    assert_int_equal(reserve(&one, &call), ADMISSION_GO);
    assert_true(intent(&call));
    settle(&one, &call, cost);
}

static void test_each_threshold_is_told_once(void **state)
{
    (void)state;
    scheduler_start();
    sql_run("INSERT INTO endpoints (id, tenant, url, events, secret) VALUES "
            "('ep_all', 'acme', 'http://a/', NULL, ''),"
            "('ep_money', 'acme', 'http://b/', '{budget.threshold}', ''),"
            "('ep_jobs', 'acme', 'http://c/', '{job.failed}', '')");
    spend(49 * CENT);
    reconcile();
    assert_int_equal(sql_number("SELECT count(*) FROM budget_alerts"), 0);
    spend(2 * CENT);
    reconcile();
    reconcile();
    assert_int_equal(alerts(50), 1);
    assert_int_equal(alerts(80), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM deliveries WHERE type = 'budget.threshold'"),
                     2);
    sql_assert_text("0.510000000 1.000000000 tenant day 50",
                    "SELECT (b -> 'data' ->> 'spent_usd') || ' ' || (b -> 'data' ->> 'limit_usd')"
                    "    || ' ' || (b -> 'data' ->> 'scope') || ' ' || (b -> 'data' ->> 'window')"
                    "    || ' ' || (b -> 'data' ->> 'threshold_percent') "
                    "FROM (SELECT body::jsonb AS b FROM deliveries LIMIT 1) AS d");
    spend(39 * CENT);
    reconcile();
    assert_int_equal(alerts(80), 1);
    assert_int_equal(alerts(100), 0);
    sql_run("INSERT INTO gates (tenant, kind, name, until, reason) "
            "VALUES ('acme', 'tenant', '', now() + interval '1 h', 'budget')");
    spend(1 * CENT); /* so little fits, but not what waits */
    reconcile();
    assert_int_equal(alerts(100), 1);
    spend(9 * CENT);
    reconcile();
    reconcile_free(scheduler->scheduler.reconcile); /* another scheduler leads */
    scheduler->scheduler.reconcile = reconcile_new();
    reconcile();
    assert_int_equal(sql_number("SELECT count(*) FROM budget_alerts"), 3);
    assert_int_equal(sql_number("SELECT count(*) FROM deliveries WHERE type = 'budget.threshold'"),
                     6);
    scheduler_stop();
}

/* --- many ------------------------------------------------------------------------------------- */

static bool want_tenant(const char *tenant, const struct tenant_limits *limits, void *arg)
{
    (void)arg;
    book_rebuild_want(one.books, tenant, limits->generation, BOOK_STALE);
    return true;
}

static void make_many(void)
{
    sql_run("INSERT INTO tenants (id, name, webhook_secret) "
            "SELECT 't' || n, 't', '' FROM generate_series(1, %d) AS n;"
            "INSERT INTO limits (owner_kind, owner, document) "
            "SELECT 'tenant', id, '{\"budget_usd\": {\"day\": \"5.000000000\", \"month\":"
            "    \"50.000000000\"}, \"workflows\": {\"*\": {\"budget_usd\":"
            "    {\"day\": \"1.000000000\"}}}}' "
            "FROM tenants WHERE id <> 'acme';"
            "INSERT INTO budget_books (tenant) SELECT id FROM tenants WHERE id <> 'acme'",
            TENANTS);
    sql_run("INSERT INTO calls (job, call, run, tenant, key_id, workflow, end_user, route,"
            "                   provider, model, input_nano_per_mtok, cached_nano_per_mtok,"
            "                   output_nano_per_mtok, reserved_nano, state, cost_nano, budget_day,"
            "                   started_at) "
            "SELECT id_make(), 1, 1, 't' || t, 'k', 'w' || r %% 5, 'u' || r %% 20, 'fast', 'p',"
            "       'm', 1, 1, 1, 1000 + r, CASE WHEN r %% 50 = 0 THEN 'unknown'"
            "       WHEN r %% 33 = 0 THEN 'sent' ELSE 'settled' END, 1000 + r,"
            "       (now() AT TIME ZONE 'UTC')::date - r %% 3, now() - r %% 3 * interval '1 day' "
            "FROM generate_series(1, %d) AS t, generate_series(1, %d) AS r",
            TENANTS, ROWS_EACH);
    refresh(&one);
}

static void test_a_thousand_books_of_100000_rows_are_current_within_5_s(void **state)
{
    int64_t since_us, took_us;

    (void)state;
    make_many();
    since_us = clock_monotonic_us();
    limit_cache_each_budget(one.cache, want_tenant, NULL);
    assert_true(book_rebuild_outstanding(one.books) >= TENANTS);
    while (book_rebuild_outstanding(one.books) > 0) {
        assert_true(clock_monotonic_us() - since_us < 30 * US_PER_S);
        turn_loop_ms(2);
    }
    took_us = clock_monotonic_us() - since_us;
    print_message("%d books of %d rows made anew in %lld ms\n", TENANTS, TENANTS * ROWS_EACH,
                  (long long)(took_us / US_PER_MS));
    assert_true(took_us < 5 * US_PER_S);
    assert_book_is_ledger("t1");
    assert_book_is_ledger("t777");
}

static int group_start(void **state)
{
    const struct redis_options options = {0};
    struct err err = {0};

    if (!metrics_setup(&err))
        fail_msg("%s", err.message);
    fixture_start(state);
    server = redis_fixture_start(&err);
    if (!server)
        fail_msg("%s", err.message);
    side = redis_new(fixture_base,
                     &(struct redis_options){.url = redis_fixture_url(server),
                                             .command_timeout_ms = options.command_timeout_ms},
                     &err);
    assert_non_null(side);
    await_redis(side);
    return 0;
}

static int group_stop(void **state)
{
    redis_free(side);
    redis_fixture_stop(server);
    return fixture_stop(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_first_call_makes_the_binding_and_the_book),
        TEST(test_reserved_flushed_rebuilt_then_sent_is_refused),
        TEST(test_intent_under_way_is_waited_for_and_summed),
        TEST(test_flush_in_the_middle_of_a_rebuild_begins_again),
        TEST(test_settlement_between_mark_and_publish_is_kept_and_taken),
        TEST(test_settlement_after_the_sums_moves_the_record_that_they_found),
        TEST(test_mark_of_a_dead_rebuilder_is_built_over),
        TEST(test_two_rebuilders_at_once_agree),
        TEST(test_one_of_many_raises_the_generation),
        TEST(test_old_copy_of_redis_is_not_believed),
        TEST(test_new_budget_counts_what_was_spent_before),
        TEST(test_call_over_midnight_stays_in_its_day),
        TEST(test_totals_outlive_the_ledger),
        TEST(test_dead_reservations_become_what_the_ledger_says),
        TEST(test_unknown_call_that_was_resolved_behind_redis_is_moved),
        TEST(test_drift_is_found_counted_and_mended),
        TEST(test_shadow_budget_beside_an_enforced_one_is_no_drift),
        TEST(test_calls_that_a_shadow_budget_missed_are_summed_and_no_drift),
        TEST(test_call_that_had_not_heard_of_the_new_budget_is_summed_later),
        TEST(test_call_outside_any_budget_hides_no_drift),
        TEST(test_lost_book_is_noticed_without_a_job),
        TEST(test_rescue_tells_redis_at_once),
        TEST(test_unknown_call_is_resolved_once_by_cost_or_usage),
        TEST(test_each_threshold_is_told_once),
        TEST(test_a_thousand_books_of_100000_rows_are_current_within_5_s),
    };

    return cmocka_run_group_tests(tests, group_start, group_stop);
}
