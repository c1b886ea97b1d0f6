/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts a stream of bytes into lines, each up to a maximum. */
#include "producer/line_split.h"

#include <string.h>

void line_split_init(struct line_split *split, size_t max)
{
    *split = (struct line_split){0};
    buf_init(&split->line, max);
}

void line_split_release(struct line_split *split)
{
    buf_release(&split->line);
}

static bool is_blank(const struct buf *line)
{
    for (size_t i = 0; i < line->len; i++)
        if (!memchr(" \t\r", line->data[i], 3))
            return false;
    return true;
}

static enum line_kind hand_out(struct line_split *split)
{
    split->number++;
    split->is_done = true;
    split->has_bytes = false;
    if (split->is_over)
        return LINE_OVER;
    if (split->line.is_broken)
        return LINE_LOST;
    return is_blank(&split->line) ? LINE_BLANK : LINE_TEXT;
}

static void begin(struct line_split *split)
{
    if (!split->is_done)
        return;
    buf_clear(&split->line);
    split->is_done = split->is_over = false;
}

static void append(struct line_split *split, const char *data, size_t len)
{
    if (split->is_over)
        return;
    if (len > split->line.max - split->line.len) {
        split->is_over = true;
        buf_release(&split->line);
        return;
    }
    buf_append(&split->line, data, len);
}

enum line_kind line_split_feed(struct line_split *split, const char *data, size_t len, size_t *used)
{
    const char *end = len > 0 ? memchr(data, '\n', len) : NULL;

    *used = end ? (size_t)(end - data) + 1 : len;
    if (len == 0)
        return LINE_NONE;
    begin(split);
    split->has_bytes = true;
    append(split, data, end ? (size_t)(end - data) : len);
    return end ? hand_out(split) : LINE_NONE;
}

enum line_kind line_split_finish(struct line_split *split)
{
    if (!split->has_bytes)
        return LINE_NONE;
    return hand_out(split);
}
