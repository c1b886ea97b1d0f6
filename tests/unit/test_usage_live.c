/* SPDX-License-Identifier: Apache-2.0 */
/* Usage against a real Postgres: whatever happens to calls and jobs, roll-ups and deltas together
 * are the ledger. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/model/end_store.h"
#include "common/model/usage_read_store.h"
#include "tests/unit/run_fixture.h"
#include "tests/unit/scheduler_fixture.h"

static struct fixture_scheduler *one; /* leads */
static struct end_store *ends;
static struct call_store *calls;

static int set_up(void **state)
{
    fixture_reset(state);
    ends = end_store_new(fixture_pg[0]);
    calls = call_store_new(fixture_pg[0]);
    one = fixture_scheduler_new("one");
    fixture_lead(one);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    end_store_free(ends);
    call_store_free(calls);
    fixture_scheduler_free(one);
    return 0;
}

/* --- the truth -------------------------------------------------------------------------------- */

#define SUMS                                                                                  \
    "sum(jobs) AS jobs, sum(calls) AS calls, sum(retries) AS retries, sum(errors) AS errors," \
    " sum(input_tokens) AS input, sum(output_tokens) AS output,"                              \
    " sum(cached_input_tokens) AS cached, sum(cost_nano) AS cost,"                            \
    " sum(unknown_calls) AS unknowns, sum(unknown_nano) AS doubtful, sum(queue_wait_ms) AS waits"

/* Counted from the ledger and the jobs themselves, the long way. */
#define LEDGER                                                                                  \
    "SELECT c.tenant, c.budget_day AS day, date_trunc('hour', c.started_at) AS hour, c.route,"  \
    "       coalesce(c.workflow, '') AS workflow, c.provider, c.model, c.key_id,"               \
    "       coalesce(c.end_user, '') AS end_user, 0 AS jobs, 1 AS calls,"                       \
    "       (call > 1)::int AS retries,"                                                        \
    "       (error_type IS NOT NULL AND error_type <> 'cancelled')::int AS errors,"             \
    "       coalesce(input_tokens, 0) AS input_tokens,"                                         \
    "       coalesce(output_tokens, 0) AS output_tokens,"                                       \
    "       coalesce(cached_input_tokens, 0) AS cached_input_tokens,"                           \
    "       CASE state WHEN 'settled' THEN cost_nano ELSE 0 END AS cost_nano,"                  \
    "       (state = 'unknown')::int AS unknown_calls,"                                         \
    "       CASE state WHEN 'unknown' THEN cost_nano ELSE 0 END AS unknown_nano,"               \
    "       0 AS queue_wait_ms "                                                                \
    "FROM calls c WHERE state <> 'sent' "                                                       \
    "UNION ALL "                                                                                \
    "SELECT j.tenant,"                                                                          \
    "       coalesce(l.budget_day, (j.ended_at AT TIME ZONE 'UTC')::date),"                     \
    "       date_trunc('hour', coalesce(l.started_at, j.ended_at)), j.model,"                   \
    "       coalesce(j.workflow, ''), coalesce(l.provider, ''), coalesce(l.model, ''),"         \
    "       j.key_id, coalesce(j.end_user, ''), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,"                  \
    "       coalesce(round(greatest(extract(epoch FROM j.started_at"                            \
    "                                     - greatest(id_time(j.id), j.run_at)) * 1000, 0)), 0)" \
    "FROM jobs j "                                                                              \
    "LEFT JOIN LATERAL (SELECT * FROM calls WHERE job = j.id ORDER BY call DESC LIMIT 1) AS l"  \
    "     ON true "                                                                             \
    "WHERE j.state IS NOT NULL"

#define NAMES "tenant, day, hour, route, workflow, provider, model, key_id, end_user"
/* Groups of one roll-up that differ from the finest. */
static void assert_same_sums(const char *table, const char *column)
{
    assert_int_equal(
        sql_number("SELECT count(*) FROM ("
                   "(SELECT tenant, %s AS at, " SUMS " FROM %s GROUP BY 1, 2) "
                   "EXCEPT "
                   "(SELECT tenant, %s AS at, " SUMS " FROM usage_user_hours GROUP BY 1, 2)) AS d",
                   strcmp(table, "usage_months") == 0 || strcmp(table, "usage_user_months") == 0
                       ? "day"
                       : column,
                   table, column),
        0);
    assert_int_equal(sql_number("SELECT sum(calls + jobs)::int8 FROM %s", table),
                     sql_number("SELECT sum(calls + jobs)::int8 FROM usage_user_hours"));
}

