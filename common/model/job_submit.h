/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a submit body: every rule of the API, and the job that follows from it.  Pure. */
#ifndef COMMON_MODEL_JOB_SUBMIT_H
#define COMMON_MODEL_JOB_SUBMIT_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/address.h"
#include "common/base/err.h"
#include "common/model/job.h"

struct settings;

/* What the rules depend on beside the body. */
struct job_rules {
    const struct settings *settings;      /* routes and prices; NULL: any model is known */
    const struct network *allow_networks; /* where webhooks may go beside the public networks */
    size_t allow_network_count;
    bool takes_idempotency_key; /* a bulk line: `idempotency_key` beside the submit fields */
};

/* Reads body (one JSON object).  On success a job of its own (job_new_free) with all but id,
 * tenant, key_id, body_hash and, unless the body gave one, deadline_us (0; see job_submit_stamp).
 * NULL: err has code, param and message.  What depends on the time is not judged here. */
struct job_new *job_submit_read(const char *body, size_t len, const struct job_rules *rules,
                                struct err *err) MUST_CHECK;

/* run_at and deadline against the time of creation. */
bool job_submit_judge_times(const struct job_new *job, int64_t now_us, struct err *err) MUST_CHECK;

/* Gives the id, and the deadline that follows from it where none was asked for. */
void job_submit_stamp(struct job_new *job, struct id id);

/* 1 to 255 visible ASCII characters. */
bool idempotency_key_check(const char *key, const char *param, struct err *err) MUST_CHECK;

#endif
