/* SPDX-License-Identifier: Apache-2.0 */
/* The cursor that a reader of events asks with: a header or a parameter. */
#include "producer/cursor_read.h"

#include <stdio.h>
#include <string.h>

#include "common/io/http_server.h"

struct query {
    const char *after;
    char text[CURSOR_SIZE + 1];
};

static bool on_param(const char *name, const char *value, void *arg, struct err *err)
{
    struct query *query = arg;

    if (strcmp(name, "after") != 0)
        return err_input(err, "invalid_value", name,
                         "unknown query parameter \"%s\" (did you mean \"after\"?)", name);
    snprintf(query->text, sizeof(query->text), "%s", value);
    query->after = query->text;
    return true;
}

bool cursor_read(struct http_request *http, struct cursor *out, struct err *err)
{
    const char *text = http_header(http, "last-event-id");
    struct query query = {0};
    bool is_header = text && *text;

    *out = CURSOR_START;
    if (!http_query_each(http, on_param, &query, err))
        return false;
    if (!is_header)
        text = query.after;
    if (!text || cursor_parse(text, strlen(text), out))
        return true;
    return err_input(err, "invalid_value", is_header ? "last-event-id" : "after",
                     "expected a cursor as it came in `id:`, %d hex digits", CURSOR_LEN);
}