/* By every name at once, so by any of them. */
static void assert_usage_is_the_ledger(void)
{
    assert_int_equal(
        sql_number("WITH ledger AS (" LEDGER "), kept AS ("
                   "  SELECT tenant, day, hour, route, coalesce(workflow, '') AS workflow,"
                   "         coalesce(provider, '') AS provider, coalesce(model, '') AS model,"
                   "         key_id, coalesce(end_user, '') AS end_user, jobs, calls, retries,"
                   "         errors, input_tokens, output_tokens, cached_input_tokens, cost_nano,"
                   "         unknown_calls, unknown_nano, queue_wait_ms FROM usage_deltas"
                   "  UNION ALL"
                   "  SELECT u.tenant, day, hour, route, workflow, provider, model, key_id,"
                   "         end_user, jobs, calls, retries,"
                   "         errors, input_tokens, output_tokens, cached_input_tokens, cost_nano,"
                   "         unknown_calls, unknown_nano, queue_wait_ms"
                   "  FROM usage_user_hours u JOIN usage_cells c USING (cell)"
                   "), ledger_sums AS (SELECT " NAMES ", " SUMS " FROM ledger GROUP BY " NAMES "),"
                   " kept_sums AS (SELECT " NAMES ", " SUMS " FROM kept GROUP BY " NAMES
                   "  HAVING sum(jobs) <> 0 OR sum(calls) <> 0) "
                   "SELECT (SELECT count(*) FROM (TABLE ledger_sums EXCEPT TABLE kept_sums) AS a)"
                   "     + (SELECT count(*) FROM (TABLE kept_sums EXCEPT TABLE ledger_sums) AS b)"),
        0);
}

/* As it stands, folded, and in every roll-up. */
static void assert_books(void)
{
    assert_usage_is_the_ledger();
    assert_true(fixture_pass(one, "usage"));
    assert_int_equal(sql_number("SELECT count(*) FROM usage_deltas"), 0);
    assert_usage_is_the_ledger();
    assert_same_sums("usage_totals", "hour");
    assert_same_sums("usage_hours", "hour");
    assert_same_sums("usage_days", "day");
    assert_same_sums("usage_months", "date_trunc('month', day)::date");
    assert_same_sums("usage_user_days", "day");
    assert_same_sums("usage_user_months", "date_trunc('month', day)::date");
}

/* --- jobs and calls --------------------------------------------------------------------------- */

/* A job of acme in its first run, of a workflow and a user that go round. */
static struct live run_job(void)
{
    struct live live = fixture_run_job();

    sql_run("UPDATE jobs SET workflow = 'w%d', end_user = CASE %d WHEN 1 THEN 'u' END"
            " WHERE id = '%s'",
            (int)(live.token % 3), (int)(live.token % 2), hex(live.job));
    return live;
}

/* The row of a call under way, as it was made so many hours ago. */
static void call_sent(struct live live, int call, const char *provider, int hours_ago)
{
    sql_run("INSERT INTO calls (job, call, run, tenant, key_id, workflow, end_user, route,"
            "                   provider, model, input_nano_per_mtok, cached_nano_per_mtok,"
            "                   output_nano_per_mtok, reserved_nano, state, cost_nano, started_at,"
            "                   budget_day) "
            "SELECT id, %d, 1, tenant, key_id, workflow, end_user, model, '%s', 'm', 1, 1, 1, 500,"
            "       'sent', 500, now() - %d * interval '1 h',"
            "       (now() - %d * interval '1 h')::date FROM jobs WHERE id = '%s';"
            "UPDATE runs SET calls = %d WHERE job = '%s'",
            call, provider, hours_ago, hours_ago, hex(live.job), call, hex(live.job));
}

static struct call_outcome settled(int call)
{
    return (struct call_outcome){.call = call,
                                 .state = CALL_SETTLED,
                                 .status = 200,
                                 .first_token_ms = 120,
                                 .duration_ms = 950,
                                 .input_tokens = 12,
                                 .cached_input_tokens = 2,
                                 .output_tokens = 34,
                                 .cost_nano = 77};
}

static void settle(struct live live, const struct call_outcome *outcome)
{
    fixture_settle(calls, live, 1, 0, outcome);
}

static void on_end(const struct end_reply *reply, void *arg)
{
    (void)reply;
    *(bool *)arg = true;
}

