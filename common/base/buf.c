/* SPDX-License-Identifier: Apache-2.0 */
/* A growable byte buffer that is born with a maximum. */
#include "common/base/buf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_FIRST_SIZE = 64 };

static bool buf_break(struct buf *buf)
{
    buf->is_broken = true;
    return false;
}

/* cap counts the place of the NUL; max does not.  The caller knows that need is within max. */
static size_t grown_cap(const struct buf *buf, size_t need)
{
    size_t cap = buf->cap ? buf->cap : BUF_FIRST_SIZE;

    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    return cap - 1 > buf->max ? buf->max + 1 : cap;
}

/* Takes back what a half-done compound append had added. */
static bool buf_undo(struct buf *buf, size_t len)
{
    buf->len = len;
    if (buf->data)
        buf->data[len] = '\0';
    return false;
}

void buf_init(struct buf *buf, size_t max)
{
    *buf = (struct buf){.max = max < SIZE_MAX ? max : SIZE_MAX - 1};
}

void buf_release(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){.max = buf->max};
}

void buf_clear(struct buf *buf)
{
    buf->is_broken = false;
    buf_undo(buf, 0);
}

bool buf_reserve(struct buf *buf, size_t more)
{
    char *data;
    size_t cap;

    if (buf->is_broken)
        return false;
    if (more > buf->max - buf->len)
        return buf_break(buf);
    if (buf->len + more < buf->cap)
        return true;
    cap = grown_cap(buf, buf->len + more + 1);
    data = realloc(buf->data, cap);
    if (!data)
        return buf_break(buf);
    buf->data = data;
    buf->cap = cap;
    buf->data[buf->len] = '\0';
    return true;
}

bool buf_append(struct buf *buf, const void *data, size_t len)
{
    if (!buf_reserve(buf, len))
        return false;
    if (len)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
    return true;
}

bool buf_puts(struct buf *buf, const char *text)
{
    return buf_append(buf, text, strlen(text));
}

bool buf_putc(struct buf *buf, char c)
{
    return buf_append(buf, &c, 1);
}

bool buf_vprintf(struct buf *buf, const char *fmt, va_list args)
{
    va_list measure;
    int need;

    if (buf->is_broken)
        return false;
    va_copy(measure, args);
    need = vsnprintf(NULL, 0, fmt, measure);
    va_end(measure);
    if (need < 0)
        return buf_break(buf);
    if (!buf_reserve(buf, (size_t)need))
        return false;
    vsnprintf(buf->data + buf->len, (size_t)need + 1, fmt, args);
    buf->len += (size_t)need;
    return true;
}

bool buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args;
    bool ok;

    va_start(args, fmt);
    ok = buf_vprintf(buf, fmt, args);
    va_end(args);
    return ok;
}

void buf_drop_front(struct buf *buf, size_t n)
{
    assert(n <= buf->len);
    if (!n)
        return;
    memmove(buf->data, buf->data + n, buf->len - n);
    buf_undo(buf, buf->len - n);
}

static bool must_escape(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

static bool put_json_escape(struct buf *buf, unsigned char c)
{
    static const char shorts[][2] = {{'"', '"'},  {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'},
                                     {'\n', 'n'}, {'\r', 'r'},  {'\t', 't'}};
    char text[2] = {'\\', 0};

    for (size_t i = 0; i < sizeof(shorts) / sizeof(shorts[0]); i++) {
        if ((unsigned char)shorts[i][0] == c) {
            text[1] = shorts[i][1];
            return buf_append(buf, text, 2);
        }
    }
    return buf_printf(buf, "\\u%04x", c);
}

bool buf_put_json_string(struct buf *buf, const char *text, size_t len)
{
    size_t before = buf->len;
    size_t from = 0;
    bool ok = buf_putc(buf, '"');

    for (size_t i = 0; ok && i < len; i++) {
        if (!must_escape((unsigned char)text[i]))
            continue;
        ok = buf_append(buf, text + from, i - from) && put_json_escape(buf, (unsigned char)text[i]);
        from = i + 1;
    }
    ok = ok && buf_append(buf, text + from, len - from) && buf_putc(buf, '"');
    return ok || buf_undo(buf, before);
}

bool buf_put_json_text(struct buf *buf, const char *text)
{
    return text ? buf_put_json_string(buf, text, strlen(text)) : buf_puts(buf, "null");
}

char *buf_detach(struct buf *buf, size_t *len)
{
    char *data = NULL;

    if (buf_reserve(buf, 0)) { /* an empty buffer gets its NUL here */
        data = buf->data;
        if (len)
            *len = buf->len;
        buf->data = NULL;
    }
    buf_release(buf);
    return data;
}
