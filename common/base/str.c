/* SPDX-License-Identifier: Apache-2.0 */
/* Small questions about strings: UTF-8, character classes, exact integers, nearest names. */
#include "common/base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"

static void *or_exit(void *memory)
{
    if (!memory) {
        fputs("out of memory\n", stderr);
        exit(EXIT_FAILURE);
    }
    return memory;
}

char *xstrdup(const char *text)
{
    return or_exit(strdup(text));
}

void *xcalloc(size_t count, size_t size)
{
    return or_exit(calloc(count ? count : 1, size ? size : 1));
}

/* What may follow a lead byte: table 3-7 of the Unicode standard.  It leaves out overlong forms,
 * surrogates and what lies past U+10FFFF by narrowing the first continuation byte. */
struct utf8_lead {
    unsigned char first, last; /* range of the lead byte */
    unsigned char low, high;   /* range of the byte after it; all later ones are 80..BF */
    int more;                  /* continuation bytes */
};

static const struct utf8_lead utf8_leads[] = {
    {0x01, 0x7f, 0, 0, 0},       {0xc2, 0xdf, 0x80, 0xbf, 1}, {0xe0, 0xe0, 0xa0, 0xbf, 2},
    {0xe1, 0xec, 0x80, 0xbf, 2}, {0xed, 0xed, 0x80, 0x9f, 2}, {0xee, 0xef, 0x80, 0xbf, 2},
    {0xf0, 0xf0, 0x90, 0xbf, 3}, {0xf1, 0xf3, 0x80, 0xbf, 3}, {0xf4, 0xf4, 0x80, 0x8f, 3},
};

static const struct utf8_lead *utf8_lead(unsigned char c)
{
    for (size_t i = 0; i < sizeof(utf8_leads) / sizeof(utf8_leads[0]); i++) {
        if (c >= utf8_leads[i].first && c <= utf8_leads[i].last)
            return &utf8_leads[i];
    }
    return NULL;
}

enum utf8_kind { UTF8_WHOLE, UTF8_CUT, UTF8_BAD };

/* Looks at the sequence at text (len > 0).  Returns its length; a bad or cut one has the length of
 * its longest well-formed beginning, at least 1, which is what U+FFFD stands for. */
static size_t utf8_step(const unsigned char *text, size_t len, enum utf8_kind *kind)
{
    const struct utf8_lead *lead = utf8_lead(text[0]);
    size_t n = 1;

    *kind = UTF8_BAD;
    if (!lead)
        return 1;
    for (; n <= (size_t)lead->more; n++) {
        if (n == len) {
            *kind = UTF8_CUT;
            return n;
        }
        if (text[n] < (n == 1 ? lead->low : 0x80) || text[n] > (n == 1 ? lead->high : 0xbf))
            return n;
    }
    *kind = UTF8_WHOLE;
    return n;
}

/* How many bytes of ASCII without NUL text begins with; eight at a time, since nearly all text that
 * passes through here is nothing else. */
static size_t ascii_run(const unsigned char *text, size_t len)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    size_t n = 0;

    while (len - n >= sizeof(uint64_t)) {
        uint64_t word;

        memcpy(&word, text + n, sizeof(word));
        if ((word | (word - ones)) & (ones << 7)) /* a byte over 0x7f, or a borrow out of a NUL */
            break;
        n += sizeof(word);
    }
    while (n < len && text[n] - 1u < 0x7f)
        n++;
    return n;
}

bool str_utf8_valid(const char *text, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)text;
    enum utf8_kind kind;

    for (size_t i = ascii_run(bytes, len); i < len; i += ascii_run(bytes + i, len - i)) {
        i += utf8_step(bytes + i, len - i, &kind);
        if (kind != UTF8_WHOLE)
            return false;
    }
    return true;
}

size_t str_utf8_boundary(const char *text, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t at = len;
    enum utf8_kind kind;

    while (at > 0 && len - at < 3) {
        at--;
        if ((bytes[at] & 0xc0) == 0x80)
            continue;
        utf8_step(bytes + at, len - at, &kind);
        return kind == UTF8_CUT ? at : len;
    }
    return len;
}

bool str_utf8_clean(struct buf *out, const char *text, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t from = 0;
    size_t at = 0;

    while ((at += ascii_run(bytes + at, len - at)) < len) {
        enum utf8_kind kind;
        size_t n = utf8_step(bytes + at, len - at, &kind);

        if (kind != UTF8_WHOLE) {
            if (!buf_append(out, text + from, at - from) || !buf_puts(out, "\xef\xbf\xbd"))
                return false;
            from = at + n;
        }
        at += n;
    }
    return buf_append(out, text + from, len - from);
}

size_t str_utf8_count(const char *text, size_t len)
{
    size_t count = 0;

    for (size_t i = 0; i < len; i++)
        count += (text[i] & 0xc0) != 0x80;
    return count;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Sums downwards, because INT64_MIN has no positive twin. */
bool str_to_i64(const char *text, size_t len, int64_t *out)
{
    bool is_negative = len > 0 && text[0] == '-';
    int64_t value = 0;
    size_t i = is_negative ? 1 : 0;

    if (i == len)
        return false;
    for (; i < len; i++) {
        if (!is_digit(text[i]) || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, text[i] - '0', &value))
            return false;
    }
    if (is_negative ? value == 0 : value == INT64_MIN)
        return false;
    *out = is_negative ? value : -value;
    return true;
}

bool str_is_visible_ascii(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] < 0x21 || text[i] > 0x7e)
            return false;
    }
    return len > 0;
}

bool str_is_label(const char *text, size_t len, size_t max)
{
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(text[i]) && !is_letter(text[i]) && (!text[i] || !strchr("._/@:-", text[i])))
            return false;
    }
    return len > 0 && len <= max;
}

enum { NEAREST_MAX = 64 }; /* longer names are never proposed */

static size_t min_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance, one row at a time; both texts are at most NEAREST_MAX long. */
static size_t edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t row[NEAREST_MAX + 1];

    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            row[j] = min_of(change, min_of(row[j], row[j - 1]) + 1);
        }
    }
    return row[b_len];
}

const char *str_nearest(const char *what, const char *const *names, size_t count)
{
    size_t len = strlen(what);
    size_t best = (len + 2) / 3 + 1; /* a third of the letters may be wrong */
    const char *nearest = NULL;

    if (len > NEAREST_MAX)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t name_len = strlen(names[i]);
        size_t distance;

        if (name_len > NEAREST_MAX)
            continue;
        distance = edit_distance(what, len, names[i], name_len);
        if (distance < best && distance < len) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

bool str_equal(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

void str_hex(const void *data, size_t len, char *out)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < len; i++) {
        *out++ = "0123456789abcdef"[bytes[i] >> 4];
        *out++ = "0123456789abcdef"[bytes[i] & 0xf];
    }
    *out = '\0';
}

int str_hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool str_unhex(const char *hex, size_t hex_len, void *out)
{
    unsigned char *bytes = out;

    if (hex_len % 2)
        return false;
    for (size_t i = 0; i < hex_len; i += 2) {
        int high = str_hex_digit(hex[i]);
        int low = str_hex_digit(hex[i + 1]);

        if (high < 0 || low < 0)
            return false;
        *bytes++ = (unsigned char)(high << 4 | low);
    }
    return true;
}
