/* SPDX-License-Identifier: Apache-2.0 */
/* Merges chunks into one chat.completion, and writes it exactly once. */
#include "worker/providers/openai_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"

enum { HEAD_FIELD_MAX = 1024, USAGE_MAX = 16 * 1024 };

void openai_message_init(struct openai_message *message, size_t max_bytes)
{
    struct buf *heads[] = {&message->id, &message->model, &message->created, &message->fingerprint,
                           &message->tier};

    *message = (struct openai_message){.max_bytes = max_bytes};
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        buf_init(heads[i], HEAD_FIELD_MAX);
    for (int i = 0; i < OPENAI_TEXT_COUNT; i++)
        buf_init(&message->texts[i], max_bytes);
    buf_init(&message->logprobs, max_bytes);
    buf_init(&message->refusal_logprobs, max_bytes);
    buf_init(&message->usage, USAGE_MAX);
}

void openai_message_release(struct openai_message *message)
{
    struct buf *bufs[] = {
        &message->id,   &message->model, &message->created,  &message->fingerprint,
        &message->tier, &message->usage, &message->logprobs, &message->refusal_logprobs};

    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
        buf_release(bufs[i]);
    for (int i = 0; i < OPENAI_TEXT_COUNT; i++)
        buf_release(&message->texts[i]);
    for (int i = 0; i < message->tool_count; i++) {
        buf_release(&message->tools[i].id);
        buf_release(&message->tools[i].name);
        buf_release(&message->tools[i].arguments);
    }
    free(message->tools);
}

/* --- head ------------------------------------------------------------------------------------- */

static void keep_first(struct buf *field, const json_t *chunk, const char *name)
{
    const json_t *value = json_object_get(chunk, name);

    if (field->len == 0 && json_string_length(value) > 0 &&
        !buf_append(field, json_string_value(value), json_string_length(value)))
        buf_clear(field); /* absurdly long: as if it had not come */
}

void openai_message_head(struct openai_message *message, const json_t *chunk)
{
    int64_t created = json_count_or(json_object_get(chunk, "created"), 0);

    keep_first(&message->id, chunk, "id");
    keep_first(&message->model, chunk, "model");
    keep_first(&message->fingerprint, chunk, "system_fingerprint");
    keep_first(&message->tier, chunk, "service_tier");
    if (message->created.len == 0 && created > 0)
        buf_printf(&message->created, "%lld", (long long)created);
}

bool openai_message_has_head(const struct openai_message *message)
{
    return message->id.len > 0 && message->model.len > 0 && message->created.len > 0;
}

/* --- text and tools --------------------------------------------------------------------------- */

static bool grow(struct openai_message *message, struct buf *field, const char *text, size_t len)
{
    if (message->is_over || len > message->max_bytes - message->bytes ||
        !buf_append(field, text, len)) {
        message->is_over = true;
        return false;
    }
    message->bytes += len;
    return true;
}

void openai_message_text(struct openai_message *message, enum openai_text which, const char *text,
                         size_t len)
{
    message->has_text[which] = true;
    grow(message, &message->texts[which], text, len);
}

static struct openai_tool *add_tool(struct openai_message *message, int64_t index)
{
    struct openai_tool *tools = NULL, *tool;

    if (message->tool_count < OPENAI_TOOLS_MAX)
        tools = realloc(message->tools, (size_t)(message->tool_count + 1) * sizeof(*tools));
    if (!tools) {
        message->is_over = true;
        return NULL;
    }
    message->tools = tools;
    tool = &tools[message->tool_count++];
    *tool = (struct openai_tool){.index = index};
    buf_init(&tool->id, HEAD_FIELD_MAX);
    buf_init(&tool->name, HEAD_FIELD_MAX);
    buf_init(&tool->arguments, message->max_bytes);
    return tool;
}

/* The newest call with that index; one with another id on the same index is a new call. */
static struct openai_tool *find_tool(struct openai_message *message, int64_t index, const char *id)
{
    for (int i = message->tool_count - 1; i >= 0; i--) {
        struct openai_tool *tool = &message->tools[i];

        if (tool->index != index)
            continue;
        if (id && *id && tool->id.len > 0 && strcmp(tool->id.data, id) != 0)
            break;
        return tool;
    }
    return add_tool(message, index);
}

