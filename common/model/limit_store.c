/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of limits. */
#include "common/model/limit_store.h"

#include <stdlib.h>
#include <string.h>

/* --- what changed ----------------------------------------------------------------------------- */

enum { ZONES_MAX = 1024 };

/* A row's version is its last writer; xmin is the oldest transaction that this snapshot may not
 * see, hence the next look begins there.  Indexes limits_version, tenants_version,
 * budget_books_version.
 */
PG_STATEMENT(limit_changes_statement,
    "WITH changed AS MATERIALIZED ("
    "    SELECT owner_kind, owner, document FROM limits WHERE version >= $1::int8"
    "), zones AS MATERIALIZED ("
    "    SELECT unnest($2::text[]) AS zone"
    "    UNION"
    "    SELECT document ->> 'time_zone' FROM changed WHERE document ->> 'time_zone' IS NOT NULL"
    ")"
    "SELECT 0, NULL::text, NULL::text, pg_snapshot_xmin(pg_current_snapshot())::text::int8, false,"
    "       NULL::text, NULL::text, NULL::text, NULL::text, NULL::text,"
    "       NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz "
    "UNION ALL "
    "SELECT 1, run_id, NULL, generation, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,"
    "       NULL "
    "FROM budget_binding "
    "UNION ALL "
    "SELECT 2, zone, NULL, 0, false, NULL, to_char(w.day, 'YYYYMMDD'),"
    "       to_char(w.day + 1, 'YYYYMMDD'), to_char(w.month, 'YYYYMM'),"
    "       to_char(w.month + interval '1 month', 'YYYYMM'),"
    "       w.day_end, w.next_day_end, w.month_end, w.next_month_end "
    "FROM zones, budget_windows_at(zone, now()) AS w "
    "UNION ALL "
    "SELECT 3, id, NULL, weight, is_disabled, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL "
    "FROM tenants "
    "WHERE version >= $1::int8 AND ($1::int8 > 0 OR is_disabled OR weight <> 1) "
    "UNION ALL "
    "SELECT 4, tenant, NULL, generation, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,"
    "       NULL "
    "FROM budget_books WHERE version >= $1::int8 "
    "UNION ALL "
    "SELECT CASE c.owner_kind WHEN 'tenant' THEN 5 ELSE 6 END, c.owner, k.tenant, 0, false,"
    "       c.document::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL "
    "FROM changed c "
    "LEFT JOIN api_keys k ON c.owner_kind = 'key' AND k.id = c.owner "
    "ORDER BY 1, 2");

void limit_changes(struct pg *pg, int64_t since, const char *const *zones, size_t count,
                   pg_done_fn *done, void *arg)
{
    struct pg_value elements[ZONES_MAX];
    struct pg_value values[2];

    count = count < ZONES_MAX ? count : ZONES_MAX;
    for (size_t i = 0; i < count; i++)
        elements[i] = pg_text(zones[i]);
    values[0] = pg_int8(since);
    values[1] = pg_array(PG_TEXT, elements, count);
    pg_query(pg, &limit_changes_statement, values, 2, done, arg);
}

void limit_change_read(const struct pg_result *result, int row, struct limit_change *out)
{
    *out = (struct limit_change){
        .kind = (enum limit_change_kind)pg_get_int(result, row, 0),
        .name = pg_get_text(result, row, 1, NULL),
        .tenant = pg_get_text(result, row, 2, NULL),
        .number = pg_get_int(result, row, 3),
        .flag = pg_get_bool(result, row, 4),
        .document = pg_get_text(result, row, 5, NULL),
    };
    if (out->document)
        out->document_len = strlen(out->document);
    for (int i = 0; i < 2; i++) {
        out->windows.days[i] = pg_get_text(result, row, 6 + i, NULL);
        out->windows.months[i] = pg_get_text(result, row, 8 + i, NULL);
        out->windows.day_ends_us[i] = pg_get_time(result, row, 10 + i);
        out->windows.month_ends_us[i] = pg_get_time(result, row, 12 + i);
    }
}

/* --- documents -------------------------------------------------------------------------------- */

static const char *kind_of(enum limits_owner owner)
{
    return owner == LIMITS_OF_KEY ? "key" : "tenant";
}

/* The owner and its tenant; keys of no tenant, and revoked ones, have no limits. */
#define SQL_OWNER                                                                          \
    "owner AS MATERIALIZED ("                                                              \
    "    SELECT id, id AS tenant FROM tenants WHERE $1::text = 'tenant' AND id = $2::text" \
    "    UNION ALL"                                                                        \
    "    SELECT id, tenant FROM api_keys"                                                  \
    "    WHERE $1::text = 'key' AND id = $2::text AND tenant IS NOT NULL"                  \
    "      AND revoked_at IS NULL"                                                         \
    ")"

