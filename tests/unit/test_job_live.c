/* SPDX-License-Identifier: Apache-2.0 */
/* Reading jobs from a real Postgres: where they stand, why they wait, and lists by every filter. */
#include "common/model/job_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "tests/unit/store_fixture.h"

static struct job_store *store;

static int set_up(void **state)
{
    fixture_reset(state);
    sql_run("DELETE FROM pauses");
    store = job_store_new(fixture_pg[0]);
    return store ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    job_store_free(store);
    return 0;
}

/* --- one -------------------------------------------------------------------------------------- */

/* What of a view outlives its reply. */
struct seen {
    bool is_told;
    bool is_found;
    struct job_view view;
    char reason[32], detail[64], partial[64], calls[512], error_type[32], request[64];
};

static void keep(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text ? text : "");
}

static void on_read(const struct job_read_reply *reply, void *arg)
{
    struct seen *seen = arg;

    assert_int_equal(reply->status, PG_OK);
    seen->is_told = true;
    seen->is_found = reply->view != NULL;
    if (!reply->view)
        return;
    seen->view = *reply->view;
    keep(seen->reason, sizeof(seen->reason), reply->view->wait_reason);
    keep(seen->detail, sizeof(seen->detail), reply->view->wait_detail);
    keep(seen->partial, sizeof(seen->partial), reply->view->partial_text);
    keep(seen->calls, sizeof(seen->calls), reply->view->calls);
    keep(seen->error_type, sizeof(seen->error_type), reply->view->error_type);
    keep(seen->request, sizeof(seen->request), reply->view->request);
}

static struct seen see(struct id job, const char *tenant)
{
    struct seen seen = {0};

    assert_true(job_read(store, job, tenant, true, on_read, &seen));
    await_flag(&seen.is_told);
    return seen;
}

static void run_job(struct id job, int calls)
{
    sql_run("WITH gone AS (DELETE FROM queue WHERE job = '%s' RETURNING *)"
            " INSERT INTO runs (job, tenant, priority, run, run_token, worker, deadline,"
            "                   dispatch_seq, est_tokens, lease_until, calls, attempts, deferrals,"
            "                   crashes, started_at)"
            " SELECT job, tenant, priority, 1, nextval('run_tokens'), gen_random_uuid(), deadline,"
            "        0, 1, now(), %d, 2, 1, 0, now() FROM gone",
            hex(job), calls);
}

static void say(struct id job, int seq, int attempt, const char *text)
{
    sql_run("INSERT INTO events (job, run, seq, kind, attempt, byte_offset, text)"
            " VALUES ('%s', 1, %d, 'output.delta', %d, 0, '%s')",
            hex(job), seq, attempt, text);
}

static void end_job(struct id job, const char *job_state)
{
    sql_run("DELETE FROM queue WHERE job = '%s'", hex(job));
    sql_run("DELETE FROM runs WHERE job = '%s'", hex(job));
    sql_run("UPDATE jobs SET state = '%s', ended_at = now(), error_type = 'timeout'"
            " WHERE id = '%s'",
            job_state, hex(job));
}

static void test_job_of_another_tenant_is_not_there(void **state)
{
    struct id job = fixture_queue_job(1);

    (void)state;
    assert_true(see(job, "acme").is_found);
    assert_false(see(job, "other").is_found);
    assert_false(see(id_make(clock_now_us()), "acme").is_found);
}

