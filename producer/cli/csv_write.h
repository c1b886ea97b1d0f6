/* SPDX-License-Identifier: Apache-2.0 */
/* CSV for spreadsheets: quoted as RFC 4180 wants, and no cell that would run as a formula. */
#ifndef PRODUCER_CLI_CSV_WRITE_H
#define PRODUCER_CLI_CSV_WRITE_H

#include <stddef.h>

#include "common/base/err.h"

struct buf;

/* Appends one cell, with a comma before it unless it is the first.  One that begins with = + - @ or
 * a tab or carriage return gets an apostrophe in front, unless it is a plain number. */
bool csv_put(struct buf *out, const char *text, size_t len, bool is_first);
bool csv_end_row(struct buf *out);

#endif
