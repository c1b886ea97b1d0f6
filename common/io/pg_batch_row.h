/* SPDX-License-Identifier: Apache-2.0 */
/* One row on its way through pg_batch: copied values, sort key, and who wants to know. */
#ifndef COMMON_IO_PG_BATCH_ROW_H
#define COMMON_IO_PG_BATCH_ROW_H

#include "common/io/pg_batch.h"

/* The row, its values, what they point to and its key are one block of memory. */
struct pg_batch_row {
    struct pg_batch_row *next; /* in the list it is in */
    pg_batch_done_fn *done;
    void *arg;
    uint64_t number; /* in order of arrival */
    size_t bytes;    /* of its values on the wire */
    struct pg_value *values;
    const unsigned char *key; /* compares with memcmp like the key columns */
    size_t key_len;
    struct pg_batch_row
        *followers; /* rows with the same key that wait for this one, oldest first */
    struct pg_batch_row *last_follower;
    int answer; /* its row in the result, -1: none */
};

/* NULL: out of memory. */
struct pg_batch_row *pg_batch_row_new(const struct pg_batch_kind *kind,
                                      const struct pg_value *values, pg_batch_done_fn *done,
                                      void *arg) MUST_CHECK;

/* By key, then by arrival; for qsort over pointers to rows. */
int pg_batch_row_compare(const void *a, const void *b);

/* Copies values into the count cells of to; text and bytes into room, which has
 * pg_batch_values_room() bytes. */
size_t pg_batch_values_room(const struct pg_value *values, size_t count);
void pg_batch_values_copy(struct pg_value *to, const struct pg_value *values, size_t count,
                          char *room);

#endif
