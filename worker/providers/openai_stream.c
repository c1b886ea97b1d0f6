/* SPDX-License-Identifier: Apache-2.0 */
/* One stream of chat.completion.chunk events, from bytes to a result. */
#include "worker/providers/openai_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/sse.h"
#include "common/base/str.h"
#include "worker/providers/openai_error.h"
#include "worker/providers/openai_message.h"
#include "worker/providers/openai_scan.h"

enum {
    EVENT_MAX = 16 * 1024 * 1024,
    FULL_PARSES_FIRST = 8, /* events read whole while the answer's id is not known yet */
    TOKENS_MAX = 1000000000,
};

struct answer {
    struct answer_spec spec;
    struct sse_reader *reader;
    struct openai_message message;
    struct buf content; /* of the event in hand */
    struct buf clean;   /* the event in hand, when its UTF-8 needed mending */
    struct buf response;
    int64_t events;
    struct usage usage;
    bool has_usage;
    bool is_usage_current; /* nothing was generated after it */
    bool is_done;
    char finish_reason[FINISH_REASON_SIZE];
    struct failure failure;
};

static bool fail(struct answer *answer, const char *message)
{
    if (answer->failure.type == ERROR_NONE) {
        answer->failure = (struct failure){.type = ERROR_PROTOCOL, .may_fall_back = true};
        snprintf(answer->failure.message, sizeof(answer->failure.message), "%s", message);
    }
    return false;
}

/* --- output ----------------------------------------------------------------------------------- */

static void put_content(struct answer *answer, const char *text, size_t len)
{
    openai_message_text(&answer->message, OPENAI_CONTENT, text, len);
    if (len == 0)
        return;
    answer->is_usage_current = false;
    if (!answer->message.is_over)
        answer->spec.sink.on_text(text, len, answer->spec.sink.arg);
}

/* A text, or a list of parts with texts. */
static void take_content(struct answer *answer, const json_t *content)
{
    const json_t *part;
    size_t i;

    if (json_is_string(content))
        put_content(answer, json_string_value(content), json_string_length(content));
    json_array_foreach((json_t *)(uintptr_t)content, i, part)
    {
        const json_t *text = json_object_get(part, "text");

        if (json_is_string(text))
            put_content(answer, json_string_value(text), json_string_length(text));
    }
}

static void take_text(struct answer *answer, const json_t *from, const char *name,
                      enum openai_text which)
{
    const json_t *value = json_object_get(from, name);

    if (!json_is_string(value))
        return;
    if (json_string_length(value) > 0)
        answer->is_usage_current = false;
    openai_message_text(&answer->message, which, json_string_value(value),
                        json_string_length(value));
}

static void take_delta(struct answer *answer, const json_t *delta)
{
    const json_t *tools = json_object_get(delta, "tool_calls");
    const json_t *function = json_object_get(delta, "function_call");

    take_content(answer, json_object_get(delta, "content"));
    take_text(answer, delta, "refusal", OPENAI_REFUSAL);
    take_text(answer, delta, "reasoning", OPENAI_REASONING);
    take_text(answer, delta, "reasoning_content", OPENAI_REASONING_CONTENT);
    take_text(answer, function, "name", OPENAI_FUNCTION_NAME);
    take_text(answer, function, "arguments", OPENAI_FUNCTION_ARGUMENTS);
    if (json_array_size(tools) > 0) {
        answer->is_usage_current = false;
        openai_message_tools(&answer->message, tools, &answer->spec.sink);
    }
}

/* --- events ----------------------------------------------------------------------------------- */

static int64_t tokens(const json_t *usage, const char *name)
{
    int64_t count = json_count_or(json_object_get(usage, name), -1);

    return count >= 0 && count <= TOKENS_MAX ? count : -1;
}

