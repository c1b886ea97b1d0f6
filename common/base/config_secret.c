/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of the configuration that name files: relative paths and `file:` secrets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/config.h"
#include "common/base/file.h"
#include "common/base/str.h"

char *config_resolve(const char *path, const char *folder)
{
    char *full;
    size_t size;

    if (*path == '/' || strcmp(folder, ".") == 0)
        return xstrdup(path);
    size = strlen(folder) + strlen(path) + 2;
    full = xcalloc(1, size);
    snprintf(full, size, "%s/%s", folder, path);
    return full;
}

char *config_secret(const char *text, const char *folder, struct err *err)
{
    struct buf content;
    char *path, *secret = NULL;

    if (strncmp(text, "file:", 5) != 0)
        return xstrdup(text);
    path = config_resolve(text + 5, folder);
    if (!file_read(path, CONFIG_SECRET_SIZE_MAX, &content, err)) {
        free(path);
        return NULL;
    }
    if (content.len && content.data[content.len - 1] == '\n')
        content.len--;
    if (content.len && content.data[content.len - 1] == '\r')
        content.len--;
    if (content.len == 0 || memchr(content.data, '\0', content.len)) {
        err_set(err, "read secret %s: it is %s", path, content.len ? "not text" : "empty");
    } else {
        content.data[content.len] = '\0';
        secret = xstrdup(content.data);
    }
    if (content.data)
        explicit_bzero(content.data, content.cap);
    buf_release(&content);
    free(path);
    return secret;
}
