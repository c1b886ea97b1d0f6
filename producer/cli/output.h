/* SPDX-License-Identifier: Apache-2.0 */
/* What the output is: a terminal or not, how wide, with colours or without. */
#ifndef PRODUCER_CLI_OUTPUT_H
#define PRODUCER_CLI_OUTPUT_H

#include <stddef.h>

#include "common/base/err.h"

struct buf;

enum { OUTPUT_WIDTH_DEFAULT = 80 };

struct output {
    bool is_terminal;       /* standard output */
    bool is_error_terminal; /* standard error, where progress goes */
    bool has_colours;       /* a terminal, NO_COLOR unset or empty, TERM not "dumb" */
    bool is_utf8;
    bool is_json; /* --json */
    bool is_csv;  /* --csv */
    int width;    /* of standard output; 0: as wide as need be (no terminal) */
};

void output_init(struct output *out);
/* Columns of the terminal behind a descriptor now; OUTPUT_WIDTH_DEFAULT when it does not say. */
int output_columns(int fd);

enum output_style { STYLE_PLAIN, STYLE_BOLD, STYLE_DIM, STYLE_GOOD, STYLE_BAD, STYLE_WARN };
/* The escape sequence that starts a style, "" without colours; STYLE_PLAIN ends any. */
const char *output_style(const struct output *out, enum output_style style);

/* Appends text so that it cannot drive a terminal: control characters (C0 but newline and, unless
 * is_cell, tab; DEL; C1), bidirectional overrides and bytes that are no UTF-8 become \x1b, \u202e
 * and the like.  With is_cell newlines become \n, too. */
bool output_escape(struct buf *out, const char *text, size_t len, bool is_cell);

/* Text of the server's, to standard output: escaped on a terminal, else its very bytes.  False: it
 * cannot be written (the reader has gone). */
bool output_text(const struct output *out, const char *text, size_t len);

/* What was printed goes out.  False: standard output takes it no more, now or since an earlier
 * call; main() tells why, once. */
bool output_flush(void);
/* The errno that standard output first failed with; 0: none is known. */
int output_error(void);
/* Standard streams that are closed become ones that fail: else the next file or connection would
 * take their place, and be written to. */
void output_guard(void);

#endif
