/* SPDX-License-Identifier: Apache-2.0 */
/* Tables for people: columns that fit the window, or records where it is too narrow.  Pure. */
#ifndef PRODUCER_CLI_TABLE_H
#define PRODUCER_CLI_TABLE_H

#include <stddef.h>

#include "common/base/err.h"

struct buf;
struct table;

enum { TABLE_COLUMNS_MAX = 24, TABLE_CELL_MIN = 8 };

struct table_column {
    const char *title;
    bool is_right;    /* numbers */
    bool is_flexible; /* may be cut when the window is narrow */
    bool is_optional; /* may be left out when that is not enough */
};

struct table *table_new(const struct table_column *columns, int count);
void table_free(struct table *table);
/* The next cell, row by row; text is copied and escaped (output_escape). */
void table_add(struct table *table, const char *text);
int table_rows(const struct table *table);

/* width 0: no limit.  Lines fit the width: first optional columns without any text go, then
 * flexible ones are cut, the widest first, then optional ones go, from the right; if it is too
 * narrow even so, each row becomes a record of "title  value" lines.  title_on and title_off stand
 * around each title ("" for none). */
bool table_print(const struct table *table, int width, const char *title_on, const char *title_off,
                 struct buf *out);

/* Columns that text takes on a terminal. */
int text_width(const char *text, size_t len);
/* The longest prefix of text that takes at most so many columns, in bytes. */
size_t text_prefix(const char *text, size_t len, int columns);

#endif
