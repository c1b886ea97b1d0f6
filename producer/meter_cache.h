/* SPDX-License-Identifier: Apache-2.0 */
/* What Redis said last of each key's meters, for a quarter of a second, so that not every answer's
 * headers ask for them again.  Pure: the time (clock_monotonic_us) is passed in. */
#ifndef PRODUCER_METER_CACHE_H
#define PRODUCER_METER_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "producer/intake.h"

struct meter_cache;

enum {
    METER_CACHE_FRESH_MS = 250,     /* older meters are not known any more */
    METER_CACHE_ENTRIES_MAX = 4096, /* keys, and tenants of tokens; when full the old go, or all */
};

/* NULL: out of memory. */
struct meter_cache *meter_cache_new(void) MUST_CHECK;
void meter_cache_free(struct meter_cache *cache); /* NULL is fine */

/* False: nothing is known that is fresh, *out is as it was.  What is left is as it was said, though
 * some may have come back since; resets are sooner by the time that has passed. */
bool meter_cache_get(const struct meter_cache *cache, const char *tenant, const char *key_id,
                     int64_t now_us, struct intake_meters *out) MUST_CHECK;

/* A copy takes the place of what was known.  Out of memory, or under a name longer than any key's:
 * nothing is known. */
void meter_cache_put(struct meter_cache *cache, const char *tenant, const char *key_id,
                     int64_t now_us, const struct intake_meters *meters);

/* A submit was taken of the key's meters, and Redis did not say what is left of them: what is known
 * has one less, and is as old as before. */
void meter_cache_take(struct meter_cache *cache, const char *tenant, const char *key_id,
                      int64_t now_us);

/* For tests. */
size_t meter_cache_count(const struct meter_cache *cache);

#endif
