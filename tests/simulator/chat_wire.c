/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of Chat Completions answers: error bodies, whole answers, events of a stream. */
#include "tests/simulator/chat_wire.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/buf.h"
#include "tests/simulator/scenario.h"
#include "tests/simulator/words.h"

/* The calls a tool answer makes, as fragments in the order they go out.  Two calls interleave. */
struct fragment {
    int call;
    bool opens; /* brings id and name */
    const char *arguments;
};

static const struct fragment one_call[] = {
    {0, true, ""}, {0, false, "{\"sku\":"}, {0, false, "\"K-7\""}, {0, false, "}"}};
static const struct fragment two_calls[] = {{0, true, ""},           {1, true, ""},
                                            {0, false, "{\"sku\":"}, {1, false, "{\"city\":"},
                                            {0, false, "\"K-7\"}"},  {1, false, "\"\\u00d6rebro"},
                                            {1, false, "\"}"}};
static const struct fragment bad_call[] = {
    {0, true, ""}, {0, false, "{\"sku\":"}, {0, false, "\"K-7"}};
static const struct fragment empty_call[] = {{0, true, ""}};

static const struct fragment *tool_fragments(const struct chat_answer *answer, size_t *count)
{
    static const struct {
        enum scenario_fault fault;
        const struct fragment *fragments;
        size_t count;
    } kinds[] = {
        {FAULT_TWO_TOOLS, two_calls, sizeof(two_calls) / sizeof(two_calls[0])},
        {FAULT_BAD_TOOL, bad_call, sizeof(bad_call) / sizeof(bad_call[0])},
        {FAULT_EMPTY_TOOL, empty_call, sizeof(empty_call) / sizeof(empty_call[0])},
        {FAULT_TOOL, one_call, sizeof(one_call) / sizeof(one_call[0])},
    };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (scenario_has(answer->scenario, kinds[i].fault)) {
            *count = kinds[i].count;
            return kinds[i].fragments;
        }
    }
    *count = 0;
    return NULL;
}

/* --- content ---------------------------------------------------------------------------------- */

bool chat_answer_is_tool(const struct chat_answer *answer)
{
    size_t count;

    return tool_fragments(answer, &count) != NULL;
}

int64_t chat_answer_items(const struct chat_answer *answer)
{
    size_t count;
    int64_t words = 0;

    if (tool_fragments(answer, &count))
        return (int64_t)count;
    if (!answer->echo)
        return answer->scenario->tokens;
    for (size_t at = 0; at < answer->echo_len; words++)
        at += words_piece(answer->echo + at, answer->echo_len - at);
    return words;
}

void chat_text(struct chat_answer *answer, int64_t choice, int64_t from, int64_t to,
               struct buf *out)
{
    for (int64_t i = from; i < to; i++) {
        if (!answer->echo) {
            words_put(out, answer->seed + (uint64_t)choice, i, answer->scenario->is_unicode);
            continue;
        }
        size_t len =
            words_piece(answer->echo + answer->echo_at, answer->echo_len - answer->echo_at);
        buf_append(out, answer->echo + answer->echo_at, len);
        answer->echo_at += len;
    }
}

int64_t chat_completion_tokens(const struct chat_answer *answer, int64_t done)
{
    return done * answer->choices + answer->scenario->reasoning;
}

static const char *finish_reason(const struct chat_answer *answer)
{
    const struct scenario *scenario = answer->scenario;

    if (scenario_has(scenario, FAULT_UNKNOWN_FINISH))
        return "eos_token";
    if (scenario_has(scenario, FAULT_CONTENT_FILTER))
        return "content_filter";
    if (answer->is_cut || scenario_has(scenario, FAULT_LENGTH))
        return "length";
    return chat_answer_is_tool(answer) ? "tool_calls" : "stop";
}

/* --- errors ----------------------------------------------------------------------------------- */

static void put_string_or_null(struct buf *out, const char *text)
{
    if (text && text[0])
        buf_put_json_string(out, text, strlen(text));
    else
        buf_puts(out, "null");
}

