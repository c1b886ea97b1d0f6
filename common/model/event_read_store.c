/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of reading a job's events. */
#include "common/model/event_read_store.h"

#include <stdlib.h>
#include <string.h>

#include "common/io/pg_batch.h"
#include "common/model/end_sql.h"
#include "common/model/tenant_scope_store.h"

enum { PEEK_BATCHES = 8 };

/* All by the primary keys. */
PG_STATEMENT(event_locate_statement,
    "SELECT r.worker, c.kind, c.byte_offset, octet_length(c.text),"
    "    c.text IS NOT NULL AND ($5::int8 = c.byte_offset + octet_length(c.text)"
    "        OR ($5::int8 >= c.byte_offset AND $5::int8 < c.byte_offset + octet_length(c.text)"
    "            AND (get_byte(convert_to(c.text, 'UTF8'), ($5::int8 - c.byte_offset)::int4) & 192)"
    "                <> 128)),"
    "    l.seq, a.attempt, t.text_end "
    "FROM jobs j "
    "LEFT JOIN runs r ON r.job = j.id "
    "LEFT JOIN events c ON c.job = $1::uuid AND c.run = $3::int4 AND c.seq = $4::int4 "
    "LEFT JOIN LATERAL ("
    "    SELECT seq FROM events"
    "    WHERE job = $1::uuid AND run = $3::int4 AND seq < " SQL_SEQ_SUPERSEDED
    "    ORDER BY seq DESC"
    "    LIMIT 1"
    ") AS l ON true "
    "LEFT JOIN LATERAL ("
    "    SELECT attempt FROM events"
    "    WHERE job = $1::uuid AND (run, seq) <= ($3::int4, $4::int4) AND attempt > 0"
    "    ORDER BY run DESC, seq DESC"
    "    LIMIT 1"
    ") AS a ON true "
    "LEFT JOIN LATERAL ("
    "    SELECT byte_offset + octet_length(text) AS text_end FROM events"
    "    WHERE job = $1::uuid AND (run, seq) <= ($3::int4, $4::int4)"
    "      AND kind = 'output.delta' AND attempt = a.attempt"
    "    ORDER BY run DESC, seq DESC"
    "    LIMIT 1"
    ") AS t ON true "
    "WHERE j.id = $1::uuid AND j.tenant = $2::text");

/* Always at least one row, for the worker; kind is null when there is no event. */
PG_STATEMENT(event_read_statement,
    "SELECT r.worker, e.run, e.seq, e.kind, e.attempt, e.byte_offset, e.text, e.data::text,"
    "    e.rows_read "
    "FROM (SELECT 1) AS one "
    "LEFT JOIN runs r ON r.job = $1::uuid "
    "LEFT JOIN LATERAL ("
    "    SELECT *, sum(octet_length(text)) OVER (ORDER BY run, seq) AS bytes,"
    "        count(*) OVER () AS rows_read"
    "    FROM ("
    "        SELECT run, seq, kind, attempt, byte_offset, text, data"
    "        FROM events"
    "        WHERE job = $1::uuid AND (run, seq) >= ($2::int4, $3::int4)"
    "        ORDER BY run, seq"
    "        LIMIT $4::int4"
    "    ) AS page"
    ") AS e ON coalesce(e.bytes, 0) - coalesce(octet_length(e.text), 0) < $5::int4 "
    "ORDER BY e.run, e.seq");

PG_STATEMENT(event_peek_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::uuid[], $2::text[], $3::int4[], $4::int4[], $5::int8[])"
    "    WITH ORDINALITY AS input(job, tenant, run, seq, byte_offset, ord)"
    ")"
    "SELECT i.ord "
    "FROM input i "
    "CROSS JOIN LATERAL ("
    "    SELECT FROM events e"
    "    WHERE e.job = i.job AND (e.run, e.seq) >= (i.run, i.seq)"
    "      AND ((e.run, e.seq) > (i.run, i.seq)"
    "           OR e.byte_offset + octet_length(e.text) > i.byte_offset)"
    "    LIMIT 1"
    ") AS news");

struct event_reads {
    struct pg *pg;
    struct pg_batch *peeks;
};

struct event_reads *event_reads_new(struct pg *pg)
{
    const struct pg_batch_kind kind = {
        .statement = &event_peek_statement,
        .column_count = 5,
        .columns = {PG_UUID, PG_TEXT, PG_INT4, PG_INT4, PG_INT8},
        .key_columns = 1,
        .allow_equal_keys = true,
        .is_repeatable = true,
        .max_in_flight = PEEK_BATCHES,
        .scope = tenant_scope,
        .scope_column = 1,
    };
    struct event_reads *reads = calloc(1, sizeof(*reads));

    if (!reads)
        return NULL;
    reads->pg = pg;
    reads->peeks = pg_batch_new(pg, &kind, NULL, 0);
    if (reads->peeks)
        return reads;
    free(reads);
    return NULL;
}

