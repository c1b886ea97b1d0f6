/* SPDX-License-Identifier: Apache-2.0 */
/* Submits against a real Postgres: whole or not at all, once per key, fast only with credit. */
#include "common/model/submit_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/model/tenant_scope_store.h"
#include "tests/unit/postgres_fixture.h"
#include "tests/unit/store_fixture.h"

static struct pg *intake;  /* as the intake's role; waits only a moment for locks */
static struct pg *reading; /* as the tenants' role */
static struct submit_store *store;

static int set_up(void **state)
{
    struct pg_options options = {
        .url = fixture_url(), .duty = "intake", .role = INTAKE_ROLE, .lock_timeout_ms = 300};
    struct pg_options read_options = {.url = fixture_url(), .duty = "read", .role = TENANT_ROLE};

    fixture_reset(state);
    sql_run("UPDATE lanes SET credits = 0, expires_at = 'epoch'");
    intake = pg_new(fixture_base, &options, NULL);
    reading = pg_new(fixture_base, &read_options, NULL);
    store = submit_store_new(intake, reading, fixture_pg[0]);
    return intake && reading && store ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    submit_store_free(store);
    pg_free(intake);
    pg_free(reading);
    return 0;
}

struct stored {
    bool is_told;
    enum submit_result result;
    enum limit_scope full;
    bool is_fast;
};

static void on_stored(const struct submit_reply *reply, void *arg)
{
    struct stored *stored = arg;

    assert_false(stored->is_told);
    *stored = (struct stored){
        .is_told = true, .result = reply->result, .full = reply->full, .is_fast = reply->is_fast};
}

static struct stored store_one(const struct job_new *job)
{
    struct stored stored = {0};

    assert_true(submit_store(store, job, NULL, on_stored, &stored));
    await_flag(&stored.is_told);
    return stored;
}

static void grant(enum priority priority, int credits)
{
    sql_run("UPDATE lanes SET credits = %d, expires_at = now() + interval '1 minute'"
            " WHERE priority = %d AND shard = 3",
            credits, (int)priority);
}

/* --- whole ------------------------------------------------------------------------------------ */

static void test_submit_makes_job_queue_row_event_and_count(void **state)
{
    struct job_new job = fixture_new_job("acme", PRIORITY_NORMAL, NULL);
    struct stored stored = store_one(&job);

    (void)state;
    assert_int_equal(stored.result, SUBMIT_STORED);
    assert_false(stored.is_fast);
    assert_int_equal(
        sql_number("SELECT count(*) FROM jobs WHERE id = '%s' AND state IS NULL", hex(job.id)), 1);
    assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE job = '%s' AND"
                                " dispatched_at IS NULL AND ready_at <= now()",
                                hex(job.id)),
                     1);
    sql_assert_text("job.queued", "SELECT kind FROM events WHERE job = '%s'", hex(job.id));
    assert_counts_balance();
}

static void test_later_job_waits_for_its_time(void **state)
{
    struct job_new job = fixture_new_job("acme", PRIORITY_NORMAL, NULL);

    (void)state;
    grant(PRIORITY_NORMAL, 10);
    job.run_at_us = clock_now_us() + 3600 * US_PER_S;
    assert_false(store_one(&job).is_fast);
    sql_assert_text("run_at", "SELECT wait_reason FROM queue WHERE job = '%s'", hex(job.id));
    assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE ready_at > now()"), 1);
}

static void test_many_submits_are_stored_together(void **state)
{
    enum { MANY = 1200 };
    static struct stored stored[MANY];
    int told = 0;

    (void)state;
    memset(stored, 0, sizeof(stored));
    for (int i = 0; i < MANY; i++) {
        struct job_new job = fixture_new_job("acme", (enum priority)(i % PRIORITY_COUNT), NULL);

        assert_true(submit_store(store, &job, NULL, on_stored, &stored[i]));
    }
    for (; told < MANY; told++) {
        await_flag(&stored[told].is_told);
        assert_int_equal(stored[told].result, SUBMIT_STORED);
    }
    assert_int_equal(sql_number("SELECT count(*) FROM queue"), MANY);
    assert_counts_balance();
}

