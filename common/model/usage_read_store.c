/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL that reads usage: sums by any names over any range, and the list of unknown calls. */
#include "common/model/usage_read_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/model/sql.h"
#include "common/model/tenant_scope_store.h"
#include "common/model/usage_sql.h"

/* What a page may have: as much as one statement can sum and one answer hold.  Users are counted as
 * if each did something every day; combinations are counted in usage_days as they are, so that
 * whoever has few gets all in one page. */
enum {
    USERS_PER_PAGE = 250,
    USER_DAYS_PER_PAGE = 2500,
    USER_DAYS_PER_PAGE_OF_HOURS = 1500,
    CELL_DAYS_PER_PAGE = 11000,
    CELL_DAYS_PER_PAGE_OF_HOURS = 600,
};

/* --- statements ------------------------------------------------------------------------------- */

/* Parameters that all three share.  One plan serves every grouping: what is not asked for is null
 * in all rows, and so tells none apart. */
#define P_TENANT "$1::text"
#define P_FIRST_DAY "date '1970-01-01' + $2::int4"
#define P_END_DAY "date '1970-01-01' + $3::int4"
#define P_FROM "$4::timestamptz"
#define P_TO "$5::timestamptz"
#define P_BY_DAY "$6::bool"
#define P_BY_HOUR "$7::bool"
#define P_BY_WORKFLOW "$8::bool"
#define P_BY_MODEL "$9::bool"
#define P_BY_PROVIDER "$10::bool"
#define P_BY_KEY "$11::bool"
#define P_MONTHS "$12::int4[]"
#define P_DAYS "$13::int4[]"
#define P_EDGES "$14::int4[]"
#define P_CELL_DAYS "$15::int4" /* of usage_cells_statement; 0: all */
#define P_COVERS "$15::int4[]"  /* of usage_users_statement */
#define P_AFTER "$16::text"
#define P_USERS "$17::int4"

/* Each of the days looked up in the primary key, which begins with (tenant, day). */
#define SQL_DAY_IN(days) \
    "day = ANY (ARRAY(SELECT date '1970-01-01' + n FROM unnest(" days ") AS n))"

#define SQL_DELTAS                                                          \
    "FROM usage_deltas WHERE tenant = " P_TENANT " AND day >= " P_FIRST_DAY \
    " AND day < " P_END_DAY " AND hour >= " P_FROM " AND hour < " P_TO

#define SQL_IN_HOURS " AND hour >= " P_FROM " AND hour < " P_TO

/* The last part of each: the rows that `found` has, by the names that are asked for, behind what
 * the whole page is. */
#define SQL_GROUPED(page) \
    SQL(                                                                                         \
    "grouped AS MATERIALIZED ("                                                                  \
    "    SELECT CASE WHEN " P_BY_DAY " THEN day END AS day,"                                     \
    "           CASE WHEN " P_BY_HOUR " THEN hour END AS hour,"                                  \
    "           CASE WHEN " P_BY_WORKFLOW " THEN workflow END AS workflow,"                      \
    "           CASE WHEN " P_BY_MODEL " THEN model END AS model,"                               \
    "           CASE WHEN " P_BY_PROVIDER " THEN provider END AS provider,"                      \
    "           CASE WHEN " P_BY_KEY " THEN key_id END AS key_id,"                               \
    "           end_user,"                                                                       \
    "          " USAGE_SQL_SUMS                                                                  \
    "    FROM found"                                                                             \
    "    GROUP BY 1, 2, 3, 4, 5, 6, 7"                                                           \
    "    HAVING usage_sum(jobs) <> 0 OR usage_sum(calls) <> 0"                                               \
    ") "                                                                                         \
    "SELECT true, " page ", g.jobs IS NOT NULL, g.day - date '1970-01-01', g.hour,"              \
    "       nullif(g.workflow, ''), nullif(g.model, ''), nullif(g.provider, ''),"                \
    "       nullif(g.key_id, ''), nullif(g.end_user, ''),"                                       \
    "      " USAGE_SQL_COLUMNS " "                                                               \
    "FROM tenants t "                                                                            \
    "LEFT JOIN grouped g ON true "                                                               \
    "WHERE t.id = " P_TENANT " "                                                                 \
    "ORDER BY g.day, g.hour, g.workflow, g.model, g.provider, g.key_id, g.end_user")