static void test_waiting_job_names_its_blocker(void **state)
{
    struct id job = fixture_queue_job(1);

    (void)state;
    assert_string_equal(see(job, "acme").reason, "position");
    sql_run("UPDATE workers SET is_draining = true");
    assert_string_equal(see(job, "acme").reason, "no_worker");
    sql_run("UPDATE workers SET is_draining = false, beat_at = now() - interval '10 s'");
    assert_string_equal(see(job, "acme").reason, "no_worker");
    sql_run("INSERT INTO pauses (kind, name) VALUES ('tenant', 'acme')");
    assert_string_equal(see(job, "acme").reason, "paused");
    sql_run("UPDATE pauses SET kind = 'priority', name = 'normal'");
    assert_string_equal(see(job, "acme").reason, "paused");
    sql_run("DELETE FROM pauses; UPDATE tenants SET is_disabled = true WHERE id = 'acme'");
    assert_string_equal(see(job, "acme").reason, "paused");
    assert_string_equal(see(job, "acme").detail, "the tenant is disabled");
    assert_int_equal(see(job, "acme").view.wait_until_us, 0);
    sql_run("UPDATE tenants SET is_disabled = false");
    assert_string_equal(see(job, "acme").reason, "no_worker");
    sql_run("UPDATE queue SET ready_at = now() + interval '1 min', wait_reason = 'rate_limit'");
    assert_string_equal(see(job, "acme").reason, "rate_limit");
    assert_true(see(job, "acme").view.wait_until_us > clock_now_us());
    assert_int_equal(see(job, "acme").view.position, 0);
}