static void test_row_the_server_refuses_fails_alone(void **state)
{
    struct job_new good = fixture_new_job("acme", PRIORITY_NORMAL, NULL),
                   bad = fixture_new_job("acme", PRIORITY_NORMAL, NULL);
    struct stored stored[2] = {{0}, {0}};

    (void)state;
    bad.max_attempts = 5;
    bad.metadata = (char[]){"not json"};
    assert_true(submit_store(store, &good, NULL, on_stored, &stored[0]));
    assert_true(submit_store(store, &bad, NULL, on_stored, &stored[1]));
    await_flag(&stored[0].is_told);
    await_flag(&stored[1].is_told);
    assert_int_equal(stored[0].result, SUBMIT_STORED);
    assert_int_equal(stored[1].result, SUBMIT_BROKEN);
    assert_int_equal(sql_number("SELECT count(*) FROM jobs"), 1);
}

/* --- keys ------------------------------------------------------------------------------------- */

struct found {
    bool is_told;
    struct submit_key_reply reply;
};

static void on_key(const struct submit_key_reply *reply, void *arg)
{
    struct found *found = arg;

    *found = (struct found){.is_told = true, .reply = *reply};
}

static void test_known_key_makes_no_second_job(void **state)
{
    struct job_new first = fixture_new_job("acme", PRIORITY_NORMAL, "k1"),
                   second = fixture_new_job("acme", PRIORITY_LOW, "k1");
    struct found found = {0};

    (void)state;
    assert_int_equal(store_one(&first).result, SUBMIT_STORED);
    assert_int_equal(store_one(&second).result, SUBMIT_KEY_KNOWN);
    assert_int_equal(sql_number("SELECT count(*) FROM jobs"), 1);
    assert_counts_balance();
    assert_true(submit_find_key(store, "acme", "k1", on_key, &found));
    await_flag(&found.is_told);
    assert_true(found.reply.is_found);
    assert_true(id_equal(found.reply.job, first.id));
    assert_memory_equal(found.reply.body_hash, first.body_hash, 32);
    found.is_told = false;
    assert_true(submit_find_key(store, "other", "k1", on_key, &found));
    await_flag(&found.is_told);
    assert_false(found.reply.is_found);
}

static void test_same_key_in_one_moment_makes_one_job(void **state)
{
    struct stored stored[8] = {{0}};
    int made = 0;

    (void)state;
    for (int i = 0; i < 8; i++) {
        struct job_new job = fixture_new_job("acme", PRIORITY_NORMAL, "same");

        assert_true(submit_store(store, &job, NULL, on_stored, &stored[i]));
    }
    for (int i = 0; i < 8; i++) {
        await_flag(&stored[i].is_told);
        made += stored[i].result == SUBMIT_STORED;
    }
    assert_int_equal(made, 1);
    assert_int_equal(sql_number("SELECT count(*) FROM jobs"), 1);
}

static void test_key_still_committing_elsewhere_is_busy_after_the_wait(void **state)
{
    struct job_new job = fixture_new_job("acme", PRIORITY_NORMAL, "slow");

    (void)state;
    other_run("BEGIN");
    other_run("INSERT INTO idempotency (tenant, key, job, body_hash)"
              " VALUES ('acme', 'slow', gen_random_uuid(), 'x')");
    assert_int_equal(store_one(&job).result, SUBMIT_KEY_BUSY);
    other_run("ROLLBACK");
    assert_int_equal(store_one(&job).result, SUBMIT_STORED);
}

/* --- queues as long as they may be ------------------------------------------------------------ */

static struct stored store_capped(const struct job_new *job, enum limit_scope scope, int64_t most)
{
    int64_t caps[LIMIT_SCOPE_COUNT] = {-1, -1, -1, -1, -1};
    struct stored stored = {0};