/* Usage is cumulative: the last wins.  A count that is missing is unknown, not zero. */
static void take_usage(struct answer *answer, const char *event, size_t len, const json_t *usage)
{
    const json_t *details = json_object_get(usage, "prompt_tokens_details");
    struct json_slice source;

    if (!json_is_object(usage))
        return;
    answer->usage.input_tokens = tokens(usage, "prompt_tokens");
    answer->usage.output_tokens = tokens(usage, "completion_tokens");
    answer->usage.cached_input_tokens = tokens(details, "cached_tokens");
    if (answer->usage.cached_input_tokens < 0)
        answer->usage.cached_input_tokens = 0;
    if (answer->usage.cached_input_tokens > answer->usage.input_tokens)
        answer->usage.cached_input_tokens = answer->usage.input_tokens;
    answer->has_usage = answer->usage.input_tokens >= 0 && answer->usage.output_tokens >= 0;
    answer->is_usage_current = answer->has_usage;
    if (json_member_slice(event, len, "usage", &source))
        openai_message_usage(&answer->message, source, usage);
}

static void take_logprobs(struct answer *answer, const char *event, size_t len,
                          const json_t *logprobs)
{
    struct json_slice choices, source;
    const char *first;

    if (!json_is_object(logprobs) || !json_member_slice(event, len, "choices", &choices))
        return;
    first = memchr(choices.text, '{', choices.len);
    if (first &&
        json_member_slice(first, choices.len - (size_t)(first - choices.text), "logprobs", &source))
        openai_message_logprobs(&answer->message, source, logprobs);
}

static void take_choice(struct answer *answer, const char *event, size_t len, const json_t *choice,
                        bool is_only)
{
    const char *reason = json_string_or_null(choice, "finish_reason");

    take_delta(answer, json_object_get(choice, "delta"));
    if (is_only)
        take_logprobs(answer, event, len, json_object_get(choice, "logprobs"));
    if (reason && *reason) {
        size_t fits = strnlen(reason, sizeof(answer->finish_reason) - 1);

        fits = str_utf8_boundary(reason, fits);
        memcpy(answer->finish_reason, reason, fits);
        answer->finish_reason[fits] = '\0';
    }
}

static bool take_chunk(struct answer *answer, const char *event, size_t len, const json_t *chunk)
{
    const json_t *error = json_object_get(chunk, "error"), *choice;
    const json_t *choices = json_object_get(chunk, "choices");
    size_t i;

    if (!json_is_object(chunk))
        return fail(answer, "an event of the stream is not a JSON object");
    if (error && !json_is_null(error) && !json_is_false(error)) {
        openai_read_stream_error(error, &answer->failure);
        return false;
    }
    openai_message_head(&answer->message, chunk);
    json_array_foreach((json_t *)(uintptr_t)choices, i, choice)
    {
        if (json_count_or(json_object_get(choice, "index"), 0) == 0)
            take_choice(answer, event, len, choice, json_array_size(choices) == 1);
    }
    take_usage(answer, event, len, json_object_get(chunk, "usage"));
    return true;
}

static bool parse_chunk(struct answer *answer, const char *data, size_t len)
{
    json_t *chunk;
    bool ok;

    if (!str_utf8_valid(data, len)) {
        buf_clear(&answer->clean);
        if (!str_utf8_clean(&answer->clean, data, len))
            return fail(answer, "an event of the stream is too large");
        data = answer->clean.data;
        len = answer->clean.len;
    }
    chunk = json_parse(data, len, JSON_READ_LENIENT, NULL);
    if (!chunk)
        return fail(answer, "an event of the stream is not JSON");
    ok = take_chunk(answer, data, len, chunk);
    json_decref(chunk);
    return ok;
}

static bool may_scan(const struct answer *answer)
{
    return !answer->spec.is_scanning_slow &&
           (openai_message_has_head(&answer->message) || answer->events > FULL_PARSES_FIRST);
}

static bool is_blank(const char *data, size_t len)
{
    return strspn(data, " \t\r\n") == len;
}

