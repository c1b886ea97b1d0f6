/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a delivery after a try: facts in, a choice out. */
#ifndef COMMON_MODEL_WEBHOOK_SCHEDULE_H
#define COMMON_MODEL_WEBHOOK_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/io/http_client.h"
#include "common/model/webhook_options.h"

enum { WEBHOOK_RETRY_AFTER_MAX_S = 86400, WEBHOOK_JITTER_PERCENT = 10 };

/* How a try ended. */
struct webhook_try {
    int attempt; /* from 1 */
    enum http_outcome outcome;
    int status;             /* 0: no head came */
    int64_t retry_after_ms; /* -1: none asked for */
};

enum webhook_verdict {
    WEBHOOK_DELIVERED,
    WEBHOOK_RETRY,   /* again after wait_ms */
    WEBHOOK_FAILED,  /* the last try failed, or no other can do better */
    WEBHOOK_DISABLE, /* 410: failed, and nothing more goes to this endpoint */
};

struct webhook_choice {
    enum webhook_verdict verdict;
    int64_t wait_ms;
    const char *error; /* for the list of tries; NULL when delivered */
};

/* Delivered is a 2xx, also one whose body was longer than we care to read, as long as nothing else
 * went wrong.  A redirect is a failure like any other.  An address that is not allowed fails at
 * once.  The wait is the schedule's, 10 % more or less, and never shorter than what the receiver
 * asks for (up to a day): a receiver that asks for short waits must not use up the tries of days
 * within a minute. */
struct webhook_choice webhook_choose(const struct webhook_policy *policy,
                                     const struct webhook_try *try, uint64_t random);

/* A Retry-After (seconds or an HTTP date) as a wait from now; -1 when it is neither. */
int64_t webhook_retry_after_ms(const char *value, int64_t now_us);

#endif