/* First in the transaction.  The planner cannot know how many rows come and would sort them all to
 * group them: three times the work of hashing.  Other processes have their own work to do. */
PG_STATEMENT(usage_tune_statement,
    "SELECT set_config('enable_sort', 'off', true), set_config('work_mem', '32MB', true),"
    "       set_config('max_parallel_workers_per_gather', '0', true)");

/* By no name, by day or by hour: 8,760 rows are a year. */
PG_STATEMENT(usage_totals_statement,
    "WITH found AS ("
    "    SELECT day, hour, NULL AS workflow, NULL AS model, NULL AS provider, NULL AS key_id,"
    "           NULL AS end_user,"
    "          " USAGE_SQL_COLUMNS
    "    FROM usage_totals"
    "    WHERE tenant = " P_TENANT " AND day >= " P_FIRST_DAY " AND day < " P_END_DAY
    SQL_IN_HOURS
    "    UNION ALL"
    "    SELECT day, hour, NULL, NULL, NULL, NULL, NULL,"
    "          " USAGE_SQL_COLUMNS " "
    SQL_DELTAS
    "), " SQL_GROUPED("0::int8, NULL::text"));

#define SQL_CELL_SLICE(table, hour, where)                                                     \
    "    SELECT u.day, " hour ", c.workflow, c.model, c.provider, c.key_id, NULL AS end_user," \
    "          " USAGE_SQL_COLUMNS "    FROM " table " u"                                      \
    "    JOIN usage_cells c USING (cell)"                                                      \
    "    WHERE u.tenant = " P_TENANT " AND u." where

#define SQL_IN_PAGE " AND u.day < (SELECT end_day FROM page)"

/* By anything but users.  The page ends before the day on which it would have too much, but has the
 * first day that has anything. */
PG_STATEMENT(usage_cells_statement,
    "WITH present AS ("
    "    SELECT day"
    "    FROM usage_days"
    "    WHERE " P_CELL_DAYS " > 0"
    "      AND tenant = " P_TENANT " AND day >= " P_FIRST_DAY " AND day < " P_END_DAY
    "    ORDER BY day"
    "), page AS MATERIALIZED ("
    "    SELECT coalesce(max(greatest(day, (SELECT day FROM present LIMIT 1) + 1)),"
    "                    " P_END_DAY ") AS end_day"
    "    FROM (SELECT day FROM present OFFSET " P_CELL_DAYS " LIMIT 1) AS too_much"
    "), found AS ("
    SQL_CELL_SLICE("usage_months", "NULL::timestamptz AS hour", SQL_DAY_IN(P_MONTHS))
    "    UNION ALL"
    SQL_CELL_SLICE("usage_days", "NULL", SQL_DAY_IN(P_DAYS) SQL_IN_PAGE)
    "    UNION ALL"
    SQL_CELL_SLICE("usage_hours", "hour", SQL_DAY_IN(P_EDGES) SQL_IN_HOURS SQL_IN_PAGE)
    "    UNION ALL"
    "    SELECT day, hour, coalesce(workflow, ''), coalesce(model, ''), coalesce(provider, ''),"
    "           key_id, NULL,"
    "          " USAGE_SQL_COLUMNS " "
    SQL_DELTAS
    "       AND day < (SELECT end_day FROM page)"
    "), " SQL_GROUPED("(SELECT (end_day - date '1970-01-01')::int8 FROM page), NULL::text"));

#define SQL_OF_PAGE " AND end_user >= " P_AFTER " AND end_user <= (SELECT last_user FROM page)"

#define SQL_USER_SLICE(table, hour, where)                                               \
    "    SELECT u.day, " hour ", c.workflow, c.model, c.provider, c.key_id, u.end_user," \
    "          " USAGE_SQL_COLUMNS "    FROM " table " u"                                \
    "    JOIN usage_cells c USING (cell)"                                                \
    "    WHERE u.tenant = " P_TENANT " AND u." where SQL_OF_PAGE

/* By users, and more.  The page is the next users who did anything in the months of the range,
 * found by stepping along the primary key.  Their days are made apart (`covers`): beneath row-level
 * security Postgres takes no condition for the index in which a row of something else goes through
 * a function that may leak it, as date + integer may; it would read all users of the month. */
