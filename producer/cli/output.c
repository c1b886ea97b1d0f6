/* SPDX-License-Identifier: Apache-2.0 */
/* What the output is: a terminal or not, how wide, with colours or without. */
#include "producer/cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/buf.h"

enum { WIDTH_MIN = 10, WIDTH_MAX = 1000 };

int output_columns(int fd)
{
    struct winsize size = {0};
    const char *columns = getenv("COLUMNS");
    int width = OUTPUT_WIDTH_DEFAULT;

    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        width = size.ws_col;
    else if (columns && atoi(columns) > 0) // NOLINT(cert-err34-c): 0 is "not said"
        width = atoi(columns);             // NOLINT(cert-err34-c)
    return width < WIDTH_MIN ? WIDTH_MIN : width > WIDTH_MAX ? WIDTH_MAX : width;
}

static bool wants_colours(void)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

    return (!no_color || !*no_color) && term && *term && strcmp(term, "dumb") != 0;
}

void output_init(struct output *out)
{
    memset(out, 0, sizeof(*out));
    setlocale(LC_CTYPE, "");
    out->is_utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    /* What the server sends is UTF-8 whatever the terminal is; its widths are asked of this one. */
    if (!out->is_utf8)
        setlocale(LC_CTYPE, "C.UTF-8");
    out->is_terminal = isatty(STDOUT_FILENO) == 1;
    out->is_error_terminal = isatty(STDERR_FILENO) == 1;
    out->has_colours = out->is_terminal && wants_colours();
    out->width = out->is_terminal ? output_columns(STDOUT_FILENO) : 0;
}

const char *output_style(const struct output *out, enum output_style style)
{
    static const char *const codes[] = {
        [STYLE_PLAIN] = "\x1b[0m", [STYLE_BOLD] = "\x1b[1m", [STYLE_DIM] = "\x1b[2m",
        [STYLE_GOOD] = "\x1b[32m", [STYLE_BAD] = "\x1b[31m", [STYLE_WARN] = "\x1b[33m",
    };

    return out->has_colours ? codes[style] : "";
}

/* --- standard output that fails --------------------------------------------------------------- */

static int first_error; /* the C library forgets it: only that there was one stays in the stream */

static bool note_error(bool ok)
{
    if (!ok && first_error == 0)
        first_error = errno;
    return ok;
}

bool output_flush(void)
{
    errno = 0;
    return note_error(fflush(stdout) == 0) && !ferror(stdout);
}

int output_error(void)
{
    return first_error;
}

void output_guard(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF)
            /* The lowest free one is fd; opened the wrong way round, its use fails. */
            (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

/* --- text that cannot drive a terminal -------------------------------------------------------- */

/* The code point at text and its length; 0 length: no UTF-8 stands there. */
static size_t decode(const unsigned char *text, size_t len, uint32_t *point)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t size = text[0] < 0x80   ? 1
                  : text[0] < 0xc0 ? 0
                  : text[0] < 0xe0 ? 2
                  : text[0] < 0xf0 ? 3
                                   : 4;
    uint32_t value;

    if (size == 0 || size > len || text[0] > 0xf4)
        return 0;
    value = size == 1 ? text[0] : text[0] & (0x7fU >> size);
    for (size_t i = 1; i < size; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (text[i] & 0x3f);
    }
    if (value < least[size] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
        return 0;
    *point = value;
    return size;
}

/* Also what reverses the order of what is read (Trojan Source), and the separators that some
 * terminals take for line ends. */
static bool is_dangerous(uint32_t point)
{
    return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x61c ||
           (point >= 0x200e && point <= 0x200f) || (point >= 0x2028 && point <= 0x202e) ||
           (point >= 0x2066 && point <= 0x2069);
}

bool output_escape(struct buf *out, const char *text, size_t len, bool is_cell)
{
    const unsigned char *at = (const unsigned char *)text;
    const unsigned char *end = at + len;
    bool ok = true;

    while (at < end && ok) {
        uint32_t point = 0;
        size_t size = decode(at, (size_t)(end - at), &point);

        if (size == 0)
            ok = buf_printf(out, "\\x%02x", *at);
        else if (!is_dangerous(point) || (!is_cell && (point == '\n' || point == '\t')))
            ok = buf_append(out, at, size);
        else if (point == '\n' || point == '\t' || point == '\r')
            ok = buf_puts(out, point == '\n' ? "\\n" : point == '\t' ? "\\t" : "\\r");
        else
            ok = buf_printf(out, point < 0x100 ? "\\x%02x" : "\\u%04x", (unsigned)point);
        at += size ? size : 1;
    }
    return ok;
}

bool output_text(const struct output *out, const char *text, size_t len)
{
    struct buf escaped;
    bool ok;

    errno = 0;
    if (!out->is_terminal)
        return note_error(fwrite(text, 1, len, stdout) == len);
    buf_init(&escaped, SIZE_MAX / 2);
    ok =
        output_escape(&escaped, text, len, false) &&
        note_error(fwrite(escaped.data ? escaped.data : "", 1, escaped.len, stdout) == escaped.len);
    buf_release(&escaped);
    return ok;
}
