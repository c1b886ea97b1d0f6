/* SPDX-License-Identifier: Apache-2.0 */
/* How long to wait before trying again: exponential with full jitter. */
#ifndef COMMON_BASE_BACKOFF_H
#define COMMON_BASE_BACKOFF_H

#include <stdint.h>

struct backoff_policy {
    int64_t base_ms; /* ceiling of the first wait */
    int64_t cap_ms;  /* ceiling of every wait */
};

/* A wait in [0, min(cap, base * 2^(failures-1))] ms, from random (any 64 bits).  failures >= 1;
 * overflow-safe for any count. */
int64_t backoff_full_jitter_ms(const struct backoff_policy *policy, int failures, uint64_t random);

/* base_ms +- percent, from random. */
int64_t backoff_spread_ms(int64_t base_ms, int percent, uint64_t random);

/* From a generator of each thread's own, seeded by the kernel, anew after a fork; not for secrets.
 */
uint64_t backoff_random(void);

#endif
