/* SPDX-License-Identifier: Apache-2.0 */
/* JSON from outside: jansson behind caps, errors with line and column, and exact source slices. */
#ifndef COMMON_BASE_JSON_H
#define COMMON_BASE_JSON_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/err.h"

struct buf;

enum { JSON_DEPTH_MAX = 64 };

enum json_flags {
    JSON_READ_STRICT = 0,       /* duplicates and \u0000 are errors: what users send */
    JSON_READ_LENIENT = 1 << 0, /* duplicates: the last wins; \u0000 and lone surrogates become
                                 U+FFFD: what providers send */
};

/* Parses one JSON text (any value at the top, nothing after it but white space).  A scan for depth
 * (JSON_DEPTH_MAX), raw NUL and UTF-8 stands in front of jansson, so no input can recurse deep.
 * On failure NULL; err has code "invalid_json" and a message with line and column.  Integers
 * beyond 64 bits do not fail: they come as reals, and numbers beyond a double as 9e307 (the source
 * slice stays exact).  The message never quotes the text, which may be a prompt. */
json_t *json_parse(const char *text, size_t len, int flags, struct err *err) MUST_CHECK;

/* A slice of the source text. */
struct json_slice {
    const char *text;
    size_t len;
};

/* Finds the value of a top-level member of the object `text` (which json_parse accepted) as it is
 * written there, white space trimmed; of duplicates the last one.  False when there is no such
 * member.  `name` is compared with the decoded member name. */
bool json_member_slice(const char *text, size_t len, const char *name,
                       struct json_slice *out) MUST_CHECK;

/* Is the slice a string whose decoded value is text? */
bool json_slice_is(const struct json_slice *slice, const char *text) MUST_CHECK;

/* The decoded value of a string.  False, and out is "": it is no string, is longer than size - 1
 * bytes, or cannot be decoded. */
bool json_slice_copy(const struct json_slice *slice, char *out, size_t size) MUST_CHECK;

/* Walks the members of an object ('{') or the elements of an array ('[') of such text without
 * allocating.  open: false when the slice is something else. */
struct json_walk {
    const char *at;
    const char *end;
};
bool json_walk_open(struct json_walk *walk, const struct json_slice *container,
                    char bracket) MUST_CHECK;
bool json_walk_member(struct json_walk *walk, struct json_slice *name,
                      struct json_slice *value) MUST_CHECK;
bool json_walk_element(struct json_walk *walk, struct json_slice *value) MUST_CHECK;

/* Copies the object `text` with some top-level members replaced, added (at the end) or removed
 * (value NULL); all other bytes stay exactly as they were. */
struct json_edit {
    const char *name;
    const char *value; /* JSON text, or NULL to remove */
};
bool json_splice(const char *text, size_t len, const struct json_edit *edits, size_t count,
                 struct buf *out, struct err *err) MUST_CHECK;

/* Readers of an object's members for request validation.  path is the object's own path ("" at the
 * top, "request" below); errors name path.member, the rule and what was got (`invalid_value`).
 * Absent or null gives true and leaves *out as it was; for the _required ones it is
 * `missing_field`.  Strings are borrowed from the object. */
bool json_read_string(const json_t *object, const char *path, const char *name, size_t max_chars,
                      const char **out, struct err *err) MUST_CHECK;
bool json_read_string_required(const json_t *object, const char *path, const char *name,
                               size_t max_chars, const char **out, struct err *err) MUST_CHECK;
bool json_read_i64(const json_t *object, const char *path, const char *name, int64_t min,
                   int64_t max, int64_t *out, struct err *err) MUST_CHECK;
bool json_read_i64_required(const json_t *object, const char *path, const char *name, int64_t min,
                            int64_t max, int64_t *out, struct err *err) MUST_CHECK;
bool json_read_bool(const json_t *object, const char *path, const char *name, bool *out,
                    struct err *err) MUST_CHECK;

/* Every member of object must be one of names; else `unknown_field` naming it and the nearest. */
bool json_known_members(const json_t *object, const char *path, const char *const *names,
                        size_t count, struct err *err) MUST_CHECK;

/* "path.name" or "name", cut to fit. */
void json_path(char *out, size_t size, const char *path, const char *name);

/* What a value is, for an error message: `12`, `"text"`, `an array`, `a string of 900 characters`.
 */
enum { JSON_DESCRIBE_SIZE = 192 };
void json_describe(const json_t *value, char *out, size_t size);

/* Fills err with `invalid_value`: "param: expected ..., got ...".  Always false. */
bool json_refuse(struct err *err, const char *param, const char *expected, const json_t *got);

/* A token count or status that careless servers send as a real: range-checked, else fallback. */
int64_t json_count_or(const json_t *value, int64_t fallback);

/* The string, or NULL for absent, null and other types. */
const char *json_string_or_null(const json_t *object, const char *name);

#endif
