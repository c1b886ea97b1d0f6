/* SPDX-License-Identifier: Apache-2.0 */
/* The history of webhook deliveries as admins see it, and delivering once more. */
#ifndef COMMON_MODEL_DELIVERY_ADMIN_STORE_H
#define COMMON_MODEL_DELIVERY_ADMIN_STORE_H

#include "common/base/id.h"
#include "common/model/admin_query.h"

struct delivery_info {
    struct id id;
    const char *tenant;
    const char *endpoint; /* NULL: the job's own webhook.url */
    struct id job;        /* zero: none */
    const char *type;
    const char *url;
    const char *state;
    int sequence;
    int attempts;
    int64_t next_at_us;
    int64_t created_at_us;
    int64_t ended_at_us; /* 0: waiting */
    const char *tries;   /* a JSON array */
};

void delivery_info_read(const struct admin_reply *reply, int row, struct delivery_info *out);

/* NULL, or zero: any. */
struct delivery_filter {
    const char *tenant;
    const char *endpoint;
    struct id job;
    const char *state;
    const char *type;
    struct id after; /* exclusive */
    int limit;
};

/* Newest first.  ADMIN_CONFLICT: filter->after is no delivery. */
bool delivery_list(struct pg *pg, const struct delivery_filter *filter, admin_done_fn *done,
                   void *arg) MUST_CHECK;

bool delivery_get(struct pg *pg, struct id id, admin_done_fn *done, void *arg) MUST_CHECK;

/* Due at once, with its whole schedule before it again and the same webhook-id.  One that is being
 * tried this moment stays as it is.  ADMIN_MISSING: unknown.  ADMIN_CONFLICT: its endpoint was
 * deleted or is disabled. */
bool delivery_redeliver(struct pg *pg, struct id id, const char *actor, admin_done_fn *done,
                        void *arg) MUST_CHECK;

#endif