void event_reads_free(struct event_reads *reads)
{
    if (!reads)
        return;
    pg_batch_free(reads->peeks);
    free(reads);
}

/* --- locate ----------------------------------------------------------------------------------- */

struct locate_wait {
    event_locate_fn *done;
    void *arg;
};

static void place_from_row(const struct pg_result *result, struct event_place *out)
{
    out->is_found = true;
    out->worker = pg_get_uuid(result, 0, 0);
    out->has_row = !pg_is_null(result, 0, 1);
    out->is_text = !pg_is_null(result, 0, 3);
    out->row_offset = pg_get_int(result, 0, 2);
    out->row_len = pg_get_int(result, 0, 3);
    out->is_boundary = pg_get_bool(result, 0, 4);
    out->last_seq = pg_is_null(result, 0, 5) ? -1 : (int)pg_get_int(result, 0, 5);
    out->attempt = (int)pg_get_int(result, 0, 6);
    out->text_end = pg_get_int(result, 0, 7);
}

static void on_located(const struct pg_reply *reply, void *arg)
{
    struct locate_wait wait = *(struct locate_wait *)arg;
    struct event_place place = {.status = reply->status};

    free(arg);
    if (reply->status == PG_OK && pg_rows(reply->result) > 0)
        place_from_row(reply->result, &place);
    wait.done(&place, wait.arg);
}

bool event_locate(struct event_reads *reads, struct id job, const char *tenant, int run, int seq,
                  int64_t offset, event_locate_fn *done, void *arg)
{
    struct pg_value values[] = {pg_uuid(job), pg_text(tenant), pg_int4(run), pg_int4(seq),
                                pg_int8(offset)};
    struct locate_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct locate_wait){done, arg};
    tenant_query(reads->pg, tenant, &event_locate_statement, values, 5, on_located, wait);
    return true;
}

/* --- read ------------------------------------------------------------------------------------- */

struct read_wait {
    event_page_fn *done;
    void *arg;
    struct event_read_row rows[EVENT_PAGE_ROWS];
};

static void row_read(const struct pg_result *result, int row, struct event_read_row *out)
{
    *out = (struct event_read_row){
        .run = (int)pg_get_int(result, row, 1),
        .seq = (int)pg_get_int(result, row, 2),
        .kind = pg_get_text(result, row, 3, NULL),
        .attempt = (int)pg_get_int(result, row, 4),
        .byte_offset = pg_get_int(result, row, 5),
        .data = pg_get_text(result, row, 7, NULL),
    };
    out->text = pg_get_text(result, row, 6, &out->text_len);
}

static void on_read(const struct pg_reply *reply, void *arg)
{
    struct read_wait *wait = arg;
    struct event_page page = {.status = reply->status, .rows = wait->rows};

    if (reply->status == PG_OK) {
        page.worker = pg_get_uuid(reply->result, 0, 0);
        for (int row = 0; row < pg_rows(reply->result) && page.count < EVENT_PAGE_ROWS; row++)
            if (!pg_is_null(reply->result, row, 3))
                row_read(reply->result, row, &wait->rows[page.count++]);
        page.is_full = page.count == EVENT_PAGE_ROWS ||
                       (page.count > 0 && pg_get_int(reply->result, 0, 8) > page.count);
    }
    wait->done(&page, wait->arg);
    free(wait);
}

bool event_read(struct event_reads *reads, struct id job, const char *tenant, int run, int seq,
                event_page_fn *done, void *arg)
{
    struct pg_value values[] = {pg_uuid(job), pg_int4(run), pg_int4(seq), pg_int4(EVENT_PAGE_ROWS),
                                pg_int4(EVENT_PAGE_BYTES)};
    struct read_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    wait->done = done;
    wait->arg = arg;
    tenant_query(reads->pg, tenant, &event_read_statement, values, 5, on_read, wait);
    return true;
}

/* --- peek ------------------------------------------------------------------------------------- */

struct peek_wait {
    event_peek_fn *done;
    void *arg;
};

static void on_peeked(const struct pg_batch_reply *reply, void *arg)
{
    struct peek_wait wait = *(struct peek_wait *)arg;

    free(arg);
    wait.done(reply->status, reply->status == PG_OK && reply->row >= 0, wait.arg);
}

bool event_peek(struct event_reads *reads, struct id job, const char *tenant, int run, int seq,
                int64_t offset, event_peek_fn *done, void *arg)
{
    struct pg_value values[] = {pg_uuid(job), pg_text(tenant), pg_int4(run), pg_int4(seq),
                                pg_int8(offset)};
    struct peek_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct peek_wait){done, arg};
    if (pg_batch_add(reads->peeks, values, on_peeked, wait))
        return true;
    free(wait);
    return false;
}