static void succeed(struct live live, const struct call_outcome *outcome)
{
    struct run_end end = {.job = live.job,
                          .run_token = live.token,
                          .state = JOB_SUCCEEDED,
                          .attempts = 1,
                          .result = "{}",
                          .result_len = 2,
                          .call = outcome};
    bool is_told = false;

    assert_true(run_end(ends, &end, on_end, &is_told));
    await_flag(&is_told);
}

/* calls, cost, unknown calls and their money, of all there is. */
static void assert_totals(const char *expected)
{
    sql_assert_text(expected,
                    "SELECT concat_ws(' ', sum(jobs), sum(calls), sum(retries), sum(errors),"
                    " sum(cost_nano), sum(unknown_calls), sum(unknown_nano)) FROM ("
                    "  SELECT jobs, calls, retries, errors, cost_nano, unknown_calls, unknown_nano"
                    "  FROM usage_deltas"
                    "  UNION ALL"
                    "  SELECT jobs, calls, retries, errors, cost_nano, unknown_calls, unknown_nano"
                    "  FROM usage_totals) AS u");
}

static void test_call_under_way_is_not_counted(void **state)
{
    struct live live = run_job();

    (void)state;
    call_sent(live, 1, "p", 0);
    assert_int_equal(sql_number("SELECT count(*) FROM usage_deltas"), 0);
    assert_usage_is_the_ledger();
}

static void test_end_counts_the_call_and_the_job(void **state)
{
    struct live live = run_job();
    struct call_outcome outcome = settled(1);

    (void)state;
    call_sent(live, 1, "p", 0);
    succeed(live, &outcome);
    assert_totals("1 1 0 0 77 0 0");
    assert_books();
    succeed(live, &outcome); /* a repeat after a lost connection */
    assert_totals("1 1 0 0 77 0 0");
    assert_books();
}

static void test_retry_counts_where_each_call_was(void **state)
{
    struct live live = run_job();
    struct call_outcome failed = {.call = 1,
                                  .state = CALL_RELEASED,
                                  .status = 503,
                                  .error = ERROR_OVERLOADED,
                                  .first_token_ms = -1,
                                  .input_tokens = -1,
                                  .cached_input_tokens = -1,
                                  .output_tokens = -1};
    struct call_outcome outcome = settled(2);

    (void)state;
    call_sent(live, 1, "p", 3);
    settle(live, &failed);
    call_sent(live, 2, "q", 0);
    succeed(live, &outcome);
    assert_totals("1 2 1 1 77 0 0");
    assert_books();
    sql_assert_text("p 0 1 0, q 1 1 77",
                    "SELECT string_agg(concat_ws(' ', provider, jobs, calls, cost_nano), ', '"
                    " ORDER BY provider) FROM usage_days JOIN usage_cells USING (cell)");
}

static void test_late_settlement_moves_from_unknown_to_spent(void **state)
{
    struct live live = run_job();
    struct call_outcome unknown = {.call = 1, .state = CALL_UNKNOWN, .error = ERROR_NETWORK};
    struct call_outcome outcome = settled(1);

    (void)state;
    call_sent(live, 1, "p", 50); /* of days ago: the old roll-ups are mended */
    settle(live, &unknown);
    assert_totals("0 1 0 1 0 1 500");
    assert_books();
    settle(live, &unknown); /* twice is once */
    assert_totals("0 1 0 1 0 1 500");
    settle(live, &outcome);
    assert_totals("0 1 0 0 77 0 0");
    assert_books();
    settle(live, &outcome);
    assert_totals("0 1 0 0 77 0 0");
    assert_books();
}

static void test_call_that_an_admin_resolves_is_spent(void **state)
{
    struct live live = run_job();
    struct call_outcome unknown = {.call = 1, .state = CALL_UNKNOWN, .error = ERROR_TIMEOUT};

    (void)state;
    call_sent(live, 1, "p", 30);
    settle(live, &unknown);
    assert_books();
    sql_run("UPDATE calls SET state = 'settled', cost_nano = 123, input_tokens = 9"
            " WHERE state = 'unknown'");
    assert_totals("0 1 0 1 123 0 0");
    assert_books();
}

