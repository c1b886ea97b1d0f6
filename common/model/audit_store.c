/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of the audit. */
#include "common/model/audit_store.h"

#include <string.h>

#include "common/io/pg.h"
#include "common/model/leader_store.h"

#define AUDIT_COLUMNS                                                                     \
    "a.seq, a.at, a.version, a.actor, a.action, a.object, a.detail, a.key_id, a.address," \
    " a.request_id, a.before, a.after, a.data_class, a.purpose, a.prev_hash, a.hash"

/* By the primary key, audit_at, audit_actor or audit_object. */
PG_STATEMENT(audit_list_statement,
    "SELECT true, " AUDIT_COLUMNS " "
    "FROM audit a "
    "WHERE a.seq > $1::int8 "
    "  AND ($2::timestamptz IS NULL OR a.at >= $2::timestamptz) "
    "  AND ($3::timestamptz IS NULL OR a.at < $3::timestamptz) "
    "  AND ($4::text IS NULL OR a.actor = $4::text) "
    "  AND ($5::text IS NULL OR a.object = $5::text) "
    "ORDER BY a.seq "
    "LIMIT $6::int4");

/* Always has a row, by which the head is told. */
PG_STATEMENT(audit_chain_statement,
    "SELECT h.seq, " AUDIT_COLUMNS ", h.hash, c.seq, c.hash, c.at, c.mac,"
    "    (SELECT max(seq) FROM audit_checkpoints) "
    "FROM (SELECT true) AS one "
    "LEFT JOIN audit_head h ON true "
    "LEFT JOIN LATERAL ("
    "    SELECT *"
    "    FROM audit"
    "    WHERE seq > $1::int8"
    "    ORDER BY seq"
    "    LIMIT $2::int4"
    ") AS a ON true "
    "LEFT JOIN audit_checkpoints c ON c.seq = a.seq "
    "ORDER BY a.seq");

PG_STATEMENT(audit_checkpoint_last_statement,
    "SELECT seq, hash, at, mac "
    "FROM audit_checkpoints "
    "ORDER BY seq DESC "
    "LIMIT 1");

PG_STATEMENT(audit_checkpoint_add_statement,
    "INSERT INTO audit_checkpoints (seq, hash, at, mac) "
    "VALUES ($1::int8, $2::bytea, $3::timestamptz, $4::bytea) "
    "ON CONFLICT DO NOTHING");

/* Columns of audit_chain_statement behind those of the row, which start at 1 in both. */
enum { HEAD_SEQ = 0, ROW_SEQ = 1, HEAD_HASH = 17, CHECKPOINT = 18, LAST_CHECKPOINT = 22 };

static const uint8_t *read_hash(const struct pg_result *result, int row, int column)
{
    size_t len = 0;
    const char *bytes = pg_get_text(result, row, column, &len);

    return len == SHA256_SIZE ? (const uint8_t *)bytes : NULL;
}

static void read_row(const struct pg_result *result, int row, struct audit_row *out)
{
    *out = (struct audit_row){
        .seq = pg_get_int(result, row, ROW_SEQ),
        .at_us = pg_get_time(result, row, 2),
        .version = (int)pg_get_int(result, row, 3),
        .actor = pg_get_text(result, row, 4, NULL),
        .action = pg_get_text(result, row, 5, NULL),
        .object = pg_get_text(result, row, 6, NULL),
        .detail = pg_get_text(result, row, 7, NULL),
        .key_id = pg_get_text(result, row, 8, NULL),
        .address = pg_get_text(result, row, 9, NULL),
        .request_id = pg_get_text(result, row, 10, NULL),
        .before = pg_get_text(result, row, 11, NULL),
        .after = pg_get_text(result, row, 12, NULL),
        .data_class = pg_get_text(result, row, 13, NULL),
        .purpose = pg_get_text(result, row, 14, NULL),
        .prev_hash = read_hash(result, row, 15),
        .hash = read_hash(result, row, 16),
    };
}

/* Columns seq, hash, at, mac from `column` on. */
static bool read_checkpoint(const struct pg_result *result, int row, int column,
                            struct audit_checkpoint *out)
{
    const uint8_t *hash = read_hash(result, row, column + 1);
    const uint8_t *mac = read_hash(result, row, column + 3);

