/* SPDX-License-Identifier: Apache-2.0 */
/* The event reader hears the same however its input is cut, and reads back what the writer wrote.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(truth)          \
    do {                      \
        if (!(truth))         \
            __builtin_trap(); \
    } while (0)

static bool on_event(const struct sse_event *event, void *arg)
{
    struct buf *heard = arg;

    CHECK(event->data[event->data_len] == '\0');
    buf_printf(heard, "%s=%zu:", event->event, event->data_len);
    buf_append(heard, event->data, event->data_len);
    return true;
}

/* Pieces of 1 to 8 bytes by a small generator; seed 0: all at once. */
static size_t next_piece(uint32_t *seed, size_t left)
{
    size_t piece;

    if (*seed == 0)
        return left;
    *seed = *seed * 1664525u + 1013904223u;
    piece = 1 + (*seed >> 29);
    return piece < left ? piece : left;
}

static bool read_all(const char *text, size_t len, size_t max, uint32_t seed, struct buf *heard)
{
    struct sse_reader *reader = sse_reader_new(max, on_event, heard);
    struct err err;
    bool ok = true;

    buf_init(heard, 1 << 24);
    while (ok && len > 0) {
        size_t piece = next_piece(&seed, len);

        ok = sse_reader_feed(reader, text, piece, &err);
        text += piece;
        len -= piece;
    }
    ok = ok && sse_reader_finish(reader, &err);
    sse_reader_free(reader);
    return ok;
}

static void check_cuts(const char *text, size_t len, size_t max, uint32_t seed)
{
    struct buf whole, cut;
    bool whole_ok = read_all(text, len, max, 0, &whole);
    bool cut_ok = read_all(text, len, max, seed | 1, &cut);

    CHECK(whole_ok == cut_ok);
    CHECK(whole.len == cut.len);
    CHECK(whole.len == 0 || memcmp(whole.data, cut.data, whole.len) == 0);
    buf_release(&whole);
    buf_release(&cut);
}

/* What the writer is given, with its line ends as LF. */
static void put_normal(struct buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n' && i > 0 && text[i - 1] == '\r')
            continue;
        buf_putc(out, text[i] == '\r' ? '\n' : text[i]);
    }
}

static void check_writer(const char *text, size_t len, uint32_t seed)
{
    struct buf wire, heard, normal, expected;

    buf_init(&wire, 1 << 24);
    buf_init(&normal, 1 << 24);
    buf_init(&expected, 1 << 24);
    put_normal(&normal, text, len);
    buf_printf(&expected, "e=%zu:", normal.len);
    buf_append(&expected, normal.data, normal.len);
    CHECK(sse_write_comment(&wire, "c") && sse_write(&wire, "1", "e", text, len));
    CHECK(read_all(wire.data, wire.len, 1 << 22, seed | 1, &heard));
    CHECK(heard.len == expected.len && memcmp(heard.data, expected.data, heard.len) == 0);
    buf_release(&wire);
    buf_release(&heard);
    buf_release(&normal);
    buf_release(&expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t seed;
    size_t max;

    if (size < 5)
        return 0;
    memcpy(&seed, data, sizeof(seed));
    max = data[4] < 128 ? data[4] : 1 << 16;
    check_cuts((const char *)data + 5, size - 5, max, seed);
    check_writer((const char *)data + 5, size - 5, seed);
    return 0;
}
