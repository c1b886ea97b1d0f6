/* SPDX-License-Identifier: Apache-2.0 */
/* Claims against a real Postgres: each job once, only when it may run, by ticket and directly. */
#include "common/model/claim_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "tests/unit/store_fixture.h"

static struct claim_store *store;
static struct claim_store *other_store; /* of another worker, on another connection */

static int set_up(void **state)
{
    struct id other_worker = id_make(clock_now_us());

    fixture_reset(state);
    sql_run("INSERT INTO workers (id, name, slots) VALUES ('%s', 'w2', 10)", hex(other_worker));
    store = claim_store_new(fixture_pg[0], fixture_worker);
    other_store = claim_store_new(fixture_pg[1], other_worker);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    claim_store_free(store);
    claim_store_free(other_store);
    return 0;
}

/* --- what was claimed ------------------------------------------------------------------------- */

struct claim {
    bool is_told;
    enum claim_outcome outcome;
    struct claimed_job *job;
    int *told_count; /* of many; or NULL */
};

static void on_claim(enum claim_outcome outcome, struct claimed_job *job, void *arg)
{
    struct claim *claim = arg;

    assert_false(claim->is_told);
    claim->is_told = true;
    claim->outcome = outcome;
    claim->job = job;
    if (claim->told_count)
        ++*claim->told_count;
}

static enum claim_outcome claim_by(struct claim_store *by, struct id job, int seq,
                                   struct claimed_job **out)
{
    struct ticket ticket = {.job = job, .dispatch_seq = seq, .tenant = "acme"};
    struct claim claim = {0};

    assert_true(claim_ticket(by, &ticket, on_claim, &claim));
    assert_false(claim.is_told);
    await_flag(&claim.is_told);
    assert_int_equal(claim.outcome == CLAIM_MINE, claim.job != NULL);
    if (out)
        *out = claim.job;
    else
        claimed_job_free(claim.job);
    return claim.outcome;
}

static enum claim_outcome claim_one(struct id job, int seq)
{
    return claim_by(store, job, seq, NULL);
}

struct dealt {
    bool is_told;
    enum claim_outcome outcome;
    struct id jobs[CLAIM_DEALT_MAX];
    size_t count;
};

static void on_dealt(enum claim_outcome outcome, struct claimed_job **jobs, size_t count, void *arg)
{
    struct dealt *dealt = arg;

    dealt->is_told = true;
    dealt->outcome = outcome;
    dealt->count = count;
    for (size_t i = 0; i < count; i++) {
        dealt->jobs[i] = jobs[i]->job;
        claimed_job_free(jobs[i]);
    }
}

static struct dealt claim_dealt_rows(enum priority priority, int limit)
{
    struct dealt dealt = {0};

    assert_true(claim_dealt(store, priority, limit, on_dealt, &dealt));
    await_flag(&dealt.is_told);
    assert_int_equal(dealt.outcome, CLAIM_MINE);
    return dealt;
}

/* --- by ticket -------------------------------------------------------------------------------- */

static void test_ticket_claims_its_job_once(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_NORMAL);

    (void)state;
    assert_int_equal(claim_one(job, 0), CLAIM_MINE);
    assert_int_equal(claim_one(job, 0), CLAIM_NOT);
    assert_int_equal(claim_by(other_store, job, 0, NULL), CLAIM_NOT);
    assert_int_equal(sql_number("SELECT count(*) FROM queue"), 0);
    assert_int_equal(
        sql_number("SELECT count(*) FROM runs WHERE worker = '%s'", hex(fixture_worker)), 1);
    assert_counts_balance();
}