static void test_rescued_run_leaves_an_unknown_call(void **state)
{
    struct live live = run_job();
    struct call_outcome outcome = settled(1);

    (void)state;
    call_sent(live, 1, "p", 0);
    sql_run("UPDATE runs SET call_started_at = now();"
            "UPDATE workers SET beat_at = now() - interval '7 s'");
    one->scheduler.rescue_memory.last_us = clock_monotonic_us();
    one->scheduler.rescue_memory.skipped_an_error = true;
    assert_true(fixture_pass(one, "rescue"));
    assert_int_equal(sql_number("SELECT count(*) FROM runs"), 0);
    assert_totals("0 1 0 1 0 1 500");
    assert_books();
    settle(live, &outcome); /* the worker lived, and knows */
    assert_totals("0 1 0 0 77 0 0");
    assert_books();
}

static void test_job_without_a_call_counts_in_the_tenants_day(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_NORMAL);
    bool is_told = false;

    (void)state;
    /* 14 hours before and 12 after UTC: one of them has another date. */
    sql_run("INSERT INTO limits (owner_kind, owner, document) VALUES ('tenant', 'acme',"
            " json_build_object('time_zone', CASE WHEN (now() AT TIME ZONE 'UTC')::time < '12:00'"
            "                   THEN 'Etc/GMT+12' ELSE 'Etc/GMT-14' END)::jsonb)");
    assert_true(queue_cancel(ends, job, "acme", on_end, &is_told));
    await_flag(&is_told);
    assert_int_equal(sql_number("SELECT (day <> (now() AT TIME ZONE 'UTC')::date"
                                "        AND provider IS NULL AND jobs = 1)::int"
                                " FROM usage_deltas"),
                     1);
    assert_true(fixture_pass(one, "usage"));
    assert_same_sums("usage_days", "day");
    sql_run("DELETE FROM limits");
}

static void test_many_of_all_kinds_are_the_ledger(void **state)
{
    static const char *const providers[] = {"p", "q", "r"};

    (void)state;
    for (int i = 0; i < 60; i++) {
        struct live live = run_job();
        struct call_outcome unknown = {.call = 1, .state = CALL_UNKNOWN, .error = ERROR_NETWORK};
        struct call_outcome outcome = settled(1);

        call_sent(live, 1, providers[i % 3], i * 7 % 100);
        if (i % 4 == 1) {
            settle(live, &unknown);
            outcome.call = 2;
            call_sent(live, 2, providers[(i + 1) % 3], i * 5 % 90);
        }
        outcome.cost_nano = 1000003 * i;
        if (i % 5 != 4)
            succeed(live, &outcome);
        if (i % 16 == 7)
            assert_true(fixture_pass(one, "usage"));
    }
    assert_books();
}

static void test_only_the_leader_folds(void **state)
{
    struct live live = run_job();
    struct call_outcome outcome = settled(1);

    (void)state;
    call_sent(live, 1, "p", 0);
    succeed(live, &outcome);
    sql_run("UPDATE leadership SET epoch = epoch + 1");
    assert_false(fixture_pass(one, "usage"));
    assert_int_equal(sql_number("SELECT count(*) FROM usage_totals"), 0);
    assert_usage_is_the_ledger();
}

/* --- questions -------------------------------------------------------------------------------- */

enum { ANSWER_MAX = 1 << 20 };

/* The rows of all pages so far, as the ledger's are written below. */
struct answers {
    struct usage_question question;
    struct buf rows;
    bool is_told, has_more;
    int row_count, page_count;
    char after[USAGE_AFTER_SIZE];
};

static void put_row(struct answers *answers, const struct usage_row *row)
{
    const bool *by = answers->question.by;
    char text[CLOCK_RFC3339_SIZE];

    if (answers->row_count++ > 0)
        buf_putc(&answers->rows, ';');
    usage_day_format(row->day, text);
    buf_printf(&answers->rows, "%s", by[USAGE_DAY] ? text : "-");
    clock_format_rfc3339(row->hour_us, text);
    text[13] = '\0';
    buf_printf(&answers->rows, "|%s", by[USAGE_HOUR] ? text : "-");
    for (int name = USAGE_WORKFLOW; name < USAGE_NAMES; name++)
        buf_printf(&answers->rows, "|%s", row->names[name] ? row->names[name] : "-");
    for (int sum = 0; sum < USAGE_SUMS; sum++)
        if (sum != USAGE_CACHE_HITS)
            buf_printf(&answers->rows, "|%lld", (long long)row->sums[sum]);
}

