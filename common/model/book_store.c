/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL behind the books of budgets: generations, the binding to a Redis, sums of the ledger. */
#include "common/model/book_store.h"

#include <assert.h>
#include <string.h>

#include "common/model/sql.h"

/* --- generations ------------------------------------------------------------------------------ */

/* An insert is a tenant's first book.  Whoever holds a book's row FOR SHARE (an intent) is waited
 * for: it commits before, and is summed, or it sees the new generation and fails. */
PG_STATEMENT(book_bump_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT i.tenant, i.seen"
    "    FROM unnest($1::text[], $2::int8[]) AS i(tenant, seen)"
    "    CROSS JOIN LATERAL (SELECT FROM tenants WHERE tenants.id = i.tenant) AS t"
    "    ORDER BY i.tenant"
    "), bumped AS ("
    "    INSERT INTO budget_books AS b (tenant, generation)"
    "    SELECT tenant, seen + 1 FROM input ORDER BY tenant"
    "    ON CONFLICT (tenant) DO UPDATE"
    "    SET generation = b.generation + 1, bumped_at = clock_timestamp()"
    "    WHERE b.generation + 1 = excluded.generation"
    "    RETURNING b.tenant, b.generation"
    ")"
    "SELECT tenant, (SELECT generation FROM budget_binding), generation FROM bumped");

PG_STATEMENT(book_bind_statement,
    "UPDATE budget_binding "
    "SET run_id = $2::text, generation = generation + 1, bound_at = clock_timestamp() "
    "WHERE run_id = $1::text AND run_id <> $2::text "
    "RETURNING generation");

void book_bump(struct pg *pg, const struct book_seen *seen, size_t count, pg_done_fn *done,
               void *arg)
{
    struct pg_value tenants[BOOK_BATCH_MAX], generations[BOOK_BATCH_MAX], values[2];

    assert(count <= BOOK_BATCH_MAX);
    for (size_t i = 0; i < count; i++) {
        tenants[i] = pg_text(seen[i].tenant);
        generations[i] = pg_int8(seen[i].generation);
    }
    values[0] = pg_array(PG_TEXT, tenants, count);
    values[1] = pg_array(PG_INT8, generations, count);
    pg_query(pg, &book_bump_statement, values, 2, done, arg);
}

void book_bumped_read(const struct pg_result *result, int row, struct book_bumped *out)
{
    *out = (struct book_bumped){
        .tenant = pg_get_text(result, row, 0, NULL),
        .binding = pg_get_int(result, row, 1),
        .book = pg_get_int(result, row, 2),
    };
}

void book_bind(struct pg *pg, const char *seen_run_id, const char *run_id, pg_done_fn *done,
               void *arg)
{
    struct pg_value values[] = {pg_text(seen_run_id), pg_text(run_id)};

    pg_query(pg, &book_bind_statement, values, 2, done, arg);
}

/* --- what the ledger says --------------------------------------------------------------------- */

/* How far back the tenants' budgets reach, and which names they tell apart: a tenant without a
 * budget of users has one row for all of them.  Which account has which budget is for
 * limits_apply() to say; this errs towards too much. */
#define SQL_HAS(path) \
    "coalesce(bool_or(jsonb_path_exists(d.document, '" path " ? (@ != null)')), false)"

#define SQL_REACH \
    SQL(                                                                                        \
    "reach AS MATERIALIZED ("                                                                   \
    "    SELECT a.tenant, n.has_key, n.has_workflow, n.has_user, n.has_model, n.has_total,"     \
    "           coalesce(b.generation, 0) AS book, b.bumped_at, w.day - 1 AS recent,"                        \
    "           CASE WHEN n.has_month OR n.has_total"                                           \
    "                THEN date_trunc('month', w.day - 1)::date ELSE w.day - 1 END AS since"     \
    "    FROM unnest($1::text[]) AS a(tenant)"                                                  \
    "    LEFT JOIN LATERAL (SELECT generation, bumped_at FROM budget_books"                                \
    "                       WHERE budget_books.tenant = a.tenant) AS b ON true"                 \
    "    CROSS JOIN LATERAL ("                                                                  \
    "        SELECT max(d.document ->> 'time_zone') FILTER (WHERE d.is_own) AS zone,"           \
    "               " SQL_HAS("$.**.budget_usd.month") " AS has_month,"                         \
    "               " SQL_HAS("$.**.budget_usd.total") " AS has_total,"                         \
    "               " SQL_HAS("$.workflows.*.budget_usd.*") " AS has_workflow,"                 \
    "               " SQL_HAS("$.users.*.budget_usd.*") " AS has_user,"                         \
    "               " SQL_HAS("$.models.*.budget_usd.*") " AS has_model,"                       \
    "               coalesce(bool_or(NOT d.is_own), false) AS has_key"                          \
    "        FROM (SELECT document, true AS is_own FROM limits"                                 \
    "              WHERE owner_kind = 'tenant' AND owner = a.tenant"                            \
    "              UNION ALL"                                                                   \
    "              SELECT l.document, false"                                                    \
    "              FROM (SELECT id FROM api_keys WHERE api_keys.tenant = a.tenant) AS k"        \
    "              CROSS JOIN LATERAL (SELECT document FROM limits"                             \
    "                                  WHERE owner_kind = 'key' AND owner = k.id) AS l) AS d"   \
    "    ) AS n"                                                                                \
    "    CROSS JOIN LATERAL budget_windows_at(coalesce(n.zone, 'UTC'), clock_timestamp()) AS w" \
    ")")