PG_STATEMENT(limits_get_statement,
    "WITH " SQL_OWNER
    "SELECT true, l.document::text FROM owner o "
    "LEFT JOIN limits l ON l.owner_kind = $1::text AND l.owner = o.id");

bool limits_get(struct pg *pg, enum limits_owner owner, const char *id, admin_done_fn *done,
                void *arg)
{
    struct pg_value values[] = {pg_text(kind_of(owner)), pg_text(id)};

    return admin_query(pg, &limits_get_statement, values, 2, ADMIN_MISSING, done, arg);
}

const char *limits_document(const struct admin_reply *reply, size_t *len)
{
    const char *text = pg_get_text(reply->rows, 0, 1, len);

    return text;
}

/* The row is there after `placed`, whoever came first; `old` waits for it. */
PG_STATEMENT(limits_put_statement,
    "WITH " SQL_OWNER ", put AS ("
    "    INSERT INTO limits AS l (owner_kind, owner, document)"
    "    SELECT $1::text, id, $3::text::jsonb FROM owner WHERE $4::text IS NULL"
    "        OR EXISTS (SELECT FROM limits x WHERE x.owner_kind = $1::text AND x.owner = $2::text)"
    "    ON CONFLICT (owner_kind, owner) DO UPDATE"
    "    SET document = excluded.document, updated_at = now()"
    "    WHERE l.document IS NOT DISTINCT FROM $4::text::jsonb"
    "    RETURNING l.owner"
    "), bumped AS ("
    "    INSERT INTO budget_books AS b (tenant)"
    "    SELECT o.tenant FROM owner o JOIN put ON put.owner = o.id WHERE $5::bool"
    "    ON CONFLICT (tenant) DO UPDATE"
    "    SET generation = b.generation + 1, bumped_at = clock_timestamp()"
    "), opened AS ("
    "    DELETE FROM gates g USING owner o, put WHERE put.owner = o.id AND g.tenant = o.tenant"
    ")"
    "SELECT put.owner IS NOT NULL,"
    "       CASE WHEN put.owner IS NOT NULL THEN"
    "           audit_append($6::text, $1::text || '.limits', $1::text || ':' || o.id,"
    "                        json_build_object('before', $4::text::json,"
    "                                          'after', $3::text::json)::text)"
    "       END "
    "FROM owner o LEFT JOIN put ON put.owner = o.id");

bool limits_put(struct pg *pg, const struct limits_put *put, admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {
        pg_text(kind_of(put->owner)),  pg_text(put->id),
        pg_text(put->document),        pg_text(put->old_document),
        pg_bool(put->is_new_accounts), pg_text(put->actor),
    };

    return admin_query(pg, &limits_put_statement, values, 6, ADMIN_MISSING, done, arg);
}

/* By queue_backlog.  Rows in other hands are being claimed or ended: they do not wait. */
PG_STATEMENT(limits_wake_statement,
    "WITH " SQL_OWNER ", opened AS ("
    "    DELETE FROM gates g USING owner o WHERE g.tenant = o.tenant"
    "), waiting AS MATERIALIZED ("
    "    SELECT q.job FROM owner o"
    "    CROSS JOIN LATERAL ("
    "        SELECT job FROM queue"
    "        WHERE queue.tenant = o.tenant AND queue.dispatched_at IS NULL"
    "          AND queue.ready_at > now()"
    "          AND queue.wait_reason IN ('rate_limit', 'concurrency', 'budget')"
    "        ORDER BY job"
    "        LIMIT $3::int4"
    "        FOR UPDATE SKIP LOCKED"
    "    ) AS q"
    "), woken AS ("
    "    UPDATE queue SET ready_at = now(), wait_reason = NULL, wait_detail = NULL"
    "    FROM waiting w WHERE queue.job = w.job"
    ")"
    "SELECT true, (SELECT count(*) FROM waiting) FROM owner");

bool limits_wake(struct pg *pg, enum limits_owner owner, const char *id, int limit,
                 admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_text(kind_of(owner)), pg_text(id), pg_int4(limit)};

    return admin_query(pg, &limits_wake_statement, values, 3, ADMIN_MISSING, done, arg);
}

int64_t limits_woken(const struct admin_reply *reply)
{
    return pg_get_int(reply->rows, 0, 1);
}

PG_STATEMENT(limits_zone_check_statement,
    "SELECT true, EXISTS (SELECT FROM pg_timezone_names WHERE name = $1::text)");

bool limits_zone_check(struct pg *pg, const char *zone, admin_done_fn *done, void *arg)
{
    struct pg_value value = pg_text(zone);

    return admin_query(pg, &limits_zone_check_statement, &value, 1, ADMIN_DONE, done, arg);
}

bool limits_zone_is_known(const struct admin_reply *reply)
{
    return pg_get_bool(reply->rows, 0, 1);
}