static void on_answer(const struct admin_reply *reply, void *arg)
{
    struct answers *answers = arg;
    struct usage_row row;

    assert_int_equal(reply->outcome, ADMIN_DONE);
    for (int i = 0; i < reply->count; i++)
        if (usage_row_read(reply, i, &row))
            put_row(answers, &row);
    answers->has_more = usage_has_more(&answers->question, reply, answers->after);
    answers->is_told = true;
}

/* All pages of a question. */
static void ask(struct answers *answers)
{
    struct err err = {0};

    buf_init(&answers->rows, ANSWER_MAX);
    buf_puts(&answers->rows, "");
    do {
        answers->is_told = false;
        assert_true(usage_read_check(&answers->question, &err));
        assert_true(usage_read(fixture_pg[0], &answers->question, on_answer, answers));
        await_flag(&answers->is_told);
        answers->question.after = answers->after;
        assert_true(++answers->page_count < 100);
    } while (answers->has_more);
}

#define NAMED(column) "CASE WHEN %d = 1 THEN coalesce(nullif(" column ", ''), '-') ELSE '-' END"

/* What the ledger says to the same question. */
static void assert_answer_is_the_ledgers(const struct answers *answers)
{
    const bool *by = answers->question.by;
    const struct usage_range *range = &answers->question.range;
    const char *got = answers->rows.data ? answers->rows.data : "";

    sql_assert_text(got,
                    "SELECT coalesce(string_agg(concat_ws('|', d, h, w, m, p, k, u, jobs, calls, "
                    "retries, errors, input, output, cached, cost, unknowns, doubtful, waits), ';' "
                    "ORDER BY d COLLATE \"C\","
                    " h COLLATE \"C\", w, m, p, k, u COLLATE \"C\"), '') FROM ("
                    "SELECT CASE WHEN %d = 1 THEN day::text ELSE '-' END AS d,"
                    " CASE WHEN %d = 1 THEN to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24')"
                    "      ELSE '-' END AS h,"
                    " " NAMED("workflow") " AS w, " NAMED("model") " AS m, " NAMED(
                        "provider") " AS p,"
                                    " " NAMED("key_id") " AS k, " NAMED(
                                        "end_user") " AS u, " SUMS " FROM (" LEDGER
                                                    ") AS l WHERE tenant = 'acme' AND day >= date "
                                                    "'1970-01-01' + %d"
                                                    " AND day < date '1970-01-01' + %d AND hour >= "
                                                    "to_timestamp(%lld)"
                                                    " AND hour < to_timestamp(%lld) GROUP BY 1, 2, "
                                                    "3, 4, 5, 6, 7) AS g",
                    by[USAGE_DAY], by[USAGE_HOUR], by[USAGE_WORKFLOW], by[USAGE_MODEL],
                    by[USAGE_PROVIDER], by[USAGE_KEY], by[USAGE_USER], range->first_day,
                    range->end_day, (long long)(range->from_us / US_PER_S),
                    (long long)(range->to_us / US_PER_S));
}

static void range_of(int64_t from_us, int64_t to_us, bool is_days, struct usage_range *out)
{
    char from[CLOCK_RFC3339_SIZE], to[CLOCK_RFC3339_SIZE];
    struct err err = {0};

    clock_format_rfc3339(from_us, from);
    clock_format_rfc3339(to_us, to);
    if (is_days)
        from[10] = to[10] = '\0';
    assert_true(usage_range_parse(from, to, clock_now_us(), out, &err));
}

/* Jobs of many hours, half of them folded. */
static void make_some_of_all(void)
{
    static const char *const providers[] = {"p", "q", "r"};

    for (int i = 0; i < 40; i++) {
        struct live live = run_job();
        struct call_outcome unknown = {.call = 1, .state = CALL_UNKNOWN, .error = ERROR_NETWORK};
        struct call_outcome outcome = settled(1);

        call_sent(live, 1, providers[i % 3], i * 37 % 1500);
        if (i % 4 == 1)
            settle(live, &unknown);
        outcome.cost_nano = 1000003 * i;
        if (i % 5 != 4)
            succeed(live, &outcome);
        if (i == 20)
            assert_true(fixture_pass(one, "usage"));
    }
}

