/* SPDX-License-Identifier: Apache-2.0 */
/* Submitting jobs: one by one over HTTP, and the same path for bulk lines and replays. */
#ifndef PRODUCER_SUBMIT_H
#define PRODUCER_SUBMIT_H

#include <stddef.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/model/job_submit.h"
#include "producer/routes.h"

/* How one submit went. */
struct submit_outcome {
    bool is_accepted;
    bool is_replayed; /* the idempotency key was known, with the same bytes */
    const struct job_new
        *job;          /* accepted: with the id (of the first, when replayed) and all defaults, so
                    that job_json_submitted gives the same bytes again; borrowed */
    struct err err;    /* else: code, param, message */
    int retry_after_s; /* > 0: refused for now (409, 429, 503); x-should-retry: true */
    struct intake_meters meters; /* for the headers of the answer */
};

typedef void submit_done_fn(const struct submit_outcome *outcome, void *arg);

/* Stores a job that job_submit_read made (takes it over; tenant, key_id, idempotency_key and
 * body_hash are set), and sends its ticket when it got the fast lane.  Gives the id, judges what
 * depends on the time (run_at, deadline) and on limits, and looks the idempotency key up when
 * somebody was there first: a job that was accepted once is answered whatever is over by now.
 * body_bytes is what the job came in, 0 for a replay.  done is called exactly once, never from
 * inside; the caller must outlive it.  False: too much is out (the job is freed, done will not be
 * called): wait for one to end, or answer 503. */
bool submit_job(struct producer *producer, struct job_new *job, size_t body_bytes,
                submit_done_fn *done, void *arg) MUST_CHECK;

/* What job_submit_read needs to know of this process: routes and networks. */
struct job_rules submit_rules(const struct producer *producer);

/* The fingerprint under an idempotency key: SHA-256 of METHOD SP PATH LF BODY. */
void submit_fingerprint(const char *method_and_path, const void *body, size_t len, uint8_t out[32]);

/* Sets tenant, key and idempotency key (with the body's fingerprint) from the request. */
bool submit_sign(const struct request_context *context, struct job_new *job,
                 const char *method_and_path, struct err *err) MUST_CHECK;

/* A submit_done_fn that answers a request (arg is its context) with 202 or the error. */
void submit_reply_to(const struct submit_outcome *outcome, void *arg);

#endif
