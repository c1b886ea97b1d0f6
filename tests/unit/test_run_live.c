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
#include "common/io/metrics.h"
#include "common/model/claim_store.h"
#include "common/model/end_store.h"
#include "common/model/overrun.h"
#include "common/model/settings.h"
#include "tests/simulator/simulator.h"
#include "tests/unit/metric_fixture.h"
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

/* Without a Redis, and under no budget: also what only max_cost_usd holds is seen. */
static void test_a_call_that_passes_its_reservation_is_counted(void **state)
{
    static const char overruns[] = "nightshift_reservation_overruns_total";
    struct err err = {0};
    struct id within, over;

    (void)state;
    assert_true(metrics_setup(&err));
    overrun_declare();
    within = run_job(&(struct job_options){.marker = "[[sim tokens=900]]"});
    assert_int_equal(metric_value(overruns), 0);
    ended = 0;
    over = run_job(&(struct job_options){.marker = "[[sim tokens=1500]]"}); /* of 1000 */
    assert_int_equal(metric_value(overruns), 1);
    assert_int_equal(sql_number("SELECT count(*) FROM calls WHERE cost_nano > reserved_nano"
                                "  AND job IN ('%s', '%s')",
                                hex(within), hex(over)),
                     1);
    assert_job(over, "succeeded stop 1 0");
}