    *out = (struct audit_checkpoint){.seq = pg_get_int(result, row, column),
                                     .at_us = pg_get_time(result, row, column + 2)};
    if (hash)
        memcpy(out->hash, hash, SHA256_SIZE);
    if (mac)
        memcpy(out->mac, mac, SHA256_SIZE);
    return hash && mac;
}

/* --- for people ------------------------------------------------------------------------------- */

bool audit_list(struct pg *pg, const struct audit_filter *filter, admin_done_fn *done, void *arg)
{
    struct pg_value values[] = {
        pg_int8(filter->after), pg_time_or_null(filter->from_us), pg_time_or_null(filter->to_us),
        pg_text(filter->actor), pg_text(filter->object),          pg_int4(filter->limit),
    };

    return admin_query(pg, &audit_list_statement, values, 6, ADMIN_DONE, done, arg);
}

void audit_row_read(const struct admin_reply *reply, int row, struct audit_row *out)
{
    read_row(reply->rows, row, out);
}

/* --- for verifiers ---------------------------------------------------------------------------- */

void audit_chain(struct pg *pg, int64_t after, pg_done_fn *done, void *arg)
{
    struct pg_value values[] = {pg_int8(after), pg_int4(AUDIT_PAGE_MAX)};

    pg_query(pg, &audit_chain_statement, values, 2, done, arg);
}

bool audit_chain_verify(const struct pg_result *page, struct audit_verifier *verifier)
{
    int count = pg_rows(page);

    for (int at = 0; at < count && !pg_is_null(page, at, ROW_SEQ); at++) {
        struct audit_checkpoint checkpoint;
        struct audit_row row;
        bool has_checkpoint = !pg_is_null(page, at, CHECKPOINT);

        read_row(page, at, &row);
        if (has_checkpoint && !read_checkpoint(page, at, CHECKPOINT, &checkpoint))
            memset(checkpoint.hash, 0, SHA256_SIZE); /* cut to another length: never right */
        if (!audit_verify_row(verifier, &row, has_checkpoint ? &checkpoint : NULL))
            return false;
    }
    if (count == AUDIT_PAGE_MAX)
        return true;
    (void)audit_verify_end(verifier, pg_get_int(page, 0, HEAD_SEQ), read_hash(page, 0, HEAD_HASH),
                           pg_get_int(page, 0, LAST_CHECKPOINT));
    return false;
}

bool audit_verify_database(const char *url, const uint8_t *key,
                           const struct audit_checkpoint *trusted, struct audit_verifier *out,
                           struct err *err)
{
    struct pg_session *session = pg_session_open(url, "nightshift-audit", err);
    bool ok = session != NULL, has_more = ok;

    audit_verify_init(out, key, trusted);
    while (has_more) {
        struct pg_value values[] = {pg_int8(out->seq), pg_int4(AUDIT_PAGE_MAX)};
        struct pg_result *page;

        ok = pg_session_run(session, audit_chain_statement.sql, values, 2, &page, err);
        if (!ok)
            break;
        has_more = audit_chain_verify(page, out);
        pg_result_free(page);
    }
    if (session)
        pg_session_close(session);
    if (out->has_failed)
        ok = err_set(err, "row %lld: no memory for it", (long long)out->seq + 1);
    return ok || err_wrap(err, "read the audit");
}

/* --- for the scheduler ------------------------------------------------------------------------ */

void audit_checkpoint_last(struct pg *pg, pg_done_fn *done, void *arg)
{
    pg_query(pg, &audit_checkpoint_last_statement, NULL, 0, done, arg);
}

bool audit_checkpoint_read(const struct pg_result *result, struct audit_checkpoint *out)
{
    return pg_rows(result) == 1 && read_checkpoint(result, 0, 0, out);
}

void audit_checkpoint_add(struct pg *pg, int64_t epoch, const struct audit_checkpoint *checkpoint,
                          pg_done_fn *done, void *arg)
{
    struct pg_value values[] = {
        pg_int8(checkpoint->seq),
        pg_bytea(checkpoint->hash, SHA256_SIZE),
        pg_time(checkpoint->at_us),
        pg_bytea(checkpoint->mac, SHA256_SIZE),
    };

    leader_statement(pg, epoch, &audit_checkpoint_add_statement, values, 4, done, arg);
}