/* Arguments are text; some servers send the object itself. */
static char *arguments_of(const json_t *function, size_t *len)
{
    const json_t *value = json_object_get(function, "arguments");
    char *text = NULL;

    if (json_is_string(value)) {
        *len = json_string_length(value);
        return strdup(json_string_value(value));
    }
    if (json_is_object(value) || json_is_array(value))
        text = json_dumps(value, JSON_COMPACT);
    *len = text ? strlen(text) : 0;
    return text;
}

static void take_fragment(struct openai_message *message, const json_t *fragment, int64_t position,
                          const struct answer_sink *sink)
{
    const json_t *function = json_object_get(fragment, "function");
    const char *id = json_string_or_null(fragment, "id");
    const char *name = json_string_or_null(function, "name");
    int64_t index = json_count_or(json_object_get(fragment, "index"), position);
    struct openai_tool *tool = find_tool(message, index, id);
    struct tool_delta delta = {0};
    char *arguments;

    if (!tool)
        return;
    arguments = arguments_of(function, &delta.arguments_len);
    delta.index = (int)(tool - message->tools);
    delta.arguments = arguments;
    if (id && *id && tool->id.len == 0 && grow(message, &tool->id, id, strlen(id)))
        delta.id = id;
    /* A name comes whole; some servers repeat it with every fragment. */
    if (name && *name && tool->name.len == 0 && grow(message, &tool->name, name, strlen(name)))
        delta.name = name;
    if (delta.arguments_len > 0)
        grow(message, &tool->arguments, arguments, delta.arguments_len);
    if (!message->is_over && (delta.id || delta.name || delta.arguments_len > 0))
        sink->on_tool(&delta, sink->arg);
    free(arguments);
}

void openai_message_tools(struct openai_message *message, const json_t *fragments,
                          const struct answer_sink *sink)
{
    json_t *fragment;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)fragments, i, fragment)
    {
        if (json_is_object(fragment) && !message->is_over)
            take_fragment(message, fragment, (int64_t)i, sink);
    }
}

/* --- raw parts -------------------------------------------------------------------------------- */

/* Puts a value as its source says it, so that numbers stay digit for digit, or, when the strict
 * parser would not take the source (NUL, lone surrogates, names twice), as it was understood. */
static bool put_value(struct buf *out, struct json_slice source, const json_t *value)
{
    json_t *strict = json_parse(source.text, source.len, JSON_READ_STRICT, NULL);
    char *text;
    bool ok;

    if (strict) {
        json_decref(strict);
        return buf_append(out, source.text, source.len);
    }
    text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    ok = text && buf_puts(out, text);
    free(text);
    return ok;
}

void openai_message_usage(struct openai_message *message, struct json_slice source,
                          const json_t *value)
{
    buf_clear(&message->usage);
    if (!put_value(&message->usage, source, value))
        buf_clear(&message->usage);
}

static void add_elements(struct openai_message *message, struct buf *list, struct json_slice object,
                         const json_t *value, const char *name)
{
    const json_t *elements = json_object_get(value, name);
    struct json_slice source;
    struct buf text;

    if (json_array_size(elements) == 0 ||
        !json_member_slice(object.text, object.len, name, &source))
        return;
    buf_init(&text, message->max_bytes);
    if (!put_value(&text, source, elements))
        message->is_over = true;
    else if ((list->len == 0 || grow(message, list, ",", 1)) && text.len > 2)
        grow(message, list, text.data + 1, text.len - 2);
    buf_release(&text);
}

void openai_message_logprobs(struct openai_message *message, struct json_slice source,
                             const json_t *value)
{
    message->has_logprobs = true;
    add_elements(message, &message->logprobs, source, value, "content");
    add_elements(message, &message->refusal_logprobs, source, value, "refusal");
}

/* --- write ------------------------------------------------------------------------------------ */

static void put_text(struct buf *out, const struct buf *text)
{
    buf_put_json_string(out, text->len > 0 ? text->data : "", text->len);
}

static void put_or(struct buf *out, const struct buf *text, const char *fallback)
{
    if (text->len > 0)
        put_text(out, text);
    else
        buf_put_json_string(out, fallback, strlen(fallback));
}

static bool is_id_taken(const struct openai_message *message, int tool)
{
    for (int i = 0; i < tool; i++)
        if (message->tools[i].id.len == message->tools[tool].id.len &&
            memcmp(message->tools[i].id.data, message->tools[tool].id.data,
                   message->tools[i].id.len) == 0)
            return true;
    return false;
}

