/* SPDX-License-Identifier: Apache-2.0 */
/* Finds what stands in the configuration and means nothing to anybody. */
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/config.h"
#include "common/base/str.h"

struct known {
    const struct config *config;
    const char *const *paths;
    size_t count;
    struct err *err;
};

/* Is path this known one, or below a known "x.*"? */
static bool is_covered(const char *path, const char *known)
{
    size_t len = strlen(known);

    if (len < 2 || strcmp(known + len - 2, ".*") != 0)
        return strcmp(path, known) == 0;
    len -= 2;
    return strncmp(path, known, len) == 0 && (!path[len] || path[len] == '.');
}

/* Does something known stand below path?  Then an empty section is no mistake. */
static bool is_section(const struct known *known, const char *path)
{
    size_t len = strlen(path);

    for (size_t i = 0; i < known->count; i++)
        if (strncmp(known->paths[i], path, len) == 0 && known->paths[i][len] == '.')
            return true;
    return false;
}

/* The nearest of the first names ("providers" of "providers.*"), unless path starts with one. */
static const char *nearest_section(const struct known *known, const char *path)
{
    char **sections = xcalloc(known->count + 1, sizeof(*sections));
    const char *found = NULL;
    size_t len = strcspn(path, "."), index = known->count;
    char *name = xstrdup(path);

    name[len] = '\0';
    for (size_t i = 0; i < known->count; i++) {
        sections[i] = xstrdup(known->paths[i]);
        sections[i][strcspn(sections[i], ".")] = '\0';
    }
    found = str_nearest(name, (const char *const *)sections, known->count);
    for (size_t i = 0; found && i < known->count; i++)
        if (sections[i] == found)
            index = i;
    if (found && strcmp(found, name) == 0)
        index = known->count;
    for (size_t i = 0; i < known->count; i++)
        free(sections[i]);
    free(sections);
    free(name);
    return index < known->count ? known->paths[index] : NULL;
}

static bool refuse(const struct known *known, const char *path)
{
    const char *where = config_where(known->config, path);
    const char *nearest = str_nearest(path, known->paths, known->count);

    if (!nearest)
        nearest = nearest_section(known, path);
    if (!nearest)
        return err_set(known->err, "%s: %s: unknown option", where, path);
    return err_set(known->err, "%s: %s: unknown option (did you mean %s?)", where, path, nearest);
}

static bool check_value(const struct known *known, const json_t *value, const char *path);

static bool check_members(const struct known *known, const json_t *object, const char *path)
{
    const char *name;
    json_t *value;
    bool ok = true;

    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        struct buf full;

        buf_init(&full, CONFIG_SIZE_MAX);
        buf_printf(&full, "%s%s%s", path, *path ? "." : "", name);
        ok = check_value(known, value, full.data);
        buf_release(&full);
        if (!ok)
            break;
    }
    return ok;
}

static bool check_value(const struct known *known, const json_t *value, const char *path)
{
    for (size_t i = 0; i < known->count; i++)
        if (is_covered(path, known->paths[i]))
            return true;
    if (json_object_size(value) > 0)
        return check_members(known, value, path);
    if ((json_is_null(value) || json_is_object(value)) && is_section(known, path))
        return true;
    return refuse(known, path);
}

bool config_check_unknown(const struct config *config, const char *const *known, size_t count,
                          struct err *err)
{
    const struct known all = {.config = config, .paths = known, .count = count, .err = err};

    return check_members(&all, config_root(config), "");
}
