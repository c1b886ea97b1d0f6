/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a run around its provider call: intent, call, judgement, settlement. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/number.h"
#include "common/io/metrics.h"
#include "common/model/overrun.h"
#include "common/model/settings.h"
#include "worker/admit.h"
#include "worker/outcome.h"
#include "worker/provider_gates.h"
#include "worker/run_internal.h"
#include "worker/worker.h"

enum {
    FULL_MS = 100,  /* a store's queue is full: again in a moment */
    AWAY_MS = 1000, /* Postgres is away */
    REREAD_MS = 50, /* somebody knows of newer limits: until we know them too */
    LEASE_MARGIN_S = 120,
    SILENCE_MARGIN_S = 30,
    RESPONSE_MAX_DEFAULT = 8 * 1024 * 1024,
};

static const struct metric retries_total = {
    .name = "nightshift_retries_total",
    .type = METRIC_COUNTER,
    .help = "Calls that failed and are made up for by another call, by type of error.",
    .labels = {"reason"},
};
static const struct metric fallbacks_total = {
    .name = "nightshift_fallbacks_total",
    .type = METRIC_COUNTER,
    .help = "Calls to a later target of a route after an earlier one failed.",
    .labels = {"route"},
};

void run_declare_metrics(const struct settings *settings)
{
    static const enum error_type reasons[] = {ERROR_RATE_LIMITED, ERROR_OVERLOADED, ERROR_TIMEOUT,
                                              ERROR_NETWORK, ERROR_PROTOCOL};
    const struct route *routes;
    size_t count = settings_routes(settings, &routes);

    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        metric_declare(&retries_total, METRIC_LABELS(error_type_name(reasons[i])));
    for (size_t i = 0; i < count; i++)
        if (routes[i].target_count > 1)
            metric_declare(&fallbacks_total, METRIC_LABELS(routes[i].name));
}

/* --- intent ----------------------------------------------------------------------------------- */

static void set_timeouts(struct run *run)
{
    const struct target *target = run_target(run);
    const struct provider *provider = target->provider;
    int64_t total = target->timeout_ms > 0 ? target->timeout_ms : provider->total_ms;
    int64_t left = (run->claimed->deadline_us - clock_db_us() + US_PER_MS - 1) / US_PER_MS;
    int64_t silence =
        provider->first_byte_ms > provider->idle_ms ? provider->first_byte_ms : provider->idle_ms;

    total = smaller(total, run->claimed->timeout_s * INT64_C(1000));
    run->is_bound_by_deadline = left <= total;
    run->call_total_ms = smaller(total, left > 0 ? left : 1);
    run->intent.lease_s = (int)(run->call_total_ms / 1000) + LEASE_MARGIN_S;
    run->intent.silent_s = (int)(2 * silence / 1000) + SILENCE_MARGIN_S;
}

/* The budget is the ledger's only where money is really held in it. */
static void write_budget(struct run *run)
{
    const struct run_budget *budget = &run->budget;

    run->intent.budget_day = budget->day[0] ? budget->day : NULL;
    run->intent.known_generation = budget->known_generation;
    if (!(run->hold.parts & ADMISSION_HOLDS_MONEY))
        return;
    run->intent.budget_windows = budget->windows;
    run->intent.budget_generation = budget->is_enforced ? budget->generation : NULL;
}

static void write_intent(struct run *run)
{
    const struct claimed_job *job = run->claimed;
    const struct target *target = run_target(run);

    run->intent = (struct call_intent){
        .job = job->job,
        .run_token = job->run_token,
        .call = ++run->calls,
        .attempts = run->attempts,
        .deferrals = run->deferrals,
        .event_seq = stream_out_take_seq(run->out),
        .tenant = job->tenant,
        .key_id = job->key_id,
        .workflow = job->workflow,
        .end_user = job->end_user,
        .route = run->route->name,
        .provider = target->provider->name,
        .model = target->model,
        .price = run->worst.price,
        .reserved_nano = run->worst.cost_nano,
    };
    write_budget(run);
    set_timeouts(run);
}

static void on_intent(enum intent_outcome outcome, void *arg)
{
    struct run *run = arg;

    run->is_intent_out = false;
    run->intent_outcome = outcome;
    run_advance(run);
}