static void test_claim_tells_all_that_a_run_needs(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_LOW);
    struct claimed_job *claimed;

    (void)state;
    sql_run("UPDATE jobs SET workflow = 'triage', end_user = 'u-1', max_cost_nano = 250,"
            "                request = '{\"seed\": 1.10, \"text\": \"\xc3\xa4\"}';"
            "UPDATE queue SET run = 2, calls = 3, attempts = 2, deferrals = 1, crashes = 4,"
            "                 dispatch_seq = 7, started_at = '2026-01-02T03:04:05Z';"
            "INSERT INTO calls (job, call, run, tenant, key_id, route, provider, model,"
            "                   input_nano_per_mtok, cached_nano_per_mtok, output_nano_per_mtok,"
            "                   reserved_nano, state, cost_nano) "
            "VALUES ('%s', 1, 1, 'acme', 'k1', 'fast', 'p', 'm', 1, 1, 1, 50, 'settled', 40),"
            "       ('%s', 2, 2, 'acme', 'k1', 'fast', 'p', 'm', 1, 1, 1, 50, 'unknown', 50)",
            hex(job), hex(job));
    assert_int_equal(claim_by(store, job, 7, &claimed), CLAIM_MINE);
    assert_true(id_equal(claimed->job, job));
    assert_int_equal(claimed->priority, PRIORITY_LOW);
    assert_int_equal(claimed->run, 3);
    assert_true(claimed->run_token > 0);
    assert_string_equal(claimed->tenant, "acme");
    assert_string_equal(claimed->key_id, "k1");
    assert_string_equal(claimed->workflow, "triage");
    assert_string_equal(claimed->end_user, "u-1");
    assert_string_equal(claimed->model, "fast");
    assert_string_equal(claimed->request, "{\"seed\": 1.10, \"text\": \"\xc3\xa4\"}");
    assert_int_equal(claimed->request_len, strlen(claimed->request));
    assert_int_equal(claimed->calls, 3);
    assert_int_equal(claimed->attempts, 2);
    assert_int_equal(claimed->deferrals, 1);
    assert_int_equal(claimed->crashes, 4);
    assert_int_equal(claimed->max_attempts, 5);
    assert_int_equal(claimed->timeout_s, 600);
    assert_int_equal(claimed->max_cost_nano, 250);
    assert_int_equal(claimed->spent_nano, 90);
    assert_int_equal(claimed->est_tokens, 100);
    assert_int_equal(claimed->started_at_us, INT64_C(1767323045) * US_PER_S);
    assert_in_range(claimed->queue_wait_us, 4 * US_PER_S, 60 * US_PER_S);
    assert_in_range(claimed->deadline_us - clock_now_us(), 13 * US_PER_DAY, 14 * US_PER_DAY);
    claimed_job_free(claimed);
    assert_int_equal(sql_number("SELECT extract(epoch FROM lease_until - now())::int FROM runs"),
                     720);
}

static void test_absent_values_are_told_as_absent(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_HIGH);
    struct claimed_job *claimed;

    (void)state;
    assert_int_equal(claim_by(store, job, 0, &claimed), CLAIM_MINE);
    assert_null(claimed->workflow);
    assert_null(claimed->end_user);
    assert_int_equal(claimed->max_cost_nano, -1);
    assert_int_equal(claimed->spent_nano, 0);
    assert_int_equal(claimed->run, 1);
    claimed_job_free(claimed);
}

static void test_token_grows_with_each_claim(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_HIGH);
    struct claimed_job *first, *second;

    (void)state;
    assert_int_equal(claim_by(store, job, 0, &first), CLAIM_MINE);
    sql_run("DELETE FROM runs;"
            "INSERT INTO queue (job, tenant, priority, ready_at, deadline, est_tokens, run,"
            "                   dispatch_seq) "
            "SELECT id, tenant, priority, now(), deadline, 1, 1, 1 FROM jobs");
    assert_int_equal(claim_by(other_store, job, 1, &second), CLAIM_MINE);
    assert_true(second->run_token > first->run_token);
    assert_int_equal(second->run, 2);
    claimed_job_free(first);
    claimed_job_free(second);
}

static void test_ticket_of_an_old_dispatch_is_refused(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_NORMAL);

    (void)state;
    sql_run("UPDATE queue SET dispatch_seq = 3");
    assert_int_equal(claim_one(job, 2), CLAIM_NOT);
    assert_int_equal(claim_one(job, 4), CLAIM_NOT);
    assert_int_equal(claim_one(job, 3), CLAIM_MINE);
}

static void test_what_may_not_run_is_not_claimed(void **state)
{
    static const struct {
        const char *hinder, *clear;
    } cases[] = {
        {"UPDATE queue SET ready_at = now() + interval '1 h'", "UPDATE queue SET ready_at = now()"},
        {"UPDATE queue SET deadline = now()", "UPDATE queue SET deadline = now() + interval '1 d'"},
        {"INSERT INTO pauses VALUES ('priority', 'normal')", "DELETE FROM pauses"},
        {"INSERT INTO pauses VALUES ('tenant', 'acme')", "DELETE FROM pauses"},
        {"UPDATE tenants SET is_disabled = true WHERE id = 'acme'",
         "UPDATE tenants SET is_disabled = false"},
        {"UPDATE workers SET id = gen_random_uuid()", NULL}, /* we are not registered any more */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct id job = fixture_queue_job(PRIORITY_NORMAL);

        sql_run("%s", cases[i].hinder);
        assert_int_equal(claim_one(job, 0), CLAIM_NOT);
        assert_int_equal(claim_dealt_rows(PRIORITY_NORMAL, 10).count, 0);
        assert_counts_balance();
        if (!cases[i].clear)
            continue;
        sql_run("%s", cases[i].clear);
        assert_int_equal(claim_one(job, 0), CLAIM_MINE);
    }
}

static void test_other_pauses_hinder_nobody(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_NORMAL);

    (void)state;
    sql_run("INSERT INTO pauses VALUES ('priority', 'high'), ('tenant', 'other'),"
            "                          ('provider', 'acme'), ('tenant', 'normal')");
    assert_int_equal(claim_one(job, 0), CLAIM_MINE);
}