void chat_error(struct buf *out, const char *message, const char *type, const char *param,
                const char *code)
{
    buf_puts(out, "{\"error\":{\"message\":");
    buf_put_json_string(out, message, strlen(message));
    buf_puts(out, ",\"type\":");
    put_string_or_null(out, type);
    buf_puts(out, ",\"param\":");
    put_string_or_null(out, param);
    buf_puts(out, ",\"code\":");
    put_string_or_null(out, code);
    buf_puts(out, "}}\n");
}

/* The errors the service is known for.  A row with a code beats one with the same status only. */
static const struct known_error {
    int status;
    const char *code; /* NULL: any other of this status */
    const char *type;
    const char *param;
    const char *shown_code;
    const char *message;
} known_errors[] = {
    {400, "context_length_exceeded", "invalid_request_error", "messages", "context_length_exceeded",
     "This model's maximum context length is 8192 tokens. Please reduce the length of the "
     "messages."},
    {400, "content_policy_violation", "invalid_request_error", NULL, "content_policy_violation",
     "Your request was rejected as a result of our safety system."},
    {429, "insufficient_quota", "insufficient_quota", NULL, "insufficient_quota",
     "You exceeded your current quota, please check your plan and billing details."},
    {429, "rate_limit_exceeded", "requests", NULL, "rate_limit_exceeded",
     "Rate limit reached for requests per min (RPM). Please try again later."},
    {404, "model_not_found", "invalid_request_error", NULL, "model_not_found",
     "The model does not exist or you do not have access to it."},
    {400, NULL, "invalid_request_error", "messages", "invalid_value", "Invalid request."},
    {401, NULL, "invalid_request_error", NULL, "invalid_api_key", "Incorrect API key provided."},
    {403, NULL, "invalid_request_error", NULL, "unsupported_country_region_territory",
     "Country, region, or territory not supported"},
    {404, NULL, "invalid_request_error", NULL, "model_not_found",
     "The model does not exist or you do not have access to it."},
    {408, NULL, "server_error", NULL, NULL, "Request timed out."},
    {409, NULL, "invalid_request_error", NULL, "conflict", "The resource was locked."},
    {422, NULL, "invalid_request_error", NULL, NULL, "Unprocessable entity."},
    {429, NULL, "requests", NULL, "rate_limit_exceeded",
     "Rate limit reached for requests per min (RPM). Please try again later."},
    {500, NULL, "server_error", NULL, NULL,
     "The server had an error while processing your request. Sorry about that!"},
    {502, NULL, "server_error", NULL, NULL, "Bad gateway."},
    {503, NULL, "server_error", NULL, NULL,
     "The engine is currently overloaded, please try again later."},
    {504, NULL, "server_error", NULL, NULL, "Gateway timeout."},
    {529, NULL, "overloaded_error", NULL, "overloaded", "Overloaded."},
};

void chat_error_for(struct buf *out, int status, const char *code)
{
    const struct known_error *found = NULL;
    bool is_exact = false;

    for (size_t i = 0; i < sizeof(known_errors) / sizeof(known_errors[0]); i++) {
        const struct known_error *row = &known_errors[i];

        if (code && code[0] && row->code && strcmp(row->code, code) == 0 && !is_exact) {
            found = row;
            is_exact = true;
        } else if (!found && !row->code && row->status == status) {
            found = row;
        }
    }
    if (!found)
        chat_error(out, "The request failed.",
                   status < 500 ? "invalid_request_error" : "server_error", NULL, code);
    else
        chat_error(out, found->message, found->type, found->param,
                   code && code[0] ? code : found->shown_code);
}

/* --- parts of answers ------------------------------------------------------------------------- */

static void put_usage(const struct chat_answer *answer, int64_t done, struct buf *out)
{
    int64_t completion = chat_completion_tokens(answer, done);
    int64_t cached = answer->scenario->cached;

    if (cached > answer->prompt_tokens)
        cached = answer->prompt_tokens;
    buf_printf(out,
               "{\"prompt_tokens\":%" PRId64 ",\"completion_tokens\":%" PRId64
               ",\"total_tokens\":%" PRId64 ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRId64
               ",\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":%" PRId64
               ",\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
               "\"rejected_prediction_tokens\":0}}",
               answer->prompt_tokens, completion, answer->prompt_tokens + completion, cached,
               answer->scenario->reasoning);
}

