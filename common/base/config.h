/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: YAML files layered over each other, as jansson values that know their line. */
#ifndef COMMON_BASE_CONFIG_H
#define COMMON_BASE_CONFIG_H

#include <jansson.h>

#include "common/base/err.h"

struct config;

enum {
    CONFIG_FILES_MAX = 8,
    CONFIG_SIZE_MAX = 4 * 1024 * 1024, /* of one file */
    CONFIG_VALUES_MAX = 200000,        /* in all files */
    CONFIG_SECRET_SIZE_MAX = 64 * 1024
};

/* Reads the files in order; mappings merge, all else in a later file replaces the earlier.  Plain
 * scalars true, false, null, ~ and numbers (as JSON writes them) are typed, all other and all
 * quoted ones are strings.  Anchors, aliases, tags, duplicate names and nesting over 64 are
 * refused.
 * `${NAME}` in a scalar is replaced from the environment (unset is an error naming file and line),
 * before the scalar is typed; `$${` stands for `${`.  A scalar `file:PATH` stays as it is (see
 * config_secret).  Errors read "FILE:LINE: path: what was expected".
 *
 * Paths of values look like "routes.fast.targets[0].model"; a name with dots in it is used as it is
 * ("prices.main.gpt-4.1"). */
struct config *config_load(const char *const *paths, size_t count, struct err *err) MUST_CHECK;
/* The same of one text; name is how errors call it, its folder where relative paths start. */
struct config *config_parse(const char *name, const char *text, size_t len,
                            struct err *err) MUST_CHECK;
struct config *config_empty(void);
void config_free(struct config *config);

const json_t *config_root(const struct config *config); /* an object; borrowed */

/* The value at a path of plain names ("worker.slots"); NULL when absent or null.  Borrowed. */
const json_t *config_get(const struct config *config, const char *path);

/* "FILE:LINE" of the value at a path like "providers.main.timeouts" ("?" when unknown).  Borrowed;
 * valid as long as the config. */
const char *config_where(const struct config *config, const char *path);

/* The folder of the file that gave the value at path: relative paths start there. */
const char *config_folder(const struct config *config, const char *path);

/* path as the process can open it: relative ones start at folder.  The caller frees. */
char *config_resolve(const char *path, const char *folder) MUST_CHECK;

/* A number's text as it was written ("0.0375"), NULL when the value is not a number. */
const char *config_number_text(const struct config *config, const char *path);

/* Fails with "FILE:LINE: path: unknown option (did you mean x?)" for the first leaf of the root not
 * matched by known paths (a leaf is anything but a mapping with members); a known path ending in
 * ".*" covers all below it. */
bool config_check_unknown(const struct config *config, const char *const *known, size_t count,
                          struct err *err) MUST_CHECK;

/* The secret behind a configured text: the text itself, or the content of the file (trailing
 * newline dropped) for "file:PATH", relative to folder.  An empty file is an error.  The caller
 * wipes and frees. */
char *config_secret(const char *text, const char *folder, struct err *err) MUST_CHECK;

#endif