/* Tickets wait for a row's lock: SKIP LOCKED would lose the ticket. */
static void test_claim_waits_beside_a_republish(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_NORMAL);
    struct ticket ticket = {.job = job, .tenant = "acme"};
    struct claim claim = {0};

    (void)state;
    other_run("BEGIN; UPDATE queue SET published_at = now()");
    assert_true(claim_ticket(store, &ticket, on_claim, &claim));
    await_blocked();
    assert_false(claim.is_told);
    other_run("COMMIT");
    await_flag(&claim.is_told);
    assert_int_equal(claim.outcome, CLAIM_MINE);
    claimed_job_free(claim.job);
    assert_int_equal(sql_number("SELECT count(*) FROM queue"), 0);
    assert_counts_balance();
}

static void test_claim_beside_a_cancel_finds_nothing(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_NORMAL);
    struct ticket ticket = {.job = job, .tenant = "acme"};
    struct claim claim = {0};

    (void)state;
    other_run("BEGIN; DELETE FROM queue; UPDATE jobs SET state = 'cancelled';"
              "INSERT INTO counts VALUES ('acme', 1, 'queued', -1), ('acme', 1, 'cancelled', 1)");
    assert_true(claim_ticket(store, &ticket, on_claim, &claim));
    await_blocked();
    assert_false(claim.is_told);
    other_run("COMMIT");
    await_flag(&claim.is_told);
    assert_int_equal(claim.outcome, CLAIM_NOT);
    assert_int_equal(sql_number("SELECT count(*) FROM runs"), 0);
    assert_counts_balance();
}

enum { MANY = 300 };

static void test_two_workers_with_the_same_tickets_share_the_jobs(void **state)
{
    struct claim claims[2][MANY] = {0};
    struct ticket tickets[MANY];
    int told = 0, mine = 0;

    (void)state;
    for (int i = 0; i < MANY; i++)
        tickets[i] = (struct ticket){.job = fixture_queue_job(i % 3), .tenant = "acme"};
    for (int i = 0; i < MANY; i++) {
        /* One from the front, the other from the back. */
        claims[0][i].told_count = claims[1][i].told_count = &told;
        assert_true(claim_ticket(store, &tickets[i], on_claim, &claims[0][i]));
        assert_true(
            claim_ticket(other_store, &tickets[MANY - 1 - i], on_claim, &claims[1][MANY - 1 - i]));
    }
    await_count(&told, 2 * MANY);
    for (int i = 0; i < MANY; i++) {
        assert_int_not_equal(claims[0][i].outcome == CLAIM_MINE,
                             claims[1][i].outcome == CLAIM_MINE);
        mine += claims[0][i].outcome == CLAIM_MINE;
        claimed_job_free(claims[0][i].job);
        claimed_job_free(claims[1][i].job);
    }
    assert_int_equal(
        sql_number("SELECT count(*) FROM runs WHERE worker = '%s'", hex(fixture_worker)), mine);
    assert_int_equal(sql_number("SELECT count(DISTINCT run_token) FROM runs"), MANY);
    assert_counts_balance();
}

static void test_duplicate_tickets_in_one_poll_claim_once(void **state)
{
    struct ticket ticket = {.job = fixture_queue_job(PRIORITY_HIGH), .tenant = "acme"};
    struct claim claims[3] = {0};
    int told = 0, mine = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        claims[i].told_count = &told;
        assert_true(claim_ticket(store, &ticket, on_claim, &claims[i]));
    }
    await_count(&told, 3);
    for (int i = 0; i < 3; i++) {
        mine += claims[i].outcome == CLAIM_MINE;
        claimed_job_free(claims[i].job);
    }
    assert_int_equal(mine, 1);
}

/* --- dealt rows ------------------------------------------------------------------------------- */

static void test_dealt_rows_are_claimed_oldest_first(void **state)
{
    struct id jobs[4];
    struct dealt dealt;

    (void)state;
    for (int i = 0; i < 4; i++) {
        jobs[i] = fixture_queue_job(PRIORITY_NORMAL);
        sql_run("UPDATE queue SET dispatched_at = now() - interval '%d s' WHERE job = '%s'", 10 + i,
                hex(jobs[i]));
    }
    dealt = claim_dealt_rows(PRIORITY_NORMAL, 2);
    assert_int_equal(dealt.count, 2);
    assert_int_equal(sql_number("SELECT count(*) FROM runs WHERE job IN ('%s', '%s')", hex(jobs[3]),
                                hex(jobs[2])),
                     2);
    assert_int_equal(claim_dealt_rows(PRIORITY_HIGH, 9).count, 0);
    assert_int_equal(claim_dealt_rows(PRIORITY_NORMAL, 9).count, 2);
    assert_counts_balance();
}

