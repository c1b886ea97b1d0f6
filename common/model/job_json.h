/* SPDX-License-Identifier: Apache-2.0 */
/* The job object of the API. */
#ifndef COMMON_MODEL_JOB_JSON_H
#define COMMON_MODEL_JOB_JSON_H

#include "common/base/err.h"
#include "common/model/job.h"
#include "common/model/job_view.h"

struct buf;

/* The answer to a submit: a pure function of the body and the id. */
bool job_json_submitted(const struct job_new *job, struct buf *out) MUST_CHECK;

/* A job as it is: the whole object when view->is_full, else as lists show it.  False: out of
 * memory, or over out's maximum. */
bool job_json_write(const struct job_view *view, struct buf *out) MUST_CHECK;

/* In a whole object of a queued job the first of these is followed by what fits_now says: who knows
 * it only later may put it there.  (No text can hold it: quotes in text are escaped.) */
#define JOB_JSON_FITS ",\"fits_now\":"

/* At most so long: request, result (twice: text and response), partial and calls of one job. */
enum { JOB_JSON_MAX = 256 * 1024 * 1024 };

#endif
