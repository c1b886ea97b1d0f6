/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events: an incremental reader with caps, and a writer. */
#include "common/base/sse.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"

static const char bom[] = "\xef\xbb\xbf";

enum { BOM_SIZE = 3 };

/* A line is looked at where it lies when it came in one piece; only a piece without its end is
 * kept in `line` until the rest is there.  Errors depend on lines alone, so that how the bytes were
 * cut changes nothing. */
struct sse_reader {
    size_t max_event;
    sse_event_fn *on_event;
    void *arg;
    struct buf line;
    struct buf event;
    struct buf data;
    char id[SSE_ID_MAX + 1];
    size_t bom_seen; /* bytes of the BOM at the very start; BOM_SIZE: no longer looked for */
    bool has_data;   /* an empty data line is data too */
    bool after_cr;   /* the last line ended in CR: an LF now belongs to it */
    bool is_stopped; /* by an error or the callback */
};

struct sse_reader *sse_reader_new(size_t max_event, sse_event_fn *on_event, void *arg)
{
    struct sse_reader *reader = calloc(1, sizeof(*reader));

    if (!reader)
        return NULL;
    reader->max_event = max_event;
    reader->on_event = on_event;
    reader->arg = arg;
    buf_init(&reader->line, max_event);
    buf_init(&reader->event, max_event);
    buf_init(&reader->data, max_event);
    return reader;
}

void sse_reader_free(struct sse_reader *reader)
{
    if (!reader)
        return;
    buf_release(&reader->line);
    buf_release(&reader->event);
    buf_release(&reader->data);
    free(reader);
}

static bool reader_too_long(const struct sse_reader *reader, struct err *err)
{
    return err_set(err, "event stream: a line or an event is over %zu bytes", reader->max_event);
}

static bool reader_out_of_memory(struct err *err)
{
    return err_set(err, "event stream: out of memory");
}

static bool reader_dispatch(struct sse_reader *reader)
{
    const struct sse_event event = {
        .event = reader->event.len ? reader->event.data : "",
        .id = reader->id,
        .data = reader->data.len ? reader->data.data : "",
        .data_len = reader->data.len,
    };
    bool goes_on = !reader->has_data || reader->on_event(&event, reader->arg);

    buf_clear(&reader->event);
    buf_clear(&reader->data);
    reader->has_data = false;
    return goes_on;
}

static bool reader_add_data(struct sse_reader *reader, const char *value, size_t len,
                            struct err *err)
{
    size_t newline = reader->has_data ? 1 : 0;

    if (reader->event.len + reader->data.len + newline + len > reader->max_event)
        return reader_too_long(reader, err);
    if (!buf_append(&reader->data, "\n", newline) || !buf_append(&reader->data, value, len))
        return reader_out_of_memory(err);
    reader->has_data = true;
    return true;
}

static bool reader_set_event(struct sse_reader *reader, const char *value, size_t len,
                             struct err *err)
{
    if (reader->data.len + len > reader->max_event)
        return reader_too_long(reader, err);
    buf_clear(&reader->event);
    return buf_append(&reader->event, value, len) || reader_out_of_memory(err);
}

/* As the standard has it, an id with a NUL in it is none. */
static void reader_set_id(struct sse_reader *reader, const char *value, size_t len)
{
    if (len > SSE_ID_MAX || memchr(value, '\0', len))
        return;
    memcpy(reader->id, value, len);
    reader->id[len] = '\0';
}

static bool name_is(const char *name, size_t len, const char *wanted)
{
    return len == strlen(wanted) && memcmp(name, wanted, len) == 0;
}

/* One line without its end.  A comment is a line whose field name is empty. */
static bool reader_line(struct sse_reader *reader, const char *line, size_t len, struct err *err)
{
    const char *colon = len ? memchr(line, ':', len) : NULL;
    size_t name_len = colon ? (size_t)(colon - line) : len;
    const char *value = colon ? colon + 1 : line + len;
    const char *end = line + len;

    if (len == 0)
        return reader_dispatch(reader);
    if (value < end && *value == ' ')
        value++;
    if (name_is(line, name_len, "data"))
        return reader_add_data(reader, value, (size_t)(end - value), err);
    if (name_is(line, name_len, "event"))
        return reader_set_event(reader, value, (size_t)(end - value), err);
    if (name_is(line, name_len, "id"))
        reader_set_id(reader, value, (size_t)(end - value));
    return true;
}

