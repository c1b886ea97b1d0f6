/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of pauses. */
#include "common/model/pause_store.h"

PG_STATEMENT(pause_set_statement,
    "WITH wanted AS ("
    "    SELECT $1::text AS kind, $2::text AS name"
    "    WHERE $1::text <> 'tenant' OR EXISTS (SELECT FROM tenants WHERE id = $2::text)"
    "), made AS ("
    "    INSERT INTO pauses (kind, name)"
    "    SELECT kind, name FROM wanted"
    "    ON CONFLICT DO NOTHING"
    "    RETURNING created_at, audit_append($3::text, 'pause', kind || ':' || name,"
    "        '{\"before\": {\"paused\": false}, \"after\": {\"paused\": true}}')"
    ")"
    "SELECT true, w.kind, w.name, coalesce(m.created_at, p.created_at, now()) "
    "FROM wanted w "
    "LEFT JOIN made m ON true "
    "LEFT JOIN pauses p ON p.kind = w.kind AND p.name = w.name");

PG_STATEMENT(pause_lift_statement,
    "WITH wanted AS ("
    "    SELECT $1::text AS kind, $2::text AS name"
    "    WHERE CASE WHEN $1::text = 'tenant'"
    "        THEN EXISTS (SELECT FROM tenants WHERE id = $2::text)"
    "        ELSE $4::bool"
    "            OR EXISTS (SELECT FROM pauses WHERE kind = $1::text AND name = $2::text)"
    "        END"
    "), gone AS ("
    "    DELETE FROM pauses"
    "    WHERE kind = $1::text AND name = $2::text"
    "    RETURNING audit_append($3::text, 'resume', kind || ':' || name,"
    "        '{\"before\": {\"paused\": true}, \"after\": {\"paused\": false}}')"
    ")"
    "SELECT true, w.kind, w.name, NULL::timestamptz "
    "FROM wanted w "
    "LEFT JOIN gone ON true");

PG_STATEMENT(pause_list_statement,
    "SELECT true, kind, name, created_at "
    "FROM pauses "
    "WHERE kind = coalesce($1::text, kind) "
    "ORDER BY kind, name");

void pause_read(const struct admin_reply *reply, int row, struct pause *out)
{
    *out = (struct pause){
        .kind = pg_get_text(reply->rows, row, 1, NULL),
        .name = pg_get_text(reply->rows, row, 2, NULL),
        .created_at_us = pg_get_time(reply->rows, row, 3),
    };
}

bool pause_set(struct pg *pg, const char *kind, const char *name, const char *actor,
               admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(kind), pg_text(name), pg_text(actor)};

    return admin_query(pg, &pause_set_statement, values, 3, ADMIN_MISSING, done, arg);
}

bool pause_lift(struct pg *pg, const char *kind, const char *name, bool is_known, const char *actor,
                admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(kind), pg_text(name), pg_text(actor), pg_bool(is_known)};

    return admin_query(pg, &pause_lift_statement, values, 4, ADMIN_MISSING, done, arg);
}

bool pause_list(struct pg *pg, const char *kind, admin_done_fn *done, void *arg)
{
    struct pg_value value = pg_text(kind);

    return admin_query(pg, &pause_list_statement, &value, 1, ADMIN_DONE, done, arg);
}
