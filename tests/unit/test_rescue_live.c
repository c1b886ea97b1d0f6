/* SPDX-License-Identifier: Apache-2.0 */
/* Rescue against a real Postgres: who is found, what becomes of the job, its ledger and events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/model/end_store.h"
#include "tests/unit/scheduler_fixture.h"

static struct fixture_scheduler *one; /* leads */
static struct id other_worker;        /* beats, and has nothing */

static int set_up(void **state)
{
    fixture_reset(state);
    other_worker = id_make(clock_now_us());
    sql_run("INSERT INTO workers (id, name, slots) VALUES ('%s', 'w2', 10)", hex(other_worker));
    one = fixture_scheduler_new("one");
    fixture_lead(one);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_scheduler_free(one);
    return 0;
}

/* A pass that has no reason to hold back. */
static void rescue_pass(void)
{
    one->scheduler.rescue_memory.last_us = clock_monotonic_us();
    one->scheduler.rescue_memory.skipped_an_error = true;
    one->scheduler.silence_looked_us = 0;
    assert_true(fixture_pass(one, "rescue"));
}

/* A job of acme in its third run, in the hands of the fixture's worker: call 2 is under way. */
static struct id running_job(void)
{
    struct id job = fixture_queue_job(PRIORITY_NORMAL);

    sql_run("INSERT INTO runs (job, tenant, priority, run, run_token, worker, deadline,"
            "                  dispatch_seq, est_tokens, lease_until, call_started_at, calls,"
            "                  attempts, deferrals, crashes, started_at) "
            "SELECT job, tenant, priority, 3, nextval('run_tokens'), '%s', deadline, 4,"
            "       est_tokens, now() + interval '1 h', now(), 2, 1, 1, 0, now() "
            "FROM queue WHERE job = '%s';"
            "DELETE FROM queue WHERE job = '%s';"
            "INSERT INTO counts VALUES ('acme', 1, 'queued', -1), ('acme', 1, 'running', 1)",
            hex(fixture_worker), hex(job), hex(job));
    sql_run("INSERT INTO calls (job, call, run, tenant, key_id, route, provider, model,"
            "                   input_nano_per_mtok, cached_nano_per_mtok, output_nano_per_mtok,"
            "                   reserved_nano, state, cost_nano) "
            "SELECT '%s'::uuid, call, call + 1, 'acme', 'k1', 'fast', 'p', 'm', 1, 1, 1, 500,"
            "       state, cost "
            "FROM (VALUES (1, 'settled', 70), (2, 'sent', 500)) AS c(call, state, cost)",
            hex(job));
    sql_run("INSERT INTO events (job, run, seq, kind, attempt, byte_offset, text) "
            "SELECT '%s'::uuid, 3, e.* "
            "FROM (VALUES (1, 'job.started', 2, NULL, NULL), (2, 'output.delta', 2, 0, 'grüße'),"
            "             (3, 'output.delta', 2, 7, ' all')) AS e",
            hex(job));
    return job;
}

static void silence_worker(void)
{
    sql_run("UPDATE workers SET beat_at = now() - interval '7 s' WHERE id = '%s'",
            hex(fixture_worker));
}

static int64_t running(void)
{
    return sql_number("SELECT count(*) FROM runs");
}

static void test_job_of_a_lost_worker_goes_back_to_the_queue(void **state)
{
    struct id job = running_job();

    (void)state;
    silence_worker();
    rescue_pass();
    assert_int_equal(running(), 0);
    assert_int_equal(
        sql_number("SELECT count(*) FROM workers WHERE id = '%s'", hex(fixture_worker)), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE job = '%s' AND tenant = 'acme'"
                                "  AND priority = 1 AND run = 3 AND calls = 2 AND attempts = 1"
                                "  AND deferrals = 1 AND crashes = 1 AND dispatch_seq = 5"
                                "  AND est_tokens = 100 AND wait_reason = 'retry'"
                                "  AND dispatched_at IS NULL AND started_at IS NOT NULL"
                                "  AND ready_at BETWEEN now() - interval '5 s'"
                                "                   AND now() + interval '1 s'",
                                hex(job)),
                     1);
    assert_counts_balance();
}

static void test_call_under_way_becomes_unknown_and_keeps_its_reservation(void **state)
{
    struct id job = running_job();

    (void)state;
    silence_worker();
    rescue_pass();
    sql_assert_text("unknown", "SELECT state FROM calls WHERE job = '%s' AND call = 2", hex(job));
    assert_int_equal(
        sql_number("SELECT cost_nano FROM calls WHERE job = '%s' AND call = 2", hex(job)), 500);
    sql_assert_text("settled", "SELECT state FROM calls WHERE job = '%s' AND call = 1", hex(job));
}

