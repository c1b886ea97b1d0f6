/* SPDX-License-Identifier: Apache-2.0 */
/* Cursors of a job's event stream. */
#include "producer/cursor.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/model/job.h"

enum { RUN_DIGITS = 8, SEQ_DIGITS = 8, OFFSET_DIGITS = 12 };

void cursor_format(const struct cursor *cursor, char out[CURSOR_SIZE])
{
    snprintf(out, CURSOR_SIZE, "%08" PRIx32 "%08" PRIx32 "%012" PRIx64, (uint32_t)cursor->run,
             (uint32_t)cursor->seq, (uint64_t)(cursor->offset & CURSOR_OFFSET_MAX));
}

static bool read_hex(const char *text, int digits, int64_t max, int64_t *out)
{
    *out = 0;
    for (int i = 0; i < digits; i++) {
        char c = text[i];

        if (c >= '0' && c <= '9')
            *out = *out * 16 + (c - '0');
        else if (c >= 'a' && c <= 'f')
            *out = *out * 16 + (c - 'a' + 10);
        else
            return false;
    }
    return *out <= max;
}

bool cursor_parse(const char *text, size_t len, struct cursor *out)
{
    int64_t run, seq, offset;

    if (len != CURSOR_LEN || !read_hex(text, RUN_DIGITS, INT32_MAX, &run) ||
        !read_hex(text + RUN_DIGITS, SEQ_DIGITS, INT32_MAX, &seq) ||
        !read_hex(text + RUN_DIGITS + SEQ_DIGITS, OFFSET_DIGITS, CURSOR_OFFSET_MAX, &offset))
        return false;
    *out = (struct cursor){.run = (int)run, .seq = (int)seq, .offset = offset};
    return true;
}

int cursor_compare(const struct cursor *a, const struct cursor *b)
{
    if (a->run != b->run)
        return a->run < b->run ? -1 : 1;
    if (a->seq != b->seq)
        return a->seq < b->seq ? -1 : 1;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

bool cursor_is_possible(const struct cursor *cursor, const struct cursor_facts *facts)
{
    if (facts->has_row && !facts->is_text)
        return cursor->offset == 0;
    if (facts->has_row)
        return cursor->offset > facts->row_offset &&
               cursor->offset <= facts->row_offset + facts->row_len && facts->is_boundary;
    /* Live text of a chunk not stored (yet): after all that is. */
    return facts->last_seq >= 1 && cursor->seq < SEQ_SUPERSEDED && cursor->seq > facts->last_seq &&
           cursor->seq <= facts->last_seq + CURSOR_ROWS_AHEAD && cursor->offset > facts->text_end &&
           cursor->offset <= facts->text_end + CURSOR_BYTES_AHEAD;
}
