/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a request's query into variables by a table. */
#include "tests/simulator/query.h"

#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/str.h"
#include "common/io/http_server.h"
#include "tests/simulator/chat_wire.h"

struct table {
    const struct query_field *fields;
    size_t count;
};

void query_refuse(struct http_request *http, int status, const char *message)
{
    struct buf body;

    buf_init(&body, 8192);
    chat_error(&body, message, "invalid_request_error", NULL, NULL);
    http_reply(http, status, "application/json", body.data, body.len);
    buf_release(&body);
}

static bool set_field(const struct query_field *field, const char *value, struct err *err)
{
    int64_t number;

    if (field->text) {
        if (strlen(value) >= field->size)
            return err_input(err, "invalid_value", field->name, "%s: too long", field->name);
        snprintf(field->text, field->size, "%s", value);
        return true;
    }
    if (!str_to_i64(value, strlen(value), &number) || number < field->min || number > field->max)
        return err_input(err, "invalid_value", field->name,
                         "%s: expected a whole number from %lld to %lld", field->name,
                         (long long)field->min, (long long)field->max);
    *field->number = number;
    return true;
}

static bool visit(const char *name, const char *value, void *arg, struct err *err)
{
    const struct table *table = arg;

    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->fields[i].name, name) == 0)
            return set_field(&table->fields[i], value, err);
    }
    return err_input(err, "invalid_value", name, "no such parameter: %.60s", name);
}

bool query_read(struct http_request *http, const struct query_field *fields, size_t count)
{
    struct table table = {.fields = fields, .count = count};
    struct err err = {.message = ""};

    if (http_query_each(http, visit, &table, &err))
        return true;
    query_refuse(http, 400, err.message);
    return false;
}