static void put_tools(struct buf *out, const struct openai_message *message)
{
    buf_puts(out, ",\"tool_calls\":[");
    for (int i = 0; i < message->tool_count; i++) {
        const struct openai_tool *tool = &message->tools[i];

        buf_puts(out, i > 0 ? ",{\"id\":" : "{\"id\":");
        /* Some servers give all calls the id "0", or none: answers could not name them. */
        if (tool->id.len == 0 || is_id_taken(message, i))
            buf_printf(out, "\"call_%d\"", i);
        else
            put_text(out, &tool->id);
        buf_puts(out, ",\"type\":\"function\",\"function\":{\"name\":");
        put_text(out, &tool->name);
        buf_puts(out, ",\"arguments\":");
        put_text(out, &tool->arguments);
        buf_puts(out, "}}");
    }
    buf_putc(out, ']');
}

static void put_text_member(struct buf *out, const struct openai_message *message,
                            enum openai_text which, const char *name)
{
    if (message->texts[which].len == 0)
        return;
    buf_printf(out, ",\"%s\":", name);
    put_text(out, &message->texts[which]);
}

static void put_message(struct buf *out, const struct openai_message *message)
{
    const struct buf *content = &message->texts[OPENAI_CONTENT];
    bool has_other = message->tool_count > 0 || message->texts[OPENAI_REFUSAL].len > 0 ||
                     message->has_text[OPENAI_FUNCTION_NAME];

    buf_puts(out, "{\"role\":\"assistant\",\"content\":");
    /* Streams begin with an empty content also where the whole answer would say null. */
    if (content->len == 0 && (has_other || !message->has_text[OPENAI_CONTENT]))
        buf_puts(out, "null");
    else
        put_text(out, content);
    buf_puts(out, ",\"refusal\":");
    if (message->texts[OPENAI_REFUSAL].len > 0)
        put_text(out, &message->texts[OPENAI_REFUSAL]);
    else
        buf_puts(out, "null");
    put_text_member(out, message, OPENAI_REASONING, "reasoning");
    put_text_member(out, message, OPENAI_REASONING_CONTENT, "reasoning_content");
    if (message->tool_count > 0)
        put_tools(out, message);
    if (message->has_text[OPENAI_FUNCTION_NAME]) {
        buf_puts(out, ",\"function_call\":{\"name\":");
        put_text(out, &message->texts[OPENAI_FUNCTION_NAME]);
        buf_puts(out, ",\"arguments\":");
        put_text(out, &message->texts[OPENAI_FUNCTION_ARGUMENTS]);
        buf_putc(out, '}');
    }
    buf_putc(out, '}');
}

static void put_logprobs(struct buf *out, const struct openai_message *message)
{
    if (!message->has_logprobs) {
        buf_puts(out, "null");
        return;
    }
    buf_puts(out, "{\"content\":[");
    buf_append(out, message->logprobs.data, message->logprobs.len);
    buf_puts(out, "],\"refusal\":");
    if (message->refusal_logprobs.len > 0)
        buf_printf(out, "[%s]", message->refusal_logprobs.data);
    else
        buf_puts(out, "null");
    buf_putc(out, '}');
}

bool openai_message_write(const struct openai_message *message, const char *finish_reason,
                          const char *fallback_id, const char *fallback_model, struct buf *out)
{
    buf_puts(out, "{\"id\":");
    put_or(out, &message->id, fallback_id);
    buf_puts(out, ",\"object\":\"chat.completion\",\"created\":");
    if (message->created.len > 0)
        buf_append(out, message->created.data, message->created.len);
    else
        buf_printf(out, "%lld", (long long)(clock_now_us() / US_PER_S));
    buf_puts(out, ",\"model\":");
    put_or(out, &message->model, fallback_model);
    buf_puts(out, ",\"choices\":[{\"index\":0,\"message\":");
    put_message(out, message);
    buf_puts(out, ",\"logprobs\":");
    put_logprobs(out, message);
    buf_puts(out, ",\"finish_reason\":");
    buf_put_json_string(out, finish_reason, strlen(finish_reason));
    buf_puts(out, "}]");
    if (message->usage.len > 0) {
        buf_puts(out, ",\"usage\":");
        buf_append(out, message->usage.data, message->usage.len);
    }
    if (message->tier.len > 0) {
        buf_puts(out, ",\"service_tier\":");
        put_text(out, &message->tier);
    }
    if (message->fingerprint.len > 0) {
        buf_puts(out, ",\"system_fingerprint\":");
        put_text(out, &message->fingerprint);
    }
    return buf_putc(out, '}');
}
