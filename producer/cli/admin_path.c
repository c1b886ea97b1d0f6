/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and lists of names out of a command's words. */
#include "producer/cli/admin_path.h"

#include <string.h>

#include "producer/cli/api.h"

enum { ADDRESS_MAX = 16 * 1024 };

void admin_path(struct buf *path, const char *pattern, const char *const *words)
{
    buf_init(path, ADDRESS_MAX);
    for (; *pattern; pattern++) {
        if (*pattern == '%')
            api_put_escaped(path, *words++);
        else
            buf_putc(path, *pattern);
    }
}

json_t *admin_names(const char *text)
{
    json_t *names = json_array();

    while (*text) {
        size_t len = strcspn(text, ",");

        if (len > 0)
            json_array_append_new(names, json_stringn(text, len));
        text += len + (text[len] == ',');
    }
    return names;
}