    caps[scope] = most;
    assert_true(submit_store(store, job, caps, on_stored, &stored));
    await_flag(&stored.is_told);
    return stored;
}

static void test_each_scope_has_a_queue_of_its_own(void **state)
{
    static char nightly[] = "nightly", u1[] = "u1";

    (void)state;
    for (int scope = 0; scope < LIMIT_SCOPE_COUNT; scope++) {
        struct job_new first = fixture_new_job("acme", PRIORITY_LOW, NULL),
                       second = fixture_new_job("acme", PRIORITY_LOW, NULL);
        struct stored stored;

        sql_run("DELETE FROM queue");
        first.workflow = second.workflow = nightly;
        first.user = second.user = u1;
        assert_int_equal(store_capped(&first, (enum limit_scope)scope, 1).result, SUBMIT_STORED);
        stored = store_capped(&second, (enum limit_scope)scope, 1);
        assert_int_equal(stored.result, SUBMIT_QUEUE_FULL);
        assert_int_equal(stored.full, scope);
        assert_int_equal(sql_number("SELECT count(*) FROM jobs WHERE id = '%s'", hex(second.id)),
                         0);
        assert_int_equal(store_capped(&second, (enum limit_scope)scope, 2).result, SUBMIT_STORED);
    }
    sql_assert_text("nightly key1 u1 fast",
                    "SELECT workflow || ' ' || key_id || ' ' || end_user || ' ' || model"
                    " FROM queue LIMIT 1");
}

/* Two processes with a hundred submits each at the same moment. */
static void test_a_queue_is_never_longer_than_it_may_be(void **state)
{
    const int64_t caps[LIMIT_SCOPE_COUNT] = {50, -1, -1, -1, -1};
    struct submit_store *other = submit_store_new(fixture_pg[1], reading, fixture_pg[0]);
    struct stored stored[200] = {{0}};
    int accepted = 0, refused = 0;

    (void)state;
    for (int i = 0; i < 200; i++) {
        struct job_new job = fixture_new_job("acme", PRIORITY_NORMAL, NULL);

        assert_true(submit_store(i % 2 ? store : other, &job, caps, on_stored, &stored[i]));
        if (i % 20 == 19)
            turn_loop_ms(1);
    }
    for (int i = 0; i < 200; i++) {
        await_flag(&stored[i].is_told);
        accepted += stored[i].result == SUBMIT_STORED;
        refused += stored[i].result == SUBMIT_QUEUE_FULL;
    }
    assert_int_equal(accepted, 50);
    assert_int_equal(refused, 150);
    assert_int_equal(sql_number("SELECT count(*) FROM queue"), 50);
    assert_counts_balance();
    submit_store_free(other);
}

static void test_a_full_queue_stores_no_key_and_knows_those_it_has(void **state)
{
    struct job_new first = fixture_new_job("acme", PRIORITY_LOW, "a"),
                   again = fixture_new_job("acme", PRIORITY_LOW, "a");
    struct job_new second = fixture_new_job("acme", PRIORITY_LOW, "b");

    (void)state;
    assert_int_equal(store_capped(&first, LIMIT_TENANT, 1).result, SUBMIT_STORED);
    assert_int_equal(store_capped(&second, LIMIT_TENANT, 1).result, SUBMIT_QUEUE_FULL);
    assert_int_equal(store_capped(&again, LIMIT_TENANT, 1).result, SUBMIT_KEY_KNOWN);
    assert_int_equal(sql_number("SELECT count(*) FROM idempotency WHERE key = 'b'"), 0);
    assert_int_equal(store_capped(&second, LIMIT_TENANT, 2).result, SUBMIT_STORED);
}

/* --- the fast lane ---------------------------------------------------------------------------- */