PG_STATEMENT(usage_users_statement,
    "WITH covers AS MATERIALIZED ("
    "    SELECT date '1970-01-01' + n AS month FROM unnest(" P_COVERS ") AS n"
    "), names AS ("
    "    SELECT end_user"
    "    FROM (SELECT u.end_user"
    "          FROM covers"
    "          CROSS JOIN LATERAL ("
    "              SELECT DISTINCT end_user"
    "              FROM usage_user_months"
    "              WHERE tenant = " P_TENANT " AND day = covers.month"
    "                AND end_user >= " P_AFTER
    "              ORDER BY end_user"
    "              LIMIT " P_USERS
    "          ) AS u"
    "          UNION"
    "          SELECT coalesce(end_user, '') COLLATE \"C\" " SQL_DELTAS
    "             AND coalesce(end_user, '') COLLATE \"C\" >= " P_AFTER ") AS n"
    "    ORDER BY end_user"
    "    LIMIT " P_USERS
    "), page AS MATERIALIZED ("
    "    SELECT count(*) AS users, max(end_user) AS last_user FROM names"
    "), found AS ("
    SQL_USER_SLICE("usage_user_months", "NULL::timestamptz AS hour", SQL_DAY_IN(P_MONTHS))
    "    UNION ALL"
    SQL_USER_SLICE("usage_user_days", "NULL", SQL_DAY_IN(P_DAYS))
    "    UNION ALL"
    SQL_USER_SLICE("usage_user_hours", "hour", SQL_DAY_IN(P_EDGES) SQL_IN_HOURS)
    "    UNION ALL"
    "    SELECT day, hour, coalesce(workflow, ''), coalesce(model, ''), coalesce(provider, ''),"
    "           key_id, coalesce(end_user, '') COLLATE \"C\","
    "          " USAGE_SQL_COLUMNS " "
    SQL_DELTAS
    "       AND coalesce(end_user, '') COLLATE \"C\" >= " P_AFTER
    "       AND coalesce(end_user, '') COLLATE \"C\" <= (SELECT last_user FROM page)"
    "), " SQL_GROUPED("(SELECT users FROM page), (SELECT last_user FROM page)"));

/* By the index calls_open. */
PG_STATEMENT(unknown_calls_statement,
    "SELECT true, c.job, c.call, c.route, c.provider, c.model, c.workflow, c.end_user, c.key_id,"
    "       c.error_type, c.status, c.started_at, c.cost_nano "
    "FROM tenants t "
    "LEFT JOIN LATERAL ("
    "    SELECT *"
    "    FROM calls"
    "    WHERE calls.tenant = t.id AND calls.state = 'unknown'"
    "      AND ($2::int4 IS NULL OR calls.budget_day >= date '1970-01-01' + $2::int4)"
    "      AND ($3::int4 IS NULL OR calls.budget_day < date '1970-01-01' + $3::int4)"
    "      AND ($4::timestamptz IS NULL OR calls.started_at >= $4::timestamptz)"
    "      AND ($5::timestamptz IS NULL OR calls.started_at < $5::timestamptz)"
    "      AND ($6::uuid IS NULL OR (calls.job, calls.call) < ($6::uuid, $7::int4))"
    "    ORDER BY calls.job DESC, calls.call DESC"
    "    LIMIT $8::int4"
    ") AS c ON true "
    "WHERE t.id = $1::text "
    "ORDER BY c.job DESC, c.call DESC");

/* --- pages ------------------------------------------------------------------------------------ */

static bool is_by_cell(const struct usage_question *question)
{
    return question->by[USAGE_WORKFLOW] || question->by[USAGE_MODEL] ||
           question->by[USAGE_PROVIDER] || question->by[USAGE_KEY];
}

/* How many rows of usage_days a page has, about; 0: its pages are none of days. */
static int32_t cell_days_per_page(const struct usage_question *question)
{
    if (question->by[USAGE_USER] || !is_by_cell(question))
        return 0;
    if (question->by[USAGE_HOUR])
        return CELL_DAYS_PER_PAGE_OF_HOURS;
    return question->by[USAGE_DAY] ? CELL_DAYS_PER_PAGE : 0;
}

