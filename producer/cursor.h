/* SPDX-License-Identifier: Apache-2.0 */
/* Cursors of a job's event stream: where a reader stands, as text of fixed width. */
#ifndef PRODUCER_CURSOR_H
#define PRODUCER_CURSOR_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

/* After the event (run, seq).  offset is 0 but for text: the end, in the attempt's output, of what
 * was sent of it.  Text that is not stored yet has the seq of the row that will hold it, so a
 * cursor may stand inside a row. */
struct cursor {
    int run;
    int seq; /* -1: before the first event of all */
    int64_t offset;
};

/* run (8) seq (8) offset (12), hex: compares as a string as it does as numbers. */
enum { CURSOR_LEN = 28, CURSOR_SIZE = CURSOR_LEN + 1 };

#define CURSOR_START ((struct cursor){.run = 0, .seq = -1})
#define CURSOR_OFFSET_MAX INT64_C(0xffffffffffff)

void cursor_format(const struct cursor *cursor, char out[CURSOR_SIZE]);
/* Exactly what cursor_format gives. */
bool cursor_parse(const char *text, size_t len, struct cursor *out) MUST_CHECK;
/* As strcmp of the texts. */
int cursor_compare(const struct cursor *a, const struct cursor *b);

/* What Postgres knows about the place a cursor names. */
struct cursor_facts {
    bool has_row; /* (run, seq) is stored */
    bool is_text;
    int64_t row_offset; /* of its first byte, and its length */
    int64_t row_len;
    bool is_boundary; /* a character ends at the cursor's offset */
    int last_seq;     /* the newest stored event of the run but for closing ones; -1: none */
    int64_t text_end; /* of the attempt's stored text, up to the cursor */
};

/* How many rows of a live run may be on their way to Postgres while text after them is already sent
 * to those who watch. */
enum { CURSOR_ROWS_AHEAD = 64, CURSOR_BYTES_AHEAD = 64 * 1024 * 1024 };

/* Can the job have had this cursor?  Live text that a killed worker never stored was had and is not
 * known to anybody; what is said of such text is only that it is possible. */
bool cursor_is_possible(const struct cursor *cursor, const struct cursor_facts *facts);

#endif
