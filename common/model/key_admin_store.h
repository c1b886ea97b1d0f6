/* SPDX-License-Identifier: Apache-2.0 */
/* API keys as admins see them: made, listed, revoked. */
#ifndef COMMON_MODEL_KEY_ADMIN_STORE_H
#define COMMON_MODEL_KEY_ADMIN_STORE_H

#include "common/model/admin_query.h"
#include "common/model/api_key.h"

enum { KEY_NAME_MAX = 128, KEY_SCOPES_MAX = 8, TENANT_KEYS_MAX = 1000 };

struct key_new {
    const char *id;
    const char *tenant;
    const char *name;
    const char *const *scopes; /* "jobs:write" */
    size_t scope_count;        /* up to KEY_SCOPES_MAX */
    const uint8_t *hash;       /* API_KEY_HASH_SIZE bytes */
    int64_t expires_at_us;     /* 0: never */
};

struct key_info {
    const char *id; /* NULL in the only row of a tenant that has no keys */
    const char *name;
    const char *scopes; /* a JSON array */
    int64_t created_at_us;
    int64_t expires_at_us;   /* 0: never */
    int64_t last_used_at_us; /* 0: never */
};

void key_info_read(const struct admin_reply *reply, int row, struct key_info *out);

/* ADMIN_MISSING: no such tenant.  ADMIN_CONFLICT: it has TENANT_KEYS_MAX. */
bool key_create(struct pg *pg, const struct key_new *key, const char *actor, admin_done_fn *done,
                void *arg) MUST_CHECK;

/* Those not revoked, oldest first.  ADMIN_MISSING: no such tenant. */
bool key_list(struct pg *pg, const char *tenant, admin_done_fn *done, void *arg) MUST_CHECK;

/* ADMIN_MISSING: unknown, or revoked already. */
bool key_revoke(struct pg *pg, const char *id, const char *actor, admin_done_fn *done,
                void *arg) MUST_CHECK;

#endif