static void put_common(const struct chat_answer *answer, const char *object, struct buf *out)
{
    buf_printf(out,
               "{\"id\":\"chatcmpl-sim%08" PRIx64 "\",\"object\":\"%s\",\"created\":%" PRId64
               ",\"model\":",
               (uint64_t)answer->number, object, answer->created);
    buf_put_json_string(out, answer->model, strlen(answer->model));
    buf_puts(out, ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_simulator\"");
}

static void open_chunk(const struct chat_answer *answer, int64_t choice, struct buf *out)
{
    put_common(answer, "chat.completion.chunk", out);
    buf_printf(out, ",\"choices\":[{\"index\":%" PRId64 ",\"delta\":{", choice);
}

/* finish: a word, or NULL.  done: pieces out so far, for usage on every chunk. */
static void close_chunk(const struct chat_answer *answer, const char *finish, int64_t done,
                        struct buf *out)
{
    buf_puts(out, "},\"logprobs\":null,\"finish_reason\":");
    put_string_or_null(out, finish);
    buf_puts(out, "}]");
    if (scenario_has(answer->scenario, FAULT_USAGE_EVERY_CHUNK)) {
        buf_puts(out, ",\"usage\":");
        put_usage(answer, done, out);
    } else if (answer->has_usage) {
        buf_puts(out, ",\"usage\":null");
    }
    buf_putc(out, '}');
}