static bool on_event(const struct sse_event *event, void *arg)
{
    struct answer *answer = arg;
    const char *data = event->data + strspn(event->data, " ");
    size_t len = event->data_len - (size_t)(data - event->data);
    bool ok = true;

    if (answer->is_done || is_blank(data, len))
        return true;
    answer->events++;
    if (strncmp(data, "[DONE]", 6) == 0 && is_blank(data + 6, len - 6)) {
        answer->is_done = true;
        return true;
    }
    buf_clear(&answer->content);
    if (may_scan(answer) && openai_scan_content(data, len, &answer->content))
        put_content(answer, answer->content.len > 0 ? answer->content.data : "",
                    answer->content.len);
    else
        ok = parse_chunk(answer, data, len);
    if (ok && answer->message.is_over)
        return fail(answer, "the answer is longer than worker.max_response_bytes");
    return ok;
}

/* --- life ------------------------------------------------------------------------------------- */

struct answer *openai_answer_new(const struct answer_spec *spec)
{
    struct answer *answer = calloc(1, sizeof(*answer));

    if (!answer)
        return NULL;
    answer->spec = *spec;
    answer->usage = (struct usage){.input_tokens = -1, .output_tokens = -1};
    openai_message_init(&answer->message, spec->max_bytes);
    buf_init(&answer->content, EVENT_MAX);
    /* One bad byte becomes three. */
    buf_init(&answer->clean, (size_t)EVENT_MAX * 3);
    /* Escapes make six bytes of one control character. */
    buf_init(&answer->response, spec->max_bytes * 6 + 64 * 1024);
    answer->reader = sse_reader_new(EVENT_MAX, on_event, answer);
    if (answer->reader)
        return answer;
    openai_answer_free(answer);
    return NULL;
}

void openai_answer_free(struct answer *answer)
{
    if (!answer)
        return;
    sse_reader_free(answer->reader);
    openai_message_release(&answer->message);
    buf_release(&answer->content);
    buf_release(&answer->clean);
    buf_release(&answer->response);
    free(answer);
}

bool openai_answer_feed(struct answer *answer, const char *data, size_t len)
{
    struct err why;

    if (answer->failure.type != ERROR_NONE)
        return false;
    return sse_reader_feed(answer->reader, data, len, &why) ||
           fail(answer, "an event of the stream is too large");
}

int64_t openai_answer_events(const struct answer *answer)
{
    return answer->events;
}

bool openai_answer_is_done(const struct answer *answer)
{
    return answer->is_done;
}

static int64_t shown_bytes(const struct openai_message *message)
{
    return (int64_t)message->bytes;
}

void openai_answer_finish(struct answer *answer, struct answer_result *out)
{
    struct err why;

    /* The last event may lack its blank line. */
    if (answer->failure.type == ERROR_NONE && !answer->is_done)
        (void)!sse_reader_finish(answer->reader, &why);
    if (answer->failure.type == ERROR_NONE && answer->events == 0)
        fail(answer, "the answer holds no event");
    else if (answer->failure.type == ERROR_NONE && !answer->finish_reason[0])
        fail(answer, "the stream ended without a finish reason");
    else if (answer->failure.type == ERROR_NONE && !answer->is_done)
        fail(answer, "the stream ended without its end marker");
    if (answer->failure.type == ERROR_NONE &&
        !openai_message_write(&answer->message, answer->finish_reason, answer->spec.id,
                              answer->spec.model, &answer->response))
        fail(answer, "the answer is too large");
    *out = (struct answer_result){
        .is_complete = answer->failure.type == ERROR_NONE,
        /* A count that something was added to afterwards is no count. */
        .has_usage = answer->has_usage && answer->is_usage_current && answer->finish_reason[0],
        .usage = answer->usage,
        .events = answer->events,
        .output_bytes = shown_bytes(&answer->message),
        .response = answer->response.data,
        .response_len = answer->response.len,
        .failure = answer->failure,
    };
    memcpy(out->finish_reason, answer->finish_reason, sizeof(out->finish_reason));
}