/* What is settled or unknown, from usage: roll-ups, which outlive the ledger's partitions, and the
 * deltas not folded yet (one look at all of them, which are few).  Whole months are enough for
 * totals; only who has a budget of users reads the roll-ups that tell users apart. */
#define SQL_MONEY \
    SQL(                                                                                       \
    "deltas AS ("                                                                              \
    "    SELECT tenant, day, key_id, workflow, end_user, route, cost_nano, unknown_nano"       \
    "    FROM usage_deltas"                                                                    \
    "    WHERE cost_nano <> 0 OR unknown_nano <> 0"                                            \
    "), folded AS ("                                                                           \
    "    SELECT r.tenant, u.day, c.key_id, nullif(c.workflow, '') AS workflow,"                \
    "           nullif(u.end_user, '') AS end_user, c.route, u.cost_nano, u.unknown_nano"      \
    "    FROM reach r"                                                                         \
    "    CROSS JOIN LATERAL ("                                                                 \
    "        SELECT day, cell, '' AS end_user, cost_nano, unknown_nano FROM usage_days"        \
    "        WHERE NOT r.has_user AND tenant = r.tenant AND day >= r.since"                    \
    "        UNION ALL"                                                                        \
    "        SELECT day, cell, '', cost_nano, unknown_nano FROM usage_months"                  \
    "        WHERE NOT r.has_user AND r.has_total AND tenant = r.tenant AND day < r.since"     \
    "        UNION ALL"                                                                        \
    "        SELECT day, cell, end_user, cost_nano, unknown_nano FROM usage_user_days"         \
    "        WHERE r.has_user AND tenant = r.tenant AND day >= r.since"                        \
    "        UNION ALL"                                                                        \
    "        SELECT day, cell, end_user, cost_nano, unknown_nano FROM usage_user_months"       \
    "        WHERE r.has_user AND r.has_total AND tenant = r.tenant AND day < r.since"         \
    "    ) AS u"                                                                               \
    "    LEFT JOIN LATERAL ("                                                                  \
    "        SELECT key_id, workflow, route FROM usage_cells"                                  \
    "        WHERE usage_cells.cell = u.cell"                                                  \
    "          AND (r.has_key OR r.has_workflow OR r.has_model)"                               \
    "    ) AS c ON true"                                                                       \
    "), money AS ("                                                                            \
    "    SELECT r.tenant COLLATE \"C\" AS tenant, m.day,"                                                              \
    "           CASE WHEN r.has_key THEN m.key_id COLLATE \"C\" END AS key_id,"                              \
    "           CASE WHEN r.has_workflow THEN m.workflow COLLATE \"C\" END AS workflow,"                     \
    "           CASE WHEN r.has_user THEN m.end_user COLLATE \"C\" END AS end_user,"                         \
    "           CASE WHEN r.has_model THEN m.route COLLATE \"C\" END AS model,"                              \
    "           sum(m.cost_nano)::int8 AS cost_nano, sum(m.unknown_nano)::int8 AS unknown_nano" \
    "    FROM (SELECT * FROM folded UNION ALL SELECT * FROM deltas) AS m"                      \
    "    CROSS JOIN LATERAL (SELECT * FROM reach WHERE reach.tenant = m.tenant) AS r"          \
    "    WHERE m.day >= r.since OR r.has_total"                                                \
    "    GROUP BY 1, 2, 3, 4, 5, 6"                                                            \
    ")")

/* Calls that are out or unknown, by the index calls_open.  (A bound on job, to leave partitions
 * out, would make the planner read the whole primary key instead.) */
#define SQL_OPEN \
    SQL(                                                                                       \
    "open_calls AS ("                                                                          \
    "    SELECT r.tenant, c.budget_day AS day,"                                                \
    "           CASE WHEN r.has_key THEN c.key_id END AS key_id,"                              \
    "           CASE WHEN r.has_workflow THEN c.workflow END AS workflow,"                     \
    "           CASE WHEN r.has_user THEN c.end_user END AS end_user,"                         \
    "           CASE WHEN r.has_model THEN c.route END AS model,"                              \
    "           c.reserved_nano, c.job, c.run, c.call, c.state, c.started_at"                  \
    "    FROM reach r"                                                                         \
    "    CROSS JOIN LATERAL ("                                                                 \
    "        SELECT * FROM calls"                                                              \
    "        WHERE tenant = r.tenant"                                                          \
    "          AND state IN ('sent', 'unknown')"                                               \
    "          AND (budget_day >= r.since OR r.has_total)"                                     \
    "    ) AS c"                                                                               \
    ")")

