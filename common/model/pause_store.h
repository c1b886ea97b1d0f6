/* SPDX-License-Identifier: Apache-2.0 */
/* Pauses of a priority, a tenant or a provider: set and lifted by admins. */
#ifndef COMMON_MODEL_PAUSE_STORE_H
#define COMMON_MODEL_PAUSE_STORE_H

#include "common/model/admin_query.h"

struct pause {
    const char *kind; /* "priority", "tenant" or "provider" */
    const char *name;
    int64_t created_at_us; /* 0: it does not stand (any more) */
};

void pause_read(const struct admin_reply *reply, int row, struct pause *out);

/* Both are idempotent.  ADMIN_MISSING: kind is "tenant" and there is no such. */
bool pause_set(struct pg *pg, const char *kind, const char *name, const char *actor,
               admin_done_fn *done, void *arg) MUST_CHECK;
/* is_known: there is such a priority or provider.  Otherwise it is ADMIN_MISSING unless it stands
 * paused: one may have gone from the configuration meanwhile. */
bool pause_lift(struct pg *pg, const char *kind, const char *name, bool is_known, const char *actor,
                admin_done_fn *done, void *arg) MUST_CHECK;

/* By kind and name.  kind NULL: all. */
bool pause_list(struct pg *pg, const char *kind, admin_done_fn *done, void *arg) MUST_CHECK;

#endif
