/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of tenants. */
#include "common/model/tenant_store.h"

#include <string.h>

#define TENANT_COLUMNS "id, name, weight, is_disabled, created_at"

PG_STATEMENT(tenant_create_statement,
    "WITH made AS ("
    "    INSERT INTO tenants (id, name, weight, webhook_secret)"
    "    VALUES ($1::text, $2::text, $3::int4, $4::bytea)"
    "    ON CONFLICT DO NOTHING"
    "    RETURNING " TENANT_COLUMNS ")"
    "SELECT true, " TENANT_COLUMNS ", audit_append($5::text, 'tenant.create', 'tenant:' || id,"
    "    json_build_object('after', json_build_object('name', name, 'weight', weight,"
    "                                                 'disabled', is_disabled))::text) "
    "FROM made");

PG_STATEMENT(tenant_get_statement,
    "SELECT true, " TENANT_COLUMNS
    " FROM tenants WHERE id = $1::text");

PG_STATEMENT(tenant_list_statement,
    "SELECT true, " TENANT_COLUMNS " "
    "FROM tenants "
    "WHERE id > coalesce($1::text, '') "
    "ORDER BY id "
    "LIMIT $2::int4");

PG_STATEMENT(tenant_change_statement,
    "WITH old AS ("
    "    SELECT name, weight, is_disabled FROM tenants WHERE id = $1::text FOR UPDATE"
    "), changed AS ("
    "    UPDATE tenants t"
    "    SET name = coalesce($2::text, t.name),"
    "        weight = coalesce($3::int4, t.weight),"
    "        is_disabled = coalesce($4::bool, t.is_disabled)"
    "    FROM old"
    "    WHERE t.id = $1::text"
    "    RETURNING t.id, t.name, t.weight, t.is_disabled, t.created_at,"
    "        json_build_object("
    "            'before', json_build_object('name', old.name, 'weight', old.weight,"
    "                                        'disabled', old.is_disabled),"
    "            'after', json_build_object('name', t.name, 'weight', t.weight,"
    "                                       'disabled', t.is_disabled))::text AS detail)"
    "SELECT true, " TENANT_COLUMNS ", audit_append($5::text, 'tenant.change', 'tenant:' || id,"
    "    detail) "
    "FROM changed");

PG_STATEMENT(tenant_rotate_secret_statement,
    "WITH rotated AS ("
    "    UPDATE tenants"
    "    SET old_webhook_secret = webhook_secret,"
    "        old_webhook_secret_until = now() + interval '24 hours',"
    "        webhook_secret = $2::bytea"
    "    WHERE id = $1::text"
    "    RETURNING " TENANT_COLUMNS ")"
    "SELECT true, " TENANT_COLUMNS ", audit_append($3::text, 'tenant.rotate_secret',"
    "    'tenant:' || id, '{}') "
    "FROM rotated");

bool tenant_id_is_valid(const char *id)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t len = strlen(id);

    /* "." and ".." stand for other places in a path: clients would never ask for them. */
    return len >= 1 && len <= TENANT_ID_MAX && strspn(id, allowed) == len && strcmp(id, ".") != 0 &&
           strcmp(id, "..") != 0;
}

void tenant_read(const struct admin_reply *reply, int row, struct tenant *out)
{
    *out = (struct tenant){
        .id = pg_get_text(reply->rows, row, 1, NULL),
        .name = pg_get_text(reply->rows, row, 2, NULL),
        .weight = (int)pg_get_int(reply->rows, row, 3),
        .is_disabled = pg_get_bool(reply->rows, row, 4),
        .created_at_us = pg_get_time(reply->rows, row, 5),
    };
}

bool tenant_create(struct pg *pg, const struct tenant *tenant, struct sealed_secret secret,
                   const char *actor, admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(tenant->id), pg_text(tenant->name), pg_int4(tenant->weight),
                                pg_bytea(secret.data, secret.len), pg_text(actor)};

    return admin_query(pg, &tenant_create_statement, values, 5, ADMIN_CONFLICT, done, arg);
}

bool tenant_get(struct pg *pg, const char *id, admin_done_fn *done, void *arg)
{
    struct pg_value value = pg_text(id);

    return admin_query(pg, &tenant_get_statement, &value, 1, ADMIN_MISSING, done, arg);
}

bool tenant_list(struct pg *pg, const char *after, int limit, admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(after), pg_int4(limit)};

    return admin_query(pg, &tenant_list_statement, values, 2, ADMIN_DONE, done, arg);
}

bool tenant_change(struct pg *pg, const char *id, const struct tenant_change *change,
                   const char *actor, admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {
        pg_text(id),
        pg_text(change->name),
        change->weight ? pg_int4((int32_t)*change->weight) : pg_null(PG_INT4),
        change->is_disabled ? pg_bool(*change->is_disabled) : pg_null(PG_BOOL),
        pg_text(actor),
    };

    return admin_query(pg, &tenant_change_statement, values, 5, ADMIN_MISSING, done, arg);
}

bool tenant_rotate_secret(struct pg *pg, const char *id, struct sealed_secret secret,
                          const char *actor, admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(id), pg_bytea(secret.data, secret.len), pg_text(actor)};

    return admin_query(pg, &tenant_rotate_secret_statement, values, 3, ADMIN_MISSING, done, arg);
}