static void test_only_rows_dealt_two_seconds_ago_are_taken(void **state)
{
    (void)state;
    fixture_queue_job(PRIORITY_NORMAL);
    sql_run("UPDATE queue SET dispatched_at = now() - interval '1 s'");
    assert_int_equal(claim_dealt_rows(PRIORITY_NORMAL, 9).count, 0);
    sql_run("UPDATE queue SET dispatched_at = NULL");
    assert_int_equal(claim_dealt_rows(PRIORITY_NORMAL, 9).count, 0);
    sql_run("UPDATE queue SET dispatched_at = now() - interval '3 s'");
    assert_int_equal(claim_dealt_rows(PRIORITY_NORMAL, 9).count, 1);
}

static void test_dealt_rows_under_a_lock_are_left_alone(void **state)
{
    struct id locked = fixture_queue_job(PRIORITY_NORMAL);
    struct dealt dealt;

    (void)state;
    fixture_queue_job(PRIORITY_NORMAL);
    other_run("BEGIN; SELECT FROM queue WHERE job = '%s' FOR UPDATE", hex(locked));
    dealt = claim_dealt_rows(PRIORITY_NORMAL, 9);
    assert_int_equal(dealt.count, 1);
    assert_false(id_equal(dealt.jobs[0], locked));
    other_run("ROLLBACK");
}

/* --- runs that nobody knows of ---------------------------------------------------------------- */

struct listed {
    bool is_done;
    int count;
    struct id job;
    int64_t run_token;
};

static void on_run(struct id job, int64_t run_token, void *arg)
{
    struct listed *listed = arg;

    listed->count++;
    listed->job = job;
    listed->run_token = run_token;
}

static void on_listed(void *arg)
{
    ((struct listed *)arg)->is_done = true;
}

static void test_own_runs_are_listed_and_disowned(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_NORMAL);
    struct id foreign = fixture_queue_job(PRIORITY_NORMAL);
    struct listed listed = {0}, again = {0};

    (void)state;
    assert_int_equal(claim_one(job, 0), CLAIM_MINE);
    assert_int_equal(claim_by(other_store, foreign, 0, NULL), CLAIM_MINE);
    assert_true(claim_list_runs(store, on_run, on_listed, &listed));
    await_flag(&listed.is_done);
    assert_int_equal(listed.count, 1);
    assert_true(id_equal(listed.job, job));
    claim_disown(store, job, listed.run_token + 1);
    claim_disown(store, job, listed.run_token);
    assert_true(claim_list_runs(store, on_run, on_listed, &again)); /* down the same connection */
    await_flag(&again.is_done);
    assert_int_equal(sql_number("SELECT count(*) FROM runs WHERE lease_until < now()"), 1);
}

static void test_unreadable_tickets_are_kept_once(void **state)
{
    struct listed listed = {0};
    char data[2000];

    (void)state;
    memset(data, 0, sizeof(data));
    claim_keep_unreadable(store, "nightshift.high", 3, 17, data, sizeof(data));
    claim_keep_unreadable(store, "nightshift.high", 3, 17, data, sizeof(data));
    assert_true(claim_list_runs(store, on_run, on_listed, &listed));
    await_flag(&listed.is_done);
    assert_int_equal(sql_number("SELECT count(*) FROM unreadable_tickets"), 1);
    assert_int_equal(sql_number("SELECT length(data) FROM unreadable_tickets"), 1024);
}

static void test_a_flood_of_unreadable_tickets_is_bounded(void **state)
{
    struct listed listed = {0};

    (void)state;
    sql_run("INSERT INTO unreadable_tickets SELECT 't', 1, n, '' FROM generate_series(1, 999) n");
    for (int i = 0; i < 3; i++)
        claim_keep_unreadable(store, "nightshift.low", 1, i, "x", 1);
    assert_true(claim_list_runs(store, on_run, on_listed, &listed));
    await_flag(&listed.is_done);
    assert_int_equal(sql_number("SELECT count(*) FROM unreadable_tickets"), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ticket_claims_its_job_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_claim_tells_all_that_a_run_needs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_absent_values_are_told_as_absent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_token_grows_with_each_claim, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ticket_of_an_old_dispatch_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_may_not_run_is_not_claimed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_pauses_hinder_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_claim_waits_beside_a_republish, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_claim_beside_a_cancel_finds_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_two_workers_with_the_same_tickets_share_the_jobs,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_duplicate_tickets_in_one_poll_claim_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_dealt_rows_are_claimed_oldest_first, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_only_rows_dealt_two_seconds_ago_are_taken, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_dealt_rows_under_a_lock_are_left_alone, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_own_runs_are_listed_and_disowned, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unreadable_tickets_are_kept_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_flood_of_unreadable_tickets_is_bounded, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
