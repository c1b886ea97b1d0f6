/* SPDX-License-Identifier: Apache-2.0 */
/* An answer about usage as JSON and as CSV.  Pure. */
#ifndef PRODUCER_USAGE_WRITE_H
#define PRODUCER_USAGE_WRITE_H

#include "common/base/buf.h"
#include "common/model/usage_read_store.h"

/* The names that were asked for, in that order. */
struct usage_names {
    int count;
    enum usage_name of[USAGE_NAMES];
};

/* A comma list of names of the API, each at most once; "" and NULL are none. */
bool usage_names_parse(const char *text, struct usage_names *out, struct err *err) MUST_CHECK;

/* One row as an object of a list that was begun with admin_list_begin. */
void usage_row_put_json(struct buf *out, const struct usage_names *names,
                        const struct usage_row *row);

/* The line of titles, and a line for a row; lines end in CR LF. */
void usage_titles_put_csv(struct buf *out, const struct usage_names *names);
void usage_row_put_csv(struct buf *out, const struct usage_names *names,
                       const struct usage_row *row);

/* A cell as RFC 4180 has it; one that a spreadsheet would take for a formula (it begins with = + -
 * @, a tab or a CR) gets a ' in front. */
void csv_put_cell(struct buf *out, const char *text);

#endif
