/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: YAML files layered over each other, as jansson values that know their line. */
#ifndef COMMON_BASE_CONFIG_H
#define COMMON_BASE_CONFIG_H

#include <jansson.h>

#include "common/base/err.h"

struct config;

enum { CONFIG_FILES_MAX = 8, CONFIG_SIZE_MAX = 4 * 1024 * 1024 };

/* Reads the files in order; mappings merge, all else in a later file replaces the earlier.  YAML
 * 1.1 core: plain scalars true/false/null/numbers are typed, quoted ones are strings.  Anchors,
 * aliases and tags are refused.  `${NAME}` in a scalar is replaced from the environment (unset is
 * an error naming file and line).  Decimals are kept as the exact text: use config_number_text.
 * A scalar `file:PATH` stays as it is (see config_secret). */
struct config *config_load(const char *const *paths, size_t count, struct err *err) MUST_CHECK;
struct config *config_empty(void);
void config_free(struct config *config);

const json_t *config_root(const struct config *config); /* an object; borrowed */

/* "FILE:LINE" of the value at a path like "providers.main.timeouts" ("?" when unknown).  Borrowed;
 * valid as long as the config. */
const char *config_where(const struct config *config, const char *path);

/* The folder of the file that gave the value at path: relative paths start there. */
const char *config_folder(const struct config *config, const char *path);

/* A number's text as it was written ("0.0375"), NULL when the value is not a number. */
const char *config_number_text(const struct config *config, const char *path);

/* Fails with "FILE:LINE: path: unknown option (did you mean x?)" for the first leaf of the root not
 * matched by known paths; a known path ending in ".*" covers all below it. */
bool config_check_unknown(const struct config *config, const char *const *known, size_t count,
                          struct err *err) MUST_CHECK;

/* The secret behind a configured text: the text itself, or the content of the file (trailing
 * newline dropped) for "file:PATH", relative to folder.  The caller frees. */
char *config_secret(const char *text, const char *folder, struct err *err) MUST_CHECK;

#endif
