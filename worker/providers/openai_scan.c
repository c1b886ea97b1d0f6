/* SPDX-License-Identifier: Apache-2.0 */
/* A strict reader of one shape of event; whatever it is not sure of goes to the full parser.
 *
 * Nearly every event of a stream holds a few bytes of content among 250 bytes of the same members
 * again.  A tree of each costs more than all other work of a stream together. */
#include "worker/providers/openai_scan.h"

#include <string.h>

#include "common/base/str.h"

struct cursor {
    const char *at; /* the text ends with a NUL and holds no other */
    struct buf *out;
};

static void skip_space(struct cursor *c)
{
    while (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r')
        c->at++;
}

/* One character, with the white space around it. */
static bool take(struct cursor *c, char wanted)
{
    skip_space(c);
    if (*c->at != wanted)
        return false;
    c->at++;
    skip_space(c);
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(c->at, word, len) != 0)
        return false;
    c->at += len;
    return true;
}

/* A string without escapes: all that the members beside the content ever are. */
static bool take_plain(struct cursor *c, const char **text, size_t *len)
{
    const char *start = c->at + 1;

    if (*c->at != '"')
        return false;
    for (c->at = start; (unsigned char)*c->at >= 0x20 && *c->at != '"' && *c->at != '\\';)
        c->at++;
    if (*c->at != '"')
        return false;
    *text = start;
    *len = (size_t)(c->at++ - start);
    return true;
}

static bool take_digits(struct cursor *c)
{
    const char *start = c->at;

    while (*c->at >= '0' && *c->at <= '9')
        c->at++;
    return c->at > start;
}

static bool take_number(struct cursor *c)
{
    if (*c->at == '-')
        c->at++;
    if (*c->at == '0')
        c->at++;
    else if (!take_digits(c))
        return false;
    if (*c->at == '.') {
        c->at++;
        if (!take_digits(c))
            return false;
    }
    if (*c->at == 'e' || *c->at == 'E') {
        c->at++;
        if (*c->at == '+' || *c->at == '-')
            c->at++;
        return take_digits(c);
    }
    return true;
}

static bool take_scalar(struct cursor *c)
{
    const char *text;
    size_t len;

    if (*c->at == '"')
        return take_plain(c, &text, &len);
    return take_word(c, "null") || take_word(c, "true") || take_word(c, "false") || take_number(c);
}

static bool take_hex(struct cursor *c, unsigned *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++, c->at++) {
        int digit = str_hex_digit(*c->at);

        if (digit < 0)
            return false;
        *out = *out << 4 | (unsigned)digit;
    }
    return true;
}

static bool put_utf8(struct buf *out, unsigned code)
{
    char bytes[4];
    size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

    for (size_t i = len - 1; i > 0; i--, code >>= 6)
        bytes[i] = (char)(0x80 | (code & 0x3f));
    bytes[0] = (char)(lead[len] | code);
    return buf_append(out, bytes, len);
}

/* After the backslash.  NUL and lone surrogates are the full parser's to replace. */
static bool take_escape(struct cursor *c)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found;
    unsigned code, low;

    if (*c->at && (found = strchr(from, *c->at))) {
        c->at++;
        return buf_putc(c->out, to[found - from]);
    }
    if (*c->at++ != 'u' || !take_hex(c, &code) || code == 0)
        return false;
    if (code >= 0xd800 && code < 0xe000) {
        if (code >= 0xdc00 || !take_word(c, "\\u") || !take_hex(c, &low) || low < 0xdc00 ||
            low >= 0xe000)
            return false;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    return put_utf8(c->out, code);
}

static bool take_content(struct cursor *c)
{
    if (take_word(c, "null"))
        return true;
    if (*c->at++ != '"')
        return false;
    while (*c->at != '"') {
        const char *start = c->at;

        while ((unsigned char)*c->at >= 0x20 && *c->at != '"' && *c->at != '\\')
            c->at++;
        if (c->at > start && !buf_append(c->out, start, (size_t)(c->at - start)))
            return false;
        if (*c->at == '"')
            break;
        if (*c->at++ != '\\' || !take_escape(c))
            return false;
    }
    c->at++;
    return true;
}

static bool is_name(const char *name, size_t len, const char *wanted)
{
    return strlen(wanted) == len && memcmp(name, wanted, len) == 0;
}

/* Members of an object whose '{' is taken: fn takes each value by its name. */
typedef bool member_fn(struct cursor *c, const char *name, size_t len, unsigned *seen);

static bool take_members(struct cursor *c, member_fn *fn, unsigned *seen)
{
    const char *name;
    size_t len;

    if (take(c, '}'))
        return true;
    do {
        if (!take_plain(c, &name, &len) || !take(c, ':') || !fn(c, name, len, seen))
            return false;
    } while (take(c, ','));
    return take(c, '}');
}

static bool delta_member(struct cursor *c, const char *name, size_t len, unsigned *seen)
{
    if (is_name(name, len, "content"))
        return (*seen)++ == 0 && take_content(c);
    if (is_name(name, len, "role"))
        return take_scalar(c);
    return take_word(c, "null");
}

static bool choice_member(struct cursor *c, const char *name, size_t len, unsigned *seen)
{
    unsigned in_delta = 0;

    if (is_name(name, len, "index"))
        return take_word(c, "0");
    if (!is_name(name, len, "delta"))
        return take_word(c, "null");
    return (*seen)++ == 0 && take(c, '{') && take_members(c, delta_member, &in_delta);
}

static bool top_member(struct cursor *c, const char *name, size_t len, unsigned *seen)
{
    unsigned in_choice = 0;

    if (is_name(name, len, "usage") || is_name(name, len, "error"))
        return take_word(c, "null");
    if (!is_name(name, len, "choices"))
        return take_scalar(c);
    return (*seen)++ == 0 && take(c, '[') && take(c, '{') &&
           take_members(c, choice_member, &in_choice) && in_choice == 1 && take(c, ']');
}

bool openai_scan_content(const char *data, size_t len, struct buf *out)
{
    struct cursor c = {.at = data, .out = out};
    size_t before = out->len;
    unsigned seen = 0;

    if (str_utf8_valid(data, len) && take(&c, '{') && take_members(&c, top_member, &seen) &&
        seen == 1 && c.at == data + len)
        return true;
    out->len = before;
    if (out->data)
        out->data[before] = '\0';
    return false;
}
