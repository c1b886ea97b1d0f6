/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of webhook endpoints. */
#include "common/model/endpoint_store.h"

#include <assert.h>

#include "common/model/delivery_sql.h"
#include "common/model/sql.h"

#define ENDPOINT_COLUMNS \
    "e.id, e.url, array_to_json(e.events)::text, e.disabled_reason, e.disabled_at, e.created_at"

/* The tenant's row is locked, so that endpoints made at the same time count each other. */
PG_STATEMENT(endpoint_create_statement,
    "WITH owner AS MATERIALIZED ("
    "    SELECT id FROM tenants WHERE id = $2::text FOR NO KEY UPDATE"
    "), made AS ("
    "    INSERT INTO endpoints AS e (id, tenant, url, events, secret)"
    "    SELECT $1::text, id, $3::text, $4::text[], $5::bytea"
    "    FROM owner"
    "    WHERE (SELECT count(*) FROM endpoints"
    "           WHERE tenant = $2::text AND deleted_at IS NULL) < $7::int4"
    "    RETURNING e.*"
    ")"
    "SELECT e.id IS NOT NULL, " ENDPOINT_COLUMNS ","
    "    CASE WHEN e.id IS NOT NULL THEN"
    "        audit_append($6::text, 'endpoint.create', 'endpoint:' || e.id,"
    "            json_build_object('tenant', o.id,"
    "                'after', json_build_object('url', e.url, 'events', e.events))::text)"
    "    END "
    "FROM owner o "
    "LEFT JOIN made e ON true");

/* By the index endpoints_tenant. */
PG_STATEMENT(endpoint_list_statement,
    "SELECT true, " ENDPOINT_COLUMNS " "
    "FROM tenants t "
    "LEFT JOIN endpoints e ON e.tenant = t.id AND e.deleted_at IS NULL "
    "WHERE t.id = $1::text "
    "ORDER BY e.created_at, e.id");

PG_STATEMENT(endpoint_get_statement,
    "SELECT true, " ENDPOINT_COLUMNS " "
    "FROM endpoints e "
    "WHERE e.id = $2::text AND e.tenant = $1::text AND e.deleted_at IS NULL");

PG_STATEMENT(endpoint_delete_statement,
    "WITH gone AS ("
    "    UPDATE endpoints"
    "    SET deleted_at = now()"
    "    WHERE id = $2::text AND tenant = $1::text AND deleted_at IS NULL"
    "    RETURNING id, tenant, url, events"
    ")"
    "SELECT true, audit_append($3::text, 'endpoint.delete', 'endpoint:' || id,"
    "    json_build_object('tenant', tenant,"
    "        'before', json_build_object('url', url, 'events', events))::text) "
    "FROM gone");

PG_STATEMENT(endpoint_rotate_statement,
    "WITH e AS ("
    "    UPDATE endpoints"
    "    SET old_secret = secret,"
    "        old_secret_until = now() + interval '24 hours',"
    "        secret = $3::bytea"
    "    WHERE id = $2::text AND tenant = $1::text AND deleted_at IS NULL"
    "    RETURNING *"
    ")"
    "SELECT true, " ENDPOINT_COLUMNS ", audit_append($4::text, 'endpoint.rotate_secret',"
    "    'endpoint:' || e.id, json_build_object('tenant', e.tenant)::text) "
    "FROM e");

PG_STATEMENT(endpoint_test_statement,
    "WITH e AS MATERIALIZED ("
    "    SELECT id, tenant, url, disabled_at"
    "    FROM endpoints"
    "    WHERE id = $2::text AND tenant = $1::text AND deleted_at IS NULL"
    "), made AS ("
    "    INSERT INTO deliveries AS d (id, tenant, endpoint, url, type, body)"
    "    SELECT id_make(), tenant, id, url, 'endpoint.test',"
    "        json_build_object('type', 'endpoint.test',"
    "            'timestamp', " SQL_RFC3339("now()") ","
    "            'data', json_build_object('id', id, 'object', 'endpoint', 'url', url,"
    "                                      'sequence', 1))::text"
    "    FROM e"
    "    WHERE disabled_at IS NULL"
    "    RETURNING d.*"
    ")"
    "SELECT d.id IS NOT NULL, " DELIVERY_SQL_COLUMNS ","
    "    CASE WHEN d.id IS NOT NULL THEN"
    "        audit_append($3::text, 'endpoint.test', 'endpoint:' || e.id,"
    "            json_build_object('tenant', e.tenant, 'delivery', d.id)::text)"
    "    END "
    "FROM e "
    "LEFT JOIN made d ON true");

void endpoint_read(const struct admin_reply *reply, int row, struct endpoint *out)
{
    *out = (struct endpoint){
        .id = pg_get_text(reply->rows, row, 1, NULL),
        .url = pg_get_text(reply->rows, row, 2, NULL),
        .events = pg_get_text(reply->rows, row, 3, NULL),
        .disabled_reason = pg_get_text(reply->rows, row, 4, NULL),
        .disabled_at_us = pg_get_time(reply->rows, row, 5),
        .created_at_us = pg_get_time(reply->rows, row, 6),
    };
}

bool endpoint_create(struct pg *pg, const struct endpoint_new *endpoint, const char *actor,
                     admin_done_fn *done, void *arg)
{
    struct pg_value events[ENDPOINT_EVENTS_MAX];
    struct pg_value values[] = {
        pg_text(endpoint->id),
        pg_text(endpoint->tenant),
        pg_text(endpoint->url),
        pg_array(PG_TEXT, events, endpoint->event_count),
        pg_bytea(endpoint->secret.data, endpoint->secret.len),
        pg_text(actor),
        pg_int4(TENANT_ENDPOINTS_MAX),
    };

    assert(endpoint->event_count <= ENDPOINT_EVENTS_MAX);
    for (size_t i = 0; i < endpoint->event_count; i++)
        events[i] = pg_text(endpoint->events[i]);
    if (endpoint->event_count == 0)
        values[3] = pg_null(PG_ARRAY);
    return admin_query(pg, &endpoint_create_statement, values, 7, ADMIN_MISSING, done, arg);
}

bool endpoint_list(struct pg *pg, const char *tenant, admin_done_fn *done, void *arg)
{
    struct pg_value value = pg_text(tenant);

    return admin_query(pg, &endpoint_list_statement, &value, 1, ADMIN_MISSING, done, arg);
}

bool endpoint_get(struct pg *pg, const char *tenant, const char *id, admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(tenant), pg_text(id)};

    return admin_query(pg, &endpoint_get_statement, values, 2, ADMIN_MISSING, done, arg);
}

bool endpoint_delete(struct pg *pg, const char *tenant, const char *id, const char *actor,
                     admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(tenant), pg_text(id), pg_text(actor)};

    return admin_query(pg, &endpoint_delete_statement, values, 3, ADMIN_MISSING, done, arg);
}

bool endpoint_rotate(struct pg *pg, const char *tenant, const char *id, struct sealed_secret secret,
                     const char *actor, admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(tenant), pg_text(id), pg_bytea(secret.data, secret.len),
                                pg_text(actor)};

    return admin_query(pg, &endpoint_rotate_statement, values, 4, ADMIN_MISSING, done, arg);
}

bool endpoint_test(struct pg *pg, const char *tenant, const char *id, const char *actor,
                   admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(tenant), pg_text(id), pg_text(actor)};

    return admin_query(pg, &endpoint_test_statement, values, 3, ADMIN_MISSING, done, arg);
}
