/* SPDX-License-Identifier: Apache-2.0 */
/* Running jobs and their calls, for the tests of the stores. */
#include "tests/unit/run_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct live fixture_run_job(void)
{
    static int64_t next_token = 1000;
    struct live live = {.job = fixture_queue_job(PRIORITY_NORMAL), .token = next_token++, .run = 1};

    sql_run("INSERT INTO runs (job, tenant, priority, run, run_token, worker, deadline,"
            "                  dispatch_seq, est_tokens, lease_until, calls, attempts, deferrals,"
            "                  crashes, started_at) "
            "SELECT job, tenant, priority, 1, %lld, '%s', deadline, 4, est_tokens,"
            "       now() + interval '1 h', 0, 0, 0, 0, now() FROM queue WHERE job = '%s';"
            "DELETE FROM queue WHERE job = '%s';"
            "INSERT INTO counts VALUES ('acme', 1, 'queued', -1), ('acme', 1, 'running', 1)",
            (long long)live.token, hex(fixture_worker), hex(live.job), hex(live.job));
    return live;
}

struct intent_told {
    bool is_told;
    enum intent_outcome outcome;
};

static void on_intent(enum intent_outcome outcome, void *arg)
{
    *(struct intent_told *)arg = (struct intent_told){.is_told = true, .outcome = outcome};
}

enum intent_outcome fixture_intend_knowing(struct call_store *calls, struct live live, int call,
                                           const char *generation, int64_t known_generation)
{
    struct call_intent intent = {
        .known_generation = known_generation,
        .budget_day = generation ? "2026-11-21" : NULL,
        .budget_windows = generation ? "d20261121,t" : NULL,
        .budget_generation = generation,
        .job = live.job,
        .run_token = live.token,
        .call = call,
        .attempts = call - 1,
        .lease_s = 30,
        .silent_s = 15,
        .event_seq = call,
        .tenant = "acme",
        .key_id = "k1",
        .route = "fast",
        .provider = "main",
        .model = "small",
        .price = {.input_nano_per_mtok = 5,
                  .cached_input_nano_per_mtok = 6,
                  .output_nano_per_mtok = 7},
        .reserved_nano = 900,
    };
    struct intent_told told = {0};

    assert_true(call_intent(calls, &intent, on_intent, &told));
    await_flag(&told.is_told);
    return told.outcome;
}

enum intent_outcome fixture_intend(struct call_store *calls, struct live live, int call,
                                   const char *generation)
{
    return fixture_intend_knowing(calls, live, call, generation, 0);
}

static void on_settled(enum store_outcome outcome, void *arg)
{
    assert_int_equal(outcome, STORE_DONE);
    *(bool *)arg = true;
}

void fixture_settle(struct call_store *calls, struct live live, int attempts, int deferrals,
                    const struct call_outcome *outcome)
{
    bool is_told = false;

    assert_true(call_settle(calls, live.job, live.token, attempts, deferrals, outcome, on_settled,
                            &is_told));
    await_flag(&is_told);
}
