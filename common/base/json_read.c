/* SPDX-License-Identifier: Apache-2.0 */
/* Readers of an object's members, with errors that name the field, the rule and what was got. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/str.h"

void json_path(char *out, size_t size, const char *path, const char *name)
{
    int len = snprintf(out, size, "%s%s%s", path, *path ? "." : "", name);

    if (len >= 0 && (size_t)len >= size && size > 0)
        out[str_utf8_boundary(out, size - 1)] = '\0';
}

/* With the digits that a decimal keeps in a double, and never like an integer: who is asked for one
 * may have written 1.0 or 1e2. */
static void describe_real(double real, char *out, size_t size)
{
    int len = snprintf(out, size, "%.15g", real);

    if (len > 0 && (size_t)len < size && !strpbrk(out, ".e"))
        snprintf(out + len, size - (size_t)len, ".0");
}

void json_describe(const json_t *value, char *out, size_t size)
{
    static const size_t quoted_max = 40;
    const char *text = json_string_value(value);

    if (json_is_integer(value))
        snprintf(out, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        describe_real(json_real_value(value), out, size);
    else if (json_is_boolean(value))
        snprintf(out, size, "%s", json_is_true(value) ? "true" : "false");
    else if (text && strlen(text) > quoted_max)
        snprintf(out, size, "a string of %zu characters", str_utf8_count(text, strlen(text)));
    else if (text)
        snprintf(out, size, "\"%s\"", text);
    else
        snprintf(out, size, "%s",
                 json_is_array(value)    ? "an array"
                 : json_is_object(value) ? "an object"
                 : json_is_null(value)   ? "null"
                                         : "nothing");
}

/* The member, or NULL when it is absent or null. */
static const json_t *member(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    return json_is_null(value) ? NULL : value;
}

bool json_refuse(struct err *err, const char *param, const char *expected, const json_t *got)
{
    char what[JSON_DESCRIBE_SIZE];

    json_describe(got, what, sizeof(what));
    return err_input(err, "invalid_value", param, "%s: expected %s, got %s", param, expected, what);
}

static bool refuse(struct err *err, const char *path, const char *name, const char *expected,
                   const json_t *got)
{
    char full[ERR_PARAM_MAX];

    json_path(full, sizeof(full), path, name);
    return json_refuse(err, full, expected, got);
}

static bool require(const json_t *object, const char *path, const char *name, struct err *err)
{
    char full[ERR_PARAM_MAX];

    if (member(object, name))
        return true;
    json_path(full, sizeof(full), path, name);
    return err_input(err, "missing_field", full, "%s: is required", full);
}

bool json_read_string(const json_t *object, const char *path, const char *name, size_t max_chars,
                      const char **out, struct err *err)
{
    const json_t *value = member(object, name);
    const char *text = json_string_value(value);
    char expected[64];

    if (!value)
        return true;
    if (!text || str_utf8_count(text, json_string_length(value)) > max_chars) {
        snprintf(expected, sizeof(expected), "a string of at most %zu characters", max_chars);
        return refuse(err, path, name, text ? expected : "a string", value);
    }
    *out = text;
    return true;
}

bool json_read_string_required(const json_t *object, const char *path, const char *name,
                               size_t max_chars, const char **out, struct err *err)
{
    return require(object, path, name, err) &&
           json_read_string(object, path, name, max_chars, out, err);
}

bool json_read_i64(const json_t *object, const char *path, const char *name, int64_t min,
                   int64_t max, int64_t *out, struct err *err)
{
    const json_t *value = member(object, name);
    char expected[96];

    if (!value)
        return true;
    if (!json_is_integer(value) || json_integer_value(value) < min ||
        json_integer_value(value) > max) {
        snprintf(expected, sizeof(expected), "an integer from %" PRId64 " to %" PRId64, min, max);
        return refuse(err, path, name, expected, value);
    }
    *out = json_integer_value(value);
    return true;
}

bool json_read_i64_required(const json_t *object, const char *path, const char *name, int64_t min,
                            int64_t max, int64_t *out, struct err *err)
{
    return require(object, path, name, err) &&
           json_read_i64(object, path, name, min, max, out, err);
}

bool json_read_bool(const json_t *object, const char *path, const char *name, bool *out,
                    struct err *err)
{
    const json_t *value = member(object, name);

    if (!value)
        return true;
    if (!json_is_boolean(value))
        return refuse(err, path, name, "true or false", value);
    *out = json_is_true(value);
    return true;
}

bool json_known_members(const json_t *object, const char *path, const char *const *names,
                        size_t count, struct err *err)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        char full[ERR_PARAM_MAX];
        const char *nearest;
        bool is_known = false;

        for (size_t i = 0; i < count && !is_known; i++)
            is_known = strcmp(name, names[i]) == 0;
        if (is_known)
            continue;
        json_path(full, sizeof(full), path, name);
        nearest = str_nearest(name, names, count);
        if (!nearest)
            return err_input(err, "unknown_field", full, "%s: unknown field", full);
        return err_input(err, "unknown_field", full, "%s: unknown field (did you mean %s?)", full,
                         nearest);
    }
    return true;
}

int64_t json_count_or(const json_t *value, int64_t fallback)
{
    double real = json_real_value(value);

    if (json_is_integer(value) && json_integer_value(value) >= 0)
        return json_integer_value(value);
    /* Above 2^53 a double has no units left; a fraction of a token is a whole one. */
    if (json_is_real(value) && real >= 0 && real <= 9007199254740992.0)
        return (int64_t)ceil(real);
    return fallback;
}

const char *json_string_or_null(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}
