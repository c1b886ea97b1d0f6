/* SPDX-License-Identifier: Apache-2.0 */
/* A Chat Completions request, checked as the real service checks it. */
#include "tests/simulator/chat_request.h"

#include <stdio.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/str.h"

enum { LAST_USER_MAX = 64 << 20, CHOICES_MAX = 128, STOPS_MAX = 4 };

static const char *const known_fields[] = {
    "model",
    "messages",
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
};

void chat_request_init(struct chat_request *request)
{
    memset(request, 0, sizeof(*request));
    request->max_tokens = -1;
    request->choices = 1;
    buf_init(&request->last_user, LAST_USER_MAX);
}

void chat_request_release(struct chat_request *request)
{
    buf_release(&request->last_user);
}

int64_t chat_request_prompt_tokens(const struct chat_request *request)
{
    return (request->prompt_bytes + 3) / 4;
}

static bool wrong_type(struct err *err, const char *param, const char *expected)
{
    return err_input(err, "invalid_type", param, "Invalid type for '%s': expected %s.", param,
                     expected);
}

static bool missing(struct err *err, const char *param)
{
    return err_input(err, "missing_required_parameter", param, "Missing required parameter: '%s'.",
                     param);
}

/* --- plain fields ----------------------------------------------------------------------------- */

static bool check_known(const json_t *root, struct err *err)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)root, name, value)
    {
        bool is_known = false;

        for (size_t i = 0; i < sizeof(known_fields) / sizeof(known_fields[0]); i++)
            is_known = is_known || strcmp(known_fields[i], name) == 0;
        if (!is_known)
            return err_input(err, "unknown_parameter", name,
                             "Unrecognized request argument "
                             "supplied: %.100s",
                             name);
    }
    return true;
}

static bool take_model(struct chat_request *request, const json_t *root, struct err *err)
{
    const json_t *model = json_object_get(root, "model");

    if (!model || json_is_null(model))
        return err_input(err, "missing_required_parameter", "model",
                         "you must provide a model parameter");
    if (!json_is_string(model))
        return wrong_type(err, "model", "a string");
    if (json_string_length(model) == 0 || json_string_length(model) >= sizeof(request->model))
        return err_input(err, "model_not_found", "model", "invalid model ID");
    snprintf(request->model, sizeof(request->model), "%s", json_string_value(model));
    return true;
}

static bool take_count(const json_t *root, const char *name, int64_t min, int64_t max, int64_t *out,
                       struct err *err)
{
    const json_t *value = json_object_get(root, name);

    if (!value || json_is_null(value))
        return true;
    if (!json_is_integer(value))
        return wrong_type(err, name, "an integer");
    if (json_integer_value(value) < min)
        return err_input(err, "integer_below_min_value", name,
                         "Invalid '%s': integer below minimum value. Expected a value >= %lld, but "
                         "got %lld instead.",
                         name, (long long)min, (long long)json_integer_value(value));
    if (json_integer_value(value) > max)
        return err_input(err, "integer_above_max_value", name,
                         "Invalid '%s': integer above maximum value. Expected a value <= %lld, but "
                         "got %lld instead.",
                         name, (long long)max, (long long)json_integer_value(value));
    *out = json_integer_value(value);
    return true;
}

static bool check_range(const json_t *root, const char *name, double min, double max,
                        struct err *err)
{
    const json_t *value = json_object_get(root, name);

    if (!value || json_is_null(value))
        return true;
    if (!json_is_number(value))
        return wrong_type(err, name, "a decimal");
    double number = json_number_value(value);
    if (number < min)
        return err_input(err, "decimal_below_min_value", name,
                         "Invalid '%s': decimal below minimum value.", name);
    if (number > max)
        return err_input(err, "decimal_above_max_value", name,
                         "Invalid '%s': decimal above maximum value.", name);
    return true;
}

static bool take_flag(const json_t *object, const char *name, const char *param, bool *out,
                      struct err *err)
{
    const json_t *value = json_object_get(object, name);

    if (!value || json_is_null(value))
        return true;
    if (!json_is_boolean(value))
        return wrong_type(err, param, "a boolean");
    *out = json_is_true(value);
    return true;
}

