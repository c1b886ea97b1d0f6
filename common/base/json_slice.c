/* SPDX-License-Identifier: Apache-2.0 */
/* Exact source slices: finds and splices top-level members of an object jansson has accepted. */
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"

/* This is no parser: it trusts that the text is well-formed (json_parse accepted it) and only stays
 * inside its bounds on anything else. */
struct member {
    struct json_slice lead;  /* white space before the name */
    struct json_slice name;  /* with its quotes */
    struct json_slice colon; /* the colon and the white space around it */
    struct json_slice value;
    struct json_slice trail; /* white space after the value */
};

struct members {
    const char *at;
    const char *end; /* past the last byte of the text */
};

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
        at++;
    return at;
}

/* at is the opening quote. */
static const char *skip_string(const char *at, const char *end)
{
    const char *from = at + 1, *quote;

    for (at = from; at < end; at = quote + 1) {
        size_t slashes = 0;

        quote = memchr(at, '"', (size_t)(end - at));
        if (!quote)
            break;
        while (quote - slashes > from && quote[-1 - (ptrdiff_t)slashes] == '\\')
            slashes++;
        if (slashes % 2 == 0)
            return quote + 1;
    }
    return end;
}

static const char *skip_container(const char *at, const char *end)
{
    size_t depth = 0;

    while (at < end) {
        if (*at == '"') {
            at = skip_string(at, end);
            continue;
        }
        if (*at == '[' || *at == '{')
            depth++;
        if ((*at == ']' || *at == '}') && --depth == 0)
            return at + 1;
        at++;
    }
    return end;
}

static const char *skip_value(const char *at, const char *end)
{
    if (at < end && *at == '"')
        return skip_string(at, end);
    if (at < end && (*at == '{' || *at == '['))
        return skip_container(at, end);
    while (at < end && !strchr(" \t\r\n,]}", *at))
        at++;
    return at;
}

static struct json_slice slice(const char *from, const char *to)
{
    return (struct json_slice){.text = from, .len = (size_t)(to - from)};
}

/* Stands behind the opening brace, or returns false when the text is no object. */
static bool members_start(struct members *it, const char *text, size_t len)
{
    it->end = text + len;
    it->at = skip_space(text, it->end);
    if (it->at == it->end || *it->at != '{')
        return false;
    it->at++;
    return true;
}

/* The next member; false at the closing brace, where it->at then stands on the white space before
 * it.  After a member it->at stands behind its comma, or on the closing brace. */
static bool members_next(struct members *it, struct member *out)
{
    const char *name = skip_space(it->at, it->end);
    const char *name_end, *value, *value_end, *trail_end;

    if (name == it->end || *name != '"')
        return false;
    name_end = skip_string(name, it->end);
    value = skip_space(name_end, it->end);
    if (value == it->end || *value != ':')
        return false;
    value = skip_space(value + 1, it->end);
    value_end = skip_value(value, it->end);
    trail_end = skip_space(value_end, it->end);
    *out = (struct member){.lead = slice(it->at, name),
                           .name = slice(name, name_end),
                           .colon = slice(name_end, value),
                           .value = slice(value, value_end),
                           .trail = slice(value_end, trail_end)};
    it->at = trail_end + (trail_end < it->end && *trail_end == ',');
    return true;
}

bool json_slice_is(const struct json_slice *slice, const char *text)
{
    json_t *decoded;
    bool is_same;

    if (slice->len < 2 || slice->text[0] != '"')
        return false;
    if (!memchr(slice->text, '\\', slice->len))
        return slice->len == strlen(text) + 2 && memcmp(slice->text + 1, text, slice->len - 2) == 0;
    decoded = json_parse(slice->text, slice->len, JSON_READ_LENIENT, NULL);
    is_same = json_is_string(decoded) && strcmp(json_string_value(decoded), text) == 0;
    json_decref(decoded);
    return is_same;
}

