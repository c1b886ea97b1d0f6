/* SPDX-License-Identifier: Apache-2.0 */
/* From a body to a stored job and its 202, and the same for those who submit many. */
#include "producer/submit.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/str.h"
#include "common/io/daemon.h"
#include "common/io/http_server.h"
#include "common/io/metrics.h"
#include "common/model/job_json.h"
#include "common/model/limit_cache.h"
#include "common/model/submit_store.h"
#include "producer/budget.h"
#include "producer/handlers.h"
#include "producer/producer.h"
#include "producer/publish.h"
#include "producer/reply.h"

enum { RETRY_AFTER_S = 1 };

static const struct metric submitted_total = {
    .name = "nightshift_jobs_submitted_total",
    .type = METRIC_COUNTER,
    .help = "Jobs accepted; repeated idempotency keys are not counted.",
    .labels = {"priority"},
};

/* --- submit_job ------------------------------------------------------------------------------- */

struct submission {
    struct producer *producer;
    struct job_new *job;
    bool has_deadline; /* asked for, not the default */
    unsigned shadows;  /* of intake_judge */
    submit_done_fn *done;
    void *arg;
    struct submit_outcome outcome;
};

static void finish(struct submission *submission)
{
    submission->outcome.job = submission->job;
    submission->done(&submission->outcome, submission->arg);
    job_new_free(submission->job);
    free(submission);
}

static void accept_job(struct submission *submission)
{
    submission->outcome.is_accepted = true;
    metric_add(&submitted_total, METRIC_LABELS(priority_name(submission->job->priority)), 1);
    intake_count_shadows(submission->shadows);
    finish(submission);
}

static void refuse_for_now(struct submission *submission, const char *code, const char *message)
{
    err_input(&submission->outcome.err, code, "", "%s", message);
    submission->outcome.retry_after_s = RETRY_AFTER_S;
    finish(submission);
}

static void refuse_away(struct submission *submission)
{
    refuse_for_now(submission, "unavailable",
                   "The database is not there just now: the job was not accepted");
}

static void finish_refused(struct submission *submission)
{
    intake_count_refusal(submission->outcome.err.code);
    finish(submission);
}

/* The first submit's answer again, or a refusal that nothing was wrong with then. */
static void on_key(const struct submit_key_reply *reply, void *arg)
{
    struct submission *submission = arg;
    struct job_new *job = submission->job;

    if (reply->status != PG_OK) {
        refuse_away(submission);
    } else if (!reply->is_found && *submission->outcome.err.code) {
        finish_refused(submission);
    } else if (!reply->is_found) {
        refuse_for_now(submission, "conflict",
                       "The first submit with this idempotency key was "
                       "just being forgotten: try again");
    } else if (!crypto_equal(reply->body_hash, job->body_hash, sizeof(job->body_hash))) {
        err_input(&submission->outcome.err, "idempotency_mismatch", "",
                  "This idempotency key was used with another body");
        finish(submission);
    } else {
        if (!submission->has_deadline)
            job->deadline_us = 0;
        job->worst_case_nano = reply->worst_case_nano;
        job_submit_stamp(job, reply->job);
        err_clear(&submission->outcome.err);
        submission->outcome.retry_after_s = 0;
        submission->outcome.is_accepted = true;
        submission->outcome.is_replayed = true;
        finish(submission);
    }
}

static void find_key(struct submission *submission)
{
    if (!submit_find_key(submission->producer->submits, submission->job->tenant,
                         submission->job->idempotency_key, on_key, submission))
        refuse_away(submission);
}

/* The ticket of a fast one is not sent: a worker claims it without, two seconds late. */
static void on_found(enum pg_status status, bool is_found, void *arg)
{
    struct submission *submission = arg;

    if (status == PG_OK && is_found)
        accept_job(submission);
    else if (status == PG_OK && submission->job->idempotency_key)
        find_key(submission);
    else
        refuse_for_now(submission, "unavailable",
                       "The connection to the database was lost: the job may have been accepted");
}

/* What is over a limit, or out of its time, may have been right when the key was first used: asks
 * for it then. */
static void refuse(struct submission *submission)
{
    if (submission->job->idempotency_key)
        find_key(submission);
    else
        finish_refused(submission);
}

