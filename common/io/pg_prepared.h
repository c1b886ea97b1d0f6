/* SPDX-License-Identifier: Apache-2.0 */
/* Which statements a connection has prepared, and under which names. */
#ifndef COMMON_IO_PG_PREPARED_H
#define COMMON_IO_PG_PREPARED_H

#include "common/io/pg_value.h"

enum { PG_PREPARED_MAX = 512, PG_PREPARED_NAME_SIZE = 64 };

struct pg_prepared; /* the table of one connection */

/* One statement in it. */
struct pg_prepared_entry {
    const struct pg_statement *statement;
    bool is_prepared;                 /* or being so, earlier in the pipeline */
    int version;                      /* a name is never used twice on a connection */
    char name[PG_PREPARED_NAME_SIZE]; /* at the server */
    int type_count;
    unsigned int *types;
};

struct pg_prepared *pg_prepared_new(void) MUST_CHECK;
void pg_prepared_free(struct pg_prepared *table);

/* The statement's entry, made when it is new; NULL: out of memory.  The parameter types of one
 * statement are always the same (asserted): the server reads binary values by the first ones. */
struct pg_prepared_entry *pg_prepared_find(struct pg_prepared *table,
                                           const struct pg_statement *statement,
                                           const struct pg_params *params) MUST_CHECK;

/* The statement is not there under that version's name after all: its next use prepares it again,
 * under a new name.  Nothing when a newer version exists already. */
void pg_prepared_forget(struct pg_prepared_entry *entry, int version);
/* All of them: the connection is gone. */
void pg_prepared_forget_all(struct pg_prepared *table);

#endif
