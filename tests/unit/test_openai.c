/* SPDX-License-Identifier: Apache-2.0 */
/* The openai wire format: requests byte for byte, streams in all their oddities, errors. */
#include "worker/providers/provider.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- reading ---------------------------------------------------------------------------------- */

struct reading {
    struct answer *answer;
    struct answer_result result;
    struct buf text;
    struct buf tools;
};

static void on_text(const char *text, size_t len, void *arg)
{
    buf_append(&((struct reading *)arg)->text, text, len);
}

static void on_tool(const struct tool_delta *delta, void *arg)
{
    buf_printf(&((struct reading *)arg)->tools, "%d:%s:%s:%.*s;", delta->index,
               delta->id ? delta->id : "", delta->name ? delta->name : "",
               (int)delta->arguments_len, delta->arguments ? delta->arguments : "");
}

/* In pieces of so many bytes. */
static void read_stream(struct reading *reading, const char *stream, size_t piece, bool is_slow,
                        size_t max)
{
    size_t len = strlen(stream);
    bool ok = true;

    buf_init(&reading->text, 1 << 20);
    buf_init(&reading->tools, 1 << 20);
    reading->answer = openai_format.answer_new(&(struct answer_spec){
        .sink = {.on_text = on_text, .on_tool = on_tool, .arg = reading},
        .model = "asked-model",
        .id = "call_1",
        .max_bytes = max,
        .is_scanning_slow = is_slow,
    });
    for (size_t at = 0; ok && at < len; at += piece)
        ok = openai_format.answer_feed(reading->answer, stream + at,
                                       piece < len - at ? piece : len - at);
    openai_format.answer_finish(reading->answer, &reading->result);
}

static void release(struct reading *reading)
{
    openai_format.answer_free(reading->answer);
    buf_release(&reading->text);
    buf_release(&reading->tools);
}

#define HEAD \
    "\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1785000000,\"model\":\"g\""
#define CHUNK(delta) \
    "data: {" HEAD ",\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":null}]}\n\n"
#define LAST(reason)                                                                             \
    "data: {" HEAD ",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}]}" \
    "\n\n"
#define USAGE                                                                              \
    "data: {" HEAD ",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":" \
    "2.0,\"prompt_tokens_details\":{\"cached_tokens\":4},\"cost\":0.10}}\n\n"
#define DONE "data: [DONE]\n\n"
#define END LAST("stop") USAGE DONE

#define USAGE_JSON                                                                         \
    "\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2.0,\"prompt_tokens_details\":{" \
    "\"cached_tokens\":4},\"cost\":0.10}"
#define RESPONSE(message, reason)                                                              \
    "{\"id\":\"c1\",\"object\":\"chat.completion\",\"created\":1785000000,\"model\":\"g\","    \
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\"," message "},\"logprobs\":" \
    "null,\"finish_reason\":\"" reason "\"}]," USAGE_JSON "}"
#define TEXT_RESPONSE(text) RESPONSE("\"content\":\"" text "\",\"refusal\":null", "stop")

