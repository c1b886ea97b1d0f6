/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a CSV file, one at a time; a broken row costs only itself. */
#ifndef PRODUCER_CLI_CSV_ROWS_H
#define PRODUCER_CLI_CSV_ROWS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/err.h"

struct csv_rows;

enum { CSV_CELLS_MAX = 256, CSV_ROW_MAX = 16 * 1024 * 1024 };

enum csv_outcome { CSV_ROW, CSV_BROKEN, CSV_NO_MORE };

struct csv_row {
    int64_t line; /* where it starts, from 1 */
    char *const *cells;
    int count;
};

/* file stays the caller's.  Reading is strict: a quote in the middle of a cell, text behind a
 * closing quote and a quote that is never closed make a row broken; reading goes on at the line
 * behind the one where that row began.  Blank lines are skipped; a byte order mark, too. */
struct csv_rows *csv_rows_new(FILE *file);
void csv_rows_free(struct csv_rows *rows);

/* CSV_ROW: *row lives until the next call.  CSV_BROKEN: row->line is where, err says why. */
enum csv_outcome csv_rows_next(struct csv_rows *rows, struct csv_row *row, struct err *err);

#endif