/* A piece of a line; with is_end the line is complete. */
static bool reader_piece(struct sse_reader *reader, const char *piece, size_t len, bool is_end,
                         struct err *err)
{
    bool ok;

    if (len > reader->max_event - reader->line.len)
        return reader_too_long(reader, err);
    if (is_end && reader->line.len == 0)
        return reader_line(reader, piece, len, err);
    if (!buf_append(&reader->line, piece, len))
        return reader_out_of_memory(err);
    if (!is_end)
        return true;
    ok = reader_line(reader, reader->line.data, reader->line.len, err);
    buf_clear(&reader->line);
    return ok;
}

/* Swallows a BOM, possibly in pieces.  What only began like one is the start of the first line. */
static bool reader_skip_bom(struct sse_reader *reader, const char **data, const char *end,
                            struct err *err)
{
    size_t seen = reader->bom_seen;

    while (seen < BOM_SIZE && *data < end && **data == bom[seen]) {
        seen++;
        ++*data;
    }
    if (seen == BOM_SIZE || *data == end) {
        reader->bom_seen = seen;
        return true;
    }
    reader->bom_seen = BOM_SIZE;
    return seen == 0 || reader_piece(reader, bom, seen, false, err);
}

static const char *find_line_end(const char *data, const char *end)
{
    const char *lf = memchr(data, '\n', (size_t)(end - data));
    const char *cr = memchr(data, '\r', (size_t)((lf ? lf : end) - data));

    return cr ? cr : lf;
}

static bool reader_lines(struct sse_reader *reader, const char *data, const char *end,
                         struct err *err)
{
    while (data < end) {
        const char *line_end;

        if (reader->after_cr && *data == '\n')
            data++;
        reader->after_cr = false;
        if (data == end)
            break;
        line_end = find_line_end(data, end);
        if (!line_end)
            return reader_piece(reader, data, (size_t)(end - data), false, err);
        if (!reader_piece(reader, data, (size_t)(line_end - data), true, err))
            return false;
        reader->after_cr = *line_end == '\r';
        data = line_end + 1;
    }
    return true;
}

bool sse_reader_feed(struct sse_reader *reader, const char *data, size_t len, struct err *err)
{
    const char *end;

    if (reader->is_stopped)
        return err_set(err, "event stream: reading has stopped");
    if (len == 0)
        return true;
    end = data + len;
    if ((reader->bom_seen < BOM_SIZE && !reader_skip_bom(reader, &data, end, err)) ||
        !reader_lines(reader, data, end, err))
        reader->is_stopped = true;
    return !reader->is_stopped;
}

bool sse_reader_finish(struct sse_reader *reader, struct err *err)
{
    if (reader->is_stopped)
        return err_set(err, "event stream: reading has stopped");
    reader->is_stopped = true;
    if (reader->line.len && !reader_piece(reader, "", 0, true, err))
        return false;
    return reader_dispatch(reader);
}

/* ---- writing ---- */

static size_t newline_length(const char *at, const char *end)
{
    return at[0] == '\r' && at + 1 < end && at[1] == '\n' ? 2 : 1;
}

static bool write_data(struct buf *out, const char *data, size_t len)
{
    const char *end = data + len;
    const char *line_end;

    while ((line_end = find_line_end(data, end))) {
        if (!buf_puts(out, "data: ") || !buf_append(out, data, (size_t)(line_end - data)) ||
            !buf_putc(out, '\n'))
            return false;
        data = line_end + newline_length(line_end, end);
    }
    return buf_puts(out, "data: ") && buf_append(out, data, (size_t)(end - data)) &&
           buf_putc(out, '\n');
}

static bool write_field(struct buf *out, const char *name, const char *value)
{
    if (!value)
        return true;
    assert(!strpbrk(value, "\r\n"));
    return buf_printf(out, "%s: %s\n", name, value);
}

/* Half an event would join with the next one: all or nothing. */
static bool keep_or_undo(struct buf *out, size_t before, bool ok)
{
    if (!ok && out->len > before) {
        out->len = before;
        out->data[before] = '\0';
    }
    return ok;
}

bool sse_write(struct buf *out, const char *id, const char *event, const char *data, size_t len)
{
    size_t before = out->len;
    bool ok = write_field(out, "id", id) && write_field(out, "event", event) &&
              write_data(out, len ? data : "", len) && buf_putc(out, '\n');

    return keep_or_undo(out, before, ok);
}

bool sse_write_comment(struct buf *out, const char *text)
{
    assert(!strpbrk(text, "\r\n"));
    return buf_printf(out, ": %s\n\n", text);
}