static const struct {
    const char *stream, *text, *tools, *response; /* NULL: not looked at */
} good[] = {
    {CHUNK("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}")
         CHUNK("{\"content\":\"Hel\"}") CHUNK("{\"content\":\"lo\"}") END,
     "Hello", "", TEXT_RESPONSE("Hello")},
    /* Framing. */
    {"\xef\xbb\xbf: hi\r\n\r\ndata:{" HEAD ",\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\n"
     "event: x\r\n\r\ndata:\r\n\r\n" END,
     "a", "", TEXT_RESPONSE("a")},
    {CHUNK("{\"content\":\"a\"}") LAST("stop") USAGE "data: [DONE]", "a", "", TEXT_RESPONSE("a")},
    /* Escapes, astral characters, NUL, lone surrogates, bytes that are no UTF-8. */
    {CHUNK("{\"content\":\"x\"}") CHUNK("{\"content\":\"\\n\\\"\\\\\\/\\u00e9\\ud83d\\ude00\"}")
         END,
     "x\n\"\\/\xc3\xa9\xf0\x9f\x98\x80", "", NULL},
    {CHUNK("{\"content\":\"x\"}") CHUNK("{\"content\":\"a\\u0000b\\ud83dc\"}") END,
     "xa\xef\xbf\xbd"
     "b\xef\xbf\xbd"
     "c",
     "", NULL},
    {CHUNK("{\"content\":\"x\"}") CHUNK("{\"content\":\"a\xff\xfe\"}") END,
     "xa\xef\xbf\xbd\xef\xbf\xbd", "", NULL},
    /* Shapes of chunks. */
    {"data: {" HEAD ",\"choices\":[]}\n\n"
     "data: {" HEAD ",\"choices\":[{\"index\":0}]}\n\n" CHUNK("null") CHUNK("{}")
         CHUNK("{\"content\":null}") CHUNK("{\"content\":\"a\",\"role\":null}") END,
     "a", "", TEXT_RESPONSE("a")},
    {"data: {" HEAD ",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":"
     "\"stop\"}]}\n\n" CHUNK("{\"content\":\"b\"}") USAGE DONE,
     "ab", "", TEXT_RESPONSE("ab")},
    {CHUNK("{\"content\":[{\"type\":\"text\",\"text\":\"p\"},{\"type\":\"text\",\"text\":\"q\"}]}")
         END,
     "pq", "", TEXT_RESPONSE("pq")},
    {CHUNK("{\"reasoning_content\":\"hm\"}") CHUNK("{\"content\":\"a\"}") END, "a", "",
     RESPONSE("\"content\":\"a\",\"refusal\":null,\"reasoning_content\":\"hm\"", "stop")},
    {CHUNK("{\"role\":\"assistant\",\"content\":\"\"}") CHUNK("{\"refusal\":\"I \"}")
         CHUNK("{\"refusal\":\"won't\"}") END,
     "", "", RESPONSE("\"content\":null,\"refusal\":\"I won't\"", "stop")},
    /* After the end marker nothing counts. */
    {CHUNK("{\"content\":\"a\"}") END CHUNK("{\"content\":\"b\"}") "data: junk\n\n", "a", "",
     TEXT_RESPONSE("a")},
    /* Tools: interleaved, without index, without id, a new id on a used index, null arguments. */
    {CHUNK(
         "{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":"
         "\"f\",\"arguments\":\"\"}},{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"g\","
         "\"arguments\":null}}]}")
         CHUNK("{\"tool_calls\":[{\"index\":1,\"function\":{\"arguments\":\"{\\\"x\\\":\"}}]}")
             CHUNK("{\"tool_calls\":[{\"id\":\"\",\"function\":{\"arguments\":\"{}\"}}]}")
                 CHUNK("{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"function\":{\"arguments\":"
                       "\"1}\"}}]}") LAST("tool_calls") USAGE DONE,
     "", "0:a:f:;1:b:g:;1:::{\"x\":;0:::{};1:::1};",
     RESPONSE(
         "\"content\":null,\"refusal\":null,\"tool_calls\":[{\"id\":\"a\",\"type\":"
         "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},{\"id\":\"b\","
         "\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{\\\"x\\\":1}\"}}]",
         "tool_calls")},
    {CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\"}}]}")
         CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"f\"}}]}")
             LAST("tool_calls") USAGE DONE,
     "", "0:a:f:;1:b:f:;", NULL},
};

