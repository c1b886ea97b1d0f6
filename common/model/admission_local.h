/* SPDX-License-Identifier: Apache-2.0 */
/* The limiter of one process alone, for while Redis is away: every rate and number divided by the
 * processes that share it.  Pure; never used for money. */
#ifndef COMMON_MODEL_ADMISSION_LOCAL_H
#define COMMON_MODEL_ADMISSION_LOCAL_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/model/admission.h"

struct admission_local;

enum {
    LOCAL_SCOPES_MAX = 20000, /* over it scopes at rest are forgotten; if none is, it lets pass */
    LOCAL_HOLDS_MAX = 20000,
};

struct local_limit {
    const char *scope; /* any text that names it */
    int64_t requests;  /* per minute; -1: no limit */
    int64_t tokens;
    int64_t leases;
};

struct local_refusal {
    int index; /* of the limit */
    enum admission_dimension dimension;
    int64_t wait_us;
    int64_t interval_us;
};

struct admission_local *admission_local_new(void);
void admission_local_free(struct admission_local *local);

/* All limits are checked, then all are taken, or none.  A limit is shared by so many processes; a
 * number of leases is never below one for each, so that small ones do not stop.  Idempotent by
 * name; name "" holds nothing. */
bool admission_local_ask(struct admission_local *local, const char *name,
                         const struct local_limit *limits, int count, int64_t tokens, int processes,
                         int64_t now_us, int64_t lease_us,
                         struct local_refusal *refusal) MUST_CHECK;

/* The call is over: its leases are free.  Unknown names do nothing. */
void admission_local_settle(struct admission_local *local, const char *name);

#endif