static int32_t users_per_page(const struct usage_question *question)
{
    int32_t days = question->range.end_day - question->range.first_day;
    int32_t users = USERS_PER_PAGE;

    if (question->by[USAGE_HOUR])
        users = USER_DAYS_PER_PAGE_OF_HOURS / days;
    else if (question->by[USAGE_DAY])
        users = USER_DAYS_PER_PAGE / days;
    if (users > USERS_PER_PAGE)
        return USERS_PER_PAGE;
    return users > 0 ? users : 1;
}

/* The range from the page on. */
static struct usage_range rest_of_range(const struct usage_question *question)
{
    struct usage_range range = question->range;

    if (question->after && cell_days_per_page(question) > 0 &&
        !usage_day_parse(question->after, &range.first_day))
        range.first_day = range.end_day;
    return range;
}

bool usage_read_check(const struct usage_question *question, struct err *err)
{
    const struct usage_range *range = &question->range;
    int32_t day;

    if (!question->after || question->by[USAGE_USER])
        return true;
    if (cell_days_per_page(question) > 0 && usage_day_parse(question->after, &day) &&
        day >= range->first_day && day < range->end_day)
        return true;
    return err_input(err, "invalid_value", "after",
                     "after: expected what the page before gave as next_after");
}

bool usage_has_more(const struct usage_question *question, const struct admin_reply *reply,
                    char after[USAGE_AFTER_SIZE])
{
    int64_t page = pg_get_int(reply->rows, 0, 1); /* its users, or the day that it ends before */

    after[0] = '\0';
    if (question->by[USAGE_USER]) {
        if (page < users_per_page(question))
            return false;
        snprintf(after, USAGE_AFTER_SIZE, "%s", pg_get_text(reply->rows, 0, 2, NULL));
        return true;
    }
    if (cell_days_per_page(question) == 0 || page >= question->range.end_day)
        return false;
    usage_day_format((int32_t)page, after);
    return true;
}

/* --- asking ----------------------------------------------------------------------------------- */

struct lists {
    struct usage_slices slices;
    struct pg_value values[3 * (USAGE_DAYS_MAX + 8)];
    int count;
};

static struct pg_value put_list(struct lists *lists, const int32_t *days, int count)
{
    struct pg_value *first = lists->values + lists->count;

    for (int i = 0; i < count; i++)
        first[i] = pg_int4(days[i]);
    lists->count += count;
    return pg_array(PG_INT4, first, (size_t)count);
}

enum { TOTALS_VALUES = 11, CELLS_VALUES = 15, USERS_VALUES = 17 };

static const struct pg_statement *choose(const struct usage_question *question, size_t *values)
{
    *values = USERS_VALUES;
    if (question->by[USAGE_USER])
        return &usage_users_statement;
    *values = is_by_cell(question) ? CELLS_VALUES : TOTALS_VALUES;
    return is_by_cell(question) ? &usage_cells_statement : &usage_totals_statement;
}

/* Behind a name, in the order of bytes: the name and the smallest character that no name has. */
static void start_after(const struct usage_question *question, char out[USAGE_AFTER_SIZE + 1])
{
    out[0] = '\0';
    if (question->after)
        snprintf(out, USAGE_AFTER_SIZE + 1, "%s\001", question->after);
}

