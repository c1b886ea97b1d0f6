/* SPDX-License-Identifier: Apache-2.0 */
/* Typed members of a mapping in the configuration, refused with file, line and path. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/str.h"
#include "common/model/settings_read.h"

void section_member_path(const struct section *section, const char *name,
                         char out[SETTINGS_PATH_SIZE])
{
    const char *dot = name && *section->path ? "." : "";

    if (snprintf(out, SETTINGS_PATH_SIZE, "%s%s%s", section->path, dot, name ? name : "") < 0)
        out[0] = '\0';
}

/* The line of what stands at path or, when nothing does, of what should hold it. */
static const char *nearest_line(const struct config *config, const char *path)
{
    char above[SETTINGS_PATH_SIZE];
    const char *where = config_where(config, path);

    snprintf(above, sizeof(above), "%s", path);
    while (strcmp(where, "?") == 0) {
        size_t len = strlen(above);

        while (len > 0 && above[len - 1] != '.' && above[len - 1] != '[')
            len--;
        if (len == 0)
            break;
        above[len - 1] = '\0';
        where = config_where(config, above);
    }
    return where;
}

bool section_refuse(const struct section *section, const char *name, const char *fmt, ...)
{
    char path[SETTINGS_PATH_SIZE], message[ERR_MESSAGE_MAX];
    va_list args;

    section_member_path(section, name, path);
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    return err_set(section->err, "%s: %s: %s", nearest_line(section->config, path), path, message);
}

bool section_open(struct section *section, const struct config *config, const json_t *value,
                  const char *path, struct err *err)
{
    char got[JSON_DESCRIBE_SIZE];

    *section = (struct section){.config = config, .object = value, .err = err};
    snprintf(section->path, sizeof(section->path), "%s", path);
    if (json_is_object(value))
        return true;
    json_describe(value, got, sizeof(got));
    return section_refuse(section, NULL, "expected a mapping, got %s", got);
}

bool section_check_members(const struct section *section, const char *const *names, size_t count)
{
    const char *name, *nearest;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)section->object, name, value)
    {
        bool is_known = false;

        for (size_t i = 0; i < count && !is_known; i++)
            is_known = strcmp(names[i], name) == 0;
        if (is_known)
            continue;
        nearest = str_nearest(name, names, count);
        if (nearest)
            return section_refuse(section, name, "unknown option (did you mean %s?)", nearest);
        return section_refuse(section, name, "unknown option");
    }
    return true;
}

static const json_t *member(const struct section *section, const char *name)
{
    const json_t *value = json_object_get(section->object, name);

    return json_is_null(value) ? NULL : value;
}

static bool refuse_value(const struct section *section, const char *name, const char *expected)
{
    char got[JSON_DESCRIBE_SIZE];

    json_describe(member(section, name), got, sizeof(got));
    return section_refuse(section, name, "expected %s, got %s", expected, got);
}

bool section_text(const struct section *section, const char *name, const char **out)
{
    const json_t *value = member(section, name);
    const char *text = json_string_value(value);

    if (!value)
        return true;
    if (!text)
        return refuse_value(section, name, "a text");
    if (!*text || strlen(text) != json_string_length(value))
        return section_refuse(section, name, "expected a text that is not empty");
    *out = text;
    return true;
}

bool section_text_required(const struct section *section, const char *name, const char **out)
{
    *out = NULL;
    if (!section_text(section, name, out))
        return false;
    return *out || section_refuse(section, name, "missing");
}

bool section_number(const struct section *section, const char *name, int64_t min, int64_t max,
                    int64_t *out)
{
    const json_t *value = member(section, name);
    char expected[96];

    if (!value)
        return true;
    if (json_is_integer(value) && json_integer_value(value) >= min &&
        json_integer_value(value) <= max) {
        *out = json_integer_value(value);
        return true;
    }
    snprintf(expected, sizeof(expected), "a whole number from %lld to %lld", (long long)min,
             (long long)max);
    return refuse_value(section, name, expected);
}

bool section_bool(const struct section *section, const char *name, bool *out)
{
    const json_t *value = member(section, name);

    if (!value)
        return true;
    if (!json_is_boolean(value))
        return refuse_value(section, name, "true or false");
    *out = json_is_true(value);
    return true;
}