static void test_credit_lets_a_job_go_at_once(void **state)
{
    struct job_new job = fixture_new_job("acme", PRIORITY_HIGH, NULL);

    (void)state;
    grant(PRIORITY_HIGH, 2);
    assert_true(store_one(&job).is_fast);
    assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE dispatched_at IS NOT NULL"
                                " AND published_at IS NOT NULL"),
                     1);
    assert_int_equal(sql_number("SELECT sum(credits)::int8 FROM lanes WHERE priority = 0"), 1);
}

static void test_no_more_go_fast_than_there_is_credit(void **state)
{
    struct stored stored[10] = {{0}};
    int fast = 0;

    (void)state;
    grant(PRIORITY_NORMAL, 4);
    for (int i = 0; i < 10; i++) {
        struct job_new job = fixture_new_job("acme", PRIORITY_NORMAL, NULL);

        assert_true(submit_store(store, &job, NULL, on_stored, &stored[i]));
    }
    for (int i = 0; i < 10; i++) {
        await_flag(&stored[i].is_told);
        fast += stored[i].is_fast;
        assert_int_equal(stored[i].is_fast, i < 4); /* the first ones */
    }
    assert_int_equal(fast, 4);
    assert_int_equal(sql_number("SELECT sum(credits)::int8 FROM lanes"), 0);
}

static void test_fast_lane_is_closed_to_those_who_may_not_run_now(void **state)
{
    static const char something_waits[] =
        "INSERT INTO queue (job, tenant, priority, ready_at, deadline, est_tokens)"
        " VALUES (gen_random_uuid(), 'acme', 2, now(), now() + interval '1 h', 1)";
    const char *const obstacles[] = {
        "UPDATE lanes SET expires_at = now() - interval '1 s'",
        "INSERT INTO pauses (kind, name) VALUES ('priority', 'low')",
        "INSERT INTO pauses (kind, name) VALUES ('tenant', 'acme')",
        "UPDATE tenants SET is_disabled = true",
        "INSERT INTO gates (tenant, kind, name, until, reason)"
        " VALUES ('acme', 'tenant', '', 'epoch', 'budget')",
        "INSERT INTO gates (tenant, kind, name, until, reason)"
        " VALUES ('acme', 'model', 'fast', 'epoch', 'budget')",
        something_waits,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(obstacles) / sizeof(obstacles[0]); i++) {
        struct job_new job = fixture_new_job("acme", PRIORITY_LOW, NULL);

        sql_run("DELETE FROM queue");
        sql_run("DELETE FROM pauses; DELETE FROM gates; UPDATE tenants SET is_disabled = false");
        grant(PRIORITY_LOW, 5);
        sql_run("%s", obstacles[i]);
        assert_false(store_one(&job).is_fast);
    }
    sql_run("DELETE FROM pauses; DELETE FROM gates; UPDATE tenants SET is_disabled = false");
}

static void test_held_credit_stops_nobody(void **state)
{
    struct job_new job = fixture_new_job("acme", PRIORITY_NORMAL, NULL);

    (void)state;
    grant(PRIORITY_NORMAL, 5);
    other_run("BEGIN");
    other_run("SELECT * FROM lanes FOR UPDATE");
    assert_false(store_one(&job).is_fast);
    other_run("ROLLBACK");
}

static void test_undelivered_ticket_puts_the_job_back_to_the_deal(void **state)
{
    struct job_new job = fixture_new_job("acme", PRIORITY_NORMAL, NULL),
                   moved = fixture_new_job("acme", PRIORITY_NORMAL, NULL);

    (void)state;
    grant(PRIORITY_NORMAL, 2);
    assert_true(store_one(&job).is_fast);
    assert_true(store_one(&moved).is_fast);
    sql_run("UPDATE queue SET dispatch_seq = 1 WHERE job = '%s'", hex(moved.id));
    submit_unpublish(store, job.id, 0);
    submit_unpublish(store, moved.id, 0);
    for (int i = 0; i < 100 && sql_number("SELECT count(*) FROM queue WHERE job = '%s'"
                                          " AND dispatched_at IS NULL AND published_at IS NULL",
                                          hex(job.id)) == 0;
         i++)
        turn_loop_ms(20);
    assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE dispatched_at IS NULL"), 1);
    sql_assert_text("true", "SELECT (dispatched_at IS NOT NULL)::text FROM queue WHERE job = '%s'",
                    hex(moved.id));
}