static void test_streams_add_up_however_they_are_cut(void **state)
{
    static const size_t pieces[] = {1, 2, 3, 7, 64, 1 << 20};

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        for (size_t p = 0; p < COUNT(pieces) * 2; p++) {
            struct reading reading;

            read_stream(&reading, good[i].stream, pieces[p / 2], p % 2, 1 << 20);
            if (!reading.result.is_complete)
                fail_msg("case %zu: %s", i, reading.result.failure.message);
            assert_string_equal(reading.text.data ? reading.text.data : "", good[i].text);
            assert_string_equal(reading.tools.data ? reading.tools.data : "", good[i].tools);
            if (good[i].response)
                assert_string_equal(reading.result.response, good[i].response);
            assert_true(reading.result.has_usage);
            assert_int_equal(reading.result.usage.input_tokens, 9);
            assert_int_equal(reading.result.usage.cached_input_tokens, 4);
            assert_int_equal(reading.result.usage.output_tokens, 2);
            release(&reading);
        }
    }
}

static const struct {
    const char *stream;
    enum error_type type;
    bool has_usage;
} bad[] = {
    {"", ERROR_PROTOCOL, false},
    {"<html></html>", ERROR_PROTOCOL, false},
    {CHUNK("{\"content\":\"a\"}"), ERROR_PROTOCOL, false},
    {CHUNK("{\"content\":\"a\"}") DONE, ERROR_PROTOCOL, false},
    {CHUNK("{\"content\":\"a\"}") LAST("stop"), ERROR_PROTOCOL, false},
    {CHUNK("{\"content\":\"a\"}") LAST("stop") USAGE, ERROR_PROTOCOL, true},
    {CHUNK("{\"content\":\"a\"}") "data: {\n\n" END, ERROR_PROTOCOL, false},
    {"data: 5\n\n" END, ERROR_PROTOCOL, false},
    {CHUNK("{\"content\":\"a\"}") "data: "
                                  "{\"error\":{\"message\":\"m\",\"type\":\"server_error\"}}"
                                  "\n\n" DONE,
     ERROR_OVERLOADED, false},
    {"data: {\"error\":{\"message\":\"m\",\"code\":429}}\n\n", ERROR_RATE_LIMITED, false},
    {"data: {\"error\":\"text\"}\n\n", ERROR_OVERLOADED, false},
    {"data: {\"error\":{\"http_status_code\":422,\"message\":\"m\"}}\n\n", ERROR_BAD_REQUEST,
     false},
};

static void test_what_did_not_end_well_is_a_failure(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct reading reading;

        read_stream(&reading, bad[i].stream, 5, false, 1 << 20);
        if (reading.result.is_complete || reading.result.failure.type != bad[i].type ||
            reading.result.has_usage != bad[i].has_usage)
            fail_msg("case %zu: %s", i, reading.result.failure.message);
        release(&reading);
    }
}

static void test_usage_before_more_text_is_no_usage(void **state)
{
    struct reading reading;

    (void)state;
    read_stream(&reading,
                CHUNK("{\"content\":\"a\"}") USAGE CHUNK("{\"content\":\"b\"}") LAST("stop") DONE,
                9, false, 1 << 20);
    assert_true(reading.result.is_complete);
    assert_false(reading.result.has_usage);
    assert_int_equal(reading.result.output_bytes, 2);
    release(&reading);
}

static void test_an_answer_over_the_limit_fails(void **state)
{
    struct reading reading;

    (void)state;
    read_stream(&reading, CHUNK("{\"content\":\"0123456789\"}") CHUNK("{\"content\":\"x\"}") END, 9,
                false, 10);
    assert_false(reading.result.is_complete);
    assert_int_equal(reading.result.failure.type, ERROR_PROTOCOL);
    assert_string_equal(reading.text.data, "0123456789");
    release(&reading);
}

