/* SPDX-License-Identifier: Apache-2.0 */
/* A tenant's webhook endpoints as admins see them: made, listed, rotated, tried, deleted. */
#ifndef COMMON_MODEL_ENDPOINT_STORE_H
#define COMMON_MODEL_ENDPOINT_STORE_H

#include "common/model/admin_query.h"
#include "common/model/tenant_store.h"

enum {
    TENANT_ENDPOINTS_MAX = 100,
    ENDPOINT_EVENTS_MAX = 16,
    ENDPOINT_ID_SIZE = 3 + 32 + 1, /* "ep_" + 32 hex */
};

struct endpoint {
    const char *id; /* NULL in the only row of a tenant that has none */
    const char *url;
    const char *events; /* a JSON array, NULL: all */
    const char *disabled_reason;
    int64_t disabled_at_us; /* 0: not */
    int64_t created_at_us;
};

struct endpoint_new {
    const char *id;
    const char *tenant;
    const char *url;
    const char *const *events;
    size_t event_count; /* 0: all */
    struct sealed_secret secret;
};

void endpoint_read(const struct admin_reply *reply, int row, struct endpoint *out);

/* ADMIN_MISSING: no such tenant.  ADMIN_CONFLICT: it has TENANT_ENDPOINTS_MAX. */
bool endpoint_create(struct pg *pg, const struct endpoint_new *endpoint, const char *actor,
                     admin_done_fn *done, void *arg) MUST_CHECK;

/* Those not deleted, oldest first.  ADMIN_MISSING: no such tenant. */
bool endpoint_list(struct pg *pg, const char *tenant, admin_done_fn *done, void *arg) MUST_CHECK;

/* The rest give ADMIN_MISSING for an id that is not the tenant's, or was deleted. */
bool endpoint_get(struct pg *pg, const char *tenant, const char *id, admin_done_fn *done,
                  void *arg) MUST_CHECK;
/* What waits to be delivered to it fails at its next try. */
bool endpoint_delete(struct pg *pg, const char *tenant, const char *id, const char *actor,
                     admin_done_fn *done, void *arg) MUST_CHECK;
/* The secret it had signs along for 24 h. */
bool endpoint_rotate(struct pg *pg, const char *tenant, const char *id, struct sealed_secret secret,
                     const char *actor, admin_done_fn *done, void *arg) MUST_CHECK;

/* Puts an endpoint.test in the outbox; the reply has the delivery (delivery_info_read).
 * ADMIN_CONFLICT: the endpoint is disabled. */
bool endpoint_test(struct pg *pg, const char *tenant, const char *id, const char *actor,
                   admin_done_fn *done, void *arg) MUST_CHECK;

#endif