static void refuse_full(struct submission *submission, enum limit_scope scope)
{
    const struct job_new *job = submission->job;
    const char *names[] = {"", job->key_id, job->workflow, job->user, job->model};
    char text[LIMIT_SCOPE_TEXT_SIZE];

    limit_scope_format(scope, names[scope], text);
    err_input(&submission->outcome.err, "queue_full", "",
              "As many jobs wait as may: max_queued of %.160s", text);
    submission->outcome.retry_after_s = RETRY_AFTER_S;
    refuse(submission);
}

static void on_stored(const struct submit_reply *reply, void *arg)
{
    struct submission *submission = arg;
    struct producer *producer = submission->producer;
    const struct job_new *job = submission->job;

    switch (reply->result) {
    case SUBMIT_STORED:
        if (reply->is_fast)
            publish_ticket(producer->publisher, job->id, job->tenant, job->priority, 0);
        accept_job(submission);
        break;
    case SUBMIT_QUEUE_FULL:
        refuse_full(submission, reply->full);
        break;
    case SUBMIT_KEY_KNOWN:
        find_key(submission);
        break;
    case SUBMIT_KEY_BUSY:
        if (job->idempotency_key)
            refuse_for_now(submission, "conflict",
                           "The first submit with this idempotency key is still under way");
        else
            refuse_for_now(submission, "unavailable", "Too many submit to this queue just now");
        break;
    case SUBMIT_AWAY:
        refuse_away(submission);
        break;
    case SUBMIT_UNSURE:
        if (!submit_find_job(producer->submits, job->id, on_found, submission))
            refuse_away(submission);
        break;
    case SUBMIT_BROKEN:
        err_input(&submission->outcome.err, "internal", "", "The job could not be stored");
        finish(submission);
        break;
    }
}

static bool store(struct submission *submission)
{
    int64_t most_queued[LIMIT_SCOPE_COUNT];
    bool is_capped = intake_queues(submission->producer, submission->job, most_queued);

    return submit_store(submission->producer->submits, submission->job,
                        is_capped ? most_queued : NULL, on_stored, submission);
}

static void refuse_stopping(struct submission *submission)
{
    refuse_for_now(submission, "unavailable", "The server is about to stop");
}

static void on_verdict(const struct intake_verdict *verdict, void *arg)
{
    struct submission *submission = arg;

    submission->outcome.meters = verdict->meters;
    if (!submission->producer->limits) {
        refuse_stopping(submission);
    } else if (verdict->is_refused) {
        submission->outcome.err = verdict->err;
        submission->outcome.retry_after_s = verdict->retry_after_s;
        refuse(submission);
    } else if (!store(submission)) {
        refuse_for_now(submission, "overloaded", "Too many jobs are being submitted");
    }
}

/* Asks for what is limited per minute, then stores.  False: too much is out. */
static bool take_and_store(struct submission *submission)
{
    switch (intake_take(submission->producer, submission->job, on_verdict, submission)) {
    case INTAKE_FREE:
        return store(submission);
    case INTAKE_ASKED:
        return true;
    case INTAKE_NO_MEMORY:
        break;
    }
    return false;
}

static void on_budget(const struct budget_verdict *verdict, void *arg)
{
    struct submission *submission = arg;

    if (!submission->producer->limits) {
        refuse_stopping(submission);
    } else if (verdict->fit == JOB_FITS_NOT) {
        submission->outcome.err = verdict->err;
        submission->outcome.retry_after_s = verdict->retry_after_s;
        refuse(submission);
    } else if (!take_and_store(submission)) {
        refuse_for_now(submission, "overloaded", "Too many jobs are being submitted");
    }
}

/* Under budget_policy "fail" a job that does not fit now is refused; what cannot be known just now
 * is left to the worker.  False: nothing was asked. */
static bool ask_budget(struct submission *submission)
{
    const struct job_new *job = submission->job;
    const struct budget_question question = {.tenant = job->tenant,
                                             .key_id = job->key_id,
                                             .workflow = job->workflow,
                                             .user = job->user,
                                             .model = job->model,
                                             .nano = job->worst_case_nano};

    if (limit_cache_policy(submission->producer->limits, job->tenant, job->key_id) != BUDGET_FAIL)
        return false;
    return budget_ask(submission->producer, &question, on_budget, submission);
}

static void refuse_later(void *arg)
{
    refuse(arg);
}