static void test_logprobs_keep_their_digits(void **state)
{
    struct reading reading;

    (void)state;
    read_stream(&reading,
                "data: {" HEAD ",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},"
                "\"logprobs\":{\"content\":[{\"token\":\"a\",\"logprob\":-0.10}],\"refusal\":null}}"
                "]}\n\ndata: {" HEAD ",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},"
                "\"logprobs\":{\"content\":[{\"token\":\"b\",\"logprob\":-1e-5}]}}]}\n\n" END,
                50, false, 1 << 20);
    assert_true(reading.result.is_complete);
    assert_non_null(strstr(reading.result.response,
                           "\"logprobs\":{\"content\":[{\"token\":\"a\",\"logprob\":-0.10},"
                           "{\"token\":\"b\",\"logprob\":-1e-5}],\"refusal\":null}"));
    release(&reading);
}

/* --- errors ----------------------------------------------------------------------------------- */

static void test_errors_have_one_vocabulary(void **state)
{
    static const struct {
        int status;
        const char *body;
        enum error_type type;
        bool may_fall_back;
        const char *code, *message; /* NULL: not looked at */
    } cases[] = {
        {400, "{\"error\":{\"message\":\"bad\",\"type\":\"invalid_request_error\",\"code\":null}}",
         ERROR_BAD_REQUEST, false, "invalid_request_error", "bad"},
        {400, "{\"error\":{\"message\":\"m\",\"code\":\"context_length_exceeded\"}}",
         ERROR_CONTEXT_LENGTH, true, "context_length_exceeded", "m"},
        {400, "{\"error\":{\"message\":\"This model's maximum context length is 5\",\"code\":400}}",
         ERROR_CONTEXT_LENGTH, true, NULL, NULL},
        {400, "{\"object\":\"error\",\"message\":\"old vllm\",\"code\":40303}", ERROR_BAD_REQUEST,
         false, NULL, "old vllm"},
        {400, "{\"error\":{\"code\":\"content_policy_violation\"}}", ERROR_CONTENT_FILTER, false,
         NULL, NULL},
        {401, "{\"error\":{\"message\":\"Incorrect key sk-abc\"}}", ERROR_AUTH, true, NULL,
         "the provider refused our key (HTTP 401)"},
        {402, "", ERROR_QUOTA, true, "", "the provider answered HTTP 402"},
        {403, "<html>", ERROR_AUTH, true, NULL, NULL},
        {404, "{\"error\":{\"message\":\"m\",\"code\":\"model_not_found\"}}", ERROR_BAD_REQUEST,
         true, "model_not_found", NULL},
        {408, "", ERROR_TIMEOUT, true, NULL, NULL},
        {413, "", ERROR_BAD_REQUEST, false, NULL, NULL},
        {422, "{\"error\":\"text\",\"error_type\":\"validation\"}", ERROR_BAD_REQUEST, false,
         "validation", "text"},
        {429, "{\"error\":{\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}",
         ERROR_RATE_LIMITED, true, NULL, NULL},
        {429, "{\"error\":\"busy\",\"error_type\":\"overloaded\"}", ERROR_RATE_LIMITED, true, NULL,
         "busy"},
        {429, "{\"error\":{\"type\":\"insufficient_quota\",\"code\":null}}", ERROR_QUOTA, true,
         NULL, NULL},
        {429, "[{\"error\":{\"message\":\"in a list\"}}]", ERROR_RATE_LIMITED, true, NULL,
         "in a list"},
        {500, "{", ERROR_OVERLOADED, true, NULL, "the provider answered HTTP 500"},
        {503, "{\"error\":[{\"message\":\"listed\"}]}", ERROR_OVERLOADED, true, NULL, "listed"},
        {504, "", ERROR_TIMEOUT, true, NULL, NULL},
        {529, "", ERROR_OVERLOADED, true, NULL, NULL},
        {302, "", ERROR_PROTOCOL, true, NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct failure failure;

        openai_format.read_failure(cases[i].status, cases[i].body, strlen(cases[i].body), &failure);
        if (failure.type != cases[i].type || failure.may_fall_back != cases[i].may_fall_back)
            fail_msg("case %zu: %s", i, error_type_name(failure.type));
        if (cases[i].code)
            assert_string_equal(failure.code, cases[i].code);
        if (cases[i].message)
            assert_string_equal(failure.message, cases[i].message);
    }
}

/* Whatever the status: a gateway's debug page shows our headers, an answer cut short half of one.
 */
static void test_no_failure_quotes_the_key(void **state)
{
    static const char key[] = "sk-canary-0123456789abcdef";
    static const char hidden[] = "the provider's words are not shown: they quote our key";
    static const struct {
        const char *message, *code, *shown, *shown_code;
    } cases[] = {
        {"bad header: Bearer sk-canary-0123456789abcdef", "c", hidden, "c"},
        {"cut: sk-canary-01", "c", hidden, "c"},
        {"the end of it: 456789abcdef", "c", hidden, "c"},
        {"by itself: sk-canar...cdef", "c", "by itself: sk-canar...cdef", "c"},
        {"m", "sk-canary-0123456789abcdef", "m", ""},
        {"", "", "", ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct failure failure = {.type = ERROR_BAD_REQUEST};

        snprintf(failure.message, sizeof(failure.message), "%s", cases[i].message);
        snprintf(failure.code, sizeof(failure.code), "%s", cases[i].code);
        failure_hide_key(&failure, key);
        assert_string_equal(failure.message, cases[i].shown);
        assert_string_equal(failure.code, cases[i].shown_code);
    }
}

/* A key as short as those of servers on this machine is a word like others. */
static void test_a_short_or_missing_key_hides_nothing(void **state)
{
    static const char *const keys[] = {"", "simulator"};

    (void)state;
    for (size_t i = 0; i < COUNT(keys); i++) {
        struct failure failure = {.message = "the simulator is full"};

        failure_hide_key(&failure, keys[i]);
        assert_string_equal(failure.message, "the simulator is full");
    }
}

/* --- request ---------------------------------------------------------------------------------- */

static void test_requests_change_only_where_they_must(void **state)
{
    static const char request[] =
        "{\"model\":\"fast\", \"temperature\": 1.50,\"seed\":12345678901234567890123,"
        "\"stream\":false,\"stream_options\":{\"include_obfuscation\":false}}";
    static const struct {
        const char *base, *url;
    } bases[] = {
        {"http://h:1", "http://h:1/v1/chat/completions"},
        {"http://h:1/v1", "http://h:1/v1/chat/completions"},
        {"https://h/openai", "https://h/openai/chat/completions"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bases); i++) {
        struct provider provider = {.base_url = (char *)(uintptr_t)bases[i].base,
                                    .api_key = (char *)(uintptr_t) "k"};
        struct target target = {.provider = &provider, .model = (char *)(uintptr_t) "a\"b"};
        struct wire_call call;
        struct err err;

        assert_true(
            openai_format.write_call(&target, request, strlen(request), "call_9", &call, &err));
        assert_string_equal(call.url, bases[i].url);
        assert_string_equal(call.headers[3], "x-nightshift-call: call_9");
        assert_string_equal(call.headers[4], "authorization: Bearer k");
        assert_string_equal(
            call.body.data,
            "{\"model\":\"a\\\"b\", \"temperature\": 1.50,\"seed\":12345678901234567890123,"
            "\"stream\":true,\"stream_options\":{\"include_obfuscation\":false,\"include_usage\":"
            "true}}");
        wire_call_release(&call);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_add_up_however_they_are_cut),
        cmocka_unit_test(test_what_did_not_end_well_is_a_failure),
        cmocka_unit_test(test_usage_before_more_text_is_no_usage),
        cmocka_unit_test(test_an_answer_over_the_limit_fails),
        cmocka_unit_test(test_logprobs_keep_their_digits),
        cmocka_unit_test(test_errors_have_one_vocabulary),
        cmocka_unit_test(test_no_failure_quotes_the_key),
        cmocka_unit_test(test_a_short_or_missing_key_hides_nothing),
        cmocka_unit_test(test_requests_change_only_where_they_must),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
