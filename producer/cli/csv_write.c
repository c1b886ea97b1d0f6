/* SPDX-License-Identifier: Apache-2.0 */
/* CSV for spreadsheets: quoted as RFC 4180 wants, and no cell that would run as a formula. */
#include "producer/cli/csv_write.h"

#include <csv.h>
#include <string.h>

#include "common/base/buf.h"

/* "-1.5" is a number, not a formula. */
static bool is_number(const char *text, size_t len)
{
    size_t at = len > 0 && (*text == '-' || *text == '+') ? 1 : 0, digits = 0, points = 0;

    for (; at < len; at++) {
        if (text[at] >= '0' && text[at] <= '9')
            digits++;
        else if (text[at] == '.' && points == 0)
            points++;
        else
            return false;
    }
    return digits > 0;
}

static bool runs_as_formula(const char *text, size_t len)
{
    return len > 0 && memchr("=+-@\t\r", *text, 6) && !is_number(text, len);
}

bool csv_put(struct buf *out, const char *text, size_t len, bool is_first)
{
    struct buf cell;
    size_t size;
    bool ok;

    buf_init(&cell, out->max);
    ok = (!runs_as_formula(text, len) || buf_putc(&cell, '\'')) && buf_append(&cell, text, len) &&
         (is_first || buf_putc(out, ','));
    if (ok && (cell.len == 0 || !(len > 0 && strpbrk(cell.data, ",\"\r\n ")))) {
        ok = buf_append(out, cell.len ? cell.data : "", cell.len);
    } else if (ok) {
        size = csv_write(NULL, 0, cell.data, cell.len);
        ok = buf_reserve(out, size + 1);
        if (ok) {
            csv_write(out->data + out->len, size, cell.data, cell.len);
            out->len += size;
            out->data[out->len] = '\0';
        }
    }
    buf_release(&cell);
    return ok;
}

bool csv_end_row(struct buf *out)
{
    return buf_puts(out, "\r\n");
}