static enum step_result intend(struct run *run)
{
    if (run_is_diverted(run)) {
        hold_undo(&run->hold);
        return STEP_MORE;
    }
    /* A reader goes on from the seq of the intent's event: everything before it must be there. */
    stream_out_begin(run->out, run->calls + 1);
    if (!stream_out_is_quiet(run->out))
        return STEP_WAIT;
    write_intent(run);
    if (!call_intent(run->worker->calls, &run->intent, on_intent, run)) {
        run->calls--;
        run_wake_in(run, FULL_MS);
        return STEP_WAIT;
    }
    run->is_intent_out = true;
    run->at = &step_intent_wait;
    return STEP_WAIT;
}

const struct step step_intent = {.name = "intent", .fn = intend};

/* The row may be there and nothing was sent. */
static void book_unsent(struct run *run)
{
    run->outcome = (struct call_outcome){
        .call = run->calls,
        .state = CALL_RELEASED,
        .first_token_ms = -1,
        .duration_ms = -1,
        .input_tokens = -1,
        .cached_input_tokens = -1,
        .output_tokens = -1,
    };
    run->has_outcome = true;
}

static enum step_result take_intent(struct run *run)
{
    if (run->is_intent_out)
        return STEP_WAIT;
    switch (run->intent_outcome) {
    case INTENT_GO:
        stream_out_changed(run->out);
        run->at = &step_call;
        return STEP_MORE;
    case INTENT_CANCELLED:
        run->is_cancelled = true;
        book_unsent(run); /* a first try whose answer was lost may have written the row */
        break;
    case INTENT_EXPIRED:
        book_unsent(run);
        return run_end_as(run, run->is_cancelled ? JOB_CANCELLED : JOB_EXPIRED);
    case INTENT_STALE_BOOK:
        book_unsent(run);
        admit_reread(run->worker->admit);
        run->next = (struct next){.step = NEXT_WAIT, .wait_ms = REREAD_MS};
        run->at = &step_settle; /* and then it is admitted anew */
        return STEP_MORE;
    case INTENT_LOST:
        run->is_lost = true;
        book_unsent(run);
        break;
    case INTENT_FAILED:
        log_warn(&run->log, "call not begun: its intent is not durable (trying again)");
        book_unsent(run);
        run->next = (struct next){.step = NEXT_WAIT, .wait_ms = AWAY_MS};
        run->at = &step_settle;
        return STEP_MORE;
    }
    run->at = &step_decide; /* which sees what happened */
    return STEP_MORE;
}

const struct step step_intent_wait = {.name = "intent_wait", .fn = take_intent};

/* --- call ------------------------------------------------------------------------------------- */

static void on_text(const char *text, size_t len, void *arg)
{
    struct run *run = arg;

    stream_out_text(run->out, text, len);
}

static void on_tool(const struct tool_delta *delta, void *arg)
{
    struct run *run = arg;

    stream_out_tool(run->out, delta);
}

static void on_touched(enum intent_outcome outcome, void *arg)
{
    (void)outcome;
    (void)arg;
}

/* A model that thinks makes events but no text to store.  Repeating the intent moves the time from
 * which silence counts, so that nobody rescues a run that is alive. */
static void touch(struct run *run)
{
    int64_t now = clock_monotonic_us(), last = stream_out_last_us(run->out);

    if (last < run->touched_us)
        last = run->touched_us;
    if (now - last < run->intent.silent_s * US_PER_S / 2)
        return;
    run->touched_us = now;
    run->intent.budget_generation = NULL; /* of no interest any more */
    run->intent.known_generation = INT64_MAX;
    (void)!call_intent(run->worker->calls, &run->intent, on_touched, NULL);
}

static void on_turn(void *arg)
{
    struct run *run = arg;

    stream_out_turn(run->out);
    touch(run);
}

/* Copies what outlives the call. */
static void take_end(struct run *run, const struct call_end *end)
{
    run->call = NULL;
    run->end = *end;
    run->end.result.response = NULL;
    if (run->worker->gates)
        provider_gates_learn(run->worker->gates, run_target(run)->provider, &end->rate);
    if (!end->booked.is_complete || !end->result.response)
        return;
    run->response = malloc(end->result.response_len + 1);
    if (!run->response)
        return;
    memcpy(run->response, end->result.response, end->result.response_len + 1);
    run->response_len = end->result.response_len;
}

