/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of making, listing and revoking API keys. */
#include "common/model/key_admin_store.h"

#include <assert.h>

#define KEY_COLUMNS \
    "k.id, k.name, array_to_json(k.scopes)::text, k.created_at, k.expires_at, k.last_used_at"

/* The tenant's row is locked, so that keys made at the same time count each other. */
PG_STATEMENT(key_create_statement,
    "WITH owner AS MATERIALIZED ("
    "    SELECT id FROM tenants WHERE id = $2::text FOR NO KEY UPDATE"
    "), made AS ("
    "    INSERT INTO api_keys AS k (id, tenant, name, scopes, hash, expires_at)"
    "    SELECT $1::text, id, $3::text, $4::text[], $5::bytea, $6::timestamptz"
    "    FROM owner"
    "    WHERE (SELECT count(*) FROM api_keys"
    "           WHERE tenant = $2::text AND revoked_at IS NULL) < $8::int4"
    "    RETURNING k.*"
    ")"
    "SELECT k.id IS NOT NULL, " KEY_COLUMNS ","
    "    CASE WHEN k.id IS NOT NULL THEN"
    "        audit_append($7::text, 'key.create', 'key:' || k.id,"
    "            json_build_object('tenant', o.id,"
    "                'after', json_build_object('name', k.name, 'scopes', k.scopes,"
    "                                           'expires_at', k.expires_at))::text)"
    "    END "
    "FROM owner o "
    "LEFT JOIN made k ON true");

/* By the index api_keys_tenant. */
PG_STATEMENT(key_list_statement,
    "SELECT true, " KEY_COLUMNS " "
    "FROM tenants t "
    "LEFT JOIN api_keys k ON k.tenant = t.id AND k.revoked_at IS NULL "
    "WHERE t.id = $1::text "
    "ORDER BY k.created_at, k.id");

PG_STATEMENT(key_revoke_statement,
    "WITH revoked AS ("
    "    UPDATE api_keys"
    "    SET revoked_at = now()"
    "    WHERE id = $1::text AND revoked_at IS NULL"
    "    RETURNING id, tenant, name, scopes, expires_at"
    ")"
    "SELECT true, audit_append($2::text, 'key.revoke', 'key:' || id,"
    "    json_build_object('tenant', tenant,"
    "        'before', json_build_object('name', name, 'scopes', scopes,"
    "                                    'expires_at', expires_at))::text) "
    "FROM revoked");

void key_info_read(const struct admin_reply *reply, int row, struct key_info *out)
{
    *out = (struct key_info){
        .id = pg_get_text(reply->rows, row, 1, NULL),
        .name = pg_get_text(reply->rows, row, 2, NULL),
        .scopes = pg_get_text(reply->rows, row, 3, NULL),
        .created_at_us = pg_get_time(reply->rows, row, 4),
        .expires_at_us = pg_get_time(reply->rows, row, 5),
        .last_used_at_us = pg_get_time(reply->rows, row, 6),
    };
}

bool key_create(struct pg *pg, const struct key_new *key, const char *actor, admin_done_fn *done,
                void *arg)
{
    struct pg_value scopes[KEY_SCOPES_MAX];
    struct pg_value values[] = {
        pg_text(key->id),
        pg_text(key->tenant),
        pg_text(key->name),
        pg_array(PG_TEXT, scopes, key->scope_count),
        pg_bytea(key->hash, API_KEY_HASH_SIZE),
        pg_time_or_null(key->expires_at_us),
        pg_text(actor),
        pg_int4(TENANT_KEYS_MAX),
    };

    assert(key->scope_count <= KEY_SCOPES_MAX);
    for (size_t i = 0; i < key->scope_count; i++)
        scopes[i] = pg_text(key->scopes[i]);
    return admin_query(pg, &key_create_statement, values, 8, ADMIN_MISSING, done, arg);
}

bool key_list(struct pg *pg, const char *tenant, admin_done_fn *done, void *arg)
{
    struct pg_value value = pg_text(tenant);

    return admin_query(pg, &key_list_statement, &value, 1, ADMIN_MISSING, done, arg);
}

bool key_revoke(struct pg *pg, const char *id, const char *actor, admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(id), pg_text(actor)};

    return admin_query(pg, &key_revoke_statement, values, 2, ADMIN_MISSING, done, arg);
}
