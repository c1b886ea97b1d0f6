/* SPDX-License-Identifier: Apache-2.0 */
/* Checks a Chat Completions body before it is stored, so that mistakes show at submit. */
#include "common/model/chat_request.h"

#include <stdio.h>
#include <string.h>

#include "common/base/json.h"

enum { MODEL_CHARS_MAX = 256, TOKENS_MAX = 100000000, PATH_SIZE = 96 };

static bool missing(struct err *err, const char *param)
{
    return err_input(err, "missing_field", param, "%s: is required", param);
}

/* --- messages --------------------------------------------------------------------------------- */

static bool check_role(const json_t *message, const char *path, struct err *err)
{
    static const char *const roles[] = {"system",    "developer", "user",
                                        "assistant", "tool",      "function"};
    const json_t *role = json_object_get(message, "role");
    char param[PATH_SIZE + 16];

    snprintf(param, sizeof(param), "%s.role", path);
    if (!role || json_is_null(role))
        return missing(err, param);
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        if (json_is_string(role) && strcmp(json_string_value(role), roles[i]) == 0)
            return true;
    return json_refuse(err, param, "system, user, assistant or tool", role);
}

static bool check_part(const json_t *part, const char *path, size_t index, struct err *err)
{
    const json_t *type = json_object_get(part, "type"), *text = json_object_get(part, "text");
    char at[PATH_SIZE + 40], param[PATH_SIZE + 48];

    snprintf(at, sizeof(at), "%s.content[%zu]", path, index);
    if (!json_is_object(part))
        return json_refuse(err, at, "an object with a type", part);
    snprintf(param, sizeof(param), "%s.type", at);
    if (!type)
        return missing(err, param);
    if (!json_is_string(type))
        return json_refuse(err, param, "a string", type);
    snprintf(param, sizeof(param), "%s.text", at);
    if (strcmp(json_string_value(type), "text") != 0)
        return true;
    if (!text)
        return missing(err, param);
    return json_is_string(text) || json_refuse(err, param, "a string", text);
}

/* An assistant that called tools, refused or spoke need not have said anything in text. */
static bool may_lack_content(const json_t *message)
{
    static const char *const instead[] = {"tool_calls", "function_call", "refusal", "audio"};
    const char *role = json_string_value(json_object_get(message, "role"));

    if (!role || strcmp(role, "assistant") != 0)
        return false;
    for (size_t i = 0; i < sizeof(instead) / sizeof(instead[0]); i++) {
        const json_t *value = json_object_get(message, instead[i]);

        if (value && !json_is_null(value))
            return true;
    }
    return false;
}

static bool check_content(const json_t *message, const char *path, struct err *err)
{
    const json_t *content = json_object_get(message, "content");
    char param[PATH_SIZE + 16];

    snprintf(param, sizeof(param), "%s.content", path);
    if (!content || json_is_null(content))
        return may_lack_content(message) || missing(err, param);
    if (json_is_string(content))
        return true;
    if (!json_is_array(content) || json_array_size(content) == 0)
        return json_refuse(err, param, "a string or an array of at least one part", content);
    for (size_t i = 0; i < json_array_size(content); i++)
        if (!check_part(json_array_get(content, i), path, i, err))
            return false;
    return true;
}

static bool check_messages(const json_t *request, struct err *err)
{
    static const char param[] = "request.messages";
    const json_t *messages = json_object_get(request, "messages");

    if (!messages || json_is_null(messages))
        return missing(err, param);
    if (!json_is_array(messages))
        return json_refuse(err, param, "an array of messages", messages);
    if (json_array_size(messages) == 0)
        return err_input(err, "invalid_value", param, "%s: expected at least one message", param);
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        char path[PATH_SIZE];

        snprintf(path, sizeof(path), "%s[%zu]", param, i);
        if (!json_is_object(message))
            return json_refuse(err, path, "an object with role and content", message);
        if (!check_role(message, path, err) || !check_content(message, path, err))
            return false;
    }
    return true;
}

/* --- the rest --------------------------------------------------------------------------------- */

/* One choice per call: with more, a stream would interleave them and the price multiply. */
static bool check_n(const json_t *request, struct err *err)
{
    const json_t *n = json_object_get(request, "n");

    if (!n || json_is_null(n) || (json_is_integer(n) && json_integer_value(n) == 1))
        return true;
    return json_refuse(err, "request.n", "1", n);
}

bool chat_request_read(const json_t *request, struct chat_request *out, struct err *err)
{
    int64_t max_tokens = 0, max_completion = 0;

    *out = (struct chat_request){0};
    if (!json_read_string_required(request, "request", "model", MODEL_CHARS_MAX, &out->model,
                                   err) ||
        !check_messages(request, err) || !check_n(request, err))
        return false;
    if (!json_read_i64(request, "request", "max_tokens", 1, TOKENS_MAX, &max_tokens, err) ||
        !json_read_i64(request, "request", "max_completion_tokens", 1, TOKENS_MAX, &max_completion,
                       err))
        return false;
    out->max_output = max_completion ? max_completion : max_tokens;
    return true;
}