static void on_done(const struct call_end *end, void *arg)
{
    struct run *run = arg;

    take_end(run, end);
    run_advance(run);
}

static void fail_to_start(struct run *run, const char *why)
{
    run->end = (struct call_end){
        .booked = {.outcome = HTTP_NOT_SENT},
        .failure = {.type = ERROR_NETWORK, .may_fall_back = true},
        .retry_after_ms = -1,
        .first_token_us = -1,
    };
    snprintf(run->end.failure.message, sizeof(run->end.failure.message),
             "the call could not be started");
    log_warn(&run->log, "call not started: %s", why);
}

static enum step_result start_call(struct run *run)
{
    const struct claimed_job *job = run->claimed;
    int64_t most = run->worker->options->max_response_bytes;
    char call_id[CALL_ID_SIZE];
    struct err err = {0};

    if (run->is_lost || run->is_cancelled || run->is_draining) {
        book_unsent(run);
        return run_is_diverted(run) ? STEP_MORE : STEP_END;
    }
    id_format_call(job->job, run->calls, call_id);
    run->touched_us = clock_monotonic_us();
    run->call = call_start(
        &(struct call_spec){
            .base = run->worker->base,
            .http = run->worker->http,
            .target = run_target(run),
            .request = job->request,
            .request_len = job->request_len,
            .call_id = call_id,
            .total_ms = run->call_total_ms,
            .max_bytes = (size_t)(most > 0 ? most : RESPONSE_MAX_DEFAULT),
            .sink = {.on_text = on_text, .on_tool = on_tool, .arg = run},
            .on_turn = on_turn,
            .on_done = on_done,
            .arg = run,
        },
        &err);
    if (!run->call)
        fail_to_start(run, err.message);
    run->at = &step_calling;
    return STEP_MORE;
}

const struct step step_call = {.name = "call", .fn = start_call};

static enum step_result await_call(struct run *run)
{
    if (run->call)
        return STEP_WAIT;
    run->at = &step_judge;
    return STEP_MORE;
}

const struct step step_calling = {.name = "calling", .fn = await_call};

void run_cut_call(struct run *run)
{
    struct call_end end;

    if (!run->call)
        return;
    call_cut(run->call, &end);
    /* Our doing, not the provider's. */
    if (end.failure.type != ERROR_NONE)
        end.failure.type = run->is_cancelled ? ERROR_CANCELLED : ERROR_WORKER_LOST;
    take_end(run, &end);
}

/* --- judge ------------------------------------------------------------------------------------ */

static const char *outcome_name(const struct run *run)
{
    if (run->end.failure.type == ERROR_NONE)
        return "ok";
    return error_type_name(run->end.failure.type);
}

/* Also that of a job without a budget: max_cost_usd goes by the reservation, too. */
static void check_reservation(const struct run *run)
{
    char call[CALL_ID_SIZE];

    if (run->outcome.state != CALL_SETTLED || run->outcome.cost_nano <= run->worst.cost_nano)
        return;
    id_format_call(run->claimed->job, run->calls, call);
    overrun_count(&run->log, call);
}

static void book(struct run *run)
{
    run->outcome = outcome_of_call(&run->worst, run->calls, &run->end);
    run->has_outcome = true;
    run->spent_nano += run->outcome.cost_nano;
    outcome_count(run_target(run), &run->outcome, &run->end, outcome_name(run));
    check_reservation(run);
}

static enum step_result succeed(struct run *run)
{
    run->attempts++;
    if (strcmp(run->end.result.finish_reason, "content_filter") == 0)
        return run_fail(run, ERROR_CONTENT_FILTER, "content_filter",
                        "the provider's content filter cut the answer");
    if (!run->response)
        return run_fail(run, ERROR_PROTOCOL, NULL, "out of memory for the answer");
    return run_end_as(run, JOB_SUCCEEDED);
}

