/* SPDX-License-Identifier: Apache-2.0 */
/* Codes, types and statuses of errors, in the many shapes of compatible servers. */
#include "worker/providers/openai_error.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/base/str.h"

enum { MESSAGE_MAX = 400 };

/* What a code or type says, whatever the status. */
static const struct {
    const char *name;
    enum error_type type;
    bool may_fall_back;
} names[] = {
    {"context_length_exceeded", ERROR_CONTEXT_LENGTH, true},
    {"content_policy_violation", ERROR_CONTENT_FILTER, false},
    {"content_filter", ERROR_CONTENT_FILTER, false},
    {"invalid_prompt", ERROR_CONTENT_FILTER, false},
    {"insufficient_quota", ERROR_QUOTA, true},
    {"billing_hard_limit_reached", ERROR_QUOTA, true},
    {"invalid_api_key", ERROR_AUTH, true},
    {"authentication_error", ERROR_AUTH, true},
    {"permission_error", ERROR_AUTH, true},
    {"model_not_found", ERROR_BAD_REQUEST, true},
    {"rate_limit_exceeded", ERROR_RATE_LIMITED, true},
    {"rate_limit_error", ERROR_RATE_LIMITED, true},
    {"overloaded", ERROR_OVERLOADED, true},
    {"overloaded_error", ERROR_OVERLOADED, true},
    {"server_error", ERROR_OVERLOADED, true},
    {"internal_error", ERROR_OVERLOADED, true},
    {"timeout", ERROR_TIMEOUT, true},
};

static const struct {
    int status;
    enum error_type type;
    bool may_fall_back;
} statuses[] = {
    {401, ERROR_AUTH, true},        {402, ERROR_QUOTA, true},      {403, ERROR_AUTH, true},
    {404, ERROR_BAD_REQUEST, true}, {408, ERROR_TIMEOUT, true},    {409, ERROR_OVERLOADED, true},
    {424, ERROR_OVERLOADED, true},  {425, ERROR_OVERLOADED, true}, {429, ERROR_RATE_LIMITED, true},
    {504, ERROR_TIMEOUT, true},
};

static void set_by_status(struct failure *out, int status)
{
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        if (statuses[i].status == status) {
            out->type = statuses[i].type;
            out->may_fall_back = statuses[i].may_fall_back;
            return;
        }
    }
    out->may_fall_back = status < 400 || status >= 500;
    if (status >= 500)
        out->type = ERROR_OVERLOADED;
    else
        out->type = status >= 400 ? ERROR_BAD_REQUEST : ERROR_PROTOCOL;
}

/* A 429 is a rate limit whatever its words, but for a quota that is used up. */
static bool set_by_name(struct failure *out, const char *name, int status)
{
    for (size_t i = 0; name && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(names[i].name, name) == 0 &&
            (status != 429 || names[i].type == ERROR_QUOTA)) {
            out->type = names[i].type;
            out->may_fall_back = names[i].may_fall_back;
            return true;
        }
    }
    return false;
}

static void set_code(struct failure *out, const char *code)
{
    size_t len = code ? str_utf8_boundary(code, strnlen(code, sizeof(out->code) - 1)) : 0;

    memcpy(out->code, code ? code : "", len);
    out->code[len] = '\0';
}

static void set_message(struct failure *out, const char *text, size_t len)
{
    struct buf clean;

    buf_init(&clean, MESSAGE_MAX * 4);
    len = len < MESSAGE_MAX ? len : MESSAGE_MAX;
    if (len > 0 && str_utf8_clean(&clean, text, str_utf8_boundary(text, len)) && clean.len > 0)
        snprintf(out->message, sizeof(out->message), "%s", clean.data);
    buf_release(&clean);
    out->message[str_utf8_boundary(out->message, strlen(out->message))] = '\0';
}

/* Servers without codes of their own say it in words. */
static bool is_about_context(const char *message)
{
    return strcasestr(message, "context length") || strcasestr(message, "context window") ||
           strcasestr(message, "too many tokens");
}

/* error may be an object, a text, or a list of them; status 0: inside a stream. */
static void read_error(const json_t *error, int status, struct failure *out)
{
    const char *code, *type, *message;

    if (json_is_array(error))
        error = json_array_get(error, 0);
    code = json_string_or_null(error, "code");
    type = json_string_or_null(error, "type");
    message =
        json_is_string(error) ? json_string_value(error) : json_string_or_null(error, "message");
    if (status == 0) { /* some say in a number what they cannot say in the head */
        status = (int)json_count_or(json_object_get(error, "http_status_code"),
                                    json_count_or(json_object_get(error, "code"), 0));
        set_by_status(out, status >= 400 && status < 600 ? status : 500);
    }
    set_code(out, code && *code ? code : type);
    if (message)
        set_message(out, message, strlen(message));
    if (!set_by_name(out, code, status) && !set_by_name(out, type, status) &&
        out->type == ERROR_BAD_REQUEST && is_about_context(out->message)) {
        out->type = ERROR_CONTEXT_LENGTH;
        out->may_fall_back = true;
    }
}

/* The provider's words may quote the key it refused. */
static void hide_key(struct failure *out, int status)
{
    if (out->type != ERROR_AUTH)
        return;
    if (status > 0)
        snprintf(out->message, sizeof(out->message), "the provider refused our key (HTTP %d)",
                 status);
    else
        snprintf(out->message, sizeof(out->message), "the provider refused our key");
}

void openai_read_failure(int status, const char *body, size_t len, struct failure *out)
{
    json_t *root = json_parse(body, len, JSON_READ_LENIENT, NULL);
    const json_t *error = json_is_array(root) ? json_array_get(root, 0) : root;

    *out = (struct failure){0};
    set_by_status(out, status);
    if (json_object_get(error, "error")) {
        const json_t *inner = json_object_get(error, "error");

        read_error(inner, status, out);
        if (json_is_string(inner) && !out->code[0])
            set_code(out, json_string_or_null(error, "error_type"));
    } else if (json_string_or_null(error, "message")) {
        read_error(error, status, out); /* {"object":"error","message":...} */
    }
    if (!out->message[0])
        snprintf(out->message, sizeof(out->message), "the provider answered HTTP %d", status);
    hide_key(out, status);
    json_decref(root);
}

void openai_read_stream_error(const json_t *error, struct failure *out)
{
    *out = (struct failure){0};
    read_error(error, 0, out);
    if (!out->message[0])
        snprintf(out->message, sizeof(out->message),
                 "the provider reported an error in its stream");
    hide_key(out, 0);
}