static bool take_stream(struct chat_request *request, const json_t *root, struct err *err)
{
    const json_t *options = json_object_get(root, "stream_options");
    bool ignored = false;

    if (!take_flag(root, "stream", "stream", &request->is_stream, err))
        return false;
    if (!options || json_is_null(options))
        return true;
    if (!request->is_stream)
        return err_input(
            err, "invalid_value", "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
    if (!json_is_object(options))
        return wrong_type(err, "stream_options", "an object");
    return take_flag(options, "include_usage", "stream_options.include_usage", &request->has_usage,
                     err) &&
           take_flag(options, "include_obfuscation", "stream_options.include_obfuscation", &ignored,
                     err);
}

static bool take_limits(struct chat_request *request, const json_t *root, struct err *err)
{
    int64_t old_limit = -1, ignored = 0;

    if (!take_count(root, "max_completion_tokens", 1, INT32_MAX, &request->max_tokens, err) ||
        !take_count(root, "max_tokens", 1, INT32_MAX, &old_limit, err))
        return false;
    if (old_limit >= 0 && request->max_tokens >= 0)
        return err_input(err, "invalid_parameter_combination", "max_tokens",
                         "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not "
                         "supported.");
    if (old_limit >= 0)
        request->max_tokens = old_limit;
    return take_count(root, "n", 1, CHOICES_MAX, &request->choices, err) &&
           take_count(root, "top_logprobs", 0, 20, &ignored, err) &&
           check_range(root, "temperature", 0, 2, err) && check_range(root, "top_p", 0, 1, err) &&
           check_range(root, "frequency_penalty", -2, 2, err) &&
           check_range(root, "presence_penalty", -2, 2, err);
}

static bool check_stop(const json_t *root, struct err *err)
{
    const json_t *stop = json_object_get(root, "stop");

    if (!stop || json_is_null(stop) || json_is_string(stop))
        return true;
    if (!json_is_array(stop))
        return wrong_type(err, "stop", "a string or an array of strings");
    if (json_array_size(stop) > STOPS_MAX)
        return err_input(
            err, "array_above_max_length", "stop",
            "Invalid 'stop': array too long. Expected an array with maximum length 4.");
    for (size_t i = 0; i < json_array_size(stop); i++) {
        if (!json_is_string(json_array_get(stop, i)))
            return wrong_type(err, "stop", "an array of strings");
    }
    return true;
}

static bool take_tools(struct chat_request *request, const json_t *root, struct err *err)
{
    const json_t *tools = json_object_get(root, "tools");
    char param[64];

    if (!tools || json_is_null(tools))
        return true;
    if (!json_is_array(tools))
        return wrong_type(err, "tools", "an array of objects");
    if (json_array_size(tools) == 0)
        return err_input(err, "empty_array", "tools", "Invalid 'tools': empty array.");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i);
        const char *name =
            json_string_value(json_object_get(json_object_get(tool, "function"), "name"));

        snprintf(param, sizeof(param), "tools[%zu].type", i);
        if (!str_equal(json_string_value(json_object_get(tool, "type")), "function"))
            return missing(err, param);
        snprintf(param, sizeof(param), "tools[%zu].function.name", i);
        if (!name)
            return missing(err, param);
        if (!str_is_label(name, strlen(name), CHAT_FUNCTION_SIZE - 1))
            return err_input(err, "invalid_value", param, "Invalid '%s'.", param);
        if (i == 0)
            snprintf(request->function, sizeof(request->function), "%s", name);
    }
    return true;
}

/* --- messages --------------------------------------------------------------------------------- */

/* What goes through the messages once: the running hash and the last user's text. */
struct reading {
    struct chat_request *request;
    struct sha256_stream *sha;
    bool is_user; /* of the message being read */
};

static bool read_text(struct reading *reading, const json_t *text, struct err *err)
{
    const char *data = json_string_value(text);
    size_t len = json_string_length(text);

    sha256_stream_add(reading->sha, data, len);
    reading->request->prompt_bytes += (int64_t)len;
    if (reading->is_user && !buf_append(&reading->request->last_user, data, len))
        return err_input(err, "string_above_max_length", "messages", "The prompt is too long.");
    return true;
}

static bool read_part(struct reading *reading, const json_t *part, const char *param,
                      struct err *err)
{
    static const char *const others[] = {"image_url", "input_audio", "file", "refusal"};
    const char *type = json_string_value(json_object_get(part, "type"));
    const json_t *text = json_object_get(part, "text");

