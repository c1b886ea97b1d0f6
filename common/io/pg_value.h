/* SPDX-License-Identifier: Apache-2.0 */
/* Between pg's own files: parameters in libpq's form, and what an SQLSTATE means. */
#ifndef COMMON_IO_PG_VALUE_H
#define COMMON_IO_PG_VALUE_H

#include "common/io/pg.h"

enum { PG_SQLSTATE_SIZE = 6 };

/* Encoded parameters: what PQsendPrepare and PQsendQueryPrepared take.  The arrays and the values
 * share one block of memory. */
struct pg_params {
    int count;
    size_t bytes; /* of the values */
    unsigned int *types;
    const char **values;
    int *lengths;
    int *formats;
};

/* Copies and encodes.  On failure sqlstate says why, in the server's vocabulary: 22021 a NUL inside
 * text, 54000 too large, 53200 out of memory. */
bool pg_params_encode(struct pg_params *params, const struct pg_value *values, size_t count,
                      char sqlstate[PG_SQLSTATE_SIZE], struct err *err) MUST_CHECK;
void pg_params_release(struct pg_params *params);

/* How many bytes the value takes on the wire (for batch limits); 0 for a null. */
size_t pg_value_size(const struct pg_value *value);

/* Does an error with this SQLSTATE mean that the connection or the server is gone? */
bool pg_sqlstate_is_loss(const char *sqlstate);

#endif
