/* SPDX-License-Identifier: Apache-2.0 */
/* Inside settings: reading parts of the configuration with errors that name file, line and path. */
#ifndef COMMON_MODEL_SETTINGS_READ_H
#define COMMON_MODEL_SETTINGS_READ_H

#include <stdint.h>

#include <jansson.h>

#include "common/base/config.h"
#include "common/model/settings.h"

enum { SETTINGS_PATH_SIZE = 768, SETTINGS_NAME_MAX = 128, SETTINGS_TIMEOUT_MAX_MS = 3600000 };

struct settings {
    int references;
    struct provider *providers;
    size_t provider_count;
    struct route *routes;
    size_t route_count;
    struct map *routes_by_name;
};

/* A mapping of the configuration and where it stands. */
struct section {
    const struct config *config;
    const json_t *object;
    char path[SETTINGS_PATH_SIZE];
    struct err *err;
};

/* Fails with "FILE:LINE: path.name: message"; where nothing stands at that path, with the line of
 * the nearest thing above it. */
bool section_refuse(const struct section *section, const char *name, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* Enters the mapping at path ("providers.main"). */
bool section_open(struct section *section, const struct config *config, const json_t *value,
                  const char *path, struct err *err) MUST_CHECK;
bool section_check_members(const struct section *section, const char *const *names,
                           size_t count) MUST_CHECK;

/* Absent or null leaves *out as it was. */
bool section_text(const struct section *section, const char *name, const char **out) MUST_CHECK;
bool section_text_required(const struct section *section, const char *name,
                           const char **out) MUST_CHECK;
bool section_number(const struct section *section, const char *name, int64_t min, int64_t max,
                    int64_t *out) MUST_CHECK;
bool section_bool(const struct section *section, const char *name, bool *out) MUST_CHECK;
void section_member_path(const struct section *section, const char *name,
                         char out[SETTINGS_PATH_SIZE]);

/* The table of prices: inline, or a file of its own.  Borrows the configuration. */
struct price_table {
    const struct config *config; /* where the numbers stand */
    struct config *file;         /* the same, when it is a file */
    const json_t *root;          /* NULL: there is no table */
    const char *prefix;          /* of paths: "prices." or "" */
};
bool price_table_open(struct price_table *table, const struct config *config,
                      struct err *err) MUST_CHECK;
void price_table_close(struct price_table *table);

/* Fills price and sizes of a target whose provider and model are set.  A target without a price is
 * refused unless is_free; section is the target's. */
bool price_table_apply(const struct price_table *table, const struct section *section, bool is_free,
                       struct target *target) MUST_CHECK;

bool settings_read_providers(struct settings *settings, const struct config *config,
                             struct err *err) MUST_CHECK;
bool settings_read_routes(struct settings *settings, const struct config *config,
                          const struct price_table *prices, struct err *err) MUST_CHECK;

#endif
