/* SPDX-License-Identifier: Apache-2.0 */
/* What the handlers of /admin/v1 have in common. */
#include "producer/admin.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "common/io/http_server.h"
#include "producer/reply.h"

enum { PARAMS_MAX = 16 };

const char *const admin_event_names[ADMIN_EVENT_COUNT] = {
    "job.succeeded", "job.failed",       "job.cancelled",
    "job.expired",   "budget.threshold", "endpoint.test",
};

bool admin_headers_check(const struct http_request *http, struct err *err)
{
    static const char *const names[] = {ADMIN_DATA_CLASS_HEADER, ADMIN_PURPOSE_HEADER};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *value = http_header(http, names[i]);

        if (value && !str_is_label(value, strlen(value), JOB_LABEL_MAX))
            return err_input(err, "invalid_value", names[i],
                             "%s: expected 1 to %d characters of A-Z, a-z, 0-9 and ._/@:-",
                             names[i], JOB_LABEL_MAX);
    }
    return true;
}

void admin_actor(const struct request_context *context, char out[ADMIN_ACTOR_SIZE])
{
    const char *key_id = context->caller.key_id;
    struct buf text;

    buf_init(&text, ADMIN_ACTOR_SIZE - 1);
    buf_printf(&text, "{\"actor\":\"key:%s\"", key_id);
    admin_put_text(&text, "key_id", key_id);
    admin_put_text(&text, "address", http_peer(context->http));
    admin_put_text(&text, "request_id", http_request_id(context->http));
    admin_put_text(&text, "data_class", http_header(context->http, ADMIN_DATA_CLASS_HEADER));
    admin_put_text(&text, "purpose", http_header(context->http, ADMIN_PURPOSE_HEADER));
    buf_putc(&text, '}');
    if (text.is_broken)
        snprintf(out, ADMIN_ACTOR_SIZE, "key:%s", key_id);
    else
        memcpy(out, text.data, text.len + 1);
    buf_release(&text);
}

json_t *admin_body(struct request_context *context, const char *const *names, size_t count)
{
    struct err err = {0};
    json_t *body = json_parse(context->body, context->body_len, JSON_READ_STRICT, &err);

    if (body && !json_is_object(body)) {
        char got[JSON_DESCRIBE_SIZE];

        json_describe(body, got, sizeof(got));
        err_input(&err, "invalid_value", "", "expected a JSON object, got %s", got);
    } else if (body && json_known_members(body, "", names, count, &err)) {
        return body;
    }
    json_decref(body);
    reply_err(context->http, &err);
    return NULL;
}

static const char *find_name(const char *name, const char *const *known, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(known[i], name) == 0)
            return known[i];
    return NULL;
}

/* One string of the array; NULL with err set when it is none of known. */
static const char *read_name(const json_t *value, const char *path, const char *const *known,
                             size_t count, struct err *err)
{
    const char *found =
        json_is_string(value) ? find_name(json_string_value(value), known, count) : NULL;
    const char *nearest =
        json_is_string(value) ? str_nearest(json_string_value(value), known, count) : NULL;
    char got[JSON_DESCRIBE_SIZE];

    if (found)
        return found;
    json_describe(value, got, sizeof(got));
    err_input(err, "invalid_value", path, "%s: unknown value %s%s%s%s", path, got,
              nearest ? " (did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?)" : "");
    return NULL;
}

bool admin_read_names(const json_t *object, const char *name, const char *const *known,
                      size_t known_count, const char **out, size_t max, size_t *count,
                      struct err *err)
{
    const json_t *array = json_object_get(object, name);
    char path[ERR_PARAM_MAX];

    *count = 0;
    if (!array || json_is_null(array))
        return true;
    if (!json_is_array(array) || json_array_size(array) == 0 || json_array_size(array) > max)
        return err_input(err, "invalid_value", name,
                         "%s: expected an array of 1 to %zu different strings", name, max);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *found;

        snprintf(path, sizeof(path), "%s[%zu]", name, i);
        found = read_name(json_array_get(array, i), path, known, known_count, err);
        if (!found)
            return false;
        if (find_name(found, out, *count))
            return err_input(err, "invalid_value", path, "%s: \"%s\" stands there twice", path,
                             found);
        out[(*count)++] = found;
    }
    return true;
}

/* --- queries ---------------------------------------------------------------------------------- */

