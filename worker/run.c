/* SPDX-License-Identifier: Apache-2.0 */
/* A run: begun, moved on, told of cancels and cuts, freed; and its decisions. */
#include "worker/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "worker/provider_gates.h"
#include "worker/run_internal.h"
#include "worker/worker.h"

#include <event2/event.h>

/* --- machine ---------------------------------------------------------------------------------- */

static void run_free(struct run *run)
{
    if (run->hold.parts)
        log_warn(&run->log, "reservation of call %d left to be reconciled", run->hold.call);
    if (run->timer)
        event_free(run->timer);
    stream_out_drop(run->out);
    settings_unref(run->settings);
    claimed_job_free(run->claimed);
    free(run->response);
    free(run);
}

void run_advance(struct run *run)
{
    enum step_result next;

    do {
        log_debug(&run->log, "step %s", run->at->name);
        next = run->at->fn(run);
    } while (next == STEP_MORE);
    if (next != STEP_END)
        return;
    worker_run_ended(run->worker, run, run->claimed);
    run_free(run); /* the one place a run dies */
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run_advance(arg);
}

void run_wake_in(struct run *run, int64_t ms)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    evtimer_add(run->timer, &wait);
}

static void on_quiet(void *arg)
{
    run_advance(arg);
}

static void on_lost(void *arg)
{
    run_cut(arg, CUT_LOST);
}

/* --- begin and interrupt ---------------------------------------------------------------------- */

static void begin_facts(struct run *run)
{
    run->facts.max_attempts = run->claimed->max_attempts;
    run->facts.target_count = run->route ? run->route->target_count : 0;
    for (int i = 0; i < run->facts.target_count; i++)
        run->facts.targets[i].context_tokens = run->route->targets[i].context_tokens;
}

struct run *run_start(struct worker *worker, struct claimed_job *claimed)
{
    struct run *run = calloc(1, sizeof(*run));

    if (!run)
        return NULL;
    run->worker = worker;
    run->timer = event_new(worker->base, -1, 0, on_timer, run);
    run->out = stream_out_new(&(struct stream_out_spec){
        .base = worker->base,
        .events = worker->events,
        .redis = worker->redis,
        .job = claimed->job,
        .run = claimed->run,
        .run_token = claimed->run_token,
        .on_quiet = on_quiet,
        .on_lost = on_lost,
        .arg = run,
    });
    if (!run->timer || !run->out) {
        run_free(run);
        return NULL;
    }
    run->claimed = claimed;
    run->settings = settings_ref(worker->settings);
    run->route = settings_route(run->settings, claimed->model);
    id_format(claimed->job, "job_", run->job_text);
    run->log =
        (struct log_context){.component = "run", .job = run->job_text, .tenant = claimed->tenant};
    run->calls = claimed->calls;
    run->attempts = claimed->attempts;
    run->deferrals = claimed->deferrals;
    run->spent_nano = claimed->spent_nano;
    begin_facts(run);
    request_facts_read(claimed->request, claimed->request_len, &run->request_facts);
    run->at = &step_decide;
    run_advance(run); /* ends nothing at once: every end waits for Postgres */
    return run;
}

void run_cancel(struct run *run)
{
    if (run->is_cancelled)
        return;
    run->is_cancelled = true;
    run_cut_call(run);
    run_advance(run);
}

void run_cut(struct run *run, enum cut_reason reason)
{
    if (reason == CUT_LOST)
        run->is_lost = true;
    else
        run->is_draining = true;
    run_cut_call(run);
    run_advance(run);
}

void run_watch(struct run *run)
{
    stream_out_watch(run->out);
}

const struct target *run_target(const struct run *run)
{
    return &run->route->targets[run->target];
}

bool run_is_diverted(struct run *run)
{
    if (run->is_lost)
        run->at = &step_forget;
    else if (run->is_cancelled)
        run_end_as(run, JOB_CANCELLED);
    else if (clock_db_us() >= run->claimed->deadline_us)
        run_end_as(run, JOB_EXPIRED);
    else if (run->is_draining)
        run_give_back(run, 0, NULL, "drain");
    else
        return false;
    return true;
}

