/* SPDX-License-Identifier: Apache-2.0 */
/* How long a provider asks us to wait, from its headers.  Pure. */
#ifndef WORKER_PROVIDERS_RETRY_AFTER_H
#define WORKER_PROVIDERS_RETRY_AFTER_H

#include <stdint.h>

#include "common/base/err.h"

enum { RETRY_AFTER_MAX_MS = 600000 };

enum should_retry { SHOULD_RETRY_UNSAID, SHOULD_RETRY_NO, SHOULD_RETRY_YES };

/* What was collected of an answer's head. */
struct retry_headers {
    enum should_retry should_retry;
    int64_t retry_after_ms_ms; /* retry-after-ms; -1: none */
    int64_t retry_after_ms;    /* retry-after in seconds; -1: none */
    int64_t retry_at_us;       /* retry-after as a date; 0: none */
    int64_t date_us;           /* the provider's own clock; 0: none */
};

void retry_headers_init(struct retry_headers *headers);
/* Takes one header field (name in lower case); all others are ignored, and so is nonsense. */
void retry_headers_add(struct retry_headers *headers, const char *name, const char *value);
/* The wait asked for, at most RETRY_AFTER_MAX_MS, 0 when it has passed; -1: none was asked. */
int64_t retry_headers_wait_ms(const struct retry_headers *headers, int64_t now_us);

#endif
