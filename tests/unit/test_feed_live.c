/* SPDX-License-Identifier: Apache-2.0 */
/* The feeder against a real Postgres: how much it deals, to whom, in which order, and once. */
#include "common/model/feed_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/model/leader_store.h"
#include "tests/unit/scheduler_fixture.h"

static struct fixture_scheduler *one; /* leads */

static int set_up(void **state)
{
    fixture_reset(state);
    sql_run("UPDATE lanes SET credits = 0, expires_at = 'epoch'");
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

static void set_slots(int slots)
{
    sql_run("UPDATE workers SET slots = %d, beat_at = now()", slots);
}

static int64_t dealt(void)
{
    return sql_number("SELECT count(*) FROM queue WHERE dispatched_at IS NOT NULL");
}

static void test_feeder_deals_only_up_to_the_room(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        fixture_backlog_job("acme", PRIORITY_NORMAL, 10 + i);
    set_slots(3);
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt(), 6); /* twice the slots */
    assert_int_equal(one->ticket_count, 6);
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt(), 6); /* nobody claimed */
    sql_run("DELETE FROM queue WHERE dispatched_at IS NOT NULL");
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt(), 4);
    assert_int_equal(one->ticket_count, 10);
}

static void test_feeder_leaves_room_for_credits(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        fixture_backlog_job("acme", PRIORITY_NORMAL, 10);
    set_slots(3);
    sql_run("UPDATE lanes SET credits = 4, expires_at = now() + interval '1 min' "
            "WHERE priority = 1 AND shard = 0");
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt(), 2);
}

static void test_nothing_is_dealt_without_live_workers(void **state)
{
    (void)state;
    fixture_backlog_job("acme", PRIORITY_NORMAL, 10);
    sql_run("UPDATE workers SET beat_at = now() - interval '7 s'");
    assert_true(fixture_pass(one, "feed"));
    sql_run("UPDATE workers SET beat_at = now(), is_draining = true");
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt(), 0);
    assert_int_equal(one->ticket_count, 0);
}

static void test_longest_ready_is_dealt_first_and_stays_so_for_direct_claims(void **state)
{
    struct id jobs[3];

    (void)state;
    jobs[2] = fixture_backlog_job("acme", PRIORITY_LOW, 10);
    jobs[0] = fixture_backlog_job("other", PRIORITY_LOW, 30);
    jobs[1] = fixture_backlog_job("acme", PRIORITY_LOW, 20);
    fixture_backlog_job("acme", PRIORITY_LOW, -60); /* not ready */
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(one->ticket_count, 3);
    for (int i = 0; i < 3; i++) {
        assert_true(id_equal(one->tickets[i].job, jobs[i]));
        assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE dispatched_at <= ("
                                    "SELECT dispatched_at FROM queue WHERE job = '%s')",
                                    hex(jobs[i])),
                         i + 1);
    }
    assert_string_equal(one->tickets[0].tenant, "other");
}

static void test_each_priority_has_its_own_room(void **state)
{
    (void)state;
    set_slots(1);
    for (int i = 0; i < 12; i++)
        fixture_backlog_job("acme", i % PRIORITY_COUNT, 10);
    assert_true(fixture_pass(one, "feed"));
    for (int p = 0; p < PRIORITY_COUNT; p++)
        assert_int_equal(sql_number("SELECT count(*) FROM queue "
                                    "WHERE priority = %d AND dispatched_at IS NOT NULL",
                                    p),
                         2);
}

static void test_paused_jobs_are_not_dealt(void **state)
{
    (void)state;
    fixture_backlog_job("acme", PRIORITY_NORMAL, 10);
    fixture_backlog_job("other", PRIORITY_HIGH, 10);
    fixture_backlog_job("other", PRIORITY_LOW, 10);
    sql_run("INSERT INTO pauses VALUES ('tenant', 'acme'), ('priority', 'low')");
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(one->ticket_count, 1);
    assert_string_equal(one->tickets[0].tenant, "other");
    sql_run("DELETE FROM pauses");
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(one->ticket_count, 3);
}

static void test_what_a_paused_tenant_was_dealt_is_taken_back(void **state)
{
    (void)state;
    set_slots(1);
    fixture_backlog_job("acme", PRIORITY_NORMAL, 20);
    fixture_backlog_job("acme", PRIORITY_NORMAL, 20);
    fixture_backlog_job("other", PRIORITY_NORMAL, 10);
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt(), 2);
    sql_run("INSERT INTO pauses VALUES ('tenant', 'acme')");
    assert_true(fixture_pass(one, "feed")); /* their room is free at once */
    assert_string_equal(one->tickets[2].tenant, "other");
    assert_true(fixture_pass(one, "recall"));
    assert_int_equal(dealt(), 1);
    sql_run("DELETE FROM pauses");
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt(), 2);
}

static void test_expired_jobs_are_not_dealt(void **state)
{
    struct id job = fixture_backlog_job("acme", PRIORITY_NORMAL, 10);

    (void)state;
    sql_run("UPDATE queue SET deadline = now() - interval '1 s' WHERE job = '%s'", hex(job));
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(dealt(), 0);
}

static void test_row_in_other_hands_is_passed_over(void **state)
{
    struct id held = fixture_backlog_job("acme", PRIORITY_NORMAL, 20);

    (void)state;
    fixture_backlog_job("acme", PRIORITY_NORMAL, 10);
    other_run("BEGIN; SELECT FROM queue WHERE job = '%s' FOR UPDATE", hex(held));
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(one->ticket_count, 1);
    other_run("ROLLBACK");
    assert_true(fixture_pass(one, "feed"));
    assert_int_equal(one->ticket_count, 2);
}

