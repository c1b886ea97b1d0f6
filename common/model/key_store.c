/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL by which requests' keys are judged. */
#include "common/model/key_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/io/pg_batch.h"

struct key_store {
    struct pg_batch *finds;
    struct pg_batch *tenants;
    struct pg_batch *touches;
};

/* By api_keys_pkey and tenants_pkey. */
PG_STATEMENT(key_find_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::text[]) WITH ORDINALITY AS input(id, ord)"
    ")"
    "SELECT i.ord,"
    "       k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()),"
    "       coalesce(t.is_disabled, false), array_to_string(k.scopes, ','), k.tenant,"
    "       k.hash, k.expires_at"
    " FROM input i"
    " JOIN api_keys k ON k.id = i.id"
    " LEFT JOIN tenants t ON t.id = k.tenant");

/* By tenants_pkey.  Columns as above. */
PG_STATEMENT(key_tenant_find_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::text[]) WITH ORDINALITY AS input(id, ord)"
    ")"
    "SELECT i.ord, true, t.is_disabled, '', t.id, sha256(''), NULL::timestamptz"
    " FROM input i"
    " JOIN tenants t ON t.id = i.id");

/* A row locked by somebody (its key is just being revoked) is left alone. */
PG_STATEMENT(key_touch_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::text[]) WITH ORDINALITY AS input(id, ord)"
    "), locked AS MATERIALIZED ("
    "    SELECT i.ord, k.id FROM input i JOIN api_keys k ON k.id = i.id"
    "    WHERE k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute'"
    "    FOR UPDATE OF k SKIP LOCKED"
    "), done AS ("
    "    UPDATE api_keys k SET last_used_at = now() FROM locked l WHERE k.id = l.id"
    ")"
    "SELECT ord FROM locked");

static const struct pg_batch_kind find_kind = {
    .statement = &key_find_statement,
    .column_count = 1,
    .columns = {PG_TEXT},
    .key_columns = 1,
    .is_repeatable = true,
    .max_in_flight = 2,
    .max_queued = 20000,
};

static const struct pg_batch_kind tenant_kind = {
    .statement = &key_tenant_find_statement,
    .column_count = 1,
    .columns = {PG_TEXT},
    .key_columns = 1,
    .is_repeatable = true,
    .max_in_flight = 2,
    .max_queued = 20000,
};

static const struct pg_batch_kind touch_kind = {
    .statement = &key_touch_statement,
    .column_count = 1,
    .columns = {PG_TEXT},
    .key_columns = 1,
    .is_repeatable = true,
    .max_queued = 5000,
};

struct key_store *key_store_new(struct pg *pg)
{
    struct key_store *store = calloc(1, sizeof(*store));

    if (!store)
        return NULL;
    store->finds = pg_batch_new(pg, &find_kind, NULL, 0);
    store->tenants = pg_batch_new(pg, &tenant_kind, NULL, 0);
    store->touches = pg_batch_new(pg, &touch_kind, NULL, 0);
    if (store->finds && store->tenants && store->touches)
        return store;
    key_store_free(store);
    return NULL;
}

void key_store_free(struct key_store *store)
{
    if (!store)
        return;
    if (store->finds)
        pg_batch_free(store->finds);
    if (store->tenants)
        pg_batch_free(store->tenants);
    if (store->touches)
        pg_batch_free(store->touches);
    free(store);
}

/* "jobs:write", "jobs:read", "admin"; 0 for anything else. */
static unsigned scope_parse(const char *name, size_t len)
{
    static const struct {
        const char *name;
        unsigned scope;
    } scopes[] = {
        {"jobs:write", KEY_JOBS_WRITE},
        {"jobs:read", KEY_JOBS_READ},
        {"admin", KEY_ADMIN},
    };

    for (size_t i = 0; i < sizeof(scopes) / sizeof(scopes[0]); i++)
        if (strlen(scopes[i].name) == len && memcmp(scopes[i].name, name, len) == 0)
            return scopes[i].scope;
    return 0;
}

static unsigned scopes_parse(const char *list)
{
    unsigned scopes = 0;

    while (list && *list) {
        size_t len = strcspn(list, ",");

        scopes |= scope_parse(list, len);
        list += len + (list[len] == ',');
    }
    return scopes;
}

struct key_wait {
    key_found_fn *done;
    void *arg;
};

/* Columns as in key_find_statement. */
static void key_read(const struct pg_result *result, int row, struct key_row *out)
{
    const char *tenant = pg_get_text(result, row, 4, NULL);
    size_t hash_len = 0;
    const char *hash = pg_get_text(result, row, 5, &hash_len);

    out->is_valid = pg_get_bool(result, row, 1);
    out->is_tenant_disabled = pg_get_bool(result, row, 2);
    out->scopes = scopes_parse(pg_get_text(result, row, 3, NULL));
    snprintf(out->tenant, sizeof(out->tenant), "%s", tenant ? tenant : "");
    if (hash && hash_len == sizeof(out->hash))
        memcpy(out->hash, hash, hash_len);
    else
        out->is_valid = false;
    out->expires_us = pg_get_time(result, row, 6);
}

static void on_found(const struct pg_batch_reply *reply, void *arg)
{
    struct key_wait wait = *(struct key_wait *)arg;
    struct key_row row = {0};

    free(arg);
    if (reply->status == PG_OK && reply->row >= 0)
        key_read(reply->result, reply->row, &row);
    wait.done(reply->status, reply->status == PG_OK ? &row : NULL, wait.arg);
}

static bool find(struct pg_batch *batch, const char *id, key_found_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(id)};
    struct key_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct key_wait){.done = done, .arg = arg};
    if (pg_batch_add(batch, values, on_found, wait))
        return true;
    free(wait);
    return false;
}

bool key_find(struct key_store *store, const char *key_id, key_found_fn *done, void *arg)
{
    return find(store->finds, key_id, done, arg);
}

bool key_tenant_find(struct key_store *store, const char *tenant, key_found_fn *done, void *arg)
{
    return find(store->tenants, tenant, done, arg);
}

static void on_touched(const struct pg_batch_reply *reply, void *arg)
{
    (void)arg;
    if (reply->status != PG_OK)
        log_debug(NULL, "use of a key not noted: %s", reply->message);
}

void key_touch(struct key_store *store, const char *key_id)
{
    struct pg_value values[] = {pg_text(key_id)};

    if (!pg_batch_add(store->touches, values, on_touched, NULL))
        log_debug(NULL, "use of a key not noted: too much is out");
}
