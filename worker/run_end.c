/* SPDX-License-Identifier: Apache-2.0 */
/* The last steps of a run: ended, back in the queue, or forgotten. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/admit.h"
#include "worker/freed.h"
#include "worker/run_internal.h"
#include "worker/worker.h"

enum { FULL_MS = 100, AWAY_MS = 1000 };

/* --- how -------------------------------------------------------------------------------------- */

static void set_failure(struct run *run, enum error_type type, const char *code,
                        const char *message)
{
    run->failure = (struct failure){.type = type};
    snprintf(run->failure.code, sizeof(run->failure.code), "%s", code ? code : "");
    snprintf(run->failure.message, sizeof(run->failure.message), "%s", message);
}

enum step_result run_end_as(struct run *run, enum job_state state)
{
    run->end_state = state;
    if (state == JOB_CANCELLED)
        set_failure(run, ERROR_CANCELLED, NULL, "the job was cancelled");
    else if (state == JOB_EXPIRED)
        set_failure(run, ERROR_DEADLINE, NULL, "the job's deadline passed");
    else if (state == JOB_SUCCEEDED)
        run->failure = (struct failure){0};
    run->at = &step_end;
    return STEP_MORE;
}

enum step_result run_fail(struct run *run, enum error_type type, const char *code,
                          const char *message)
{
    set_failure(run, type, code, message);
    return run_end_as(run, JOB_FAILED);
}

enum step_result run_give_back(struct run *run, int64_t delay_ms, const char *wait_reason,
                               const char *reason)
{
    run->requeue = (struct run_requeue){
        .job = run->claimed->job,
        .run_token = run->claimed->run_token,
        .delay_ms = delay_ms,
        .wait_reason = wait_reason,
        .wait_detail = wait_reason && run->wait_detail[0] ? run->wait_detail : NULL,
        .reason = reason,
    };
    run->at = &step_requeue;
    return STEP_MORE;
}

/* --- end -------------------------------------------------------------------------------------- */

static void on_ended(const struct end_reply *reply, void *arg)
{
    struct run *run = arg;

    run->is_end_out = false;
    run->reply = *reply;
    run_advance(run);
}

/* Not sent yet, and it must not be. */
static bool is_too_late(struct run *run)
{
    if (!run->is_lost)
        return false;
    run->at = &step_forget;
    return true;
}

static enum step_result sent_or_again(struct run *run, bool is_sent, const struct step *step)
{
    if (!is_sent) {
        run_wake_in(run, FULL_MS);
        return STEP_WAIT;
    }
    run->ender = step;
    run->is_end_out = true;
    run->at = &step_ending;
    return STEP_WAIT;
}

static enum step_result end(struct run *run)
{
    bool is_good = run->end_state == JOB_SUCCEEDED, has_chunk;
    const char *finish_reason = run->end.result.finish_reason;
    struct event_chunk chunk;

    if (is_too_late(run))
        return STEP_MORE;
    if (!stream_out_prepare_end(run->out, &chunk, &has_chunk))
        return STEP_WAIT;
    struct run_end row = {
        .job = run->claimed->job,
        .run_token = run->claimed->run_token,
        .state = run->end_state,
        .attempts = run->attempts,
        .deferrals = run->deferrals,
        .result = is_good ? run->response : NULL,
        .result_len = is_good ? run->response_len : 0,
        .finish_reason = run->end.booked.is_complete && finish_reason[0] ? finish_reason : NULL,
        .error = is_good ? ERROR_NONE : run->failure.type,
        .error_code = run->failure.code[0] ? run->failure.code : NULL,
        .error_message = is_good ? NULL : run->failure.message,
        .is_retryable = decide_is_retryable(run->failure.type),
        .call = run->has_outcome ? &run->outcome : NULL,
        .chunk = has_chunk && !run->is_end_refused ? &chunk : NULL,
    };
    return sent_or_again(run, run_end(run->worker->ends, &row, on_ended, run), &step_end);
}

const struct step step_end = {.name = "end", .fn = end};