struct answer {
    int count;
    enum pg_status status;
    char sqlstate[6];
    int rows;
};

static void on_answer(const struct pg_reply *reply, void *arg)
{
    struct answer *answer = arg;

    answer->count++;
    answer->status = reply->status;
    strncpy(answer->sqlstate, reply->sqlstate, sizeof(answer->sqlstate) - 1);
    answer->rows = reply->result ? pg_rows(reply->result) : -1;
}

/* The worst that two leaders could do: both choose the same job from the same look. */
static void test_two_feeders_never_deal_the_same_job_twice(void **state)
{
    struct feed_candidate job = {.job = fixture_backlog_job("acme", PRIORITY_NORMAL, 10)};
    const struct feed_candidate *jobs[] = {&job};
    struct answer first = {0}, second = {0};
    int64_t epoch = leader_epoch(one->scheduler.leader);

    (void)state;
    feed_deal(fixture_pg[0], epoch, jobs, 1, on_answer, &first);
    feed_deal(fixture_pg[1], epoch, jobs, 1, on_answer, &second);
    await_count(&first.count, 1);
    await_count(&second.count, 1);
    assert_int_equal(first.rows + second.rows, 1);
}

static void test_deal_of_an_old_epoch_does_nothing(void **state)
{
    struct feed_candidate job = {.job = fixture_backlog_job("acme", PRIORITY_NORMAL, 10)};
    const struct feed_candidate *jobs[] = {&job};
    struct answer answer = {0};

    (void)state;
    feed_deal(fixture_pg[0], leader_epoch(one->scheduler.leader) - 1, jobs, 1, on_answer, &answer);
    await_count(&answer.count, 1);
    assert_int_equal(answer.status, PG_FAILED);
    assert_string_equal(answer.sqlstate, LEADER_SQLSTATE);
    assert_int_equal(dealt(), 0);
}

static void test_lost_ticket_goes_out_again_with_the_same_number(void **state)
{
    struct id job = fixture_backlog_job("acme", PRIORITY_NORMAL, 200);

    (void)state;
    sql_run("UPDATE queue SET dispatch_seq = 7 WHERE job = '%s'", hex(job));
    assert_true(fixture_pass(one, "feed"));
    assert_true(fixture_pass(one, "republish"));
    assert_int_equal(one->ticket_count, 1); /* it may still be on its way */
    sql_run("UPDATE queue SET dispatched_at = now() - interval '61 s',"
            "                 published_at = now() - interval '61 s'");
    assert_true(fixture_pass(one, "republish"));
    assert_int_equal(one->ticket_count, 2);
    assert_true(id_equal(one->tickets[1].job, job));
    assert_int_equal(one->tickets[0].dispatch_seq, 7);
    assert_int_equal(one->tickets[1].dispatch_seq, 7);
    assert_true(fixture_pass(one, "republish"));
    assert_int_equal(one->ticket_count, 2); /* once a minute */
    assert_int_equal(sql_number("SELECT dispatch_seq::int8 FROM queue"), 7);
}

static void test_fast_lane_gets_what_the_fleet_can_take(void **state)
{
    (void)state;
    set_slots(400);
    assert_true(fixture_pass(one, "lanes"));
    assert_int_equal(sql_number("SELECT sum(credits) FROM lanes WHERE priority = 1"), 700);
    assert_int_equal(sql_number("SELECT count(*) FROM lanes WHERE priority = 1 AND credits > 0"),
                     8);
    assert_int_equal(sql_number("SELECT count(*) FROM lanes WHERE expires_at < now()"), 0);
    set_slots(4);
    fixture_backlog_job("acme", PRIORITY_LOW, 10);
    assert_true(fixture_pass(one, "lanes"));
    assert_int_equal(sql_number("SELECT sum(credits) FROM lanes WHERE priority = 1"), 7);
    assert_int_equal(sql_number("SELECT sum(credits) FROM lanes WHERE priority = 2"), 2);
    assert_int_equal(sql_number("SELECT max(credits)::int8 FROM lanes WHERE priority = 1"), 7);
    sql_run("DELETE FROM workers");
    assert_true(fixture_pass(one, "lanes"));
    assert_int_equal(sql_number("SELECT sum(credits) FROM lanes"), 0);
}

static void test_shard_in_use_does_not_hold_up_the_grant(void **state)
{
    (void)state;
    set_slots(400);
    other_run("BEGIN; UPDATE lanes SET credits = 5 WHERE priority = 1 AND shard = 0");
    assert_true(fixture_pass(one, "lanes"));
    other_run("ROLLBACK");
    assert_int_equal(sql_number("SELECT count(*) FROM lanes WHERE priority = 1 AND credits > 0"),
                     7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_feeder_deals_only_up_to_the_room),
        TEST(test_feeder_leaves_room_for_credits),
        TEST(test_nothing_is_dealt_without_live_workers),
        TEST(test_longest_ready_is_dealt_first_and_stays_so_for_direct_claims),
        TEST(test_each_priority_has_its_own_room),
        TEST(test_paused_jobs_are_not_dealt),
        TEST(test_what_a_paused_tenant_was_dealt_is_taken_back),
        TEST(test_expired_jobs_are_not_dealt),
        TEST(test_row_in_other_hands_is_passed_over),
        TEST(test_two_feeders_never_deal_the_same_job_twice),
        TEST(test_deal_of_an_old_epoch_does_nothing),
        TEST(test_lost_ticket_goes_out_again_with_the_same_number),
        TEST(test_fast_lane_gets_what_the_fleet_can_take),
        TEST(test_shard_in_use_does_not_hold_up_the_grant),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