static void test_position_counts_those_before_it(void **state)
{
    struct id jobs[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        jobs[i] = fixture_queue_job(1);
    fixture_queue_job(0); /* of another priority */
    /* The third is not dealt yet, the fourth neither. */
    for (int i = 2; i < 4; i++)
        sql_run("UPDATE queue SET dispatched_at = NULL, ready_at = now() WHERE job = '%s'",
                hex(jobs[i]));
    for (int i = 0; i < 4; i++)
        assert_int_equal(see(jobs[i], "acme").view.position, i + 1);
}

static void test_running_job_shows_the_text_of_its_attempt(void **state)
{
    struct id job = fixture_queue_job(1);
    struct seen seen;

    (void)state;
    run_job(job, 2);
    say(job, 1, 1, "old");
    say(job, 2, 2, "ne");
    say(job, 3, 2, "w");
    seen = see(job, "acme");
    assert_int_equal(seen.view.state, JOB_RUNNING);
    assert_string_equal(seen.partial, "new");
    assert_int_equal(seen.view.partial_attempt, 2);
    assert_int_equal(seen.view.attempts, 2);
    assert_int_equal(seen.view.deferrals, 1);
    assert_string_equal(seen.reason, "");
    assert_true(seen.view.started_us > 0);
}

static void test_failed_job_keeps_the_text_of_its_last_attempt(void **state)
{
    struct id job = fixture_queue_job(1);
    struct seen seen;

    (void)state;
    say(job, 1, 1, "first");
    say(job, 2, 3, "third");
    end_job(job, "failed");
    seen = see(job, "acme");
    assert_int_equal(seen.view.state, JOB_FAILED);
    assert_string_equal(seen.partial, "third");
    assert_int_equal(seen.view.partial_attempt, 3);
    assert_string_equal(seen.error_type, "timeout");
    end_job(job, "succeeded");
    assert_int_equal(see(job, "acme").view.partial_attempt, 0);
}

static void test_usage_and_cost_are_sums_over_the_ledger(void **state)
{
    static const char *const rows[] = {
        "1, 'settled', 100, 10, 5, 700, false",       "2, 'settled', 200, 20, 0, 300, true",
        "3, 'unknown', NULL, NULL, NULL, 999, false", "4, 'released', NULL, NULL, NULL, 0, false",
        "5, 'sent', NULL, NULL, NULL, 5000, false",
    };
    struct id job = fixture_queue_job(1);
    struct seen seen = see(job, "acme");

    (void)state;
    assert_false(seen.view.has_usage);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        sql_run("INSERT INTO calls (job, run, tenant, key_id, route, provider, model,"
                "    input_nano_per_mtok, cached_nano_per_mtok, output_nano_per_mtok,"
                "    reserved_nano, call, state, input_tokens, output_tokens,"
                "    cached_input_tokens, cost_nano, is_usage_estimated)"
                " VALUES ('%s', 1, 'acme', 'k', 'r', 'p', 'm', 1, 1, 1, 1, %s)",
                hex(job), rows[i]);
    seen = see(job, "acme");
    assert_true(seen.view.has_usage);
    assert_true(seen.view.is_usage_estimated);
    assert_int_equal(seen.view.input_tokens, 300);
    assert_int_equal(seen.view.output_tokens, 30);
    assert_int_equal(seen.view.cached_input_tokens, 5);
    assert_int_equal(seen.view.cost_nano, 1000);
    assert_int_equal(seen.view.unknown_cost_nano, 999);
    assert_memory_equal(seen.calls, "[[1, \"p\", \"m\", \"settled\"",
                        strlen("[[1, \"p\", \"m\", \"settled\""));
}

static void on_state(const struct job_state_reply *reply, void *arg)
{
    struct job_state_reply *out = arg;

    *out = *reply;
    out->message = "told";
}

static void test_state_alone_is_the_same_as_in_the_whole_job(void **state)
{
    struct id job = fixture_queue_job(1);
    struct job_state_reply reply = {0};

    (void)state;
    run_job(job, 0);
    assert_true(job_read_state(store, job, "acme", on_state, &reply));
    while (!reply.message)
        turn_loop_ms(5);
    assert_true(reply.is_found);
    assert_int_equal(reply.state, JOB_RUNNING);
    assert_false(id_is_zero(reply.worker));
}

/* --- lists ------------------------------------------------------------------------------------ */

enum { JOBS = 6 };

struct listed {
    bool is_told;
    bool is_after_unknown;
    bool has_more;
    int count;
    struct id ids[JOB_LIST_MAX];
};

static void on_listed(const struct job_list_reply *reply, void *arg)
{
    struct listed *listed = arg;

    assert_int_equal(reply->status, PG_OK);
    listed->is_told = true;
    listed->is_after_unknown = reply->is_after_unknown;
    listed->has_more = reply->has_more;
    listed->count = reply->count;
    for (int i = 0; i < reply->count; i++)
        listed->ids[i] = reply->views[i].id;
}

static struct job_filter all(void)
{
    return (struct job_filter){.tenant = "acme", .state = -1, .priority = -1, .limit = 20};
}

static struct listed list(const struct job_filter *filter)
{
    struct listed listed = {0};

    assert_true(job_list(store, filter, on_listed, &listed));
    await_flag(&listed.is_told);
    return listed;
}

/* jobs[0] queued, [1] running, [2] succeeded, [3] failed, [4] cancelled, [5] queued and high. */
static void make_jobs(struct id jobs[JOBS])
{
    for (int i = 0; i < JOBS; i++)
        jobs[i] = fixture_queue_job(i == 5 ? 0 : 1);
    run_job(jobs[1], 0);
    end_job(jobs[2], "succeeded");
    end_job(jobs[3], "failed");
    end_job(jobs[4], "cancelled");
    for (int i = 0; i < JOBS; i++)
        sql_run("UPDATE jobs SET workflow = '%s', metadata = '{\"n\": \"%d\", \"all\": \"x\"}'"
                " WHERE id = '%s'",
                i % 2 ? "odd" : "even", i, hex(jobs[i]));
}

static void test_each_filter_gives_its_jobs_in_both_orders(void **state)
{
    struct id jobs[JOBS];
    static const struct {
        struct job_filter filter;
        const char *expected; /* places in jobs, ascending */
    } cases[] = {
        {{.state = -1, .priority = -1}, "012345"},
        {{.state = JOB_QUEUED, .priority = -1}, "05"},
        {{.state = JOB_RUNNING, .priority = -1}, "1"},
        {{.state = JOB_SUCCEEDED, .priority = -1}, "2"},
        {{.state = JOB_FAILED, .priority = -1}, "3"},
        {{.state = JOB_CANCELLED, .priority = -1}, "4"},
        {{.state = JOB_EXPIRED, .priority = -1}, ""},
        {{.state = -1, .priority = PRIORITY_HIGH}, "5"},
        {{.state = JOB_QUEUED, .priority = PRIORITY_NORMAL}, "0"},
        {{.state = -1, .priority = -1, .workflow = "odd"}, "135"},
        {{.state = JOB_FAILED, .priority = -1, .workflow = "odd"}, "3"},
        {{.state = JOB_FAILED, .priority = -1, .workflow = "even"}, ""},
        {{.state = JOB_QUEUED, .priority = -1, .workflow = "even"}, "0"},
        {{.state = -1, .priority = -1, .metadata = "{\"n\":\"4\"}"}, "4"},
        {{.state = -1, .priority = -1, .metadata = "{\"all\":\"x\"}"}, "012345"},
        {{.state = -1, .priority = -1, .metadata = "{\"all\":\"x\",\"n\":\"0\"}"}, "0"},
        {{.state = JOB_RUNNING, .priority = -1, .metadata = "{\"n\":\"1\"}"}, "1"},
        {{.state = JOB_CANCELLED, .priority = -1, .metadata = "{\"n\":\"1\"}"}, ""},
        {{.state = -1, .priority = -1, .workflow = "even", .metadata = "{\"n\":\"2\"}"}, "2"},
    };

    (void)state;
    make_jobs(jobs);
    for (size_t i = 0; i < 2 * (sizeof(cases) / sizeof(cases[0])); i++) {
        struct job_filter filter = cases[i / 2].filter;
        const char *expected = cases[i / 2].expected;
        int count = (int)strlen(expected);
        struct listed listed;

        filter.tenant = "acme";
        filter.limit = 20;
        filter.is_ascending = i % 2;
        listed = list(&filter);
        if (listed.count != count)
            fail_msg("case %zu: %d jobs, not %d", i / 2, listed.count, count);
        for (int n = 0; n < count; n++) {
            int place = expected[filter.is_ascending ? n : count - 1 - n] - '0';

            if (!id_equal(listed.ids[n], jobs[place]))
                fail_msg("case %zu: place %d is another job", i / 2, n);
        }
    }
}

static void test_pages_join_to_the_whole_list(void **state)
{
    struct id jobs[JOBS];

    (void)state;
    make_jobs(jobs);
    for (int ascending = 0; ascending < 2; ascending++) {
        struct job_filter filter = all();
        int seen = 0;
        bool has_more = true;

        filter.limit = 4;
        filter.is_ascending = ascending;
        while (has_more) {
            struct listed listed = list(&filter);

            for (int i = 0; i < listed.count; i++, seen++)
                assert_true(id_equal(listed.ids[i], jobs[ascending ? seen : JOBS - 1 - seen]));
            filter.after = listed.ids[listed.count - 1];
            has_more = listed.has_more;
        }
        assert_int_equal(seen, JOBS);
        assert_int_equal(list(&filter).count, 0);
    }
}

static void test_cursor_must_be_a_job_of_the_tenant_but_need_not_match(void **state)
{
    struct id jobs[JOBS];
    struct job_filter filter = all();

    (void)state;
    make_jobs(jobs);
    filter.after = id_make(clock_now_us());
    assert_true(list(&filter).is_after_unknown);
    filter.after = jobs[3];
    filter.state = JOB_QUEUED;
    assert_int_equal(list(&filter).count, 1);
    filter.tenant = "other";
    assert_true(list(&filter).is_after_unknown);
    filter.after = (struct id){{0}};
    assert_int_equal(list(&filter).count, 0);
}

static void test_creation_bounds_are_exclusive(void **state)
{
    struct id job = fixture_queue_job(1);
    struct job_filter filter = all();
    int64_t created_us = id_time_us(job);

    (void)state;
    filter.created_after_us = created_us;
    assert_int_equal(list(&filter).count, 0);
    filter.created_after_us = created_us - 1;
    assert_int_equal(list(&filter).count, 1);
    filter.created_before_us = created_us;
    assert_int_equal(list(&filter).count, 0);
    filter.created_before_us = created_us + 1;
    assert_int_equal(list(&filter).count, 1);
    filter.is_ascending = true;
    assert_int_equal(list(&filter).count, 1);
    filter.after = job;
    assert_int_equal(list(&filter).count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_job_of_another_tenant_is_not_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_waiting_job_names_its_blocker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_position_counts_those_before_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_running_job_shows_the_text_of_its_attempt, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_failed_job_keeps_the_text_of_its_last_attempt, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_usage_and_cost_are_sums_over_the_ledger, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_state_alone_is_the_same_as_in_the_whole_job, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_each_filter_gives_its_jobs_in_both_orders, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_pages_join_to_the_whole_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cursor_must_be_a_job_of_the_tenant_but_need_not_match,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_creation_bounds_are_exclusive, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
