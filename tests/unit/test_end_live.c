/* SPDX-License-Identifier: Apache-2.0 */
/* Intents, settlements, events and ends against a real Postgres: every transition whole, once, and
 * only by the live run. */
#include "common/model/end_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "tests/unit/run_fixture.h"

static struct end_store *ends;
static struct end_store *other_ends; /* on another connection */
static struct call_store *calls;
static struct event_store *events;

static int set_up(void **state)
{
    fixture_reset(state);
    ends = end_store_new(fixture_pg[0]);
    calls = call_store_new(fixture_pg[0]);
    other_ends = end_store_new(fixture_pg[1]);
    events = event_store_new(fixture_pg[1]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    end_store_free(ends);
    end_store_free(other_ends);
    call_store_free(calls);
    event_store_free(events);
    return 0;
}

/* --- runs ------------------------------------------------------------------------------------- */

/* The row of a call under way. */
static void call_sent(struct live live, int call)
{
    sql_run("INSERT INTO calls (job, call, run, tenant, key_id, route, provider, model,"
            "                   input_nano_per_mtok, cached_nano_per_mtok, output_nano_per_mtok,"
            "                   reserved_nano, state, cost_nano) "
            "VALUES ('%s', %d, 1, 'acme', 'k1', 'fast', 'p', 'm', 1, 1, 1, 500, 'sent', 500);"
            "UPDATE runs SET calls = %d WHERE job = '%s'",
            hex(live.job), call, call, hex(live.job));
}

static void cancel_flag_set(struct live live)
{
    sql_run("UPDATE runs SET cancel_requested = true WHERE job = '%s'", hex(live.job));
}

struct told {
    bool is_told;
    struct end_reply reply;
    int *told_count; /* of many; or NULL */
};

static void on_end(const struct end_reply *reply, void *arg)
{
    struct told *told = arg;

    assert_false(told->is_told);
    told->is_told = true;
    told->reply = *reply;
    if (told->told_count)
        ++*told->told_count;
}

static const struct call_outcome settled = {
    .call = 1,
    .state = CALL_SETTLED,
    .status = 200,
    .first_token_ms = 120,
    .duration_ms = 950,
    .input_tokens = 12,
    .cached_input_tokens = 2,
    .output_tokens = 34,
    .cost_nano = 77,
};

static struct run_end success_of(struct live live)
{
    static const char result[] = "{\"id\":\"x\",\"n\":1.10}";

    return (struct run_end){.job = live.job,
                            .run_token = live.token,
                            .state = JOB_SUCCEEDED,
                            .attempts = 1,
                            .result = result,
                            .result_len = strlen(result),
                            .finish_reason = "stop"};
}

static struct end_reply end_run(struct end_store *store, const struct run_end *end)
{
    struct told told = {0};

    assert_true(run_end(store, end, on_end, &told));
    assert_false(told.is_told);
    await_flag(&told.is_told);
    return told.reply;
}

static struct end_reply requeue_run(const struct run_requeue *requeue)
{
    struct told told = {0};

    assert_true(run_requeue(ends, requeue, on_end, &told));
    await_flag(&told.is_told);
    return told.reply;
}

/* --- ends ------------------------------------------------------------------------------------- */

static void test_success_finishes_the_job_in_one_statement(void **state)
{
    struct live live = fixture_run_job();
    struct run_end end = success_of(live);
    struct end_reply reply;

    (void)state;
    call_sent(live, 1);
    end.call = &settled;
    end.chunk = &(struct event_chunk){
        .seq = 3, .attempt = 1, .byte_offset = 5, .text = "tail!", .text_len = 4};
    reply = end_run(ends, &end);
    assert_int_equal(reply.outcome, STORE_DONE);
    assert_int_equal(reply.state, JOB_SUCCEEDED);
    assert_false(reply.has_deliveries);
    assert_int_equal(sql_number("SELECT count(*) FROM runs"), 0);
    sql_assert_text("succeeded 1 0 0 1 stop {\"id\":\"x\",\"n\":1.10}",
                    "SELECT concat_ws(' ', state, attempts, deferrals, crashes, runs,"
                    " finish_reason, result) FROM jobs");
    assert_int_equal(sql_number("SELECT (result_sha256 = sha256(convert_to(result, 'UTF8'))"
                                "        AND error_type IS NULL AND error_retryable IS NULL"
                                "        AND ended_at >= started_at)::int FROM jobs"),
                     1);
    sql_assert_text("settled 200 120 950 12 2 34 77",
                    "SELECT concat_ws(' ', state, status, first_token_ms, duration_ms,"
                    " input_tokens, cached_input_tokens, output_tokens, cost_nano) FROM calls");
    sql_assert_text("3 output.delta tail, 2147418114 job.succeeded ",
                    "SELECT string_agg(concat(seq, ' ', kind, ' ', text), ', ' ORDER BY seq)"
                    " FROM events");
    assert_counts_balance();
}

static void test_run_ends_once(void **state)
{
    struct live live = fixture_run_job();
    struct run_end first = success_of(live), second = success_of(live);

    (void)state;
    second.state = JOB_FAILED;
    assert_int_equal(end_run(ends, &first).outcome, STORE_DONE);
    assert_int_equal(end_run(other_ends, &second).outcome, STORE_STALE);
    assert_int_equal(end_run(ends, &first).outcome, STORE_STALE);
    sql_assert_text("succeeded", "SELECT state FROM jobs");
    assert_int_equal(sql_number("SELECT count(*) FROM events"), 1);
    assert_counts_balance();
}

static void test_failure_keeps_its_error(void **state)
{
    struct live live = fixture_run_job();
    struct run_end end = {.job = live.job,
                          .run_token = live.token,
                          .state = JOB_FAILED,
                          .attempts = 5,
                          .deferrals = 2,
                          .error = ERROR_CONTENT_FILTER,
                          .error_code = "content_policy",
                          .error_message = "The provider refused.",
                          .is_retryable = false};

    (void)state;
    assert_int_equal(end_run(ends, &end).state, JOB_FAILED);
    sql_assert_text("failed content_filter content_policy The provider refused. f 5 2",
                    "SELECT concat_ws(' ', state, error_type, error_code, error_message,"
                    " error_retryable, attempts, deferrals) FROM jobs");
    assert_counts_balance();
}

static void test_stale_end_changes_nothing_but_books_its_call(void **state)
{
    struct live live = fixture_run_job();
    struct run_end end = success_of(live);

    (void)state;
    call_sent(live, 1);
    /* Rescued meanwhile, and claimed by somebody else. */
    sql_run("UPDATE calls SET state = 'unknown'; UPDATE runs SET run_token = run_token + 500");
    end.call = &settled;
    end.chunk = &(struct event_chunk){.seq = 9, .attempt = 1, .text = "late", .text_len = 4};
    assert_int_equal(end_run(ends, &end).outcome, STORE_STALE);
    assert_int_equal(sql_number("SELECT count(*) FROM runs"), 1);
    assert_int_equal(sql_number("SELECT count(*) FROM events"), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM jobs WHERE state IS NOT NULL"), 0);
    sql_assert_text("settled 77", "SELECT concat_ws(' ', state, cost_nano) FROM calls");
    assert_counts_balance();
}

static void test_cancel_flag_wins_over_success(void **state)
{
    struct live live = fixture_run_job();
    struct run_end end = success_of(live);
    struct end_reply reply;

    (void)state;
    call_sent(live, 1);
    cancel_flag_set(live);
    end.call = &settled;
    reply = end_run(ends, &end);
    assert_int_equal(reply.outcome, STORE_DONE);
    assert_int_equal(reply.state, JOB_CANCELLED);
    sql_assert_text("cancelled cancelled t",
                    "SELECT concat_ws(' ', state, error_type, cancel_requested) FROM jobs"
                    " WHERE result IS NULL AND result_sha256 IS NULL AND finish_reason IS NULL");
    sql_assert_text("job.cancelled", "SELECT kind FROM events");
    sql_assert_text("settled", "SELECT state FROM calls");
    assert_counts_balance();
}

/* The flag is set by a transaction that the end has to wait for. */
static void test_cancel_flag_that_commits_first_wins(void **state)
{
    struct live live = fixture_run_job();
    struct run_end end = success_of(live);
    struct told told = {0};

    (void)state;
    other_run("BEGIN; UPDATE runs SET cancel_requested = true");
    assert_true(run_end(ends, &end, on_end, &told));
    await_blocked();
    assert_false(told.is_told);
    other_run("COMMIT");
    await_flag(&told.is_told);
    assert_int_equal(told.reply.state, JOB_CANCELLED);
    assert_int_equal(sql_number("SELECT count(*) FROM jobs WHERE result IS NULL"), 1);
    assert_counts_balance();
}

static void test_rescue_that_commits_first_makes_the_end_stale(void **state)
{
    struct live live = fixture_run_job();
    struct run_end end = success_of(live);
    struct told told = {0};

    (void)state;
    call_sent(live, 1);
    end.call = &settled;
    other_run("BEGIN; DELETE FROM runs; UPDATE calls SET state = 'unknown';"
              "INSERT INTO queue (job, tenant, priority, ready_at, deadline, est_tokens)"
              " SELECT id, tenant, priority, now(), deadline, 1 FROM jobs;"
              "INSERT INTO counts VALUES ('acme', 1, 'running', -1), ('acme', 1, 'queued', 1)");
    assert_true(run_end(ends, &end, on_end, &told));
    await_blocked();
    assert_false(told.is_told);
    other_run("COMMIT");
    await_flag(&told.is_told);
    assert_int_equal(told.reply.outcome, STORE_STALE);
    assert_int_equal(sql_number("SELECT count(*) FROM queue"), 1);
    /* In one statement the late settlement does not see what the rescue made of the row while it
     * waited, but locks it and looks again. */
    sql_assert_text("settled", "SELECT state FROM calls");
    assert_counts_balance();
}

/* --- webhooks --------------------------------------------------------------------------------- */

static void test_deliveries_come_with_the_end(void **state)
{
    struct live live = fixture_run_job();
    struct run_end end = success_of(live);

    (void)state;
    sql_run("INSERT INTO tenants (id, name, webhook_secret) VALUES ('other', 'o', '');"
            "INSERT INTO endpoints (id, tenant, url, events, secret, disabled_at, deleted_at)"
            "VALUES ('ep_all', 'acme', 'http://a/', NULL, '', NULL, NULL),"
            "       ('ep_mine', 'acme', 'http://b/', '{job.failed,job.succeeded}', '', NULL, NULL),"
            "       ('ep_else', 'acme', 'http://c/', '{job.failed}', '', NULL, NULL),"
            "       ('ep_off', 'acme', 'http://d/', NULL, '', now(), NULL),"
            "       ('ep_gone', 'acme', 'http://e/', NULL, '', NULL, now()),"
            "       ('ep_theirs', 'other', 'http://f/', NULL, '', NULL, NULL);"
            "UPDATE jobs SET webhook_url = 'http://own/', webhook_events = '{job.succeeded}'");
    assert_true(end_run(ends, &end).has_deliveries);
    sql_assert_text("ep_all http://a/ job.succeeded, ep_mine http://b/ job.succeeded, "
                    "http://own/ job.succeeded",
                    "SELECT string_agg(concat_ws(' ', endpoint, url, type), ', '"
                    "                  ORDER BY endpoint) FROM deliveries");
    assert_int_equal(sql_number("SELECT count(*) FROM deliveries WHERE job = '%s' AND sequence = 1"
                                " AND body IS NULL AND state = 'waiting' AND next_at <= now()",
                                hex(live.job)),
                     3);
}

static void test_unwanted_events_deliver_nothing(void **state)
{
    struct live live = fixture_run_job();
    struct run_end end = success_of(live);

    (void)state;
    sql_run("UPDATE jobs SET webhook_url = 'http://own/', webhook_events = '{job.failed}'");
    assert_false(end_run(ends, &end).has_deliveries);
    assert_int_equal(sql_number("SELECT count(*) FROM deliveries"), 0);
}

/* --- back to the queue ------------------------------------------------------------------------ */

static void test_requeue_gives_a_new_dispatch_and_takes_the_counters_along(void **state)
{
    struct live live = fixture_run_job();
    struct call_outcome unknown = {.call = 2,
                                   .state = CALL_UNKNOWN,
                                   .error = ERROR_TIMEOUT,
                                   .first_token_ms = -1,
                                   .duration_ms = 100,
                                   .input_tokens = -1,
                                   .cached_input_tokens = -1,
                                   .output_tokens = -1};
    struct run_requeue requeue = {.job = live.job,
                                  .run_token = live.token,
                                  .delay_ms = 90000,
                                  .wait_reason = "retry",
                                  .wait_detail = "timeout",
                                  .reason = "timeout",
                                  .attempts = 2,
                                  .deferrals = 3,
                                  .superseded_attempt = 2,
                                  .valid_bytes = 8,
                                  .call = &unknown};
    struct end_reply reply;

    (void)state;
    call_sent(live, 2);
    sql_run("UPDATE runs SET crashes = 1, started_at = '2026-01-01T00:00:00Z'");
    reply = requeue_run(&requeue);
    assert_int_equal(reply.outcome, STORE_DONE);
    assert_int_equal(reply.state, JOB_QUEUED);
    assert_int_equal(sql_number("SELECT count(*) FROM runs"), 0);
    sql_assert_text("5 1 2 2 3 1 retry timeout f 90",
                    "SELECT concat_ws(' ', dispatch_seq, run, calls, attempts, deferrals, crashes,"
                    " wait_reason, wait_detail, dispatched_at IS NOT NULL,"
                    " round(extract(epoch FROM ready_at - now()))) FROM queue"
                    " WHERE started_at = '2026-01-01T00:00:00Z'");
    sql_assert_text("unknown timeout 100 500",
                    "SELECT concat_ws(' ', state, status, error_type, duration_ms, input_tokens,"
                    " cost_nano) FROM calls");
    sql_assert_text(
        "2147418112 attempt.superseded {\"attempt\" : 2, \"valid_bytes\" : 8, \"reason\" : "
        "\"timeout\"}",
        "SELECT concat_ws(' ', seq, kind, data) FROM events ORDER BY seq LIMIT 1");
    assert_int_equal(sql_number("SELECT count(*) FROM events e, queue q"
                                " WHERE seq = 2147418113 AND kind = 'job.retrying'"
                                " AND data->>'reason' = 'timeout' AND data->>'attempt' = '2'"
                                " AND data->>'at' ~ '^20..-..-..T..:..:..[.]...Z$'"
                                " AND abs(extract(epoch FROM (data->>'at')::timestamptz"
                                "                            - ready_at)) < 0.001"),
                     1);
    assert_counts_balance();
}

static void test_drain_hands_back_at_once_and_says_so(void **state)
{
    struct live live = fixture_run_job();
    struct run_requeue requeue = {.job = live.job, .run_token = live.token, .reason = "drain"};

    (void)state;
    assert_int_equal(requeue_run(&requeue).state, JOB_QUEUED);
    assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE ready_at <= now()"
                                " AND wait_reason IS NULL AND attempts = 0"),
                     1);
    sql_assert_text("job.retrying drain",
                    "SELECT string_agg(concat(kind, ' ', data->>'reason'), ',') FROM events");
}

