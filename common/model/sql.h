/* SPDX-License-Identifier: Apache-2.0 */
/* SQL fragments that every store may need. */
#ifndef COMMON_MODEL_SQL_H
#define COMMON_MODEL_SQL_H

/* A piece of SQL with other pieces in it: clang-format leaves the layout of what stands in SQL()
 * and in PG_STATEMENT() alone (WhitespaceSensitiveMacros).  One clause on a line; each line brings
 * the space that parts it from its neighbours. */
#define SQL(...) __VA_ARGS__

/* The join condition "column = value" as one that can only be met by looking each value up in
 * column's index.  A plain equality may be hashed or merged as well, and on tables that looked
 * empty when the statement was planned the planner does so: it then reads whole indexes, of every
 * partition, also with enable_seqscan=off, for as long as the plan is kept.  A one-element ANY can
 * be neither hashed nor merged, and still prunes partitions at run time. */
#define SQL_KEYED(column, value) column " = ANY (ARRAY[" value "])"

/* A timestamptz as the API writes it. */
#define SQL_RFC3339(at) "to_char((" at ") AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"

#endif
