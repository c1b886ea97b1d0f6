/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants: made, listed, changed, and their webhook secret rotated. */
#ifndef COMMON_MODEL_TENANT_STORE_H
#define COMMON_MODEL_TENANT_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/admin_query.h"

enum { TENANT_ID_MAX = 64, TENANT_NAME_MAX = 256, TENANT_WEIGHT_MAX = 1000 };

struct tenant {
    const char *id;
    const char *name;
    int weight;
    bool is_disabled;
    int64_t created_at_us;
};

/* 1 to 64 of [A-Za-z0-9._-], but "." and "..". */
bool tenant_id_is_valid(const char *id) MUST_CHECK;

/* Row number `row` of a reply; the strings live as long as the reply. */
void tenant_read(const struct admin_reply *reply, int row, struct tenant *out);

/* A secret as it is stored: sealed with the data key, aad "tenant:<id>". */
struct sealed_secret {
    const uint8_t *data;
    size_t len;
};

/* id, name and weight of tenant count.  ADMIN_CONFLICT when the id is taken. */
bool tenant_create(struct pg *pg, const struct tenant *tenant, struct sealed_secret secret,
                   const char *actor, admin_done_fn *done, void *arg) MUST_CHECK;
/* ADMIN_MISSING when there is none. */
bool tenant_get(struct pg *pg, const char *id, admin_done_fn *done, void *arg) MUST_CHECK;
/* In order of id, up to limit of those after `after` (NULL: from the start). */
bool tenant_list(struct pg *pg, const char *after, int limit, admin_done_fn *done,
                 void *arg) MUST_CHECK;

/* What to change; NULL leaves a thing as it is. */
struct tenant_change {
    const char *name;
    const int64_t *weight;
    const bool *is_disabled;
};
bool tenant_change(struct pg *pg, const char *id, const struct tenant_change *change,
                   const char *actor, admin_done_fn *done, void *arg) MUST_CHECK;

/* The secret it had signs along for 24 h. */
bool tenant_rotate_secret(struct pg *pg, const char *id, struct sealed_secret secret,
                          const char *actor, admin_done_fn *done, void *arg) MUST_CHECK;

#endif
