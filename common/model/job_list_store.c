/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of job lists: a page of ids by the index that fits the filter, then what belongs to them.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/model/job_sql.h"
#include "common/model/job_store.h"
#include "common/model/job_store_private.h"
#include "common/model/tenant_scope_store.h"

/* $1 tenant, $2 first id (inclusive), $3 last id (exclusive), $4 limit, $5 the job in `after`,
 * $6 priority, $7 workflow, $8 metadata, $9 state; null: any.  Always one row at least: its first
 * column tells whether the tenant has a job $5. */
#define SQL_LIST(source, filter, order) \
    SQL(                                                                              \
    "WITH known AS MATERIALIZED ("                                                    \
    "    SELECT $5::uuid IS NULL OR EXISTS ("                                         \
    "        SELECT FROM jobs WHERE id = $5::uuid AND tenant = $1::text) AS is_there" \
    "), page AS MATERIALIZED ("                                                       \
    "    SELECT j.id"                                                                 \
    "    FROM " source                                                                \
    "    WHERE " filter                                                               \
    "      AND ($6::int4 IS NULL OR j.priority = $6::int4)"                           \
    "    ORDER BY 1 " order                                                           \
    "    LIMIT $4::int4"                                                              \
    "), " JOB_SQL_ALIVE                                                               \
    " SELECT known.is_there, " JOB_SQL_COLUMNS                                        \
    " FROM known LEFT JOIN (page JOIN jobs j ON " SQL_KEYED("j.id", "page.id")        \
    JOB_SQL_JOINS ") ON known.is_there ORDER BY j.id " order)

#define SQL_IN_RANGE(id) "j.tenant = $1::text AND " id " >= $2::uuid AND " id " < $3::uuid"
#define SQL_MAYBE_WORKFLOW " AND ($7::text IS NULL OR j.workflow = $7::text)"
#define SQL_MAYBE_METADATA " AND ($8::text IS NULL OR j.metadata @> $8::text::jsonb)"
#define SQL_MAYBE_STATE " AND ($9::text IS NULL OR j.state = $9::text)"

/* By jobs_tenant. */
#define SQL_LIST_ALL(order) SQL_LIST("jobs j", SQL_WHERE_ALL, order)
#define SQL_WHERE_ALL SQL_IN_RANGE("j.id") SQL_MAYBE_WORKFLOW SQL_MAYBE_METADATA SQL_MAYBE_STATE

/* By jobs_tenant_workflow. */
#define SQL_LIST_WORKFLOW(order) SQL_LIST("jobs j", SQL_WHERE_WORKFLOW, order)
#define SQL_WHERE_WORKFLOW \
    SQL(SQL_IN_RANGE("j.id")         \
        " AND j.workflow = $7::text" \
        SQL_MAYBE_METADATA SQL_MAYBE_STATE)

/* By jobs_metadata, or jobs_tenant where that looks cheaper, in a function (0009_tenant_role.sql).
 */
#define SQL_LIST_METADATA(order, ascending)                                                \
    SQL_LIST("jobs_with_metadata($8::text::jsonb, $2::uuid, $3::uuid, $7::text, $9::text," \
             " $6::int4, " ascending ", $4::int4) AS j",                                   \
             "true", order)

/* By jobs_tenant_state. */
#define SQL_LIST_UNHAPPY(order) SQL_LIST("jobs j", SQL_WHERE_UNHAPPY, order)
#define SQL_WHERE_UNHAPPY \
    SQL(SQL_IN_RANGE("j.id")          \
        " AND j.state = $9::text"     \
        " AND j.state <> 'succeeded'" \
        SQL_MAYBE_WORKFLOW SQL_MAYBE_METADATA)

/* By queue_tenant and runs_tenant. */
#define SQL_LIST_LIVE(table, order) \
    SQL_LIST(SQL_LIVE_JOBS(table, order), "true" SQL_MAYBE_WORKFLOW SQL_MAYBE_METADATA, order)
#define SQL_LIVE_JOBS(table, order) \
    SQL(                                                                       \
    "(SELECT job"                                                              \
    "          FROM " table                                                    \
    "          WHERE tenant = $1::text AND job >= $2::uuid AND job < $3::uuid" \
    "          ORDER BY job " order ") AS live"                                \
    "    CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = live.job) AS j")

PG_STATEMENT(job_list_all_desc, SQL_LIST_ALL("DESC"));
PG_STATEMENT(job_list_all_asc, SQL_LIST_ALL("ASC"));
PG_STATEMENT(job_list_workflow_desc, SQL_LIST_WORKFLOW("DESC"));
PG_STATEMENT(job_list_workflow_asc, SQL_LIST_WORKFLOW("ASC"));
PG_STATEMENT(job_list_metadata_desc, SQL_LIST_METADATA("DESC", "false"));
PG_STATEMENT(job_list_metadata_asc, SQL_LIST_METADATA("ASC", "true"));
PG_STATEMENT(job_list_unhappy_desc, SQL_LIST_UNHAPPY("DESC"));
PG_STATEMENT(job_list_unhappy_asc, SQL_LIST_UNHAPPY("ASC"));
PG_STATEMENT(job_list_queued_desc, SQL_LIST_LIVE("queue", "DESC"));
PG_STATEMENT(job_list_queued_asc, SQL_LIST_LIVE("queue", "ASC"));
PG_STATEMENT(job_list_running_desc, SQL_LIST_LIVE("runs", "DESC"));
PG_STATEMENT(job_list_running_asc, SQL_LIST_LIVE("runs", "ASC"));