/* One call, one way to end. */
static const struct {
    struct job_options job;
    const char *ended, *calls;
} fault_cases[] = {
    /* Whole answers in odd clothes. */
    {{.marker = "[[sim fault=crlf,comments,bom]]"}, "succeeded stop 1 0", "main settled 200"},
    {{.marker = "[[sim fault=split_bytes unicode=1]]"}, "succeeded stop 1 0", "main settled 200"},
    {{.marker = "[[sim fault=nul]]"}, "succeeded stop 1 0", "main settled 200"},
    {{.marker = "[[sim fault=bad_utf8]]"}, "succeeded stop 1 0", "main settled 200"},
    {{.marker = "[[sim fault=lone_surrogate]]"}, "succeeded stop 1 0", "main settled 200"},
    {{.marker = "[[sim fault=usage_every_chunk]]"}, "succeeded stop 1 0", "main settled 200"},
    {{.marker = "[[sim fault=no_usage]]"}, "succeeded stop 1 0", "main settled 200"},
    {{.marker = "[[sim fault=keep_open]]"}, "succeeded stop 1 0", "main settled 200"},
    {{.marker = "[[sim fault=length]]"}, "succeeded length 1 0", "main settled 200"},
    {{.marker = "[[sim fault=unknown_finish]]"}, "succeeded eos_token 1 0", "main settled 200"},
    {{.marker = "[[sim fault=huge_event bytes=300000]]"}, "succeeded stop 1 0", "main settled 200"},
    /* Answers without text. */
    {{.marker = "[[sim fault=refusal]]"}, "succeeded stop 1 0", "main settled 200"},
    {{.marker = "[[sim fault=two_tools]]"}, "succeeded tool_calls 1 0", "main settled 200"},
    {{.marker = "[[sim fault=empty_tool]]"}, "succeeded tool_calls 1 0", "main settled 200"},
    /* No other target will do. */
    {{.marker = "[[sim status=400]]"}, "failed bad_request 1 0", "main released 400 bad_request"},
    {{.marker = "[[sim code=context_length_exceeded]]", .route = "single"},
     "failed context_length 1 0",
     "main released 400 context_length"},
    {{.marker = "[[sim fault=content_filter]]"},
     "failed content_filter content_filter 1 0",
     "main settled 200"},
    {{.marker = "[[sim code=content_policy_violation]]"},
     "failed content_filter 1 0",
     "main released 400 content_filter"},
    {{.marker = "[[sim code=insufficient_quota]]", .route = "single"},
     "failed quota 1 0",
     "main released 429 quota"},
    {{.marker = "[[sim status=401]]", .route = "single"},
     "failed auth 1 0",
     "main released 401 auth"},
    {{.marker = "[[sim status=500 should_retry=false]]", .route = "single"},
     "failed overloaded 1 0",
     "main unknown 500 overloaded"},
    /* The next target does. */
    {{.marker = "[[sim at=main status=401]]"},
     "succeeded stop 2 0",
     "main released 401 auth, spare settled 200"},
    {{.marker = "[[sim at=main code=model_not_found]]"},
     "succeeded stop 2 0",
     "main released 404 bad_request, spare settled 200"},
    {{.marker = "[[sim at=main status=429 retry_after=30]]"},
     "succeeded stop 1 1",
     "main released 429 rate_limited, spare settled 200"},
    {{.marker = "[[sim at=main status=503]]"},
     "succeeded stop 2 0",
     "main released 503 overloaded, spare settled 200"},
    {{.marker = "[[sim at=main status=500]]"},
     "succeeded stop 2 0",
     "main unknown 500 overloaded, spare settled 200"},
    {{.marker = "[[sim at=main fault=reset_before]]"},
     "succeeded stop 2 0",
     "main unknown network, spare settled 200"},
    {{.marker = "[[sim at=main fault=reset_after_head]]"},
     "succeeded stop 2 0",
     "main unknown 200 network, spare settled 200"},
    {{.marker = "[[sim at=main fault=cut_line]]"},
     "succeeded stop 2 0",
     "main unknown 200 network, spare settled 200"},
    {{.marker = "[[sim at=main fault=end_mid]]"},
     "succeeded stop 2 0",
     "main unknown 200 protocol, spare settled 200"},
    {{.marker = "[[sim at=main fault=no_done]]"},
     "succeeded stop 2 0",
     "main settled 200 protocol, spare settled 200"},
    {{.marker = "[[sim at=main fault=no_finish]]"},
     "succeeded stop 2 0",
     "main unknown 200 protocol, spare settled 200"},
    {{.marker = "[[sim at=main fault=error_in_stream]]"},
     "succeeded stop 2 0",
     "main unknown 200 overloaded, spare settled 200"},
    {{.marker = "[[sim at=main fault=html_200]]"},
     "succeeded stop 2 0",
     "main unknown 200 protocol, spare settled 200"},
    {{.marker = "[[sim at=main fault=json_error_200]]"},
     "succeeded stop 2 0",
     "main unknown 200 protocol, spare settled 200"},
    {{.marker = "[[sim at=main fault=empty_200]]"},
     "succeeded stop 2 0",
     "main unknown 200 protocol, spare settled 200"},
    {{.marker = "[[sim at=main fault=junk]]"},
     "succeeded stop 2 0",
     "main unknown 200 protocol, spare settled 200"},
    {{.marker = "[[sim at=main fault=huge_event bytes=20000000]]"},
     "succeeded stop 2 0",
     "main unknown 200 protocol, spare settled 200"},
    {{.marker = "x", .route = "dead"},
     "succeeded stop 2 0",
     "dead released network, spare settled 200"},
    /* Again, until no attempt is left. */
    {{.marker = "[[sim status=500 times=1]]", .route = "single"},
     "succeeded stop 2 0",
     "main unknown 500 overloaded, main settled 200"},
    {{.marker = "[[sim status=503]]", .max_attempts = 2},
     "failed overloaded 2 0",
     "main released 503 overloaded, spare released 503 overloaded"},
    /* Ceilings. */
    {{.marker = "x", .max_cost_nano = 1000}, "failed budget 0 0", NULL},
    {{.marker = "[[sim fault=silence]]", .deadline_ms = 400},
     "expired deadline 1 0",
     "main unknown timeout"},
    {{.marker = "[[sim fault=silence_mid]]", .deadline_ms = 400},
     "expired deadline 1 0",
     "main unknown 200 timeout"},
};