static void test_every_grouping_of_every_range_is_the_ledger(void **state)
{
    int64_t now_us = clock_now_us();
    struct usage_range ranges[3];

    (void)state;
    make_some_of_all();
    range_of(now_us - 70 * US_PER_DAY, now_us + 2 * US_PER_DAY, true, &ranges[0]);
    range_of(now_us - 45 * US_PER_DAY, now_us - US_PER_DAY, true, &ranges[1]);
    range_of(now_us - INT64_C(1300) * 3600 * US_PER_S, now_us + 3600 * US_PER_S, false, &ranges[2]);
    for (int r = 0; r < 3; r++)
        for (int names = 0; names < 1 << USAGE_NAMES; names += r == 0 ? 1 : 3) {
            struct answers answers = {.question = {.tenant = "acme", .range = ranges[r]}};

            for (int name = 0; name < USAGE_NAMES; name++)
                answers.question.by[name] = names >> name & 1;
            /* By hour and user a page is of few users: the order is another, the sums are not. */
            if (answers.question.by[USAGE_USER])
                answers.question.by[USAGE_HOUR] = answers.question.by[USAGE_DAY] = false;
            ask(&answers);
            assert_answer_is_the_ledgers(&answers);
            buf_release(&answers.rows);
        }
}

static void test_many_users_come_in_pages(void **state)
{
    struct answers answers = {.question = {.tenant = "acme", .by = {[USAGE_USER] = true}}};
    struct live live = run_job();
    int64_t now_us = clock_now_us();

    (void)state;
    sql_run("INSERT INTO calls (job, call, run, tenant, key_id, end_user, route, provider, model,"
            "                   input_nano_per_mtok, cached_nano_per_mtok, output_nano_per_mtok,"
            "                   reserved_nano, state, cost_nano) "
            "SELECT '%s', n, 1, 'acme', 'k1', nullif('u-' || n %% 601, 'u-7'), 'fast', 'p', 'm',"
            "       1, 1, 1, 5, 'settled', n FROM generate_series(1, 1500) AS n",
            hex(live.job));
    range_of(now_us - 40 * US_PER_DAY, now_us + 2 * US_PER_DAY, true, &answers.question.range);
    ask(&answers); /* out of deltas alone */
    assert_int_equal(answers.row_count, 601);
    assert_int_equal(answers.page_count, 3);
    assert_answer_is_the_ledgers(&answers);
    buf_release(&answers.rows);
    assert_books();
    answers = (struct answers){.question = answers.question};
    answers.question.after = NULL;
    ask(&answers);
    assert_int_equal(answers.page_count, 3);
    assert_answer_is_the_ledgers(&answers);
    buf_release(&answers.rows);
    answers = (struct answers){.question = answers.question};
    answers.question.after = NULL;
    answers.question.by[USAGE_DAY] = answers.question.by[USAGE_HOUR] = true;
    range_of(now_us - 18 * US_PER_DAY, now_us + 2 * US_PER_DAY, true, &answers.question.range);
    ask(&answers); /* of fewer users */
    assert_int_equal(answers.row_count, 601);
    assert_true(answers.page_count > 3);
    buf_release(&answers.rows);
}

static void on_other(const struct admin_reply *reply, void *arg)
{
    struct usage_row row;

    assert_int_equal(reply->outcome, ADMIN_DONE);
    assert_false(usage_row_read(reply, 0, &row));
    *(bool *)arg = true;
}

static void test_another_tenant_has_none_of_it(void **state)
{
    struct usage_question question = {.tenant = "other"};
    int64_t now_us = clock_now_us();
    bool is_told = false;

    (void)state;
    make_some_of_all();
    sql_run("INSERT INTO tenants (id, name, webhook_secret) VALUES ('other', '', '')");
    range_of(now_us - 70 * US_PER_DAY, now_us + 2 * US_PER_DAY, true, &question.range);
    for (int names = 0; names < 1 << USAGE_NAMES; names += 5) {
        for (int name = 0; name < USAGE_NAMES; name++)
            question.by[name] = names >> name & 1;
        is_told = false;
        assert_true(usage_read(fixture_pg[0], &question, on_other, &is_told));
        await_flag(&is_told);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_call_under_way_is_not_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_end_counts_the_call_and_the_job, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retry_counts_where_each_call_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_late_settlement_moves_from_unknown_to_spent, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_call_that_an_admin_resolves_is_spent, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_rescued_run_leaves_an_unknown_call, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_job_without_a_call_counts_in_the_tenants_day, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_many_of_all_kinds_are_the_ledger, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_the_leader_folds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_grouping_of_every_range_is_the_ledger, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_many_users_come_in_pages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_tenant_has_none_of_it, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