static const struct pg_statement *statement_for(const struct job_filter *filter)
{
    bool asc = filter->is_ascending;

    if (filter->state == JOB_QUEUED)
        return asc ? &job_list_queued_asc : &job_list_queued_desc;
    if (filter->state == JOB_RUNNING)
        return asc ? &job_list_running_asc : &job_list_running_desc;
    if (filter->workflow)
        return asc ? &job_list_workflow_asc : &job_list_workflow_desc;
    if (filter->state >= 0 && filter->state != JOB_SUCCEEDED)
        return asc ? &job_list_unhappy_asc : &job_list_unhappy_desc;
    if (filter->metadata)
        return asc ? &job_list_metadata_asc : &job_list_metadata_desc;
    return asc ? &job_list_all_asc : &job_list_all_desc;
}

/* --- the range of ids ------------------------------------------------------------------------- */

/* The smallest id whose time is so many milliseconds since the epoch. */
static struct id id_floor_of_ms(int64_t ms)
{
    struct id id = {{0}};

    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)((uint64_t)ms >> (8 * (5 - i)));
    return id;
}

static struct id id_next(struct id id)
{
    for (int i = 15; i >= 0; i--)
        if (++id.bytes[i] != 0)
            break;
    return id;
}

/* created_* are exclusive, and creation times are whole milliseconds. */
static void range_of(const struct job_filter *filter, struct id *first, struct id *last)
{
    bool has_after = !id_is_zero(filter->after);
    int64_t before_ms = (filter->created_before_us + US_PER_MS - 1) / US_PER_MS;

    memset(first, 0, sizeof(*first));
    memset(last, 0xff, sizeof(*last));
    if (filter->created_after_us)
        *first = id_floor_of_ms(filter->created_after_us / US_PER_MS + 1);
    if (filter->created_before_us)
        *last = id_floor_of_ms(before_ms);
    if (has_after && filter->is_ascending && id_compare(filter->after, *first) >= 0)
        *first = id_next(filter->after);
    if (has_after && !filter->is_ascending && id_compare(filter->after, *last) < 0)
        *last = filter->after;
}

/* --- the list --------------------------------------------------------------------------------- */

struct list_wait {
    job_list_fn *done;
    void *arg;
    int limit;
    struct job_view views[JOB_LIST_MAX];
};

/* Columns: is_there, then the view's. */
static void read_page(struct list_wait *wait, const struct pg_result *result,
                      struct job_list_reply *out)
{
    int rows = pg_rows(result);

    out->is_after_unknown = rows > 0 && !pg_get_bool(result, 0, 0);
    if (rows == 0 || pg_is_null(result, 0, 1))
        return;
    out->has_more = rows > wait->limit;
    out->count = out->has_more ? wait->limit : rows;
    out->views = wait->views;
    for (int i = 0; i < out->count; i++)
        if (!job_view_of_row(result, i, 1, &wait->views[i])) {
            out->status = PG_FAILED;
            out->message = "a job's row makes no sense";
            return;
        }
}

static void on_listed(const struct pg_reply *reply, void *arg)
{
    struct list_wait *wait = arg;
    struct job_list_reply out = {
        .status = reply->status, .sqlstate = reply->sqlstate, .message = reply->message};

    if (reply->status == PG_OK)
        read_page(wait, reply->result, &out);
    wait->done(&out, wait->arg);
    free(wait);
}

bool job_list(struct job_store *store, const struct job_filter *filter, job_list_fn *done,
              void *arg)
{
    struct list_wait *wait = calloc(1, sizeof(*wait));
    struct id first, last;

    if (!wait)
        return false;
    *wait = (struct list_wait){.done = done, .arg = arg, .limit = filter->limit};
    range_of(filter, &first, &last);
    tenant_query(store->pg, filter->tenant, statement_for(filter),
                 (struct pg_value[]){
                     pg_text(filter->tenant),
                     pg_uuid(first),
                     pg_uuid(last),
                     pg_int4(filter->limit + 1),
                     id_is_zero(filter->after) ? pg_null(PG_UUID) : pg_uuid(filter->after),
                     filter->priority < 0 ? pg_null(PG_INT4) : pg_int4(filter->priority),
                     pg_text(filter->workflow),
                     pg_text(filter->metadata),
                     filter->state < 0 ? pg_null(PG_TEXT)
                                       : pg_text(job_state_name((enum job_state)filter->state)),
                 },
                 9, on_listed, wait);
    return true;
}