/* Calls of who had not heard of a budget, or is under none, by the index of tenant and start. */
#define SQL_LATE \
    SQL(                                                                                       \
    "late AS ("                                                                                \
    "    SELECT r.tenant, c.budget_day AS day,"                                                \
    "           CASE WHEN r.has_key THEN c.key_id END AS key_id,"                              \
    "           CASE WHEN r.has_workflow THEN c.workflow END AS workflow,"                     \
    "           CASE WHEN r.has_user THEN c.end_user END AS end_user,"                         \
    "           CASE WHEN r.has_model THEN c.route END AS model"                               \
    "    FROM reach r"                                                                         \
    "    CROSS JOIN LATERAL ("                                                                 \
    "        SELECT budget_day, key_id, workflow, end_user, route FROM calls"                  \
    "        WHERE tenant = r.tenant AND budget_generation IS NULL"                            \
    "          AND started_at BETWEEN r.bumped_at AND r.bumped_at + interval '5 s'"            \
    "    ) AS c"                                                                               \
    ")")

PG_STATEMENT(book_sum_statement,
    "WITH " SQL_REACH ", " SQL_MONEY ", " SQL_OPEN ", " SQL_LATE " "
    "SELECT 0, r.tenant, (SELECT generation FROM budget_binding), r.book, r.recent::text,"
    "       NULL::text, NULL::text, NULL::text, NULL::text, NULL::text, NULL::int8, NULL::int8,"
    "       NULL::uuid, NULL::int4, NULL::int4, NULL::bool, NULL::timestamptz, NULL::int8 "
    "FROM reach r "
    "UNION ALL "
    "SELECT 1, tenant, NULL, NULL, NULL, day::text, key_id, workflow, end_user, model,"
    "       cost_nano, unknown_nano, NULL, NULL, NULL, NULL, NULL, NULL "
    "FROM money "
    "UNION ALL "
    "SELECT 2, tenant, NULL, NULL, NULL, day::text, key_id, workflow, end_user, model,"
    "       reserved_nano, NULL, job, run, call, state = 'unknown', started_at,"
    "       coalesce((SELECT u.run_token FROM runs u WHERE u.job = o.job AND u.run = o.run), 0) "
    "FROM open_calls o "
    "UNION ALL "
    "SELECT DISTINCT 3, tenant, NULL::int8, NULL::int8, NULL, day::text, key_id, workflow, end_user,"
    "       model, NULL::int8, NULL::int8, NULL::uuid, NULL::int4, NULL::int4, NULL::bool,"
    "       NULL::timestamptz, NULL::int8 "
    "FROM late");

enum sum_column {
    COLUMN_KIND,
    COLUMN_TENANT,
    COLUMN_BINDING,
    COLUMN_BOOK,
    COLUMN_RECENT,
    COLUMN_DAY,
    COLUMN_KEY,
    COLUMN_WORKFLOW,
    COLUMN_USER,
    COLUMN_MODEL,
    COLUMN_NANO,
    COLUMN_UNKNOWN_NANO,
    COLUMN_JOB,
    COLUMN_RUN,
    COLUMN_CALL,
    COLUMN_FLAG,
    COLUMN_STARTED,
    COLUMN_TOKEN,
};

void book_sum(struct pg *pg, const char *const *tenants, size_t count, pg_done_fn *done, void *arg)
{
    struct pg_value names[BOOK_BATCH_MAX], value;

    assert(count <= BOOK_BATCH_MAX);
    for (size_t i = 0; i < count; i++)
        names[i] = pg_text(tenants[i]);
    value = pg_array(PG_TEXT, names, count);
    pg_query(pg, &book_sum_statement, &value, 1, done, arg);
}