static bool copy_text(const char *text, size_t len, char *out, size_t size)
{
    if (len >= size)
        return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

bool json_slice_copy(const struct json_slice *slice, char *out, size_t size)
{
    enum { ESCAPE_LEN = 6 }; /* of a byte at most: \u0041 */
    json_t *decoded;
    bool ok;

    *out = '\0';
    if (slice->len < 2 || slice->text[0] != '"')
        return false;
    if (!memchr(slice->text, '\\', slice->len))
        return copy_text(slice->text + 1, slice->len - 2, out, size);
    if (slice->len > size * ESCAPE_LEN + 2)
        return false;
    decoded = json_parse(slice->text, slice->len, JSON_READ_LENIENT, NULL);
    ok = json_is_string(decoded) &&
         copy_text(json_string_value(decoded), json_string_length(decoded), out, size);
    json_decref(decoded);
    return ok;
}

static bool member_is(const struct member *member, const char *name)
{
    return json_slice_is(&member->name, name);
}

/* --- walks ------------------------------------------------------------------------------------ */

bool json_walk_open(struct json_walk *walk, const struct json_slice *container, char bracket)
{
    const char *end = container->text + container->len;
    const char *at = skip_space(container->text, end);

    *walk = (struct json_walk){.at = at + 1, .end = end};
    return at < end && *at == bracket;
}

bool json_walk_member(struct json_walk *walk, struct json_slice *name, struct json_slice *value)
{
    struct members it = {.at = walk->at, .end = walk->end};
    struct member member;

    if (!members_next(&it, &member))
        return false;
    walk->at = it.at;
    *name = member.name;
    *value = member.value;
    return true;
}

bool json_walk_element(struct json_walk *walk, struct json_slice *value)
{
    const char *at = skip_space(walk->at, walk->end), *value_end;

    if (at == walk->end || *at == ']')
        return false;
    value_end = skip_value(at, walk->end);
    if (value_end == at)
        return false;
    *value = slice(at, value_end);
    at = skip_space(value_end, walk->end);
    walk->at = at + (at < walk->end && *at == ',');
    return true;
}

/* --- members ---------------------------------------------------------------------------------- */

bool json_member_slice(const char *text, size_t len, const char *name, struct json_slice *out)
{
    struct members it;
    struct member member;
    bool found = false;

    if (!members_start(&it, text, len))
        return false;
    while (members_next(&it, &member)) {
        if (member_is(&member, name)) {
            *out = member.value; /* of duplicates the last counts, as in json_parse */
            found = true;
        }
    }
    return found;
}

static const struct json_edit *edit_of(const struct member *member, const struct json_edit *edits,
                                       size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (member_is(member, edits[i].name))
            return &edits[i];
    return NULL;
}

static void put(struct buf *out, struct json_slice part)
{
    buf_append(out, part.text, part.len);
}

/* Copies the members, edited; returns how many were written. */
static size_t splice_members(struct members *it, const struct json_edit *edits, size_t count,
                             struct buf *out)
{
    struct member member;
    size_t written = 0;

    while (members_next(it, &member)) {
        const struct json_edit *edit = edit_of(&member, edits, count);

        if (edit && !edit->value)
            continue;
        if (written++)
            buf_putc(out, ',');
        put(out, member.lead);
        put(out, member.name);
        put(out, member.colon);
        if (edit)
            buf_puts(out, edit->value);
        else
            put(out, member.value);
        put(out, member.trail);
    }
    return written;
}

bool json_splice(const char *text, size_t len, const struct json_edit *edits, size_t count,
                 struct buf *out, struct err *err)
{
    struct members it;
    struct json_slice old;
    size_t written;

    if (!members_start(&it, text, len))
        return err_input(err, "invalid_value", "", "expected an object");
    buf_append(out, text, (size_t)(it.at - text));
    written = splice_members(&it, edits, count, out);
    for (size_t i = 0; i < count; i++) {
        if (!edits[i].value || json_member_slice(text, len, edits[i].name, &old))
            continue;
        if (written++)
            buf_putc(out, ',');
        buf_put_json_string(out, edits[i].name, strlen(edits[i].name));
        buf_putc(out, ':');
        buf_puts(out, edits[i].value);
    }
    buf_append(out, it.at, (size_t)(it.end - it.at));
    if (out->is_broken)
        return err_set(err, "splice JSON of %zu bytes: the result is over %zu bytes", len,
                       out->max);
    return true;
}