    if (!type)
        return missing(err, param);
    if (strcmp(type, "text") == 0)
        return json_is_string(text) ? read_text(reading, text, err) : missing(err, param);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(others[i], type) == 0)
            return json_object_get(part, type) ? true : missing(err, param);
    }
    return err_input(err, "invalid_value", param, "Invalid value: '%.40s'.", type);
}

static bool read_content(struct reading *reading, const json_t *message, const char *role,
                         size_t index, struct err *err)
{
    const json_t *content = json_object_get(message, "content");
    char param[64];

    snprintf(param, sizeof(param), "messages[%zu].content", index);
    if (!content || json_is_null(content)) {
        bool may_miss =
            strcmp(role, "assistant") == 0 &&
            (json_object_get(message, "tool_calls") || json_object_get(message, "refusal") ||
             json_object_get(message, "function_call"));
        return may_miss ? true
                        : err_input(err, "invalid_type", param,
                                    "Invalid value for 'content': expected a string, got null.");
    }
    if (json_is_string(content))
        return read_text(reading, content, err);
    if (!json_is_array(content) || json_array_size(content) == 0)
        return wrong_type(err, param, "a string or an array of parts");
    for (size_t i = 0; i < json_array_size(content); i++) {
        char part[96];

        snprintf(part, sizeof(part), "%s[%zu]", param, i);
        if (!read_part(reading, json_array_get(content, i), part, err))
            return false;
    }
    return true;
}

static bool read_message(struct reading *reading, const json_t *message, size_t index,
                         struct err *err)
{
    static const char *const roles[] = {"developer", "system", "user",
                                        "assistant", "tool",   "function"};
    const char *role = json_string_value(json_object_get(message, "role"));
    bool is_known = false;
    char param[64];

    snprintf(param, sizeof(param), "messages[%zu].role", index);
    if (!role)
        return missing(err, param);
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        is_known = is_known || strcmp(roles[i], role) == 0;
    if (!is_known)
        return err_input(err, "invalid_value", param,
                         "Invalid value: '%.40s'. Supported values are: 'system', 'assistant', "
                         "'user', 'function', 'tool', and 'developer'.",
                         role);
    snprintf(param, sizeof(param), "messages[%zu].tool_call_id", index);
    if (strcmp(role, "tool") == 0 && !json_is_string(json_object_get(message, "tool_call_id")))
        return missing(err, param);
    reading->is_user = strcmp(role, "user") == 0;
    if (reading->is_user)
        buf_clear(&reading->request->last_user);
    if (index > 0)
        sha256_stream_add(reading->sha, "\n", 1);
    return read_content(reading, message, role, index, err);
}

static bool take_messages(struct chat_request *request, const json_t *root, struct err *err)
{
    const json_t *messages = json_object_get(root, "messages");
    struct reading reading = {.request = request};
    bool ok = true;

    if (!messages || json_is_null(messages))
        return missing(err, "messages");
    if (!json_is_array(messages))
        return wrong_type(err, "messages", "an array of objects");
    if (json_array_size(messages) == 0)
        return err_input(err, "empty_array", "messages",
                         "Invalid 'messages': empty array. Expected an array with minimum length "
                         "1, but got an empty array instead.");
    reading.sha = sha256_stream_new();
    for (size_t i = 0; ok && i < json_array_size(messages); i++)
        ok = read_message(&reading, json_array_get(messages, i), i, err);
    sha256_stream_finish(reading.sha, request->prompt_sha256);
    return ok;
}

bool chat_request_parse(struct chat_request *request, const char *body, size_t len, bool is_lenient,
                        struct err *err)
{
    json_t *root = json_parse(body, len, JSON_READ_LENIENT, err);
    bool ok = false;

    if (!root || !json_is_object(root)) {
        err_input(err, "", "", "We could not parse the JSON body of your request.");
        goto done;
    }
    ok = take_model(request, root, err) && take_messages(request, root, err) &&
         take_stream(request, root, err) && take_limits(request, root, err) &&
         check_stop(root, err) && take_tools(request, root, err) &&
         (is_lenient || check_known(root, err));
done:
    json_decref(root);
    return ok;
}