/* --- away ------------------------------------------------------------------------------------- */

struct job_found {
    bool is_told;
    enum pg_status status;
    bool is_found;
};

static void on_job(enum pg_status status, bool is_found, void *arg)
{
    struct job_found *found = arg;

    *found = (struct job_found){.is_told = true, .status = status, .is_found = is_found};
}

static void test_stored_job_is_found_by_its_id(void **state)
{
    struct job_new job = fixture_new_job("acme", PRIORITY_NORMAL, NULL);
    struct job_found found = {0};

    (void)state;
    assert_int_equal(store_one(&job).result, SUBMIT_STORED);
    assert_true(submit_find_job(store, job.id, on_job, &found));
    await_flag(&found.is_told);
    assert_true(found.is_found);
    found.is_told = false;
    assert_true(submit_find_job(store, id_make(clock_now_us()), on_job, &found));
    await_flag(&found.is_told);
    assert_int_equal(found.status, PG_OK);
    assert_false(found.is_found);
}

struct copied {
    bool is_told;
    struct job_new *job;
    bool has_ended;
};

static void on_copied(const struct submit_copy_reply *reply, void *arg)
{
    struct copied *copied = arg;

    assert_int_equal(reply->status, PG_OK);
    *copied = (struct copied){.is_told = true, .job = reply->job, .has_ended = reply->has_ended};
}

static void test_copy_is_the_job_without_its_times(void **state)
{
    struct job_new job = fixture_new_job("acme", PRIORITY_LOW, "k");
    struct copied copied = {0};

    (void)state;
    job.metadata = (char[]){"{\"a\":\"b\"}"};
    job.webhook_events = (char[]){"job.failed,job.expired"};
    job.run_at_us = clock_now_us() + US_PER_S;
    assert_int_equal(store_one(&job).result, SUBMIT_STORED);
    assert_true(submit_copy(store, job.id, "acme", on_copied, &copied));
    await_flag(&copied.is_told);
    assert_non_null(copied.job);
    assert_false(copied.has_ended);
    assert_int_equal(copied.job->priority, PRIORITY_LOW);
    assert_int_equal(copied.job->run_at_us, 0);
    assert_int_equal(copied.job->deadline_us, 0);
    assert_null(copied.job->idempotency_key);
    assert_true(id_equal(copied.job->replay_of, job.id));
    assert_string_equal(copied.job->request, "{}");
    assert_string_equal(copied.job->webhook_events, "job.failed,job.expired");
    assert_int_equal(copied.job->max_cost_nano, -1);
    assert_int_equal(copied.job->worst_case_nano, -1);
    job_new_free(copied.job);
    copied = (struct copied){0};
    assert_true(submit_copy(store, job.id, "other", on_copied, &copied));
    await_flag(&copied.is_told);
    assert_null(copied.job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_submit_makes_job_queue_row_event_and_count, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_later_job_waits_for_its_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_submits_are_stored_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_row_the_server_refuses_fails_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_known_key_makes_no_second_job, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_same_key_in_one_moment_makes_one_job, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_key_still_committing_elsewhere_is_busy_after_the_wait,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_each_scope_has_a_queue_of_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_queue_is_never_longer_than_it_may_be, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_full_queue_stores_no_key_and_knows_those_it_has,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_credit_lets_a_job_go_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_more_go_fast_than_there_is_credit, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_fast_lane_is_closed_to_those_who_may_not_run_now,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_held_credit_stops_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_undelivered_ticket_puts_the_job_back_to_the_deal,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stored_job_is_found_by_its_id, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copy_is_the_job_without_its_times, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
