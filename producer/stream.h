/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/jobs/{id}/events: a job's events as they happen, from Postgres and Redis together. */
#ifndef PRODUCER_STREAM_H
#define PRODUCER_STREAM_H

#include "common/base/err.h"
#include "producer/routes.h"

struct producer;
struct streams;

/* All event streams of a process.  Made once producer->read_pg and producer->jobs are there. */
struct streams *streams_new(struct producer *producer, struct err *err) MUST_CHECK;
/* Ends every stream; their readers come back, to another process, with their cursors. */
void streams_drain(struct streams *streams);
/* After the server is freed and before read_pg is. */
void streams_free(struct streams *streams);

route_handler_fn events_handle;

#endif
