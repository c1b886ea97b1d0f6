/* SPDX-License-Identifier: Apache-2.0 */
/* API keys as requests are judged by them: looked up in batches, their use noted. */
#ifndef COMMON_MODEL_KEY_STORE_H
#define COMMON_MODEL_KEY_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/api_key.h"
#include "common/model/job.h"

struct key_store;

struct key_store *key_store_new(struct pg *pg);
void key_store_free(struct key_store *store);

enum key_scopes { KEY_JOBS_WRITE = 1 << 0, KEY_JOBS_READ = 1 << 1, KEY_ADMIN = 1 << 2 };

struct key_row {
    bool is_valid; /* there, not revoked, not expired by the database's clock */
    bool is_tenant_disabled;
    unsigned scopes;                /* of enum key_scopes */
    char tenant[JOB_LABEL_MAX + 1]; /* "" for an admin key */
    uint8_t hash[API_KEY_HASH_SIZE];
    int64_t expires_us; /* 0: never */
};

/* row is NULL unless status is PG_OK. */
typedef void key_found_fn(enum pg_status status, const struct key_row *row, void *arg);
/* done is called exactly once, never from inside.  False: too much is out. */
bool key_find(struct key_store *store, const char *key_id, key_found_fn *done,
              void *arg) MUST_CHECK;

/* The same for a tenant named by a token: is_valid when there is one; without scopes and hash. */
bool key_tenant_find(struct key_store *store, const char *tenant, key_found_fn *done,
                     void *arg) MUST_CHECK;

/* Notes that the key was used now; at most once a minute is written.  Nobody waits for it. */
void key_touch(struct key_store *store, const char *key_id);

#endif
