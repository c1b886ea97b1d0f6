/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing: a scan for what jansson would accept, choke on or explain badly, then jansson. */
#include "common/base/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"

/* What the scan changes it changes on a copy and without moving a byte, so that the positions
 * jansson reports are those of the text as it came:
 *   \u0000 and lone \uD800..\uDFFF   become \ufffd (lenient only; strict refuses them),
 *   integers beyond int64            lose their last two digits to "e2",
 *   numbers beyond a double          become 9e0..0307.
 * jansson itself checks UTF-8, the grammar and duplicates. */
struct scan {
    const char *text;
    size_t len;
    size_t at;
    int flags;
    int depth;
    char *copy; /* NULL until something has to change */
    struct err *err;
};

static bool scan_fail(const struct scan *scan, size_t at, const char *what)
{
    int line = 1;
    size_t column = 1;

    for (size_t i = 0; i < at; i++) {
        if (scan->text[i] == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)scan->text[i] & 0xc0) != 0x80) {
            column++;
        }
    }
    return err_input(scan->err, "invalid_json", "", "line %d, column %zu: %s", line, column, what);
}

/* Overwrites bytes of the copy; with is the same length as what stands there. */
static bool scan_patch(struct scan *scan, size_t at, const char *with, size_t len)
{
    if (!scan->copy) {
        scan->copy = malloc(scan->len + 1);
        if (!scan->copy)
            return err_set(scan->err, "read JSON: out of memory");
        memcpy(scan->copy, scan->text, scan->len);
        scan->copy[scan->len] = '\0';
    }
    memcpy(scan->copy + at, with, len);
    return true;
}