static void test_events_say_what_is_void_and_when_it_goes_on(void **state)
{
    struct id job = running_job();

    (void)state;
    silence_worker();
    rescue_pass();
    sql_assert_text("{\"attempt\" : 2, \"valid_bytes\" : 11, \"reason\" : \"worker_lost\"}",
                    "SELECT data::text FROM events WHERE job = '%s' AND run = 3"
                    "  AND kind = 'attempt.superseded' AND attempt = 2",
                    hex(job));
    sql_assert_text("2 worker_lost t",
                    "SELECT concat_ws(' ', data->>'attempt', data->>'reason',"
                    "   (data->>'at')::timestamptz = date_trunc('milliseconds', q.ready_at))"
                    " FROM events e JOIN queue q USING (job)"
                    " WHERE e.job = '%s' AND e.run = 3 AND kind = 'job.retrying'",
                    hex(job));
}

/* What of it was shown live nobody knows. */
static void test_attempt_of_which_nothing_was_stored_is_void_from_its_first_byte(void **state)
{
    struct id job = running_job();

    (void)state;
    sql_run("DELETE FROM events WHERE job = '%s' AND kind = 'output.delta'", hex(job));
    silence_worker();
    rescue_pass();
    sql_assert_text("{\"attempt\" : 2, \"valid_bytes\" : 0, \"reason\" : \"worker_lost\"}",
                    "SELECT data::text FROM events WHERE job = '%s' AND run = 3"
                    "  AND kind = 'attempt.superseded'",
                    hex(job));
    assert_int_equal(sql_number("SELECT count(*) FROM events WHERE kind = 'job.retrying'"), 1);
}

static void test_call_that_was_over_and_without_output_is_not_superseded(void **state)
{
    struct id job = running_job();

    (void)state;
    sql_run("DELETE FROM events WHERE job = '%s' AND kind = 'output.delta'", hex(job));
    sql_run("UPDATE calls SET state = 'released' WHERE job = '%s' AND call = 2", hex(job));
    silence_worker();
    rescue_pass();
    assert_int_equal(sql_number("SELECT count(*) FROM events WHERE kind = 'attempt.superseded'"),
                     0);
    assert_int_equal(sql_number("SELECT count(*) FROM events WHERE kind = 'job.retrying'"), 1);
}

static void test_attempt_that_the_worker_gave_up_is_superseded_once(void **state)
{
    struct id job = running_job();

    (void)state;
    sql_run("INSERT INTO events (job, run, seq, kind, attempt, data)"
            "VALUES ('%s', 3, 4, 'attempt.superseded', 2, '{}')",
            hex(job));
    silence_worker();
    rescue_pass();
    assert_int_equal(sql_number("SELECT count(*) FROM events WHERE kind = 'attempt.superseded'"),
                     1);
}

static void test_worker_that_beats_keeps_its_runs(void **state)
{
    (void)state;
    running_job();
    rescue_pass();
    assert_int_equal(running(), 1);
    assert_int_equal(sql_number("SELECT count(*) FROM workers"), 2);
}

static void test_run_without_a_worker_is_found(void **state)
{
    (void)state;
    running_job();
    running_job();
    sql_run("UPDATE runs SET worker = gen_random_uuid() WHERE run_token = "
            "(SELECT max(run_token) FROM runs)");
    rescue_pass();
    assert_int_equal(running(), 1);
    assert_counts_balance();
}

static void test_run_past_its_lease_is_found(void **state)
{
    (void)state;
    running_job();
    running_job();
    sql_run("UPDATE runs SET lease_until = now() - interval '1 s' WHERE run_token = "
            "(SELECT max(run_token) FROM runs)");
    rescue_pass();
    assert_int_equal(running(), 1);
    assert_int_equal(sql_number("SELECT count(*) FROM workers"), 2);
}

static void test_silent_stream_is_found(void **state)
{
    struct id silent = running_job(), slow = running_job(), young = running_job();
    struct id patient = running_job();

    (void)state;
    sql_run("UPDATE runs SET silent_s = 30, call_started_at = now() - interval '1 min';"
            "UPDATE events SET at = now() - interval '31 s';"
            "UPDATE events SET at = now() - interval '20 s' WHERE job = '%s' AND seq = 3;"
            "UPDATE runs SET call_started_at = now() - interval '20 s' WHERE job = '%s';"
            "UPDATE runs SET silent_s = 0 WHERE job = '%s'",
            hex(slow), hex(young), hex(patient));
    rescue_pass();
    assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE job = '%s'", hex(silent)), 1);
    assert_int_equal(running(), 3);
}

