/* SPDX-License-Identifier: Apache-2.0 */
/* A growable byte buffer that is born with a maximum. */
#ifndef COMMON_BASE_BUF_H
#define COMMON_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

/* data is NUL-terminated past len whenever anything was ever appended (the NUL is not counted).
 * After an append that failed the buffer is `is_broken`: the content stays as it was, all later
 * appends fail too, so a chain of appends needs one check at its end. */
struct buf {
    char *data;
    size_t len;
    size_t cap;
    size_t max;
    bool is_broken; /* over max, or out of memory */
};

void buf_init(struct buf *buf, size_t max); /* allocates nothing */
void buf_release(struct buf *buf);          /* frees; the buffer may be used again (same max) */
void buf_clear(struct buf *buf);            /* len = 0, not broken; keeps the memory */

bool buf_append(struct buf *buf, const void *data, size_t len);
bool buf_puts(struct buf *buf, const char *text);
bool buf_putc(struct buf *buf, char c);
bool buf_printf(struct buf *buf, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool buf_vprintf(struct buf *buf, const char *fmt, va_list args) PRINTF_LIKE(2, 0);
bool buf_reserve(struct buf *buf, size_t more); /* room for `more` bytes past len */
void buf_drop_front(struct buf *buf, size_t n); /* removes the first n bytes */

/* Appends text as a JSON string with its quotes.  Text must be valid UTF-8 (see str_utf8_valid). */
bool buf_put_json_string(struct buf *buf, const char *text, size_t len);
bool buf_put_json_text(struct buf *buf, const char *text); /* the same, and null for NULL */

/* Hands the memory over (the caller free()s it); the buffer is empty after.  Never NULL unless the
 * buffer is broken. */
char *buf_detach(struct buf *buf, size_t *len) MUST_CHECK;

#endif
