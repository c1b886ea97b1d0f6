/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and lists of names out of a command's words. */
#ifndef PRODUCER_CLI_ADMIN_PATH_H
#define PRODUCER_CLI_ADMIN_PATH_H

#include <jansson.h>

#include "common/base/buf.h"

/* pattern with each % replaced by the next of words, percent-encoded.  The caller releases. */
void admin_path(struct buf *path, const char *pattern, const char *const *words);

/* "a,b,c" as an array of strings; the caller's. */
json_t *admin_names(const char *text);

#endif
