/* SPDX-License-Identifier: Apache-2.0 */
/* The step of a run between its decision to call and the call's intent: do all limits let it?
 *
 * A tenant without limits, at a provider without, never asks Redis.  Who is refused waits in its
 * slot for a moment at most; then the job goes back to the queue and closes the gate of the scope
 * that refused it for its siblings. */
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/model/admission.h"
#include "common/model/book_rebuild.h"
#include "common/model/limit_cache.h"
#include "common/model/limit_judge.h"
#include "common/model/price_guard.h"
#include "worker/admit.h"
#include "worker/run_internal.h"
#include "worker/worker.h"

enum {
    IN_PLACE_MS = 50,
    NOT_READY_MS = 50, /* the limits have not been read yet */
    AWAY_MS = 1000,
    REBUILD_MS = 300,
    PROBE_US = 250000, /* of a closed budget that others may free */
    LEASE_MARGIN_S = 120,
    ROOMY_PARTS = 20, /* a budget with more free than such a part has room for other jobs */
};
#define WAIT_MAX_US (24 * 3600 * US_PER_S * 40)
#define WAIT_ENDLESS_US (24 * 3600 * US_PER_S)

/* --- what applies ----------------------------------------------------------------------------- */

static bool has_window(const struct applied_limit *limits, int count, int window)
{
    for (int i = 0; i < count; i++)
        if (limits[i].set->budget_nano[window] >= 0)
            return true;
    return false;
}

static bool provider_has_limits(const struct provider *provider)
{
    return provider->requests_per_minute > 0 || provider->tokens_per_minute > 0 ||
           provider->max_concurrency > 0;
}

static int64_t none_if_zero(int64_t limit)
{
    return limit > 0 ? limit : -1;
}

/* Notes day, windows and generation for the intent.  False: a budget is enforced, and nobody can
 * say which windows it is in; one that is only counted is not, then. */
static bool note_budget(struct run *run, const struct applied_limit *limits, int count,
                        struct budget_windows *windows)
{
    const struct limit_cache *cache = admit_limits(run->worker->admit);
    const char *tenant = run->claimed->tenant;
    struct run_budget *budget = &run->budget;

    *budget = (struct run_budget){
        .is_enforced = limits_applied_budget(limits, count),
        .known_generation = limit_cache_tenant(cache, tenant)->book_generation,
    };
    for (int w = 0; w < BUDGET_WINDOW_COUNT; w++)
        budget->is_there = budget->is_there || has_window(limits, count, w);
    if (!limit_cache_windows(cache, tenant, clock_db_us(), windows)) {
        budget->is_there = false;
        return !budget->is_enforced;
    }
    snprintf(budget->day, sizeof(budget->day), "%s", windows->day);
    if (!budget->is_there)
        return true;
    for (int w = 0; w < BUDGET_WINDOW_COUNT; w++) {
        size_t len = strlen(budget->windows);

        if (has_window(limits, count, w))
            snprintf(budget->windows + len, sizeof(budget->windows) - len, "%s%s", len ? "," : "",
                     windows->id[w]);
    }
    snprintf(budget->generation, sizeof(budget->generation), "%s",
             limit_cache_tenant(cache, tenant)->generation);
    return true;
}

/* --- what is never tried ---------------------------------------------------------------------- */

/* What the job may cost in all, and what nobody can price: at submit it was so, or no limit was.
 * True: the run fails. */
static bool is_forbidden(struct run *run, const struct applied_limit *limits, int count)
{
    int64_t ceiling = limit_judge_ceiling(limits, count, run->claimed->max_cost_nano);
    struct err err = {0};

    if (ceiling >= 0 && run->worst.cost_nano > ceiling - run->spent_nano) {
        run_fail(run, ERROR_BUDGET, NULL, "the next call could cost more than max_cost_usd leaves");
        return true;
    }
    if ((!run->budget.is_enforced && ceiling < 0) ||
        price_guard_target(run_target(run), &run->request_facts, &err))
        return false;
    run_fail(run, ERROR_BUDGET, NULL, err.message);
    return true;
}

/* --- ask -------------------------------------------------------------------------------------- */

static void on_answer(const struct admission_answer *answer, void *arg)
{
    struct run *run = arg;

    run->ask = NULL;
    run->answer = *answer;
    run_advance(run);
}