static void test_call_without_any_event_is_silent_since_its_start(void **state)
{
    struct id job = running_job();

    (void)state;
    sql_run("UPDATE runs SET silent_s = 30, call_started_at = now() - interval '1 min';"
            "DELETE FROM events WHERE job = '%s'",
            hex(job));
    rescue_pass();
    assert_int_equal(running(), 0);
}

static void test_cancelled_run_of_a_lost_worker_ends_cancelled(void **state)
{
    struct id job = running_job();

    (void)state;
    sql_run("UPDATE runs SET cancel_requested = true;"
            "INSERT INTO endpoints (id, tenant, url, secret) VALUES ('ep_1', 'acme', 'x', '')");
    silence_worker();
    rescue_pass();
    assert_int_equal(sql_number("SELECT count(*) FROM jobs WHERE id = '%s' AND state = 'cancelled'"
                                "  AND error_type = 'cancelled' AND crashes = 1 AND attempts = 1"
                                "  AND runs = 3 AND cancel_requested AND ended_at IS NOT NULL",
                                hex(job)),
                     1);
    sql_assert_text("unknown", "SELECT state FROM calls WHERE job = '%s' AND call = 2", hex(job));
    sql_assert_text("job.cancelled", "SELECT type FROM deliveries WHERE job = '%s'", hex(job));
    sql_assert_text("job.cancelled",
                    "SELECT kind FROM events WHERE job = '%s' ORDER BY run DESC, seq DESC LIMIT 1",
                    hex(job));
    /* What was shown live and never stored is void for those who watched. */
    assert_int_equal(sql_number("SELECT count(*) FROM events"
                                " WHERE kind = 'attempt.superseded' AND attempt = 2"),
                     1);
    assert_int_equal(sql_number("SELECT count(*) FROM events WHERE kind = 'job.retrying'"), 0);
    assert_counts_balance();
}

static void test_run_past_its_deadline_ends_expired(void **state)
{
    struct id job = running_job();

    (void)state;
    sql_run("UPDATE runs SET deadline = now() - interval '1 s'");
    silence_worker();
    rescue_pass();
    assert_int_equal(sql_number("SELECT count(*) FROM jobs WHERE id = '%s' AND state = 'expired'"
                                "  AND error_type = 'deadline' AND NOT cancel_requested",
                                hex(job)),
                     1);
    sql_assert_text("unknown", "SELECT state FROM calls WHERE job = '%s' AND call = 2", hex(job));
    assert_counts_balance();
}

static void test_each_crash_waits_longer(void **state)
{
    (void)state;
    running_job();
    sql_run("UPDATE runs SET crashes = 2");
    silence_worker();
    rescue_pass();
    assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE crashes = 3"
                                "  AND ready_at BETWEEN now() + interval '11 s'"
                                "                   AND now() + interval '32 s'"),
                     1);
}

static void test_run_in_other_hands_is_passed_over(void **state)
{
    struct id job = running_job();

    (void)state;
    silence_worker();
    other_run("BEGIN; SELECT FROM runs WHERE job = '%s' FOR KEY SHARE", hex(job));
    rescue_pass();
    assert_int_equal(running(), 1);
    other_run("ROLLBACK");
    rescue_pass(); /* the worker's row is gone already */
    assert_int_equal(running(), 0);
}

static void on_end(const struct end_reply *reply, void *arg)
{
    *(int *)arg = reply->outcome == STORE_STALE ? 1 : 2;
}

static void test_zombie_cannot_end_a_rescued_run(void **state)
{
    struct end_store *ends = end_store_new(fixture_pg[1]);
    struct run_end end = {
        .job = running_job(),
        .run_token = sql_number("SELECT run_token FROM runs"),
        .state = JOB_SUCCEEDED,
        .result = "{}",
        .result_len = 2,
    };
    int told = 0;

    (void)state;
    silence_worker();
    rescue_pass();
    assert_true(run_end(ends, &end, on_end, &told));
    await_count(&told, 1);
    assert_int_equal(told, 1);
    assert_int_equal(sql_number("SELECT count(*) FROM jobs WHERE state IS NOT NULL"), 0);
    end_store_free(ends);
}