static void test_each_fault_ends_as_it_should(void **state)
{
    for (size_t i = 0; i < sizeof(fault_cases) / sizeof(fault_cases[0]); i++) {
        struct id id;

        print_message("case %zu: %s\n", i, fault_cases[i].job.marker);
        ended = 0;
        id = run_job(&fault_cases[i].job);
        assert_job(id, fault_cases[i].ended);
        if (fault_cases[i].calls)
            assert_calls(id, fault_cases[i].calls);
        if (strncmp(fault_cases[i].ended, "succeeded", 9) == 0 &&
            !strstr(fault_cases[i].job.marker, "tool") &&
            !strstr(fault_cases[i].job.marker, "refusal"))
            assert_text_is_whole(id);
    }
    (void)state;
    assert_counts_balance();
}

static void test_text_of_a_broken_attempt_is_declared_void(void **state)
{
    struct id id = run_job(&(struct job_options){.marker = "[[sim at=main fault=cut_line]]"});

    (void)state;
    assert_events(id, "job.started output.delta attempt.superseded job.started output.delta "
                      "job.succeeded");
    assert_int_equal(
        sql_number("SELECT count(*) FROM events s, events d WHERE s.job = '%s' AND d.job = s.job "
                   "AND s.kind = 'attempt.superseded' AND d.kind = 'output.delta' "
                   "AND d.attempt = 1 AND s.data ->> 'reason' = 'network' "
                   "AND (s.data ->> 'valid_bytes')::int = octet_length(d.text)",
                   hex(id)),
        1);
}

static void test_a_rate_limited_job_goes_back_to_the_queue(void **state)
{
    struct id id = run_job(&(struct job_options){.route = "single",
                                                 .marker = "[[sim status=429 "
                                                           "retry_after=7]]"});

    (void)state;
    sql_assert_text("rate_limit 0 1",
                    "SELECT concat_ws(' ', wait_reason, attempts, deferrals) FROM queue "
                    "WHERE job = '%s' AND ready_at BETWEEN now() + interval '5 s' AND now() + "
                    "interval '7 s'",
                    hex(id));
    assert_calls(id, "main released 429 rate_limited");
    assert_events(id, "job.started job.retrying");
    assert_counts_balance();
}

/* Turns the loop until the first text of the job's call is written. */
static void await_text(struct id id)
{
    for (int tries = 0; sql_number("SELECT count(*) FROM events WHERE job = '%s' AND kind = "
                                   "'output.delta'",
                                   hex(id)) == 0;
         tries++) {
        assert_true(tries < 200);
        turn_loop_ms(20);
    }
}

/* Begins a job that holds after a few events, and waits until it does. */
static struct id begin_held(struct run **run)
{
    struct id id = queue_job(&(struct job_options){.marker = "[[sim hold=h tokens=9]]"});

    *run = begin(id, 0);
    await_text(id);
    return id;
}

static void test_a_cancelled_call_is_cut_and_its_text_kept(void **state)
{
    struct run *run;
    struct id id = begin_held(&run);

    (void)state;
    sql_run("UPDATE runs SET cancel_requested = true WHERE job = '%s'", hex(id));
    run_cancel(run);
    await_count(&ended, 1);
    assert_job(id, "cancelled cancelled 1 0");
    assert_calls(id, "main unknown 200 cancelled");
    assert_events(id, "job.started output.delta job.cancelled");
    assert_counts_balance();
}

static void test_a_drained_call_is_handed_back_uncounted(void **state)
{
    struct run *run;
    struct id id = begin_held(&run);

    (void)state;
    run_cut(run, CUT_DRAIN);
    await_count(&ended, 1);
    assert_int_equal(sql_number("SELECT attempts + deferrals FROM queue WHERE job = '%s' AND "
                                "ready_at <= now() AND wait_reason IS NULL",
                                hex(id)),
                     0);
    assert_events(id, "job.started output.delta attempt.superseded job.retrying");
    assert_calls(id, "main unknown 200 worker_lost");
    assert_counts_balance();
}