static enum step_result ask(struct run *run, const struct applied_limit *limits, int count,
                            const struct budget_windows *windows)
{
    const struct claimed_job *job = run->claimed;
    const struct provider *provider = run_target(run)->provider;
    struct admission_request request = {
        .tenant = job->tenant,
        .job = job->job,
        .run = job->run,
        .call = run->calls + 1,
        .run_token = job->run_token,
        .lease_s = job->timeout_s + LEASE_MARGIN_S,
        .tokens = run->worst.est_tokens,
        .amount_nano = run->worst.cost_nano,
        .limits = limits,
        .limit_count = count,
        .windows = run->budget.is_there ? windows : NULL,
        .now_us = clock_db_us(),
        .generation = run->budget.is_there ? run->budget.generation : NULL,
        .run_id = limit_cache_run_id(admit_limits(run->worker->admit)),
        .provider = provider_has_limits(provider) ? provider->name : NULL,
        .provider_requests_per_minute = none_if_zero(provider->requests_per_minute),
        .provider_tokens_per_minute = none_if_zero(provider->tokens_per_minute),
        .provider_max_concurrency = none_if_zero(provider->max_concurrency),
    };

    run->ask = admission_ask(admit_admission(run->worker->admit), &request, on_answer, run);
    if (!run->ask) {
        run_wake_in(run, NOT_READY_MS);
        return STEP_WAIT;
    }
    run->at = &step_admit_wait;
    return STEP_WAIT;
}

static bool needs_asking(const struct run *run, const struct applied_limit *limits, int count)
{
    for (int i = 0; i < count; i++)
        if (limit_set_has_rates(limits[i].set))
            return true;
    return run->budget.is_there || provider_has_limits(run_target(run)->provider);
}

/* --- back to the queue ------------------------------------------------------------------------ */

static enum step_result send_back(struct run *run, int64_t wait_ms, const char *reason,
                                  const char *detail, const struct shut_gate *gate)
{
    run_note_detail(run, detail);
    run_give_back(run, wait_ms, reason, reason);
    if (gate) {
        run->gate = *gate;
        run->requeue.gate = &run->gate;
    }
    return STEP_MORE;
}

/* Nothing under a budget is called while nobody can reserve: the tenant waits as a whole. */
static enum step_result wait_for_book(struct run *run, int64_t wait_ms, int64_t interval_us,
                                      const char *detail)
{
    struct shut_gate gate = {
        .kind = LIMIT_TENANT, .name = "", .interval_us = interval_us, .most = -1};

    return send_back(run, wait_ms, "budget", detail, &gate);
}

static const char *reason_of(enum admission_dimension dimension)
{
    switch (dimension) {
    case ADMISSION_CONCURRENCY:
        return "concurrency";
    case ADMISSION_BUDGET:
        return "budget";
    case ADMISSION_REQUESTS:
    case ADMISSION_TOKENS:
    case ADMISSION_CLOSED:
    case ADMISSION_DIMENSION_COUNT:
        break;
    }
    return "rate_limit";
}

static const char *name_of(const struct claimed_job *job, enum limit_scope scope)
{
    switch (scope) {
    case LIMIT_KEY:
        return job->key_id;
    case LIMIT_WORKFLOW:
        return job->workflow;
    case LIMIT_USER:
        return job->end_user;
    case LIMIT_MODEL:
        return job->model;
    case LIMIT_TENANT:
    case LIMIT_SCOPE_COUNT:
        break;
    }
    return "";
}

static int64_t ms_of(int64_t us)
{
    return (us + US_PER_MS - 1) / US_PER_MS;
}

/* May the job wait where it is? */
static bool waits_in_place(struct run *run)
{
    int64_t now = clock_monotonic_us();

    if (run->answer.outcome != ADMISSION_WAIT || run->answer.wait_us > IN_PLACE_MS * US_PER_MS)
        return false;
    if (run->admit_until_us == 0)
        run->admit_until_us = now + IN_PLACE_MS * US_PER_MS;
    if (now + run->answer.wait_us > run->admit_until_us)
        return false;
    run->wake_us = now + run->answer.wait_us;
    run->at = &step_admit;
    return true;
}

/* The account is too small for the job, whatever its siblings take: another target may do. */
static void rule_out_account(struct run *run)
{
    struct target_state *target = &run->facts.targets[run->target];

    target->is_out = true;
    target->never_fits = true;
    if (!run->gate_reason) /* what another account said is why it waits */
        run_note_detail(run, run->answer.detail);
}

/* The account is used up: another target may do, and the decision knows when this one will. */
static void wait_for_account(struct run *run, int64_t wait_us)
{
    const struct admission_answer *answer = &run->answer;
    struct target_state *target = &run->facts.targets[run->target];

    target->ready_at_us = clock_monotonic_us() + wait_us;
    target->wait_reason = reason_of(answer->dimension);
    run->gate = (struct shut_gate){.kind = LIMIT_MODEL,
                                   .name = run->claimed->model,
                                   .interval_us = answer->interval_us,
                                   .most = -1};
    run->gate_reason = target->wait_reason;
    run_note_detail(run, answer->detail);
}

static enum step_result leave_provider(struct run *run, int64_t wait_us)
{
    if (run->answer.outcome == ADMISSION_NEVER)
        rule_out_account(run);
    else
        wait_for_account(run, wait_us);
    run->at = &step_decide;
    return STEP_MORE;
}

/* One dear job may not fit where its siblings do: then it alone waits. */
static bool closes_gate(const struct admission_answer *answer)
{
    return answer->outcome == ADMISSION_WAIT &&
           (answer->dimension != ADMISSION_BUDGET || answer->interval_us > 0 ||
            answer->free < answer->limit / ROOMY_PARTS);
}