static void test_requeue_under_a_cancel_flag_ends_cancelled(void **state)
{
    struct live live = fixture_run_job();
    struct run_requeue requeue = {.job = live.job,
                                  .run_token = live.token,
                                  .delay_ms = 1000,
                                  .reason = "timeout",
                                  .attempts = 1,
                                  .superseded_attempt = 1};
    struct end_reply reply;

    (void)state;
    cancel_flag_set(live);
    sql_run("UPDATE jobs SET webhook_url = 'http://own/'");
    reply = requeue_run(&requeue);
    assert_int_equal(reply.outcome, STORE_DONE);
    assert_int_equal(reply.state, JOB_CANCELLED);
    assert_true(reply.has_deliveries);
    assert_int_equal(sql_number("SELECT count(*) FROM queue"), 0);
    sql_assert_text("cancelled 1", "SELECT concat_ws(' ', state, attempts) FROM jobs");
    sql_assert_text("job.cancelled", "SELECT string_agg(kind, ',') FROM events");
    assert_counts_balance();
}

static void test_stale_requeue_makes_no_queue_row(void **state)
{
    struct live live = fixture_run_job();
    struct run_requeue requeue = {.job = live.job, .run_token = live.token + 1, .reason = "x"};

    (void)state;
    assert_int_equal(requeue_run(&requeue).outcome, STORE_STALE);
    assert_int_equal(sql_number("SELECT count(*) FROM queue"), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM runs"), 1);
    assert_int_equal(sql_number("SELECT count(*) FROM events"), 0);
    assert_counts_balance();
}

/* --- queue rows ------------------------------------------------------------------------------- */

static struct end_reply cancel_queued(struct id job, const char *tenant)
{
    struct told told = {0};

    assert_true(queue_cancel(ends, job, tenant, on_end, &told));
    await_flag(&told.is_told);
    return told.reply;
}

static void test_waiting_job_is_cancelled_by_its_tenant_only(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_LOW);
    struct live running = fixture_run_job();

    (void)state;
    sql_run("UPDATE queue SET run = 2, attempts = 1");
    assert_int_equal(cancel_queued(job, "other").outcome, STORE_STALE);
    assert_int_equal(cancel_queued(running.job, "acme").outcome, STORE_STALE);
    assert_int_equal(cancel_queued(job, "acme").outcome, STORE_DONE);
    assert_int_equal(cancel_queued(job, "acme").outcome, STORE_STALE);
    sql_assert_text("cancelled t 1 2 cancelled",
                    "SELECT concat_ws(' ', state, cancel_requested, attempts, runs, error_type)"
                    " FROM jobs WHERE state IS NOT NULL AND started_at IS NULL");
    sql_assert_text("2 2147418114 job.cancelled", "SELECT concat_ws(' ', run, seq, kind)"
                                                  " FROM events");
    assert_counts_balance();
}

