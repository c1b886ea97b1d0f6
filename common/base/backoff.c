/* SPDX-License-Identifier: Apache-2.0 */
/* How long to wait before trying again: exponential with full jitter. */
#include "common/base/backoff.h"

#include <assert.h>
#include <unistd.h>

#include "common/base/crypto.h"

/* base * 2^doublings, at most cap. */
static int64_t ceiling_ms(const struct backoff_policy *policy, int doublings)
{
    int64_t ceiling = policy->base_ms;

    for (; doublings > 0 && ceiling < policy->cap_ms; doublings--) {
        if (ceiling > policy->cap_ms / 2)
            return policy->cap_ms;
        ceiling *= 2;
    }
    return ceiling < policy->cap_ms ? ceiling : policy->cap_ms;
}

int64_t backoff_full_jitter_ms(const struct backoff_policy *policy, int failures, uint64_t random)
{
    int64_t ceiling;

    assert(failures >= 1 && policy->base_ms > 0 && policy->cap_ms >= 0);
    ceiling = ceiling_ms(policy, failures - 1);
    return (int64_t)(random % ((uint64_t)ceiling + 1));
}

int64_t backoff_spread_ms(int64_t base_ms, int percent, uint64_t random)
{
    int64_t reach;

    assert(base_ms >= 0 && base_ms <= INT64_MAX / 200 && percent >= 0 && percent <= 100);
    reach = base_ms * percent / 100;
    return base_ms - reach + (int64_t)(random % ((uint64_t)reach * 2 + 1));
}

/* splitmix64 on a state of each thread's own; a forked child must not repeat its parent. */
uint64_t backoff_random(void)
{
    static _Thread_local uint64_t state;
    static _Thread_local pid_t seeded_by;
    uint64_t x;

    if (seeded_by != getpid()) {
        seeded_by = getpid();
        crypto_random(&state, sizeof(state));
    }
    state += UINT64_C(0x9e3779b97f4a7c15);
    x = state;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}
