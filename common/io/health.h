/* SPDX-License-Identifier: Apache-2.0 */
/* The small HTTP server of every daemon: /metrics, /healthz and /readyz. */
#ifndef COMMON_IO_HEALTH_H
#define COMMON_IO_HEALTH_H

#include "common/base/err.h"

struct daemon;
struct health;
struct http_request;

/* Serves on a listening socket, on the daemon's loop. */
struct health *health_new(struct daemon *daemon, int listener, struct err *err) MUST_CHECK;
void health_free(struct health *health);

/* For programs that answer the same on a listener of their own.  Each ends the request. */
void health_reply_live(struct http_request *request);
void health_reply_ready(struct http_request *request, const struct daemon *daemon);
void health_reply_metrics(struct http_request *request);

#endif