static void on_expired(const struct pg_reply *reply, void *arg)
{
    assert_int_equal(reply->status, PG_OK);
    *(int *)arg = pg_rows(reply->result) + 1;
}

static void test_waiting_jobs_expire_at_their_deadline(void **state)
{
    struct pg_value limit = pg_int4(10);
    int rows = 0;

    (void)state;
    fixture_queue_job(PRIORITY_LOW);
    fixture_queue_job(PRIORITY_LOW);
    sql_run("UPDATE queue SET deadline = now() - interval '1 s'");
    fixture_queue_job(PRIORITY_LOW);
    pg_query(fixture_pg[0], queue_expire_statement(), &limit, 1, on_expired, &rows);
    await_count(&rows, 1);
    assert_int_equal(rows - 1, 2);
    assert_int_equal(sql_number("SELECT count(*) FROM jobs WHERE state = 'expired'"
                                " AND error_type = 'deadline' AND error_retryable"),
                     2);
    assert_int_equal(sql_number("SELECT count(*) FROM queue"), 1);
    assert_counts_balance();
}

/* --- intents ---------------------------------------------------------------------------------- */

static enum intent_outcome intend(struct live live, int call)
{
    return fixture_intend(calls, live, call, NULL);
}

static void test_intent_is_durable_before_the_call(void **state)
{
    struct live live = fixture_run_job();

    (void)state;
    assert_int_equal(intend(live, 1), INTENT_GO);
    assert_int_equal(intend(live, 1), INTENT_GO); /* as a repeat after a lost answer */
    assert_int_equal(intend(live, 2), INTENT_GO);
    sql_assert_text("1 sent 900 900, 2 sent 900 900",
                    "SELECT string_agg(concat_ws(' ', call, state, reserved_nano, cost_nano), ', '"
                    " ORDER BY call) FROM calls WHERE provider = 'main' AND model = 'small'"
                    " AND run = 1 AND output_nano_per_mtok = 7");
    sql_assert_text("2 1 15 30", "SELECT concat_ws(' ', calls, attempts, silent_s,"
                                 " round(extract(epoch FROM lease_until - call_started_at)))"
                                 " FROM runs");
    sql_assert_text("1 1 main small, 2 2 main small",
                    "SELECT string_agg(concat_ws(' ', seq, data->>'attempt', data->>'provider',"
                    " data->>'model'), ', ' ORDER BY seq) FROM events WHERE kind = 'job.started'"
                    " AND attempt = seq");
}

