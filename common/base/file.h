/* SPDX-License-Identifier: Apache-2.0 */
/* Reading whole files, for start-up and reload. */
#ifndef COMMON_BASE_FILE_H
#define COMMON_BASE_FILE_H

#include <stddef.h>

#include "common/base/err.h"

struct buf;

/* Reads the whole file; more than max bytes is an error.  out is initialised here and the caller's
 * to release on success.  Blocks. */
bool file_read(const char *path, size_t max, struct buf *out, struct err *err) MUST_CHECK;

#endif
