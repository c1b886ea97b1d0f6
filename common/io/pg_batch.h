/* SPDX-License-Identifier: Apache-2.0 */
/* The one way to batch statements: concurrent rows gather and go as one unnest statement. */
#ifndef COMMON_IO_PG_BATCH_H
#define COMMON_IO_PG_BATCH_H

#include "common/io/pg.h"

enum { PG_BATCH_COLUMNS_MAX = 40 };

/* The statement's parameters are `column_count` arrays of equal length ($1..$n), one element per
 * row of the batch, then `constant_count` scalars.  The statement says unnest($1::uuid[],
 * $2::int4[], ...) WITH ORDINALITY AS input(job, ..., ord) and its result's first column is that
 * ord (int8) of the input row the result row answers.  An input row that no result row answers had
 * no effect (stale token, duplicate, gone).  At most one result row per input row.
 *
 * Rows are sent sorted by the first `key_columns` columns (bytewise; PG_UUID, PG_TEXT, PG_INT*), so
 * that every batch takes its locks in one order.  Rows with an equal key never share a batch: the
 * later one waits for the next (set allow_equal_keys to lift that, as for events).
 *
 * Gathering: rows added in one turn of the loop go together at its end when no batch of this kind
 * is in flight; otherwise they gather until it returns (max_in_flight batches at a time).  So a
 * lone row on an idle system never waits.
 *
 * With a scope, that statement runs first in the batch's own transaction, with the value of
 * scope_column as $1; only rows that agree in it share a batch.
 *
 * A batch that fails with 40P01 or 40001 is sent again (up to 5 times); one that fails otherwise is
 * split in halves until the bad row fails alone (not for errors of the statement itself: classes
 * 42 and 25, but for 42501, which row-level security gives for a row).  After PG_UNKNOWN every row
 * is told PG_UNKNOWN unless is_repeatable, then it is sent again after reconnecting, within
 * retry_ms. */
struct pg_batch_kind {
    const struct pg_statement *statement;
    int column_count;
    enum pg_type columns[PG_BATCH_COLUMNS_MAX];
    int key_columns;
    bool allow_equal_keys;
    bool is_repeatable;
    int max_rows;            /* 0: 500 */
    size_t max_bytes;        /* of one batch's values; 0: 8 MiB; a single larger row goes alone */
    int max_in_flight;       /* 0: 1 */
    int max_queued;          /* rows waiting; over it pg_batch_add refuses; 0: 50000 */
    size_t max_queued_bytes; /* 0: 256 MiB */
    const struct pg_statement *scope; /* NULL: none */
    int scope_column;                 /* of PG_TEXT */
    int64_t retry_ms; /* how long PG_UNAVAILABLE (and UNKNOWN if repeatable) is retried; 0: not */
};

struct pg_batch_reply {
    enum pg_status status;
    const char *sqlstate;
    const char *message;
    const struct pg_result *result; /* NULL unless PG_OK */
    int row;                        /* of result, -1: no effect */
};

typedef void pg_batch_done_fn(const struct pg_batch_reply *reply, void *arg);

struct pg_batch;

/* constants (may be NULL) are copied and sent with every batch. */
struct pg_batch *pg_batch_new(struct pg *pg, const struct pg_batch_kind *kind,
                              const struct pg_value *constants, size_t constant_count);
/* Before its pg is freed.  Outstanding rows end with PG_UNKNOWN (sent) or PG_UNAVAILABLE before
 * this returns; those of a batch whose answer is just being told may come a moment later.  May be
 * called from a row's callback. */
void pg_batch_free(struct pg_batch *batch);

/* values has kind->column_count members and is copied.  False (done will not be called) when the
 * queue is full or the batch is being freed. */
bool pg_batch_add(struct pg_batch *batch, const struct pg_value *values, pg_batch_done_fn *done,
                  void *arg) MUST_CHECK;
int pg_batch_outstanding(const struct pg_batch *batch);

#endif