static void test_intent_needs_a_live_run(void **state)
{
    struct live live = fixture_run_job();

    (void)state;
    live.token++;
    assert_int_equal(intend(live, 1), INTENT_LOST);
    live.token--;
    sql_run("UPDATE runs SET deadline = now()");
    assert_int_equal(intend(live, 1), INTENT_EXPIRED);
    cancel_flag_set(live);
    assert_int_equal(intend(live, 1), INTENT_CANCELLED);
    assert_int_equal(sql_number("SELECT count(*) FROM calls"), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM events"), 0);
    assert_int_equal(sql_number("SELECT calls FROM runs"), 0);
}

/* --- settlements ------------------------------------------------------------------------------ */

static void settle(struct live live, const struct call_outcome *outcome)
{
    fixture_settle(calls, live, 3, 2, outcome);
}

static void test_settled_calls_stay_as_they_are(void **state)
{
    struct live live = fixture_run_job();
    struct call_outcome again = settled;

    (void)state;
    call_sent(live, 1);
    settle(live, &settled);
    again.cost_nano = 1000;
    settle(live, &again);
    again.state = CALL_UNKNOWN;
    settle(live, &again);
    sql_assert_text("settled 77", "SELECT concat_ws(' ', state, cost_nano) FROM calls");
    sql_assert_text("3 2", "SELECT concat_ws(' ', attempts, deferrals) FROM runs");
}

static void test_unknown_keeps_the_reservation_and_may_still_be_settled(void **state)
{
    struct live live = fixture_run_job();
    struct call_outcome unknown = {.call = 1, .state = CALL_UNKNOWN, .cost_nano = 3};

    (void)state;
    call_sent(live, 1);
    settle(live, &unknown);
    sql_assert_text("unknown 500", "SELECT concat_ws(' ', state, cost_nano) FROM calls");
    live.token++; /* the run is somebody else's now */
    settle(live, &settled);
    sql_assert_text("settled 77", "SELECT concat_ws(' ', state, cost_nano) FROM calls");
    sql_assert_text("3 2", "SELECT concat_ws(' ', attempts, deferrals) FROM runs");
}

static void test_stale_settlement_leaves_the_counters_alone(void **state)
{
    struct live live = fixture_run_job();

    (void)state;
    call_sent(live, 1);
    live.token++;
    settle(live, &settled);
    sql_assert_text("0 0", "SELECT concat_ws(' ', attempts, deferrals) FROM runs");
}

static void test_released_calls_cost_nothing(void **state)
{
    struct live live = fixture_run_job();
    struct call_outcome released = {
        .call = 1, .state = CALL_RELEASED, .error = ERROR_NETWORK, .cost_nano = 3};

    (void)state;
    settle(live, &released); /* the row is not there: no harm */
    call_sent(live, 1);
    settle(live, &released);
    sql_assert_text("released 0 network",
                    "SELECT concat_ws(' ', state, cost_nano, error_type) FROM calls");
}

/* --- events ----------------------------------------------------------------------------------- */

struct append_told {
    bool is_told;
    enum store_outcome outcome;
};

static void on_appended(enum store_outcome outcome, void *arg)
{
    *(struct append_told *)arg = (struct append_told){.is_told = true, .outcome = outcome};
}

static struct event_row delta_of(struct live live, int seq, const char *text)
{
    return (struct event_row){.job = live.job,
                              .run = live.run,
                              .run_token = live.token,
                              .seq = seq,
                              .kind = "output.delta",
                              .attempt = 1,
                              .byte_offset = 0,
                              .text = text,
                              .text_len = strlen(text)};
}

static enum store_outcome append(const struct event_row *row)
{
    struct append_told told = {0};

    assert_true(event_append(events, row, on_appended, &told));
    await_flag(&told.is_told);
    return told.outcome;
}

static void test_events_of_a_live_run_are_appended_once(void **state)
{
    struct live live = fixture_run_job();
    struct event_row delta = delta_of(live, 1, "one");
    struct event_row tool = {.job = live.job,
                             .run = 1,
                             .run_token = live.token,
                             .seq = 2,
                             .kind = "output.tool_delta",
                             .attempt = 1,
                             .byte_offset = -1,
                             .data = "{\"n\":1.10}",
                             .data_len = 10};

    (void)state;
    assert_int_equal(append(&delta), STORE_DONE);
    assert_int_equal(append(&delta), STORE_DONE); /* as a repeat after a lost answer */
    assert_int_equal(append(&tool), STORE_DONE);
    sql_assert_text("1 output.delta 1 0 one, 2 output.tool_delta 1 {\"n\":1.10}",
                    "SELECT string_agg(concat_ws(' ', seq, kind, attempt, byte_offset, text, data),"
                    " ', ' ORDER BY seq) FROM events");
}

/* The superseding of a rescue commits while the zombie's chunk waits. */
static void test_chunk_of_a_zombie_never_lands_after_its_superseding(void **state)
{
    struct live live = fixture_run_job();
    struct event_row delta = delta_of(live, 5, "late");
    struct append_told told = {0};

    (void)state;
    other_run("BEGIN; DELETE FROM runs;"
              "INSERT INTO events (job, run, seq, kind)"
              " VALUES ('%s', 1, 2147418112, 'attempt.superseded')",
              hex(live.job));
    assert_true(event_append(events, &delta, on_appended, &told));
    await_blocked();
    assert_false(told.is_told);
    other_run("COMMIT");
    await_flag(&told.is_told);
    assert_int_equal(told.outcome, STORE_STALE);
    assert_int_equal(sql_number("SELECT count(*) FROM events"), 1);
    assert_int_equal(append(&delta), STORE_STALE);
}

static void test_one_bad_row_fails_alone(void **state)
{
    struct told told[3] = {0};
    struct live lives[3];
    int told_count = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct run_end end;

        lives[i] = fixture_run_job();
        end = success_of(lives[i]);
        if (i == 1) { /* no text in UTF-8 */
            end.result = "\xff";
            end.result_len = 1;
        }
        told[i].told_count = &told_count;
        assert_true(run_end(ends, &end, on_end, &told[i]));
    }
    await_count(&told_count, 3);
    assert_int_equal(told[0].reply.outcome, STORE_DONE);
    assert_int_equal(told[1].reply.outcome, STORE_REFUSED);
    assert_int_equal(told[2].reply.outcome, STORE_DONE);
    assert_int_equal(sql_number("SELECT count(*) FROM runs WHERE job = '%s'", hex(lives[1].job)),
                     1);
    assert_counts_balance();
}

