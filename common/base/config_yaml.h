/* SPDX-License-Identifier: Apache-2.0 */
/* One YAML document into jansson values; used by config.c alone. */
#ifndef COMMON_BASE_CONFIG_YAML_H
#define COMMON_BASE_CONFIG_YAML_H

#include <stddef.h>

#include <jansson.h>

#include "common/base/err.h"

/* Told of every value below the root, outermost first: its path ("routes.fast.targets[0].model"),
 * its line, and for a number its text as written (else NULL).  False stops the reading. */
typedef bool config_note_fn(const char *path, size_t line, const char *number, void *arg);

/* name is how errors call the file.  The result is an object (an empty text gives an empty one). */
json_t *config_yaml_read(const char *name, const char *text, size_t len, config_note_fn *note,
                         void *arg, struct err *err) MUST_CHECK;

#endif
