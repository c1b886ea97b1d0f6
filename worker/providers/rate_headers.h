/* SPDX-License-Identifier: Apache-2.0 */
/* What a provider tells of its own limits in the head of an answer, whatever its dialect.  Pure. */
#ifndef WORKER_PROVIDERS_RATE_HEADERS_H
#define WORKER_PROVIDERS_RATE_HEADERS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

enum { RATE_RESET_MAX_MS = 600000 };

/* A limit of the account; -1 where the provider did not say. */
struct rate_window {
    int64_t limit;     /* of a minute */
    int64_t remaining; /* after this answer */
    int64_t reset_ms;  /* from the answer until it is whole again, at most RATE_RESET_MAX_MS */
};

/* Of several windows of a kind (project and organisation, input and output tokens) the narrowest:
 * the smallest of what remains; and the reset that belongs to it. */
struct rate_seen {
    struct rate_window requests;
    struct rate_window tokens;
    /* For how long nothing more will pass: the longest reset of a window with nothing left; -1:
     * there is room, or nobody said. */
    int64_t closed_ms;
};

/* What was collected so far, by family of headers. */
struct rate_headers {
    struct rate_scratch {
        int64_t limit, remaining, reset_ms, reset_at_us;
    } seen[10];
    int64_t date_us;
    bool has_any;
};

void rate_headers_init(struct rate_headers *headers);
/* Takes one header field (name in lower case); all others are ignored, and so is nonsense. */
void rate_headers_add(struct rate_headers *headers, const char *name, const char *value);
/* After the last one; now_us is the wall clock. */
struct rate_seen rate_headers_finish(const struct rate_headers *headers, int64_t now_us);

/* A duration of one or more `number unit` (ns us µs ms s m h, fractions), or a bare number of
 * seconds, in milliseconds rounded up and capped.  False: nonsense. */
bool rate_duration_parse(const char *text, int64_t *out_ms) MUST_CHECK;

#endif