void book_row_read(const struct pg_result *result, int row, struct book_row *out)
{
    *out = (struct book_row){
        .kind = (enum book_row_kind)pg_get_int(result, row, COLUMN_KIND),
        .tenant = pg_get_text(result, row, COLUMN_TENANT, NULL),
        .binding = pg_get_int(result, row, COLUMN_BINDING),
        .book = pg_get_int(result, row, COLUMN_BOOK),
        .recent = pg_get_text(result, row, COLUMN_RECENT, NULL),
        .day = pg_get_text(result, row, COLUMN_DAY, NULL),
        .key_id = pg_get_text(result, row, COLUMN_KEY, NULL),
        .workflow = pg_get_text(result, row, COLUMN_WORKFLOW, NULL),
        .end_user = pg_get_text(result, row, COLUMN_USER, NULL),
        .model = pg_get_text(result, row, COLUMN_MODEL, NULL),
        .nano = pg_get_int(result, row, COLUMN_NANO),
        .unknown_nano = pg_get_int(result, row, COLUMN_UNKNOWN_NANO),
        .job = pg_get_uuid(result, row, COLUMN_JOB),
        .run = (int)pg_get_int(result, row, COLUMN_RUN),
        .call = (int)pg_get_int(result, row, COLUMN_CALL),
        .is_unknown = pg_get_bool(result, row, COLUMN_FLAG),
        .started_us = pg_get_time(result, row, COLUMN_STARTED),
        .run_token = pg_get_int(result, row, COLUMN_TOKEN),
    };
}

/* --- what became unknown ---------------------------------------------------------------------- */

PG_STATEMENT(book_doubtful_statement,
    "SELECT c.tenant, c.job, c.run, c.call "
    "FROM unnest($1::uuid[]) AS i(job) "
    "CROSS JOIN LATERAL ("
    "    SELECT tenant, job, run, call FROM calls"
    "    WHERE calls.job = i.job AND state = 'unknown' AND error_type = 'worker_lost'"
    ") AS c");

void book_doubtful(struct pg *pg, const struct id *jobs, size_t count, pg_done_fn *done, void *arg)
{
    struct pg_value ids[BOOK_BATCH_MAX], value;

    assert(count <= BOOK_BATCH_MAX);
    for (size_t i = 0; i < count; i++)
        ids[i] = pg_uuid(jobs[i]);
    value = pg_array(PG_UUID, ids, count);
    pg_query(pg, &book_doubtful_statement, &value, 1, done, arg);
}

void book_doubtful_read(const struct pg_result *result, int row, struct book_doubtful *out)
{
    *out = (struct book_doubtful){
        .tenant = pg_get_text(result, row, 0, NULL),
        .job = pg_get_uuid(result, row, 1),
        .run = (int)pg_get_int(result, row, 2),
        .call = (int)pg_get_int(result, row, 3),
    };
}

/* --- what became of calls
 * --------------------------------------------------------------------- */

/* An intent needs the run's live row: where that is gone and there is no row of the call, none
 * will ever come. */
PG_STATEMENT(book_look_up_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::int4[], $3::int4[], $4::int8[])"
    "    WITH ORDINALITY AS input(job, run, call, run_token, ord)"
    ")"
    "SELECT i.ord - 1,"
    "       coalesce(c.state, CASE WHEN EXISTS (SELECT FROM runs r WHERE r.job = i.job"
    "                                             AND r.run_token = i.run_token)"
    "                              THEN 'sent' ELSE 'released' END),"
    "       c.cost_nano, c.input_tokens + c.output_tokens "
    "FROM input i "
    "LEFT JOIN LATERAL ("
    "    SELECT state, cost_nano, input_tokens, output_tokens FROM calls"
    "    WHERE calls.job = i.job AND calls.call = i.call AND calls.run = i.run"
    ") AS c ON true");

void book_look_up(struct pg *pg, const struct book_call *calls, size_t count, pg_done_fn *done,
                  void *arg)
{
    struct pg_value columns[4][BOOK_BATCH_MAX], values[4];
    static const enum pg_type types[] = {PG_UUID, PG_INT4, PG_INT4, PG_INT8};

    assert(count <= BOOK_BATCH_MAX);
    for (size_t i = 0; i < count; i++) {
        columns[0][i] = pg_uuid(calls[i].job);
        columns[1][i] = pg_int4(calls[i].run);
        columns[2][i] = pg_int4(calls[i].call);
        columns[3][i] = pg_int8(calls[i].run_token);
    }
    for (int i = 0; i < 4; i++)
        values[i] = pg_array(types[i], columns[i], count);
    pg_query(pg, &book_look_up_statement, values, 4, done, arg);
}

bool book_fate_read(const struct pg_result *result, int row, struct book_fate_row *out)
{
    static const char *const names[] = {
        [BOOK_CALL_LIVE] = "sent",
        [BOOK_CALL_SETTLED] = "settled",
        [BOOK_CALL_RELEASED] = "released",
        [BOOK_CALL_UNKNOWN] = "unknown",
    };
    const char *state = pg_get_text(result, row, 1, NULL);

    *out = (struct book_fate_row){
        .index = (size_t)pg_get_int(result, row, 0),
        .nano = pg_get_int(result, row, 2),
        .tokens = pg_is_null(result, row, 3) ? -1 : pg_get_int(result, row, 3),
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(state, names[i]) == 0) {
            out->fate = (enum book_fate)i;
            return true;
        }
    return false;
}
