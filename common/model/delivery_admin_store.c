/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of looking at deliveries and of delivering once more. */
#include "common/model/delivery_admin_store.h"

#include "common/model/delivery_sql.h"

/* Parameters: tenant, endpoint, job, state, type, after, limit.  `scope` names the index to go by:
 * deliveries_job, deliveries_tenant or the primary key.  A page always has its first row to say
 * whether `after` is known. */
#define DELIVERY_LIST(scope)                                                                   \
    "WITH known AS MATERIALIZED ("                                                             \
    "    SELECT $6::uuid IS NULL OR EXISTS (SELECT FROM deliveries WHERE id = $6::uuid) AS ok" \
    ")"                                                                                        \
    "SELECT k.ok, " DELIVERY_SQL_COLUMNS " "                                                   \
    "FROM known k "                                                                            \
    "LEFT JOIN LATERAL ("                                                                      \
    "    SELECT *"                                                                             \
    "    FROM deliveries"                                                                      \
    "    WHERE " scope "      AND ($1::text IS NULL OR tenant = $1::text)"                     \
    "      AND ($2::text IS NULL OR endpoint = $2::text)"                                      \
    "      AND ($3::uuid IS NULL OR job = $3::uuid)"                                           \
    "      AND ($4::text IS NULL OR state = $4::text)"                                         \
    "      AND ($5::text IS NULL OR type = $5::text)"                                          \
    "      AND ($6::uuid IS NULL OR id < $6::uuid)"                                            \
    "    ORDER BY id DESC"                                                                     \
    "    LIMIT $7::int4"                                                                       \
    ") AS d ON k.ok "                                                                          \
    "ORDER BY d.id DESC"

PG_STATEMENT(delivery_list_statement, DELIVERY_LIST("true"));
PG_STATEMENT(delivery_list_by_tenant_statement, DELIVERY_LIST("tenant = $1::text"));
PG_STATEMENT(delivery_list_by_job_statement, DELIVERY_LIST("job = $3::uuid"));

PG_STATEMENT(delivery_get_statement,
    "SELECT true, " DELIVERY_SQL_COLUMNS
    " FROM deliveries d WHERE d.id = $1::uuid");

/* While a try is under way next_at is its lease, at most 60 s from now. */
PG_STATEMENT(delivery_redeliver_statement,
    "WITH old AS MATERIALIZED ("
    "    SELECT d.id, d.state,"
    "        d.state <> 'waiting' OR d.next_at > now() + interval '60 s' AS may_move,"
    "        d.endpoint IS NULL OR EXISTS (SELECT FROM endpoints e"
    "                                      WHERE e.id = d.endpoint AND e.deleted_at IS NULL"
    "                                        AND e.disabled_at IS NULL) AS has_target"
    "    FROM deliveries d"
    "    WHERE d.id = $1::uuid"
    "    FOR UPDATE OF d"
    "), moved AS ("
    "    UPDATE deliveries d"
    "    SET state = 'waiting', attempts = 0, next_at = now(), ended_at = NULL"
    "    FROM old o"
    "    WHERE d.id = o.id AND o.has_target AND o.may_move"
    "    RETURNING d.*, audit_append($2::text, 'delivery.redeliver', 'delivery:' || d.id,"
    "        json_build_object('tenant', d.tenant, 'before', json_build_object('state', o.state),"
    "                          'after', json_build_object('state', d.state))::text)"
    "), shown AS ("
    "    SELECT * FROM moved"
    "    UNION ALL"
    "    SELECT d.*, NULL FROM deliveries d JOIN old o ON o.id = d.id"
    "    WHERE NOT (o.has_target AND o.may_move)"
    ")"
    "SELECT o.has_target, " DELIVERY_SQL_COLUMNS " "
    "FROM old o "
    "JOIN shown d ON d.id = o.id");

void delivery_info_read(const struct admin_reply *reply, int row, struct delivery_info *out)
{
    *out = (struct delivery_info){
        .id = pg_get_uuid(reply->rows, row, 1),
        .tenant = pg_get_text(reply->rows, row, 2, NULL),
        .endpoint = pg_get_text(reply->rows, row, 3, NULL),
        .job = pg_get_uuid(reply->rows, row, 4),
        .type = pg_get_text(reply->rows, row, 5, NULL),
        .url = pg_get_text(reply->rows, row, 6, NULL),
        .state = pg_get_text(reply->rows, row, 7, NULL),
        .sequence = (int)pg_get_int(reply->rows, row, 8),
        .attempts = (int)pg_get_int(reply->rows, row, 9),
        .next_at_us = pg_get_time(reply->rows, row, 10),
        .created_at_us = pg_get_time(reply->rows, row, 11),
        .ended_at_us = pg_get_time(reply->rows, row, 12),
        .tries = pg_get_text(reply->rows, row, 13, NULL),
    };
}

static struct pg_value uuid_or_null(struct id id)
{
    return id_is_zero(id) ? pg_null(PG_UUID) : pg_uuid(id);
}

bool delivery_list(struct pg *pg, const struct delivery_filter *filter, admin_done_fn *done,
                   void *arg)
{
    const struct pg_statement *statement = &delivery_list_statement;
    struct pg_value values[] = {
        pg_text(filter->tenant), pg_text(filter->endpoint), uuid_or_null(filter->job),
        pg_text(filter->state),  pg_text(filter->type),     uuid_or_null(filter->after),
        pg_int4(filter->limit),
    };

    if (!id_is_zero(filter->job))
        statement = &delivery_list_by_job_statement;
    else if (filter->tenant)
        statement = &delivery_list_by_tenant_statement;
    return admin_query(pg, statement, values, 7, ADMIN_DONE, done, arg);
}

bool delivery_get(struct pg *pg, struct id id, admin_done_fn *done, void *arg)
{
    struct pg_value value = pg_uuid(id);

    return admin_query(pg, &delivery_get_statement, &value, 1, ADMIN_MISSING, done, arg);
}

bool delivery_redeliver(struct pg *pg, struct id id, const char *actor, admin_done_fn *done,
                        void *arg)
{
    struct pg_value values[] = {pg_uuid(id), pg_text(actor)};

    return admin_query(pg, &delivery_redeliver_statement, values, 2, ADMIN_MISSING, done, arg);
}