/* Without a key nothing is asked any more, and nobody may be told from inside submit_job. */
static void refuse_now(struct submission *submission)
{
    daemon_defer(submission->producer->base, refuse_later, submission);
}

bool submit_job(struct producer *producer, struct job_new *job, size_t body_bytes,
                submit_done_fn *done, void *arg)
{
    struct submission *submission = calloc(1, sizeof(*submission));
    int64_t now_us = clock_db_us();

    if (!submission) {
        job_new_free(job);
        return false;
    }
    *submission = (struct submission){.producer = producer,
                                      .job = job,
                                      .has_deadline = job->deadline_us != 0,
                                      .done = done,
                                      .arg = arg};
    if (!job_submit_judge_times(job, now_us, &submission->outcome.err) ||
        !intake_judge(producer, job, body_bytes, &submission->shadows, &submission->outcome.err)) {
        refuse_now(submission);
        return true;
    }
    job_submit_stamp(job, id_make(now_us));
    if (ask_budget(submission) || take_and_store(submission))
        return true;
    job_new_free(job);
    free(submission);
    return false;
}

/* --- over HTTP -------------------------------------------------------------------------------- */

struct job_rules submit_rules(const struct producer *producer)
{
    return (struct job_rules){
        .settings = producer->settings,
        .allow_networks = producer->webhooks.allow,
        .allow_network_count = producer->webhooks.allow_count,
    };
}

void submit_fingerprint(const char *method_and_path, const void *body, size_t len, uint8_t out[32])
{
    struct sha256_stream *stream = sha256_stream_new();

    memset(out, 0, 32);
    if (!stream)
        return;
    sha256_stream_add(stream, method_and_path, strlen(method_and_path));
    sha256_stream_add(stream, "\n", 1);
    sha256_stream_add(stream, body, len);
    sha256_stream_finish(stream, out);
}

bool submit_sign(const struct request_context *context, struct job_new *job,
                 const char *method_and_path, struct err *err)
{
    const char *key = http_header(context->http, "idempotency-key");

    if (key && !idempotency_key_check(key, "Idempotency-Key", err))
        return false;
    free(job->tenant);
    free(job->key_id);
    job->tenant = strdup(context->caller.tenant);
    job->key_id = strdup(context->caller.key_id);
    job->idempotency_key = key ? strdup(key) : NULL;
    if (!job->tenant || !job->key_id || (key && !job->idempotency_key))
        return err_set(err, "read a job: out of memory");
    if (key)
        submit_fingerprint(method_and_path, context->body_len ? context->body : "",
                           context->body_len, job->body_hash);
    return true;
}

static void reply_accepted(struct http_request *http, const struct submit_outcome *outcome)
{
    static const char path[] = "/v1/jobs/";
    char id[ID_TEXT_SIZE], location[sizeof(path) + ID_TEXT_SIZE];
    struct buf body;

    id_format(outcome->job->id, "job_", id);
    memcpy(location, path, sizeof(path) - 1);
    memcpy(location + sizeof(path) - 1, id, sizeof(id));
    http_add_header(http, "location", location);
    if (outcome->is_replayed)
        http_add_header(http, "idempotent-replayed", "true");
    buf_init(&body, JOB_JSON_MAX);
    if (!job_json_submitted(outcome->job, &body))
        body.is_broken = true;
    reply_json(http, 202, &body);
}

void submit_reply_to(const struct submit_outcome *outcome, void *arg)
{
    struct request_context *context = arg;
    struct http_request *http = context->http;
    const struct err *err = &outcome->err;

    if (outcome->meters.is_known)
        context->meters = outcome->meters;

    if (outcome->is_accepted)
        reply_accepted(http, outcome);
    else if (outcome->retry_after_s > 0)
        reply_error_retry(http, err->code, err->param, outcome->retry_after_s, "%s", err->message);
    else
        reply_err(http, err);
}

void submit_handle(struct request_context *context)
{
    struct job_rules rules = submit_rules(context->producer);
    struct err err = {{0}, {0}, {0}};
    struct job_new *job = job_submit_read(context->body, context->body_len, &rules, &err);

    if (!job || !submit_sign(context, job, "POST /v1/jobs", &err)) {
        job_new_free(job);
        reply_err(context->http, &err);
        return;
    }
    if (!submit_job(context->producer, job, context->body_len, submit_reply_to, context))
        reply_error(context->http, "overloaded", NULL, "Too many jobs are being submitted");
}