bool usage_read(struct pg *pg, const struct usage_question *question, admin_done_fn *done,
                void *arg)
{
    struct usage_range range = rest_of_range(question);
    struct lists *lists = calloc(1, sizeof(*lists));
    struct pg_value values[USERS_VALUES];
    char after[USAGE_AFTER_SIZE + 1];
    const struct pg_statement *statement;
    size_t count;
    bool ok;

    if (!lists)
        return false;
    usage_slices_of(&range, question->by[USAGE_DAY], question->by[USAGE_HOUR], &lists->slices);
    start_after(question, after);
    statement = choose(question, &count);
    memcpy(values,
           (const struct pg_value[USERS_VALUES]){
               pg_text(question->tenant),
               pg_int4(range.first_day),
               pg_int4(range.end_day),
               pg_time(range.from_us),
               pg_time(range.to_us),
               pg_bool(question->by[USAGE_DAY]),
               pg_bool(question->by[USAGE_HOUR]),
               pg_bool(question->by[USAGE_WORKFLOW]),
               pg_bool(question->by[USAGE_MODEL]),
               pg_bool(question->by[USAGE_PROVIDER]),
               pg_bool(question->by[USAGE_KEY]),
               put_list(lists, lists->slices.months, lists->slices.month_count),
               put_list(lists, lists->slices.days, lists->slices.day_count),
               put_list(lists, lists->slices.edges, lists->slices.edge_count),
               put_list(lists, lists->slices.covers, lists->slices.cover_count),
               pg_text(after),
               pg_int4(users_per_page(question)),
           },
           sizeof(values));
    if (statement == &usage_cells_statement)
        values[CELLS_VALUES - 1] = pg_int4(cell_days_per_page(question));
    ok = admin_transaction(pg,
                           (const struct pg_step[]){
                               {.statement = tenant_scope, .values = values, .count = 1},
                               {.statement = &usage_tune_statement},
                               {.statement = statement, .values = values, .count = count},
                           },
                           3, ADMIN_MISSING, done, arg);
    free(lists);
    return ok;
}

enum { COLUMN_IS_ROW = 3, COLUMN_DAY, COLUMN_HOUR, COLUMN_NAMES, COLUMN_SUMS = 11 };

bool usage_row_read(const struct admin_reply *reply, int row, struct usage_row *out)
{
    const struct pg_result *rows = reply->rows;

    *out = (struct usage_row){.day = (int32_t)pg_get_int(rows, row, COLUMN_DAY),
                              .hour_us = pg_get_time(rows, row, COLUMN_HOUR)};
    for (int name = USAGE_WORKFLOW; name < USAGE_NAMES; name++)
        out->names[name] = pg_get_text(rows, row, COLUMN_NAMES + name - USAGE_WORKFLOW, NULL);
    for (int sum = 0; sum < USAGE_SUMS; sum++)
        out->sums[sum] = pg_get_int(rows, row, COLUMN_SUMS + sum);
    return pg_get_bool(rows, row, COLUMN_IS_ROW);
}

/* --- unknown calls ---------------------------------------------------------------------------- */

bool unknown_calls_list(struct pg *pg, const struct unknown_filter *filter, admin_done_fn *done,
                        void *arg)
{
    const struct usage_range *range = &filter->range;
    bool is_first = id_is_zero(filter->after_job);
    struct pg_value values[] = {
        pg_text(filter->tenant),
        filter->has_range ? pg_int4(range->first_day) : pg_null(PG_INT4),
        filter->has_range ? pg_int4(range->end_day) : pg_null(PG_INT4),
        filter->has_range ? pg_time(range->from_us) : pg_null(PG_TIME),
        filter->has_range ? pg_time(range->to_us) : pg_null(PG_TIME),
        is_first ? pg_null(PG_UUID) : pg_uuid(filter->after_job),
        is_first ? pg_null(PG_INT4) : pg_int4(filter->after_call),
        pg_int4(filter->limit),
    };

    return admin_transaction(pg,
                             (const struct pg_step[]){
                                 {.statement = tenant_scope, .values = values, .count = 1},
                                 {.statement = &unknown_calls_statement,
                                  .values = values,
                                  .count = sizeof(values) / sizeof(values[0])},
                             },
                             2, ADMIN_MISSING, done, arg);
}

void unknown_call_read(const struct admin_reply *reply, int row, struct unknown_call *out)
{
    const struct pg_result *rows = reply->rows;

    *out = (struct unknown_call){
        .job = pg_get_uuid(rows, row, 1),
        .call = (int)pg_get_int(rows, row, 2),
        .route = pg_get_text(rows, row, 3, NULL),
        .provider = pg_get_text(rows, row, 4, NULL),
        .model = pg_get_text(rows, row, 5, NULL),
        .workflow = pg_get_text(rows, row, 6, NULL),
        .end_user = pg_get_text(rows, row, 7, NULL),
        .key_id = pg_get_text(rows, row, 8, NULL),
        .error_type = pg_get_text(rows, row, 9, NULL),
        .status = (int)pg_get_int(rows, row, 10),
        .started_at_us = pg_get_time(rows, row, 11),
        .reserved_nano = pg_get_int(rows, row, 12),
    };
}