/* Moves on to another call: says that what was shown of this one is void, and books it. */
static enum step_result go_on(struct run *run)
{
    const char *reason = error_type_name(run->failure.type);

    metric_add(&retries_total, METRIC_LABELS(reason), 1);
    if (run->next.step == NEXT_CALL && run->next.target != run->target)
        metric_add(&fallbacks_total, METRIC_LABELS(run->route->name), 1);
    if (run->next.step == NEXT_REQUEUE) {
        run->at = &step_act; /* books and says it in the same statement */
        return STEP_MORE;
    }
    if (stream_out_has_deltas(run->out))
        stream_out_supersede(run->out, reason);
    run->at = &step_settle;
    return STEP_MORE;
}

static enum step_result fail_over(struct run *run)
{
    struct failed_call failed = {
        .target = run->target,
        .error = run->failure.type,
        .may_fall_back = run->failure.may_fall_back,
        .should_retry = run->end.should_retry,
        .retry_after_ms = run->end.retry_after_ms,
    };
    enum step_result result;

    run->facts.attempts = run->attempts;
    run->facts.deferrals = run->deferrals;
    run->facts.now_us = clock_monotonic_us();
    if (!decide_after_failure(&run->facts, &failed))
        return run_end_as(run, JOB_FAILED);
    result = step_decide.fn(run);
    if (run->at != &step_act || run->next.step == NEXT_FAIL)
        return result;
    return go_on(run);
}

static enum step_result judge(struct run *run)
{
    const struct failure *failure = &run->end.failure;

    book(run);
    if (run->is_lost) {
        run->at = &step_forget;
        return STEP_MORE;
    }
    if (failure->type == ERROR_NONE && !(run->is_draining && !run->response))
        return succeed(run);
    log_info(&run->log, "call failed: call=%d provider=%s status=%d error=%s booked=%s", run->calls,
             run_target(run)->provider->name, run->end.booked.status,
             failure->type == ERROR_NONE ? "none" : error_type_name(failure->type),
             call_state_name(run->outcome.state));
    /* Cut for a drain: not counted, and no failure of the provider's. */
    if (run->is_draining && !run->is_cancelled)
        return run_is_diverted(run) ? STEP_MORE : STEP_END;
    if (decide_is_deferral(failure->type))
        run->deferrals++;
    else
        run->attempts++;
    run->failure = *failure;
    /* The other timeouts are the provider's: a retry or another target may still be in time. */
    if (run->is_bound_by_deadline && run->end.booked.outcome == HTTP_TOTAL_TIMEOUT &&
        !run->is_cancelled)
        return run_end_as(run, JOB_EXPIRED);
    return run_is_diverted(run) ? STEP_MORE : fail_over(run);
}

const struct step step_judge = {.name = "judge", .fn = judge};

/* --- settle ----------------------------------------------------------------------------------- */

static void on_settled(enum store_outcome outcome, void *arg)
{
    struct run *run = arg;

    run->is_settle_out = false;
    run->settle_outcome = outcome;
    run_advance(run);
}

static enum step_result settle(struct run *run)
{
    if (run->is_lost) {
        run->at = &step_forget;
        return STEP_MORE;
    }
    if (!call_settle(run->worker->calls, run->claimed->job, run->claimed->run_token, run->attempts,
                     run->deferrals, &run->outcome, on_settled, run)) {
        run_wake_in(run, FULL_MS);
        return STEP_WAIT;
    }
    run->is_settle_out = true;
    run->at = &step_settling;
    return STEP_WAIT;
}

const struct step step_settle = {.name = "settle", .fn = settle};

static enum step_result await_settled(struct run *run)
{
    if (run->is_settle_out)
        return STEP_WAIT;
    if (run->settle_outcome == STORE_AWAY) {
        run->at = &step_settle;
        run_wake_in(run, AWAY_MS);
        return STEP_WAIT;
    }
    if (run->settle_outcome == STORE_REFUSED)
        log_error(&run->log, "call not booked: refused by the database");
    else
        hold_settle(&run->hold, &run->outcome);
    run->has_outcome = false;
    run->at = &step_act;
    return STEP_MORE;
}

const struct step step_settling = {.name = "settling", .fn = await_settled};