/* The value of four hex digits at `at`, -1 when they are not. */
static int scan_hex4(const struct scan *scan, size_t at)
{
    int value = 0;

    if (scan->len < 4 || at > scan->len - 4)
        return -1;
    for (size_t i = at; i < at + 4; i++) {
        char c = scan->text[i];

        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value * 16 + (c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            value = value * 16 + (c - 'A' + 10);
        else
            return -1;
    }
    return value;
}

static bool scan_is_low_surrogate(const struct scan *scan, size_t at)
{
    int value = -1;

    if (at + 1 < scan->len && scan->text[at] == '\\' && scan->text[at + 1] == 'u')
        value = scan_hex4(scan, at + 2);
    return value >= 0xdc00 && value <= 0xdfff;
}

/* At a backslash inside a string. */
static bool scan_escape(struct scan *scan)
{
    size_t start = scan->at;
    int value = -1;

    scan->at += 2;
    if (start + 1 < scan->len && scan->text[start + 1] == 'u')
        value = scan_hex4(scan, start + 2);
    if (value < 0)
        return true; /* not \u, or broken: jansson judges */
    scan->at += 4;
    if (value >= 0xd800 && value <= 0xdbff && scan_is_low_surrogate(scan, scan->at)) {
        scan->at += 6;
        return true;
    }
    if (value != 0 && (value < 0xd800 || value > 0xdfff))
        return true;
    if (scan->flags & JSON_READ_LENIENT)
        return scan_patch(scan, start, "\\ufffd", 6);
    return scan_fail(scan, start,
                     value == 0
                         ? "\\u0000 is not allowed"
                         : "half of a surrogate pair (\\uD800 to \\uDFFF) is not a character");
}

/* At the opening quote; ends past the closing one. */
static bool scan_string(struct scan *scan)
{
    scan->at++;
    while (scan->at < scan->len) {
        char c = scan->text[scan->at];

        if (c == '"') {
            scan->at++;
            return true;
        }
        if (c == '\0')
            return scan_fail(scan, scan->at, "NUL byte in a string");
        if (c != '\\')
            scan->at++;
        else if (!scan_escape(scan))
            return false;
    }
    return true; /* unterminated: jansson says so */
}

static size_t digits_end(const char *text, size_t at, size_t end)
{
    while (at < end && text[at] >= '0' && text[at] <= '9')
        at++;
    return at;
}

/* Is text[start..end) a number by the JSON grammar?  *is_integer: without fraction and exponent. */
static bool number_is_valid(const char *text, size_t start, size_t end, bool *is_integer)
{
    size_t at = start + (text[start] == '-');
    size_t next = digits_end(text, at, end);

    *is_integer = next == end;
    if (next == at || (text[at] == '0' && next > at + 1))
        return false;
    at = next;
    if (at < end && text[at] == '.') {
        next = digits_end(text, ++at, end);
        if (next == at)
            return false;
        at = next;
    }
    if (at < end && (text[at] == 'e' || text[at] == 'E')) {
        at++;
        if (at < end && (text[at] == '+' || text[at] == '-'))
            at++;
        next = digits_end(text, at, end);
        if (next == at)
            return false;
        at = next;
    }
    return at == end;
}

static bool integer_fits(const char *text, size_t start, size_t end)
{
    static const char *const limits[] = {"9223372036854775807", "9223372036854775808"};
    bool is_negative = text[start] == '-';
    size_t digits = end - start - is_negative;

    if (digits != 19)
        return digits < 19;
    return memcmp(text + start + is_negative, limits[is_negative], 19) <= 0;
}

/* The shortest number that can overflow a double has five characters ("2e308"). */
static bool real_fits(const char *text, size_t len)
{
    char small[64];
    char *copy = len < sizeof(small) ? small : malloc(len + 1);
    bool fits;

    if (!copy)
        return true; /* jansson will refuse it, in its own words */
    memcpy(copy, text, len);
    copy[len] = '\0';
    fits = isfinite(strtod(copy, NULL));
    if (copy != small)
        free(copy);
    return fits;
}

/* Makes "9e0...0307" of the number's digits, keeping its sign and length. */
static bool scan_clamp(struct scan *scan, size_t start, size_t end)
{
    start += scan->text[start] == '-';
    if (!scan_patch(scan, start, "9e", 2))
        return false;
    memset(scan->copy + start + 2, '0', end - start - 2);
    memcpy(scan->copy + end - 3, "307", 3);
    return true;
}

/* At a minus or a digit. */
static bool scan_number(struct scan *scan)
{
    size_t start = scan->at;
    bool is_integer;

    while (scan->at < scan->len && scan->text[scan->at] &&
           strchr("0123456789+-.eE", scan->text[scan->at]))
        scan->at++;
    if (scan->at - start < 5 || !number_is_valid(scan->text, start, scan->at, &is_integer))
        return true;
    if (is_integer && integer_fits(scan->text, start, scan->at))
        return true;
    if (!real_fits(scan->text + start, scan->at - start))
        return scan_clamp(scan, start, scan->at);
    return !is_integer || scan_patch(scan, scan->at - 2, "e2", 2);
}

static bool scan_run(struct scan *scan)
{
    while (scan->at < scan->len) {
        char c = scan->text[scan->at];

        if (c == '"') {
            if (!scan_string(scan))
                return false;
            continue;
        }
        if (c == '-' || (c >= '0' && c <= '9')) {
            if (!scan_number(scan))
                return false;
            continue;
        }
        if (c == '\0')
            return scan_fail(scan, scan->at, "NUL byte");
        if ((c == '[' || c == '{') && ++scan->depth > JSON_DEPTH_MAX)
            return scan_fail(scan, scan->at, "nested deeper than 64 levels");
        if (c == ']' || c == '}')
            scan->depth--;
        scan->at++;
    }
    return true;
}

/* jansson's message without the piece of the input it quotes: that may be part of a prompt. */
static void report(const json_error_t *from, struct err *err)
{
    const char *near = strstr(from->text, " near ");
    bool is_end = near && strcmp(near, " near end of file") == 0;
    int len = (int)(near && !is_end ? (size_t)(near - from->text) : strlen(from->text));

    err_input(err, "invalid_json", "", "line %d, column %d: %.*s", from->line, from->column, len,
              from->text);
}

json_t *json_parse(const char *text, size_t len, int flags, struct err *err)
{
    struct scan scan = {.text = text, .len = len, .flags = flags, .err = err};
    size_t jansson_flags = JSON_DECODE_ANY;
    json_error_t error;
    json_t *root = NULL;

    if (!(flags & JSON_READ_LENIENT))
        jansson_flags |= JSON_REJECT_DUPLICATES;
    if (scan_run(&scan)) {
        root = json_loadb(scan.copy ? scan.copy : text, len, jansson_flags, &error);
        if (!root)
            report(&error, err);
    }
    free(scan.copy);
    return root;
}