struct params {
    struct admin_param *params;
    size_t count;
};

static bool refuse_param(const struct params *params, const char *name, struct err *err)
{
    const char *names[PARAMS_MAX];
    const char *nearest;

    for (size_t i = 0; i < params->count; i++)
        names[i] = params->params[i].name;
    nearest = str_nearest(name, names, params->count);
    if (nearest)
        return err_input(err, "invalid_value", name,
                         "unknown query parameter \"%s\" (did you mean \"%s\"?)", name, nearest);
    return err_input(err, "invalid_value", name, "unknown query parameter \"%s\"", name);
}

static bool on_param(const char *name, const char *value, void *arg, struct err *err)
{
    const struct params *params = arg;

    for (size_t i = 0; i < params->count; i++) {
        struct admin_param *param = &params->params[i];

        if (strcmp(param->name, name) != 0)
            continue;
        if (strlen(value) > ADMIN_PARAM_MAX)
            return err_input(err, "invalid_value", name, "%s: longer than %d bytes", name,
                             ADMIN_PARAM_MAX);
        param->is_given = true;
        snprintf(param->value, sizeof(param->value), "%s", value);
        return true;
    }
    return refuse_param(params, name, err);
}

bool admin_params(struct request_context *context, struct admin_param *params, size_t count)
{
    struct params all = {params, count};
    struct err err = {0};

    if (http_query_each(context->http, on_param, &all, &err))
        return true;
    reply_err(context->http, &err);
    return false;
}

bool admin_limit(const struct admin_param *param, int max, int *limit, struct err *err)
{
    int64_t value;

    if (!param->is_given)
        return true;
    if (!str_to_i64(param->value, strlen(param->value), &value) || value < 1 || value > max)
        return err_input(err, "invalid_value", param->name, "%s: expected 1 to %d", param->name,
                         max);
    *limit = (int)value;
    return true;
}

/* --- answers ---------------------------------------------------------------------------------- */

void admin_started(struct request_context *context, bool is_started)
{
    if (!is_started)
        reply_error(context->http, "unavailable", NULL, "out of memory");
}

bool admin_refused(struct request_context *context, enum admin_outcome outcome, const char *missing,
                   const char *conflict)
{
    switch (outcome) {
    case ADMIN_DONE:
        return false;
    case ADMIN_MISSING:
        reply_error(context->http, "not_found", NULL, "%s", missing);
        return true;
    case ADMIN_CONFLICT:
        reply_error(context->http, "conflict", NULL, "%s", conflict);
        return true;
    case ADMIN_AWAY:
        reply_error(context->http, "unavailable", NULL, "the database is not available");
        return true;
    case ADMIN_BROKEN:
        break;
    }
    reply_error(context->http, "internal", NULL, "the server made a mistake");
    return true;
}

void admin_put_name(struct buf *out, const char *name)
{
    if (out->len > 0 && out->data[out->len - 1] != '{')
        buf_putc(out, ',');
    buf_printf(out, "\"%s\":", name);
}

void admin_put_text(struct buf *out, const char *name, const char *text)
{
    admin_put_name(out, name);
    buf_put_json_text(out, text);
}

void admin_put_int(struct buf *out, const char *name, int64_t value)
{
    admin_put_name(out, name);
    buf_printf(out, "%" PRId64, value);
}

void admin_put_bool(struct buf *out, const char *name, bool value)
{
    admin_put_json(out, name, value ? "true" : "false");
}

void admin_put_time(struct buf *out, const char *name, int64_t us)
{
    char text[CLOCK_RFC3339_SIZE];

    if (us > 0)
        clock_format_rfc3339(us, text);
    admin_put_text(out, name, us > 0 ? text : NULL);
}

void admin_put_json(struct buf *out, const char *name, const char *json)
{
    admin_put_name(out, name);
    buf_puts(out, json ? json : "null");
}

void admin_list_begin(struct buf *out)
{
    buf_init(out, ADMIN_ANSWER_MAX);
    buf_puts(out, "{\"object\":\"list\",\"data\":[");
}

void admin_list_item(struct buf *out)
{
    if (out->len > 0 && out->data[out->len - 1] == '}')
        buf_putc(out, ',');
    buf_putc(out, '{');
}

void admin_list_end(struct buf *out)
{
    buf_putc(out, ']');
}