/* --- two at once ------------------------------------------------------------------------------ */

enum { MANY = 200 };

static void shuffle(int *order)
{
    for (int i = 0; i < MANY; i++)
        order[i] = i;
    for (int i = MANY - 1; i > 0; i--) {
        int other = (int)(backoff_random() % (uint64_t)(i + 1));
        int swap = order[i];

        order[i] = order[other];
        order[other] = swap;
    }
}

static void test_shuffled_batches_on_two_connections_end_every_run_once(void **state)
{
    static struct told told[2][MANY];
    static struct live lives[MANY];
    int order[2][MANY], told_count = 0;

    (void)state;
    memset(told, 0, sizeof(told));
    for (int i = 0; i < MANY; i++) {
        lives[i] = fixture_run_job();
        call_sent(lives[i], 1);
    }
    shuffle(order[0]);
    shuffle(order[1]);
    for (int i = 0; i < MANY; i++) {
        struct run_end end = success_of(lives[order[0][i]]);
        struct run_requeue requeue = {.job = lives[order[1][i]].job,
                                      .run_token = lives[order[1][i]].token,
                                      .reason = "drain",
                                      .call = &settled};

        end.call = &settled;
        told[0][order[0][i]].told_count = told[1][order[1][i]].told_count = &told_count;
        assert_true(run_end(ends, &end, on_end, &told[0][order[0][i]]));
        assert_true(run_requeue(other_ends, &requeue, on_end, &told[1][order[1][i]]));
        if (i % 50 == 0)
            turn_loop_ms(1); /* several batches */
    }
    await_count(&told_count, 2 * MANY);
    for (int i = 0; i < MANY; i++)
        assert_int_not_equal(told[0][i].reply.outcome == STORE_DONE,
                             told[1][i].reply.outcome == STORE_DONE);
    assert_int_equal(sql_number("SELECT count(*) FROM runs"), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM calls WHERE state = 'settled'"), MANY);
    assert_int_equal(sql_number("SELECT count(*) FROM events"), MANY);
    assert_counts_balance();
}

#define LIVE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIVE(test_success_finishes_the_job_in_one_statement),
        LIVE(test_run_ends_once),
        LIVE(test_failure_keeps_its_error),
        LIVE(test_stale_end_changes_nothing_but_books_its_call),
        LIVE(test_cancel_flag_wins_over_success),
        LIVE(test_cancel_flag_that_commits_first_wins),
        LIVE(test_rescue_that_commits_first_makes_the_end_stale),
        LIVE(test_deliveries_come_with_the_end),
        LIVE(test_unwanted_events_deliver_nothing),
        LIVE(test_requeue_gives_a_new_dispatch_and_takes_the_counters_along),
        LIVE(test_drain_hands_back_at_once_and_says_so),
        LIVE(test_requeue_under_a_cancel_flag_ends_cancelled),
        LIVE(test_stale_requeue_makes_no_queue_row),
        LIVE(test_waiting_job_is_cancelled_by_its_tenant_only),
        LIVE(test_waiting_jobs_expire_at_their_deadline),
        LIVE(test_intent_is_durable_before_the_call),
        LIVE(test_intent_needs_a_live_run),
        LIVE(test_settled_calls_stay_as_they_are),
        LIVE(test_unknown_keeps_the_reservation_and_may_still_be_settled),
        LIVE(test_stale_settlement_leaves_the_counters_alone),
        LIVE(test_released_calls_cost_nothing),
        LIVE(test_events_of_a_live_run_are_appended_once),
        LIVE(test_chunk_of_a_zombie_never_lands_after_its_superseding),
        LIVE(test_one_bad_row_fails_alone),
        LIVE(test_shuffled_batches_on_two_connections_end_every_run_once),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
