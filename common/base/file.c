/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a whole file into a buffer. */
#include "common/base/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"

bool file_read(const char *path, size_t max, struct buf *out, struct err *err)
{
    char chunk[4096];
    size_t got;
    bool ok = true;
    FILE *file = fopen(path, "re");

    if (!file)
        return err_set(err, "open %s: %s", path, strerror(errno));
    buf_init(out, max);
    errno = 0;
    while (ok && (got = fread(chunk, 1, sizeof(chunk), file)) > 0)
        ok = buf_append(out, chunk, got);
    if (!ok)
        err_set(err, "read %s: it is over %zu bytes", path, max);
    else if (ferror(file))
        ok = err_set(err, "read %s: %s", path, strerror(errno));
    explicit_bzero(chunk, sizeof(chunk));
    fclose(file);
    if (!ok)
        buf_release(out);
    return ok;
}