void chat_chunk_role(const struct chat_answer *answer, int64_t choice, struct buf *out)
{
    open_chunk(answer, choice, out);
    buf_puts(out, chat_answer_is_tool(answer)
                      ? "\"role\":\"assistant\",\"content\":null,\"refusal\":null"
                      : "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
    close_chunk(answer, NULL, 0, out);
}

void chat_chunk_text(const struct chat_answer *answer, int64_t choice, const char *text, size_t len,
                     bool is_refusal, int64_t done, struct buf *out)
{
    open_chunk(answer, choice, out);
    buf_puts(out, is_refusal ? "\"refusal\":" : "\"content\":");
    buf_put_json_string(out, text, len);
    close_chunk(answer, NULL, done, out);
}

void chat_chunk_raw(const struct chat_answer *answer, int64_t choice, const char *json, size_t len,
                    int64_t done, struct buf *out)
{
    open_chunk(answer, choice, out);
    buf_puts(out, "\"content\":\"");
    buf_append(out, json, len);
    buf_putc(out, '"');
    close_chunk(answer, NULL, done, out);
}

static void put_call_head(const struct chat_answer *answer, int call, struct buf *out)
{
    buf_printf(out,
               "\"id\":\"call_sim%08" PRIx64 "_%d\",\"type\":\"function\",\"function\":{"
               "\"name\":",
               (uint64_t)answer->number, call);
    const char *name = answer->function[0] ? answer->function : "lookup";
    buf_put_json_string(out, name, strlen(name));
    buf_puts(out, ",\"arguments\":");
}

void chat_chunk_tool(const struct chat_answer *answer, int64_t choice, int64_t item,
                     struct buf *out)
{
    size_t count;
    const struct fragment *fragment = tool_fragments(answer, &count) + item;

    open_chunk(answer, choice, out);
    buf_printf(out, "\"tool_calls\":[{\"index\":%d,", fragment->call);
    if (fragment->opens)
        put_call_head(answer, fragment->call, out);
    else
        buf_puts(out, "\"function\":{\"arguments\":");
    buf_put_json_string(out, fragment->arguments, strlen(fragment->arguments));
    buf_puts(out, "}}]");
    close_chunk(answer, NULL, item + 1, out);
}

void chat_chunk_finish(const struct chat_answer *answer, int64_t choice, int64_t done,
                       struct buf *out)
{
    open_chunk(answer, choice, out);
    close_chunk(answer, finish_reason(answer), done, out);
}

void chat_chunk_usage(const struct chat_answer *answer, int64_t done, struct buf *out)
{
    put_common(answer, "chat.completion.chunk", out);
    buf_puts(out, ",\"choices\":[],\"usage\":");
    put_usage(answer, done, out);
    buf_putc(out, '}');
}

void chat_event(const struct chat_answer *answer, const char *data, size_t len, struct buf *out)
{
    const char *end = scenario_has(answer->scenario, FAULT_CRLF) ? "\r\n" : "\n";

    if (scenario_has(answer->scenario, FAULT_COMMENTS))
        buf_printf(out, ": keep-alive%s%s", end, end);
    buf_puts(out, "data: ");
    buf_append(out, data, len);
    buf_puts(out, end);
    buf_puts(out, end);
}

/* --- the whole answer ------------------------------------------------------------------------- */

static void put_tool_calls(const struct chat_answer *answer, struct buf *out)
{
    size_t count;
    const struct fragment *fragments = tool_fragments(answer, &count);
    struct buf arguments;

    buf_init(&arguments, 4096);
    buf_puts(out, ",\"tool_calls\":[");
    for (int call = 0; call < 2; call++) {
        bool is_there = false;

        buf_clear(&arguments);
        for (int64_t i = 0; i < answer->items; i++) {
            if (fragments[i].call != call)
                continue;
            is_there = true;
            buf_puts(&arguments, fragments[i].arguments);
        }
        if (!is_there)
            continue;
        buf_puts(out, call > 0 ? ",{" : "{");
        put_call_head(answer, call, out);
        buf_put_json_string(out, arguments.data ? arguments.data : "", arguments.len);
        buf_puts(out, "}}");
    }
    buf_putc(out, ']');
    buf_release(&arguments);
}

/* The content as a JSON string, with what a fault puts in front of it. */
static void put_content(const struct chat_answer *answer, const struct buf *text, struct buf *out)
{
    const struct scenario *scenario = answer->scenario;

    buf_putc(out, '"');
    if (scenario_has(scenario, FAULT_BAD_UTF8))
        buf_append(out, "\xff\xfe\xc3", 3);
    if (scenario_has(scenario, FAULT_NUL))
        buf_puts(out, "a\\u0000b");
    if (scenario_has(scenario, FAULT_LONE_SURROGATE))
        buf_puts(out, "\\ud83d");
    size_t quote = out->len;
    buf_put_json_string(out, text->data ? text->data : "", text->len);
    /* The string brings its own opening quote; ours stands in front of the fault. */
    if (!out->is_broken) {
        memmove(out->data + quote, out->data + quote + 1, out->len - quote);
        out->len--;
    }
}

static void put_choice(struct chat_answer *answer, int64_t choice, struct buf *text,
                       struct buf *out)
{
    buf_printf(out,
               "{\"index\":%" PRId64 ",\"message\":{\"role\":\"assistant\",\"content\":", choice);
    if (chat_answer_is_tool(answer)) {
        buf_puts(out, "null,\"refusal\":null");
        put_tool_calls(answer, out);
    } else if (scenario_has(answer->scenario, FAULT_REFUSAL)) {
        buf_puts(out, "null,\"refusal\":");
        buf_put_json_string(out, text->data ? text->data : "", text->len);
    } else {
        put_content(answer, text, out);
        buf_puts(out, ",\"refusal\":null");
    }
    buf_puts(out, "},\"logprobs\":null,\"finish_reason\":");
    put_string_or_null(
        out, scenario_has(answer->scenario, FAULT_NO_FINISH) ? NULL : finish_reason(answer));
    buf_putc(out, '}');
}

void chat_whole(struct chat_answer *answer, struct buf *text, struct buf *out)
{
    struct buf other;

    buf_init(&other, text->max);
    put_common(answer, "chat.completion", out);
    buf_puts(out, ",\"choices\":[");
    for (int64_t choice = 0; choice < answer->choices; choice++) {
        struct buf *of = choice == 0 ? text : &other;

        buf_clear(of);
        answer->echo_at = 0;
        if (!chat_answer_is_tool(answer))
            chat_text(answer, choice, 0, answer->items, of);
        if (choice > 0)
            buf_putc(out, ',');
        put_choice(answer, choice, of, out);
    }
    buf_putc(out, ']');
    if (!scenario_has(answer->scenario, FAULT_NO_USAGE)) {
        buf_puts(out, ",\"usage\":");
        put_usage(answer, answer->items, out);
    }
    buf_puts(out, "}\n");
    buf_release(&other);
}
