/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts a stream of bytes into lines, each up to a maximum; a longer one is told of and skipped. */
#ifndef PRODUCER_LINE_SPLIT_H
#define PRODUCER_LINE_SPLIT_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"

enum line_kind {
    LINE_NONE,  /* the data has no whole line more */
    LINE_TEXT,  /* in line.data, without its newline */
    LINE_BLANK, /* nothing but white space */
    LINE_OVER,  /* longer than the maximum */
    LINE_LOST,  /* out of memory */
};

struct line_split {
    struct buf line;
    int64_t number; /* of the newest line handed out, from 1 */
    bool is_over;   /* the present line is too long */
    bool is_done;   /* line was handed out: the next call begins a new one */
    bool has_bytes; /* of a line without its newline yet */
};

void line_split_init(struct line_split *split, size_t max);
void line_split_release(struct line_split *split);

/* Takes from data what belongs to the next line; *used tells how much that was. */
enum line_kind line_split_feed(struct line_split *split, const char *data, size_t len,
                               size_t *used);
/* At the end of the input: the last line, if it has no newline. */
enum line_kind line_split_finish(struct line_split *split);

#endif
