/* SPDX-License-Identifier: Apache-2.0 */
/* Runs against a real Postgres and the provider simulator: every way a job can go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/io/http_client.h"
#include "common/model/claim_store.h"
#include "common/model/end_store.h"
#include "common/model/settings.h"
#include "tests/simulator/simulator.h"
#include "tests/unit/store_fixture.h"
#include "worker/intake.h"
#include "worker/worker.h"

static struct simulator simulator;
static struct worker_settings options = {.slots = 10};
static struct worker worker;
static int ended; /* runs */

/* --- a worker without intake ------------------------------------------------------------------ */

void worker_run_ended(struct worker *of, struct run *run, const struct claimed_job *claimed)
{
    (void)of;
    (void)run;
    (void)claimed;
    ended++;
}

void worker_deliveries_due(struct worker *of)
{
    (void)of;
}

static struct settings *make_settings(const char *timeouts)
{
    struct err err = {0};
    struct settings *settings;
    struct config *config;
    char text[4096];

    snprintf(text, sizeof(text),
             "providers:\n"
             "  main: {format: openai, base_url: \"http://127.0.0.1:%d/main/v1\", api_key: k%s}\n"
             "  spare: {format: openai, base_url: \"http://127.0.0.1:%d/spare/v1\", api_key: k%s}\n"
             "  dead: {format: openai, base_url: \"http://127.0.0.1:1/v1\", api_key: k}\n"
             "routes:\n"
             "  fast: {targets: [{provider: main, model: m}, {provider: spare, model: m}]}\n"
             "  single: {targets: [{provider: main, model: m}]}\n"
             "  dead: {targets: [{provider: dead, model: m}, {provider: spare, model: m}]}\n"
             "prices: {openai: {m: {input_per_mtok: 1, output_per_mtok: 2,\n"
             "         max_output_tokens: 1000}}}\n",
             simulator.port, timeouts, simulator.port, timeouts);
    config = config_parse("test.yaml", text, strlen(text), &err);
    settings = config ? settings_load(config, &err) : NULL;
    if (!settings)
        fail_msg("%s", err.message);
    config_free(config);
    return settings;
}

static int start(void **state)
{
    struct err err = {0};

    fixture_start(state);
    if (!simulator_open(
            &simulator, fixture_base,
            &(struct simulator_options){.listen = "127.0.0.1:0", .max_connections = 100}, &err))
        fail_msg("%s", err.message);
    worker = (struct worker){
        .base = fixture_base,
        .options = &options,
        .http = http_client_new(fixture_base, &(struct http_client_options){0}, &err),
    };
    if (!worker.http)
        fail_msg("%s", err.message);
    return 0;
}

static int stop(void **state)
{
    http_client_free(worker.http);
    simulator_close(&simulator);
    return fixture_stop(state);
}

static int set_up(void **state)
{
    fixture_reset(state);
    worker.claims = claim_store_new(fixture_pg[0], fixture_worker);
    worker.calls = call_store_new(fixture_pg[0]);
    worker.ends = end_store_new(fixture_pg[0]);
    worker.events = event_store_new(fixture_pg[1]);
    worker.settings = make_settings("");
    ended = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    claim_store_free(worker.claims);
    call_store_free(worker.calls);
    end_store_free(worker.ends);
    event_store_free(worker.events);
    settings_unref(worker.settings);
    return 0;
}

/* --- a job ------------------------------------------------------------------------------------ */

static struct claimed_job *claimed;
static bool is_claimed;

static void on_claim(enum claim_outcome outcome, struct claimed_job *job, void *arg)
{
    (void)arg;
    assert_int_equal(outcome, CLAIM_MINE);
    claimed = job;
    is_claimed = true;
}

struct job_options {
    const char *route;  /* NULL: fast */
    const char *marker; /* of the simulator */
    int max_attempts;   /* 0: 5 */
    int deadline_ms;    /* 0: far away */
    int64_t max_cost_nano;
};

static struct id queue_job(const struct job_options *job)
{
    struct id id = fixture_queue_job(1);

    sql_run("UPDATE jobs SET model = '%s', max_attempts = %d, max_cost_nano = %s,"
            "    request = '{\"model\":\"fast\",\"temperature\":1.50,\"messages\":[{\"role\":"
            "\"user\",\"content\":\"hello %s %s\"}]}'"
            "WHERE id = '%s'",
            job->route ? job->route : "fast", job->max_attempts ? job->max_attempts : 5,
            job->max_cost_nano ? "1000" : "NULL", hex(id), job->marker, hex(id));
    if (job->deadline_ms)
        sql_run("UPDATE queue SET deadline = clock_timestamp() + interval '%d ms' "
                "WHERE job = '%s';"
                "UPDATE jobs SET deadline = clock_timestamp() + interval '%d ms' WHERE id = '%s'",
                job->deadline_ms, hex(id), job->deadline_ms, hex(id));
    return id;
}

static struct run *begin(struct id id, int seq)
{
    struct ticket ticket = {.job = id, .dispatch_seq = seq, .tenant = "acme"};
    struct run *run;

    is_claimed = false;
    assert_true(claim_ticket(worker.claims, &ticket, on_claim, NULL));
    await_flag(&is_claimed);
    run = run_start(&worker, claimed);
    assert_non_null(run);
    return run;
}

static struct id run_job(const struct job_options *job)
{
    struct id id = queue_job(job);

    begin(id, 0);
    await_count(&ended, 1);
    return id;
}

static void assert_job(struct id id, const char *expected)
{
    sql_assert_text(expected,
                    "SELECT concat_ws(' ', state, error_type, finish_reason, attempts, deferrals)"
                    " FROM jobs WHERE id = '%s'",
                    hex(id));
}

static void assert_calls(struct id id, const char *expected)
{
    sql_assert_text(
        expected,
        "SELECT string_agg(concat_ws(' ', provider, state, status, error_type), ', ' ORDER BY call)"
        " FROM calls WHERE job = '%s'",
        hex(id));
}

static void assert_events(struct id id, const char *expected)
{
    sql_assert_text(expected,
                    "SELECT string_agg(kind, ' ' ORDER BY run, seq) FROM events "
                    "WHERE job = '%s' AND run > 0",
                    hex(id));
}

/* The stored result says what the deltas of the last attempt say. */
static void assert_text_is_whole(struct id id)
{
    assert_int_equal(sql_number("SELECT count(*) FROM jobs j WHERE id = '%s' AND"
                                "  result::json #>> '{choices,0,message,content}' ="
                                "  (SELECT string_agg(text, '' ORDER BY run, seq) FROM events e"
                                "   WHERE e.job = j.id AND kind = 'output.delta' AND attempt ="
                                "         (SELECT max(call) FROM calls c WHERE c.job = j.id))",
                                hex(id)),
                     1);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_a_job_succeeds_with_text_usage_and_cost(void **state)
{
    struct id id = run_job(&(struct job_options){.marker = "[[sim tokens=50]]"});

    (void)state;
    assert_job(id, "succeeded stop 1 0");
    assert_calls(id, "main settled 200");
    assert_events(id, "job.started output.delta job.succeeded");
    assert_text_is_whole(id);
    assert_int_equal(sql_number("SELECT output_tokens FROM calls WHERE job = '%s'", hex(id)), 50);
    assert_int_equal(sql_number("SELECT cost_nano - (input_tokens * 1000 + output_tokens * 2000) "
                                "FROM calls WHERE job = '%s'",
                                hex(id)),
                     0);
    assert_counts_balance();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_job_succeeds_with_text_usage_and_cost, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
