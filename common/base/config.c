/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files laid over each other, with the origin of every value. */
#include "common/base/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/config_yaml.h"
#include "common/base/file.h"
#include "common/base/map.h"
#include "common/base/str.h"

/* Where a value came from. */
struct note {
    const char *folder; /* of its layer */
    char *number;       /* its text, NULL for all but numbers */
    size_t layer;
    char where[]; /* "FILE:LINE" */
};

struct layer {
    char *name;
    char *folder;
};

struct config {
    json_t *root;
    struct map *notes; /* path -> struct note */
    struct layer layers[CONFIG_FILES_MAX];
    size_t layer_count;
};

static void note_free(struct note *note)
{
    if (note)
        free(note->number);
    free(note);
}

static bool on_note(const char *path, size_t line, const char *number, void *arg)
{
    struct config *config = arg;
    const struct layer *layer = &config->layers[config->layer_count - 1];
    size_t size = strlen(layer->name) + 32;
    struct note *note = xcalloc(1, sizeof(*note) + size);
    struct note *old = map_get(config->notes, path, strlen(path));

    note->folder = layer->folder;
    note->number = number ? xstrdup(number) : NULL;
    note->layer = config->layer_count;
    snprintf(note->where, size, "%s:%zu", layer->name, line);
    if (!map_put(config->notes, path, strlen(path), note)) {
        note_free(note);
        return false;
    }
    note_free(old);
    return true;
}

struct stale {
    struct config *config;
    const char *path;
};

static bool drop_stale(const void *key, size_t key_len, void *value, void *arg)
{
    const struct stale *stale = arg;
    const struct note *note = value;
    size_t len = strlen(stale->path);
    const char *path = key;

    if (note->layer < stale->config->layer_count && key_len > len &&
        memcmp(path, stale->path, len) == 0 && (path[len] == '.' || path[len] == '['))
        note_free(map_remove(stale->config->notes, key, key_len));
    return true;
}

/* Forgets the notes below a value of an earlier layer that is being replaced. */
static void notes_drop_below(struct config *config, const char *path)
{
    struct stale stale = {.config = config, .path = path};

    map_each(config->notes, drop_stale, &stale);
}

/* Lays over onto under (both mappings at path).  Depth is bounded: the reader caps it. */
static void merge(struct config *config, json_t *under, const json_t *over, const char *path)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)over, name, value)
    {
        json_t *old = json_object_get(under, name);
        struct buf full;

        buf_init(&full, CONFIG_SIZE_MAX);
        buf_printf(&full, "%s%s%s", path, *path ? "." : "", name);
        if (json_is_object(old) && json_is_object(value)) {
            merge(config, old, value, full.data);
        } else {
            if (json_is_object(old) || json_is_array(old))
                notes_drop_below(config, full.data);
            json_object_set(under, name, value);
        }
        buf_release(&full);
    }
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder;

    if (!slash)
        return xstrdup(".");
    folder = xstrdup(path);
    folder[slash == path ? 1 : slash - path] = '\0';
    return folder;
}

static bool add_text(struct config *config, const char *name, const char *text, size_t len,
                     struct err *err)
{
    struct layer *layer = &config->layers[config->layer_count++];
    json_t *root;

    layer->name = xstrdup(name);
    layer->folder = folder_of(name);
    root = config_yaml_read(name, text, len, on_note, config, err);
    if (!root)
        return false;
    merge(config, config->root, root, "");
    json_decref(root);
    return true;
}

static bool add_file(struct config *config, const char *path, struct err *err)
{
    struct buf text;
    bool ok;

    if (!file_read(path, CONFIG_SIZE_MAX, &text, err))
        return false;
    ok = add_text(config, path, text.len ? text.data : "", text.len, err);
    buf_release(&text);
    return ok;
}

struct config *config_empty(void)
{
    struct config *config = xcalloc(1, sizeof(*config));

    config->root = json_object();
    config->notes = map_new(CONFIG_VALUES_MAX);
    if (!config->root || !config->notes)
        abort(); /* memory is out at start-up */
    return config;
}

static bool free_note(const void *key, size_t key_len, void *value, void *arg)
{
    (void)key;
    (void)key_len;
    (void)arg;
    note_free(value);
    return true;
}

void config_free(struct config *config)
{
    if (!config)
        return;
    map_each(config->notes, free_note, NULL);
    map_free(config->notes);
    json_decref(config->root);
    for (size_t i = 0; i < config->layer_count; i++) {
        free(config->layers[i].name);
        free(config->layers[i].folder);
    }
    free(config);
}

struct config *config_load(const char *const *paths, size_t count, struct err *err)
{
    struct config *config;

    if (count > CONFIG_FILES_MAX) {
        err_set(err, "expected at most %d configuration files, got %zu", CONFIG_FILES_MAX, count);
        return NULL;
    }
    config = config_empty();
    for (size_t i = 0; i < count; i++) {
        if (!add_file(config, paths[i], err)) {
            config_free(config);
            return NULL;
        }
    }
    return config;
}

struct config *config_parse(const char *name, const char *text, size_t len, struct err *err)
{
    struct config *config = config_empty();

    if (add_text(config, name, text, len, err))
        return config;
    config_free(config);
    return NULL;
}

const json_t *config_root(const struct config *config)
{
    return config->root;
}

const json_t *config_get(const struct config *config, const char *path)
{
    const json_t *value = config->root;

    while (value) {
        size_t len = strcspn(path, ".");
        char name[256];

        if (len >= sizeof(name))
            return NULL;
        memcpy(name, path, len);
        name[len] = '\0';
        value = json_object_get(value, name);
        if (!path[len])
            break;
        path += len + 1;
    }
    return json_is_null(value) ? NULL : value;
}

static const struct note *note_at(const struct config *config, const char *path)
{
    return map_get(config->notes, path, strlen(path));
}

const char *config_where(const struct config *config, const char *path)
{
    const struct note *note = note_at(config, path);

    return note ? note->where : "?";
}

const char *config_folder(const struct config *config, const char *path)
{
    const struct note *note = note_at(config, path);

    return note ? note->folder : ".";
}

const char *config_number_text(const struct config *config, const char *path)
{
    const struct note *note = note_at(config, path);

    return note ? note->number : NULL;
}
