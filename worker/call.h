/* SPDX-License-Identifier: Apache-2.0 */
/* One provider call: request out, answer in, four timeouts, one end. */
#ifndef WORKER_CALL_H
#define WORKER_CALL_H

#include <stddef.h>
#include <stdint.h>

#include "worker/decide.h"
#include "worker/providers/provider.h"
#include "worker/providers/rate_headers.h"

struct call;
struct event_base;
struct http_client;

/* How a call went. */
struct call_end {
    struct booked_call booked;
    struct failure failure; /* type ERROR_NONE: the answer is complete */
    struct answer_result result;
    enum should_retry should_retry;
    int64_t retry_after_ms; /* -1: not said */
    struct rate_seen rate;
    int64_t first_token_us; /* from the start; -1: no output came */
    int64_t duration_us;
};

struct call_spec {
    struct event_base *base;
    struct http_client *http;
    const struct target *target; /* outlives the call */
    const char *request;         /* borrowed until call_start returns */
    size_t request_len;
    const char *call_id;
    int64_t total_ms;
    size_t max_bytes; /* of the answer's text */
    struct answer_sink sink;
    void (*on_turn)(void *arg); /* what arrived together was given to the sink */
    /* The call is gone after it returns, and so is end. */
    void (*on_done)(const struct call_end *end, void *arg);
    void *arg;
};

/* Never calls back from inside.  NULL: nothing was sent, err says why. */
struct call *call_start(const struct call_spec *spec, struct err *err) MUST_CHECK;

/* Closes the connection now; no callback will come.  end (its result's texts are not set) tells
 * what was known.  Not from the sink. */
void call_cut(struct call *call, struct call_end *end);

#endif
