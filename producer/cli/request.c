/* SPDX-License-Identifier: Apache-2.0 */
/* Submit bodies out of a text and named values.  Pure. */
#include "producer/cli/request.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/str.h"

enum { TEMPLATE_MAX = 64 * 1024 * 1024 };

static bool add_message(json_t *messages, const char *role, const char *text)
{
    return json_array_append_new(messages, json_pack("{s:s,s:o?}", "role", role, "content",
                                                     json_stringn(text, strlen(text)))) == 0;
}

json_t *request_body(const char *model, const char *system, const char *text, struct err *err)
{
    json_t *messages = json_array(), *body;

    if (!str_utf8_valid(text, strlen(text)) ||
        (system && !str_utf8_valid(system, strlen(system)))) {
        json_decref(messages);
        err_set(err, "the text is not UTF-8");
        return NULL;
    }
    if (system)
        add_message(messages, "system", system);
    add_message(messages, "user", text);
    body = json_pack("{s:{s:s,s:o}}", "request", "model", model, "messages", messages);
    if (!body)
        err_set(err, "the model's name is not UTF-8");
    return body;
}

/* --- named values ----------------------------------------------------------------------------- */

enum place { IN_REQUEST, IN_BODY };
enum shape { A_STRING, AN_INTEGER, A_NUMBER };

static const struct {
    const char *name;
    enum place place;
    enum shape shape;
} members[] = {
    {"model", IN_REQUEST, A_STRING},       {"max_tokens", IN_REQUEST, AN_INTEGER},
    {"temperature", IN_REQUEST, A_NUMBER}, {"priority", IN_BODY, A_STRING},
    {"workflow", IN_BODY, A_STRING},       {"user", IN_BODY, A_STRING},
    {"purpose", IN_BODY, A_STRING},        {"data_class", IN_BODY, A_STRING},
    {"run_at", IN_BODY, A_STRING},         {"deadline", IN_BODY, A_STRING},
    {"max_attempts", IN_BODY, AN_INTEGER}, {"timeout_s", IN_BODY, AN_INTEGER},
    {"max_cost_usd", IN_BODY, A_STRING},   {"idempotency_key", IN_BODY, A_STRING},
};

enum { MEMBERS = sizeof(members) / sizeof(members[0]) };

static const char metadata_prefix[] = "metadata.";

bool request_knows(const char *name)
{
    bool is_known = strncmp(name, metadata_prefix, sizeof(metadata_prefix) - 1) == 0;

    for (size_t i = 0; i < MEMBERS; i++)
        is_known |= strcmp(members[i].name, name) == 0;
    return is_known;
}

static json_t *read_value(const char *name, const char *value, enum shape shape, struct err *err)
{
    int64_t whole;
    char *end;
    double real;
    json_t *json = NULL;

    if (shape == A_STRING) {
        json = json_string(value);
        if (!json)
            err_set(err, "%s: the text is not UTF-8", name);
        return json;
    }
    if (str_to_i64(value, strlen(value), &whole))
        return json_integer(whole);
    real = strtod(value, &end);
    if (shape == A_NUMBER && end != value && !*end)
        json = json_real(real);
    if (!json)
        err_set(err, "%s: expected a %snumber, got \"%.64s\"", name,
                shape == AN_INTEGER ? "whole " : "", value);
    return json;
}

static bool put_metadata(json_t *body, const char *name, const char *value, struct err *err)
{
    json_t *metadata = json_object_get(body, "metadata");

    if (!metadata) {
        metadata = json_object();
        json_object_set_new(body, "metadata", metadata);
    }
    return json_object_set_new(metadata, name, json_string(value)) == 0 ||
           err_set(err, "metadata.%.64s: the text is not UTF-8", name);
}

bool request_put(json_t *body, const char *name, const char *value, struct err *err)
{
    const char *names[MEMBERS], *nearest;

    if (strncmp(name, metadata_prefix, sizeof(metadata_prefix) - 1) == 0)
        return put_metadata(body, name + sizeof(metadata_prefix) - 1, value, err);
    for (size_t i = 0; i < MEMBERS; i++) {
        json_t *json;

        names[i] = members[i].name;
        if (strcmp(members[i].name, name) != 0)
            continue;
        json = read_value(name, value, members[i].shape, err);
        return json && json_object_set_new(
                           members[i].place == IN_REQUEST ? json_object_get(body, "request") : body,
                           name, json) == 0;
    }
    nearest = str_nearest(name, names, MEMBERS);
    return err_set(err, "unknown column \"%.64s\"%s%s%s", name, nearest ? " (did you mean " : "",
                   nearest ? nearest : "", nearest ? "?)" : "");
}

/* --- templates -------------------------------------------------------------------------------- */

static bool put_named(struct buf *out, const char **at, request_find_fn *find, void *arg,
                      struct err *err)
{
    size_t len = strcspn(*at, "}");
    char name[256];
    const char *value;

    if ((*at)[len] != '}' || len >= sizeof(name))
        return err_set(err, "template: a { without its } (write {{ for a brace)");
    memcpy(name, *at, len);
    name[len] = '\0';
    *at += len + 1;
    value = find(name, arg);
    if (!value)
        return err_set(err, "template: there is no column {%.64s}", name);
    return buf_puts(out, value) || err_set(err, "template: the prompt is too long");
}

char *request_template(const char *text, request_find_fn *find, void *arg, struct err *err)
{
    struct buf out;
    bool ok = true;

    buf_init(&out, TEMPLATE_MAX);
    buf_puts(&out, "");
    while (*text && ok) {
        char c = *text++;

        if ((c == '{' || c == '}') && *text == c) {
            text++;
            ok = buf_putc(&out, c);
        } else if (c == '{') {
            ok = put_named(&out, &text, find, arg, err);
        } else {
            ok = buf_putc(&out, c) || err_set(err, "template: the prompt is too long");
        }
    }
    if (ok)
        return buf_detach(&out, &(size_t){0});
    buf_release(&out);
    return NULL;
}