static void make_runs(int count)
{
    sql_run("INSERT INTO jobs (id, tenant, key_id, priority, model, request, deadline,"
            "                  max_attempts, timeout_s, est_tokens) "
            "SELECT id_make(), 'acme', 'k1', 2, 'fast', '{}', now() + interval '14 d', 5, 600, 1 "
            "FROM generate_series(1, %d);"
            "INSERT INTO runs (job, tenant, priority, run, run_token, worker, deadline,"
            "                  dispatch_seq, est_tokens, lease_until, calls, attempts, deferrals,"
            "                  crashes, started_at) "
            "SELECT id, tenant, priority, 1, nextval('run_tokens'), '%s', deadline, 0, 1,"
            "       now() + interval '1 h', 0, 0, 0, 0, now() FROM jobs;"
            "INSERT INTO counts VALUES ('acme', 2, 'running', %d)",
            count, hex(fixture_worker), count);
}

static void test_pass_is_capped_and_the_next_one_goes_on(void **state)
{
    (void)state;
    make_runs(510);
    silence_worker();
    rescue_pass();
    assert_int_equal(running(), 10);
    rescue_pass();
    assert_int_equal(running(), 0);
    assert_counts_balance();
}

static void test_most_workers_silent_at_once_need_a_second_look(void **state)
{
    (void)state;
    running_job();
    sql_run("UPDATE workers SET beat_at = now() - interval '7 s'");
    rescue_pass();
    assert_int_equal(running(), 1);
    assert_int_equal(sql_number("SELECT count(*) FROM workers"), 2);
    one->scheduler.rescue_memory.suspected_us -= 2 * US_PER_S;
    rescue_pass();
    assert_int_equal(running(), 0);
    assert_int_equal(sql_number("SELECT count(*) FROM workers"), 0);
}

static void test_leader_fresh_in_office_does_not_rescue_at_once(void **state)
{
    (void)state;
    running_job();
    silence_worker();
    assert_true(fixture_pass(one, "rescue"));
    assert_int_equal(running(), 1);
    assert_true(fixture_pass(one, "rescue"));
    assert_int_equal(running(), 0);
}

static void test_old_leader_rescues_nobody(void **state)
{
    (void)state;
    running_job();
    silence_worker();
    sql_run("UPDATE leadership SET epoch = epoch + 1, beat_at = now()");
    one->scheduler.rescue_memory.last_us = clock_monotonic_us();
    assert_false(fixture_pass(one, "rescue"));
    assert_int_equal(running(), 1);
    assert_int_equal(sql_number("SELECT count(*) FROM workers"), 2);
    assert_int_equal(leader_epoch(one->scheduler.leader), 0); /* it knows now */
}

static void test_waiting_job_past_its_deadline_expires(void **state)
{
    struct id late = fixture_backlog_job("acme", PRIORITY_HIGH, 10);

    (void)state;
    fixture_backlog_job("acme", PRIORITY_HIGH, 10);
    sql_run("UPDATE queue SET deadline = now() - interval '1 s' WHERE job = '%s'", hex(late));
    assert_true(fixture_pass(one, "deadlines"));
    sql_assert_text("expired", "SELECT state FROM jobs WHERE id = '%s'", hex(late));
    assert_int_equal(sql_number("SELECT count(*) FROM queue"), 1);
    assert_counts_balance();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_job_of_a_lost_worker_goes_back_to_the_queue),
        TEST(test_call_under_way_becomes_unknown_and_keeps_its_reservation),
        TEST(test_events_say_what_is_void_and_when_it_goes_on),
        TEST(test_attempt_of_which_nothing_was_stored_is_void_from_its_first_byte),
        TEST(test_call_that_was_over_and_without_output_is_not_superseded),
        TEST(test_attempt_that_the_worker_gave_up_is_superseded_once),
        TEST(test_worker_that_beats_keeps_its_runs),
        TEST(test_run_without_a_worker_is_found),
        TEST(test_run_past_its_lease_is_found),
        TEST(test_silent_stream_is_found),
        TEST(test_call_without_any_event_is_silent_since_its_start),
        TEST(test_cancelled_run_of_a_lost_worker_ends_cancelled),
        TEST(test_run_past_its_deadline_ends_expired),
        TEST(test_each_crash_waits_longer),
        TEST(test_run_in_other_hands_is_passed_over),
        TEST(test_zombie_cannot_end_a_rescued_run),
        TEST(test_pass_is_capped_and_the_next_one_goes_on),
        TEST(test_most_workers_silent_at_once_need_a_second_look),
        TEST(test_leader_fresh_in_office_does_not_rescue_at_once),
        TEST(test_old_leader_rescues_nobody),
        TEST(test_waiting_job_past_its_deadline_expires),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