static void test_a_lost_run_books_its_call_and_writes_nothing_else(void **state)
{
    struct run *run;
    struct id id = begin_held(&run);

    (void)state;
    run_cut(run, CUT_LOST);
    assert_int_equal(ended, 1);
    for (int i = 0; i < 100 && sql_number("SELECT count(*) FROM calls WHERE job = '%s' AND state = "
                                          "'unknown'",
                                          hex(id)) == 0;
         i++)
        turn_loop_ms(20);
    assert_calls(id, "main unknown 200 worker_lost");
    assert_int_equal(sql_number("SELECT count(*) FROM runs WHERE job = '%s'", hex(id)), 1);
    assert_events(id, "job.started output.delta");
}

static void test_a_rescued_run_finds_out_and_forgets(void **state)
{
    struct run *run;
    struct id id = queue_job(&(struct job_options){.marker = "[[sim tokens=100 rate=20]]"});

    (void)state;
    run = begin(id, 0);
    (void)run;
    await_text(id);
    sql_run("UPDATE runs SET run_token = run_token + 1000 WHERE job = '%s'", hex(id));
    await_count(&ended, 1);
    for (int i = 0; i < 100 && sql_number("SELECT count(*) FROM calls WHERE job = '%s' AND state = "
                                          "'sent'",
                                          hex(id)) == 1;
         i++)
        turn_loop_ms(20);
    assert_calls(id, "main unknown 200 worker_lost");
    assert_int_equal(sql_number("SELECT count(*) FROM jobs WHERE state IS NULL"), 1);
}

static void test_silence_is_told_from_slowness(void **state)
{
    struct id id;

    (void)state;
    settings_unref(worker.settings);
    worker.settings = make_settings(", timeouts: {first_byte_ms: 300, idle_ms: 300}");
    id = run_job(&(struct job_options){.marker = "[[sim at=main fault=pings]]"});
    assert_job(id, "succeeded stop 2 0");
    assert_calls(id, "main unknown 200 timeout, spare settled 200");
    ended = 0;
    id = run_job(&(struct job_options){.marker = "[[sim at=main fault=silence]]"});
    assert_calls(id, "main unknown timeout, spare settled 200");
    ended = 0;
    id = run_job(&(struct job_options){.marker = "[[sim at=main fault=silence_head]]"});
    assert_calls(id, "main unknown 200 timeout, spare settled 200");
    ended = 0;
    id = run_job(&(struct job_options){.marker = "[[sim tokens=6 gap_ms=150]]"});
    assert_job(id, "succeeded stop 1 0");
}

/* 600 s would be the call's timeout, so that the deadline bounds it; yet it is the provider that is
 * late, and the next target has time. */
static void test_a_late_provider_does_not_make_the_job_expire_before_its_deadline(void **state)
{
    static const char *const faults[] = {"fault=silence", "fault=silence_mid"};

    (void)state;
    settings_unref(worker.settings);
    worker.settings = make_settings(", timeouts: {first_byte_ms: 300, idle_ms: 300}");
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        char marker[64];
        struct id id;

        snprintf(marker, sizeof(marker), "[[sim at=main %s]]", faults[i]);
        ended = 0;
        id = run_job(&(struct job_options){.marker = marker, .deadline_ms = 60000});
        assert_job(id, "succeeded stop 2 0");
        snprintf(marker, sizeof(marker), "[[sim %s]]", faults[i]);
        ended = 0;
        id = run_job(&(struct job_options){
            .marker = marker, .route = "single", .max_attempts = 1, .deadline_ms = 60000});
        assert_job(id, "failed timeout 1 0");
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_job_succeeds_with_text_usage_and_cost),
        TEST(test_a_call_that_passes_its_reservation_is_counted),
        TEST(test_each_fault_ends_as_it_should),
        TEST(test_text_of_a_broken_attempt_is_declared_void),
        TEST(test_a_rate_limited_job_goes_back_to_the_queue),
        TEST(test_a_cancelled_call_is_cut_and_its_text_kept),
        TEST(test_a_drained_call_is_handed_back_uncounted),
        TEST(test_a_lost_run_books_its_call_and_writes_nothing_else),
        TEST(test_a_rescued_run_finds_out_and_forgets),
        TEST(test_silence_is_told_from_slowness),
        TEST(test_a_late_provider_does_not_make_the_job_expire_before_its_deadline),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