static enum step_result refuse(struct run *run)
{
    const struct admission_answer *answer = &run->answer;
    const struct claimed_job *job = run->claimed;
    const struct limit_cache *cache = admit_limits(run->worker->admit);
    int64_t wait_us = answer->wait_us > WAIT_MAX_US ? WAIT_ENDLESS_US : answer->wait_us;
    struct shut_gate gate = {
        .kind = answer->scope,
        .name = name_of(job, answer->scope),
        .interval_us = answer->interval_us,
        .most = answer->dimension == ADMISSION_CONCURRENCY ? answer->limit : -1,
    };

    if (waits_in_place(run))
        return STEP_MORE;
    if (answer->is_provider)
        return leave_provider(run, wait_us);
    if (answer->dimension == ADMISSION_BUDGET &&
        limit_cache_policy(cache, job->tenant, job->key_id) == BUDGET_FAIL)
        return run_fail(run, ERROR_BUDGET, "budget_exceeded", answer->detail);
    if (answer->dimension == ADMISSION_BUDGET && gate.interval_us > 0)
        gate.interval_us = PROBE_US;
    if (answer->outcome == ADMISSION_NEVER)
        return send_back(run, RUN_NEVER_MS, reason_of(answer->dimension), answer->detail, NULL);
    return send_back(run, ms_of(wait_us), reason_of(answer->dimension), answer->detail,
                     closes_gate(answer) ? &gate : NULL);
}

/* --- steps ------------------------------------------------------------------------------------ */

static enum step_result admit(struct run *run)
{
    struct applied_limit limits[LIMIT_SCOPE_COUNT];
    const struct claimed_job *job = run->claimed;
    const struct limit_cache *cache;
    struct budget_windows windows;
    int64_t now = clock_monotonic_us();
    bool is_known;
    int count;

    if (run_is_diverted(run))
        return STEP_MORE;
    if (!run->worker->admit) {
        run->at = &step_intent;
        run->budget.known_generation = INT64_MAX;
        (void)is_forbidden(run, NULL, 0); /* which says where the run goes then */
        return STEP_MORE;
    }
    cache = admit_limits(run->worker->admit);
    if (now < run->wake_us || !limit_cache_is_ready(cache)) {
        run_wake_in(run, now < run->wake_us ? ms_of(run->wake_us - now) : NOT_READY_MS);
        return STEP_WAIT;
    }
    count = limit_cache_apply(cache, job->tenant, job->key_id, job->workflow, job->end_user,
                              job->model, limits);
    is_known = note_budget(run, limits, count, &windows);
    if (is_forbidden(run, limits, count))
        return STEP_MORE;
    if (!is_known)
        return wait_for_book(run, AWAY_MS, PROBE_US, "the budget's windows are not known");
    if (needs_asking(run, limits, count))
        return ask(run, limits, count, &windows);
    run->at = &step_intent;
    return STEP_MORE;
}

const struct step step_admit = {.name = "admit", .fn = admit};

static void want_book(struct run *run)
{
    book_rebuild_want(admit_books(run->worker->admit), run->claimed->tenant, run->budget.generation,
                      BOOK_STALE);
}

/* A budget that is only counted lets the call go without a book: the ledger counts it. */
static void take_hold(struct run *run)
{
    if (run->budget.is_there &&
        !(run->answer.holds & (ADMISSION_HOLDS_MONEY | ADMISSION_HOLDS_LOCAL)))
        want_book(run);
    run->hold = (struct hold){
        .parts = run->answer.holds,
        .admission = admit_admission(run->worker->admit),
        .tenant = run->claimed->tenant,
        .provider = run_target(run)->provider->name,
        .job = run->claimed->job,
        .run = run->claimed->run,
        .call = run->calls + 1,
    };
    run->at = &step_intent;
}

static enum step_result await_answer(struct run *run)
{
    if (run->ask) {
        if (!run->is_lost && !run->is_cancelled && !run->is_draining)
            return STEP_WAIT;
        admission_cancel(run->ask);
        run->ask = NULL;
        run->calls++; /* the name may be taken back late */
        return run_is_diverted(run) ? STEP_MORE : STEP_END;
    }
    switch (run->answer.outcome) {
    case ADMISSION_GO:
        take_hold(run);
        return STEP_MORE;
    case ADMISSION_WAIT:
    case ADMISSION_NEVER:
        return refuse(run);
    case ADMISSION_STALE:
        want_book(run);
        return wait_for_book(run, REBUILD_MS, 0, "the budget's book is being made anew");
    case ADMISSION_AWAY:
        break;
    }
    run->calls++;
    return wait_for_book(run, AWAY_MS, PROBE_US, "nothing can be reserved: Redis is away");
}

const struct step step_admit_wait = {.name = "admit_wait", .fn = await_answer};