static enum step_result give_back(struct run *run)
{
    bool has_chunk;
    struct event_chunk chunk;

    if (is_too_late(run))
        return STEP_MORE;
    if (!stream_out_prepare_end(run->out, &chunk, &has_chunk))
        return STEP_WAIT;
    run->requeue.attempts = run->attempts;
    run->requeue.deferrals = run->deferrals;
    if (stream_out_has_deltas(run->out)) {
        run->requeue.superseded_attempt = run->calls;
        run->requeue.valid_bytes = stream_out_bytes(run->out);
    }
    run->requeue.call = run->has_outcome ? &run->outcome : NULL;
    run->requeue.chunk = has_chunk && !run->is_end_refused ? &chunk : NULL;
    return sent_or_again(run, run_requeue(run->worker->ends, &run->requeue, on_ended, run),
                         &step_requeue);
}

const struct step step_requeue = {.name = "requeue", .fn = give_back};

/* The database cannot hold what we say: says less, once. */
static enum step_result say_less(struct run *run)
{
    log_error(&run->log, "end refused by the database%s",
              run->is_end_refused ? "; its lease will end" : ", saying less");
    if (run->is_end_refused)
        return STEP_END;
    run->is_end_refused = true;
    run->at = run->ender;
    if (run->at == &step_end && run->end_state == JOB_SUCCEEDED)
        return run_fail(run, ERROR_PROTOCOL, NULL, "the answer could not be stored");
    run->requeue.wait_detail = NULL;
    run->failure.code[0] = '\0';
    snprintf(run->failure.message, sizeof(run->failure.message),
             "the provider's words could not be stored");
    return STEP_MORE;
}

/* Does somebody perhaps wait for the place that this run had at a limit of concurrency? */
static bool has_place(const struct run *run)
{
    const struct claimed_job *job = run->claimed;
    struct applied_limit limits[LIMIT_SCOPE_COUNT];
    int count;

    if (!(run->hold.parts & ADMISSION_HOLDS_RATES))
        return false;
    count = limit_cache_apply(admit_limits(run->worker->admit), job->tenant, job->key_id,
                              job->workflow, job->end_user, job->model, limits);
    for (int i = 0; i < count; i++)
        if (limits[i].set->max_concurrency >= 0 && !limits[i].set->is_shadow)
            return true;
    return false;
}

static enum step_result await_end(struct run *run)
{
    bool frees;

    if (run->is_end_out)
        return STEP_WAIT;
    frees = run->reply.outcome == STORE_DONE && has_place(run);
    if (run->has_outcome && (run->reply.outcome == STORE_DONE || run->reply.outcome == STORE_STALE))
        hold_settle(&run->hold, &run->outcome); /* booked by its own key, also when stale */
    switch (run->reply.outcome) {
    case STORE_DONE:
        stream_out_changed(run->out);
        if (frees)
            freed_note(run->worker->freed);
        if (run->reply.has_deliveries)
            worker_deliveries_due(run->worker);
        return STEP_END;
    case STORE_STALE:
        return STEP_END;
    case STORE_REFUSED:
        return say_less(run);
    case STORE_AWAY:
        break;
    }
    log_warn(&run->log, "end not stored yet: Postgres away (trying again)");
    run->at = run->ender;
    run_wake_in(run, AWAY_MS);
    return STEP_WAIT;
}

const struct step step_ending = {.name = "ending", .fn = await_end};

/* Not ours any more: what was spent is still booked, by the call's own key. */
static enum step_result forget(struct run *run)
{
    const struct claimed_job *job = run->claimed;
    struct hold_late *late = run->has_outcome ? hold_detach(&run->hold, &run->outcome) : NULL;

    if (run->has_outcome &&
        !call_settle(run->worker->calls, job->job, job->run_token, run->attempts, run->deferrals,
                     &run->outcome, hold_on_booked, late)) {
        log_warn(&run->log, "call not booked: too much is out (rescue books it as unknown)");
        free(late);
    }
    return STEP_END;
}

const struct step step_forget = {.name = "forget", .fn = forget};