/* --- decide ----------------------------------------------------------------------------------- */

static enum step_result decide(struct run *run)
{
    struct job_facts *facts = &run->facts;

    if (run_is_diverted(run))
        return STEP_MORE;
    if (!run->route)
        return run_fail(run, ERROR_BAD_REQUEST, "model_not_found",
                        "no route of this name is configured any more");
    facts->attempts = run->attempts;
    facts->deferrals = run->deferrals;
    facts->now_us = clock_monotonic_us();
    facts->random = backoff_random();
    for (int i = 0; run->worker->gates && i < facts->target_count; i++) {
        const struct provider *provider = run->route->targets[i].provider;
        int64_t open_us = provider_gates_open_us(run->worker->gates, provider);

        facts->targets[i].is_paused = provider_gates_is_paused(run->worker->gates, provider);
        if (open_us > facts->targets[i].ready_at_us) {
            facts->targets[i].ready_at_us = open_us;
            facts->targets[i].wait_reason = "rate_limit";
        }
    }
    run->next = decide_next(facts);
    run->at = &step_act;
    return STEP_MORE;
}

const struct step step_decide = {.name = "decide", .fn = decide};

static enum step_result begin_call(struct run *run)
{
    run->target = run->next.target;
    run->worst = reservation_of(run_target(run), &run->request_facts);
    run->admit_until_us = 0;
    run->wake_us = 0;
    run->at = &step_admit;
    return STEP_MORE;
}

static enum step_result fail_at_last(struct run *run)
{
    if (run->failure.type == ERROR_NONE)
        return run_fail(run, ERROR_OVERLOADED, NULL, "no attempt was left");
    return run_end_as(run, JOB_FAILED);
}

void run_note_detail(struct run *run, const char *text)
{
    size_t len = str_utf8_boundary(text, strnlen(text, sizeof(run->wait_detail) - 1));

    memcpy(run->wait_detail, text, len);
    run->wait_detail[len] = '\0';
}

static enum step_result requeue_as_decided(struct run *run)
{
    const char *reason = run->next.wait_reason;

    bool has_gate = run->gate_reason && strcmp(reason, run->gate_reason) == 0;

    run->gate_reason = NULL;
    if (strcmp(reason, "provider") == 0)
        run_note_detail(run, "the route's providers are paused");
    else if (!has_gate)
        run_note_detail(run, run->failure.message);
    run_give_back(run, run->next.wait_ms, reason,
                  run->failure.type != ERROR_NONE ? error_type_name(run->failure.type) : reason);
    if (has_gate)
        run->requeue.gate = &run->gate;
    return STEP_MORE;
}

static enum step_result act(struct run *run)
{
    if (run_is_diverted(run))
        return STEP_MORE;
    switch (run->next.step) {
    case NEXT_CALL:
        return begin_call(run);
    case NEXT_WAIT:
        run->wake_us = clock_monotonic_us() + run->next.wait_ms * US_PER_MS;
        run_wake_in(run, run->next.wait_ms);
        run->at = &step_backoff;
        return STEP_MORE;
    case NEXT_REQUEUE:
        return requeue_as_decided(run);
    case NEXT_NEVER: /* closes no gate: its siblings may fit; the detail is the account's */
        return run_give_back(run, RUN_NEVER_MS, "rate_limit", "rate_limit");
    case NEXT_FAIL:
        break;
    }
    return fail_at_last(run);
}

const struct step step_act = {.name = "act", .fn = act};

static enum step_result backoff(struct run *run)
{
    int64_t now = clock_monotonic_us();

    if (run_is_diverted(run))
        return STEP_MORE;
    if (now < run->wake_us) {
        run_wake_in(run, (run->wake_us - now + US_PER_MS - 1) / US_PER_MS);
        return STEP_WAIT;
    }
    for (int i = 0; i < run->facts.target_count; i++)
        run->facts.targets[i].is_tried = false;
    run->at = &step_decide;
    return STEP_MORE;
}

const struct step step_backoff = {.name = "backoff", .fn = backoff};
