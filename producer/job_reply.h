/* SPDX-License-Identifier: Apache-2.0 */
/* What the calls on one job share: its id from the path, and the whole job as the answer. */
#ifndef PRODUCER_JOB_REPLY_H
#define PRODUCER_JOB_REPLY_H

#include "common/base/id.h"
#include "producer/routes.h"

/* The {id} of the path.  False: it cannot be an id, and the request was answered 404. */
bool job_reply_take_id(struct request_context *context, struct id *job) MUST_CHECK;

void job_reply_not_found(struct request_context *context);

/* Reads the job and answers 200 with it (404 when the caller's tenant has none of that id). */
void job_reply_send(struct request_context *context, struct id job, bool with_request);

/* For calls that take no arguments: no body, or {}.  False: the request was answered. */
bool job_reply_no_arguments(struct request_context *context) MUST_CHECK;

#endif
