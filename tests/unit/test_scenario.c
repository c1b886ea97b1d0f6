/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's pure parts: scenarios, words, request checks, bytes of answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "tests/simulator/chat_request.h"
#include "tests/simulator/chat_wire.h"
#include "tests/simulator/scenario.h"
#include "tests/simulator/words.h"

static bool read_text(struct scenario *scenario, const char *text, struct err *err)
{
    scenario_init(scenario);
    err_clear(err);
    return scenario_from_text(scenario, "main", text, strlen(text), err);
}

static void test_prompt_without_marker_asks_for_nothing(void **state)
{
    static const char *const prompts[] = {
        "",
        "hello",
        "[[sim",
        "[[sim status=500",
        "[[simulate status=500]]",
        "[sim status=500]",
        "]] [[ sim status=500 ]]",
    };
    struct scenario scenario, plain;
    struct err err;

    (void)state;
    scenario_init(&plain);
    for (size_t i = 0; i < sizeof(prompts) / sizeof(prompts[0]); i++) {
        assert_true(read_text(&scenario, prompts[i], &err));
        assert_memory_equal(&scenario, &plain, sizeof(plain));
    }
    assert_false(scenario_is_faulty(&plain));
    assert_int_equal(scenario_status(&plain), 200);
}

static void test_marker_sets_knobs_wherever_it_stands(void **state)
{
    struct scenario scenario;
    struct err err;

    (void)state;
    assert_true(read_text(&scenario,
                          "Tell me\n[[sim tokens=7 delay_ms=50\nrate=100 unicode=1 "
                          "retry_after=past-date key=a:b hold=g1]] a story",
                          &err));
    assert_int_equal(scenario.tokens, 7);
    assert_int_equal(scenario.delay_ms, 50);
    assert_int_equal(scenario.rate, 100);
    assert_true(scenario.is_unicode);
    assert_string_equal(scenario.retry_after, "past-date");
    assert_string_equal(scenario.key, "a:b");
    assert_string_equal(scenario.hold, "g1");
}

static void test_later_marker_wins_and_at_limits_one_to_a_provider(void **state)
{
    struct scenario scenario;
    struct err err;

    (void)state;
    assert_true(read_text(&scenario,
                          "[[sim tokens=1]] [[sim at=main status=429]] [[sim at=spare status=500 "
                          "tokens=9]] [[sim tokens=2]]",
                          &err));
    assert_int_equal(scenario.status, 429);
    assert_int_equal(scenario.tokens, 2);
}

static void test_every_fault_has_a_name_that_is_understood(void **state)
{
    char marker[128];
    struct scenario scenario;
    struct err err;

    (void)state;
    for (int fault = 0; fault < FAULT_COUNT; fault++) {
        assert_non_null(scenario_fault_name((enum scenario_fault)fault));
        snprintf(marker, sizeof(marker), "[[sim fault=crlf,%s]]",
                 scenario_fault_name((enum scenario_fault)fault));
        assert_true(read_text(&scenario, marker, &err));
        assert_true(scenario_has(&scenario, (enum scenario_fault)fault));
        assert_true(scenario_has(&scenario, FAULT_CRLF));
        scenario_clear_faults(&scenario);
        assert_false(scenario_is_faulty(&scenario));
    }
}

static void test_mistakes_in_a_marker_are_errors(void **state)
{
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"[[sim tokns=3]]", "tokens"},
        {"[[sim fault=cut_lin]]", "cut_line"},
        {"[[sim fault=]]", "fault"},
        {"[[sim fault=crlf,]]", "fault"},
        {"[[sim tokens]]", "knob=value"},
        {"[[sim tokens=-1]]", "whole number"},
        {"[[sim tokens=1.5]]", "whole number"},
        {"[[sim tokens=99999999999999999999]]", "whole number"},
        {"[[sim status=99]]", "200"},
        {"[[sim unicode=yes]]", "whole number"},
        {"[[sim code=]]", "visible"},
        {"[[sim at=spare tokens=x]]", "whole number"},
    };
    struct scenario scenario;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_false(read_text(&scenario, cases[i].text, &err));
        assert_non_null(strstr(err.message, cases[i].says));
        assert_string_equal(err.code, "simulator_marker");
    }
}

static void test_model_name_asks_for_a_scenario(void **state)
{
    static const struct {
        const char *model;
        int64_t status;
        uint64_t faults;
        int64_t tokens;
        int64_t times;
    } cases[] = {
        {"gpt-4o-429", 0, 0, 20, 0},
        {"sim-429", 429, 0, 20, 0},
        {"sim-529-times=2", 529, 0, 20, 2},
        {"sim-cut", 0, UINT64_C(1) << FAULT_CUT_LINE, 20, 0},
        {"sim-cut_line-tokens=5", 0, UINT64_C(1) << FAULT_CUT_LINE, 5, 0},
        {"sim-gpt-4o-mini", 0, 0, 20, 0},
        {"sim-", 0, 0, 20, 0},
        {"sim", 0, 0, 20, 0},
        {"sim-tokens=x-4290-42", 0, 0, 20, 0},
        {"my:sim-429", 0, 0, 20, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scenario scenario;

        scenario_init(&scenario);
        scenario_from_model(&scenario, cases[i].model);
        assert_int_equal(scenario.status, cases[i].status);
        assert_true(scenario.faults == cases[i].faults);
        assert_int_equal(scenario.tokens, cases[i].tokens);
        assert_int_equal(scenario.times, cases[i].times);
    }
}

static void test_code_brings_its_status(void **state)
{
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"[[sim code=context_length_exceeded]]", 400},
        {"[[sim code=insufficient_quota]]", 429},
        {"[[sim code=model_not_found]]", 404},
        {"[[sim code=something_new]]", 400},
        {"[[sim code=something_new status=418]]", 418},
        {"[[sim code=server_error fault=error_in_stream]]", 200},
    };
    struct scenario scenario;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(read_text(&scenario, cases[i].text, &err));
        assert_int_equal(scenario_status(&scenario), cases[i].status);
    }
}

static void test_words_depend_on_seed_and_position_only(void **state)
{
    struct buf a, b;

    (void)state;
    buf_init(&a, 1 << 20);
    buf_init(&b, 1 << 20);
    for (int64_t i = 0; i < 1000; i++) {
        assert_true(words_put(&a, 42, i, true));
        assert_true(words_put(&b, 42, i, true));
    }
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    assert_true(str_utf8_valid(a.data, a.len));
    assert_true(a.len > str_utf8_count(a.data, a.len));
    buf_clear(&b);
    assert_true(words_put(&b, 43, 0, false) && words_put(&b, 43, 1, false));
    assert_true(memcmp(a.data, b.data, b.len) != 0);
    buf_release(&a);
    buf_release(&b);
}

/* --- requests --------------------------------------------------------------------------------- */

#define USER "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void test_bad_requests_are_refused_as_the_service_does(void **state)
{
    static const struct {
        const char *body;
        const char *param;
        const char *code;
    } cases[] = {
        {"", "", ""},
        {"[]", "", ""},
        {"{\"model\":\"m\"", "", ""},
        {"{" USER "}", "model", "missing_required_parameter"},
        {"{\"model\":3," USER "}", "model", "invalid_type"},
        {"{\"model\":\"m\"}", "messages", "missing_required_parameter"},
        {"{\"model\":\"m\",\"messages\":[]}", "messages", "empty_array"},
        {"{\"model\":\"m\",\"messages\":\"hi\"}", "messages", "invalid_type"},
        {"{\"model\":\"m\",\"messages\":[{\"content\":\"hi\"}]}", "messages[0].role",
         "missing_required_parameter"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"usr\",\"content\":\"hi\"}]}",
         "messages[0].role", "invalid_value"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\"}]}", "messages[0].content",
         "invalid_type"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}",
         "messages[0].tool_call_id", "missing_required_parameter"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"vide\"}]}]}",
         "messages[0].content[0]", "invalid_value"},
        {"{\"model\":\"m\"," USER ",\"stream_options\":{\"include_usage\":true}}", "stream_options",
         "invalid_value"},
        {"{\"model\":\"m\"," USER ",\"stream\":1}", "stream", "invalid_type"},
        {"{\"model\":\"m\"," USER ",\"n\":0}", "n", "integer_below_min_value"},
        {"{\"model\":\"m\"," USER ",\"n\":129}", "n", "integer_above_max_value"},
        {"{\"model\":\"m\"," USER ",\"max_tokens\":0}", "max_tokens", "integer_below_min_value"},
        {"{\"model\":\"m\"," USER ",\"max_tokens\":\"9\"}", "max_tokens", "invalid_type"},
        {"{\"model\":\"m\"," USER ",\"max_tokens\":1,\"max_completion_tokens\":1}", "max_tokens",
         "invalid_parameter_combination"},
        {"{\"model\":\"m\"," USER ",\"temperature\":2.1}", "temperature",
         "decimal_above_max_value"},
        {"{\"model\":\"m\"," USER ",\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", "stop",
         "array_above_max_length"},
        {"{\"model\":\"m\"," USER ",\"tools\":[]}", "tools", "empty_array"},
        {"{\"model\":\"m\"," USER ",\"surprise\":1}", "surprise", "unknown_parameter"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct chat_request request;
        struct err err = {.message = ""};

        chat_request_init(&request);
        assert_false(
            chat_request_parse(&request, cases[i].body, strlen(cases[i].body), false, &err));
        assert_string_equal(err.param, cases[i].param);
        assert_string_equal(err.code, cases[i].code);
        chat_request_release(&request);
    }
}

static void test_request_gives_last_user_text_and_counts(void **state)
{
    static const char body[] =
        "{\"model\":\"gpt\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
        "\"max_tokens\":9,\"n\":2,\"surprise\":1,\"tools\":[{\"type\":\"function\",\"function\":"
        "{\"name\":\"find\"}}],\"messages\":[{\"role\":\"system\",\"content\":\"abcde\"},"
        "{\"role\":\"user\",\"content\":\"old\"},{\"role\":\"assistant\",\"content\":null,"
        "\"tool_calls\":[]},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"new \"},"
        "{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}},{\"type\":\"text\",\"text\":\"one"
        "\"}]}]}";
    struct chat_request request;
    struct err err = {.message = ""};
    uint8_t sha[SHA256_SIZE];

    (void)state;
    chat_request_init(&request);
    assert_true(chat_request_parse(&request, body, strlen(body), true, &err));
    assert_string_equal(request.last_user.data, "new one");
    assert_string_equal(request.function, "find");
    assert_true(request.is_stream && request.has_usage);
    assert_int_equal(request.max_tokens, 9);
    assert_int_equal(request.choices, 2);
    assert_int_equal(chat_request_prompt_tokens(&request), (5 + 3 + 7 + 3) / 4);
    crypto_sha256("abcde\nold\n\nnew one", 18, sha);
    assert_memory_equal(request.prompt_sha256, sha, sizeof(sha));
    chat_request_release(&request);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void test_errors_have_the_service_shape(void **state)
{
    static const struct {
        int status;
        const char *code;
        const char *type;
        const char *shown;
    } cases[] = {
        {429, NULL, "requests", "rate_limit_exceeded"},
        {429, "insufficient_quota", "insufficient_quota", "insufficient_quota"},
        {400, "context_length_exceeded", "invalid_request_error", "context_length_exceeded"},
        {401, "", "invalid_request_error", "invalid_api_key"},
        {404, NULL, "invalid_request_error", "model_not_found"},
        {500, NULL, "server_error", NULL},
        {529, NULL, "overloaded_error", "overloaded"},
        {418, "teapot", "invalid_request_error", "teapot"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out;
        struct err err;

        buf_init(&out, 4096);
        chat_error_for(&out, cases[i].status, cases[i].code);
        json_t *root = json_parse(out.data, out.len, JSON_READ_STRICT, &err);
        const json_t *error = json_object_get(root, "error");
        assert_int_equal(json_object_size(error), 4);
        assert_true(str_equal(json_string_or_null(error, "type"), cases[i].type));
        assert_true(str_equal(json_string_or_null(error, "code"), cases[i].shown));
        assert_non_null(json_object_get(error, "param"));
        json_decref(root);
        buf_release(&out);
    }
}

static json_t *whole(const char *marker, struct buf *text, int64_t choices)
{
    struct scenario scenario;
    struct err err = {.message = ""};
    struct buf out;

    assert_true(read_text(&scenario, marker, &err));
    struct chat_answer answer = {
        .scenario = &scenario, .seed = 7, .number = 1, .prompt_tokens = 5, .choices = choices};
    snprintf(answer.model, sizeof(answer.model), "m");
    answer.items = chat_answer_items(&answer);
    buf_init(&out, 1 << 20);
    chat_whole(&answer, text, &out);
    json_t *root = json_parse(out.data, out.len, JSON_READ_LENIENT, &err);
    assert_non_null(root);
    buf_release(&out);
    return root;
}

static void test_whole_answer_counts_its_words(void **state)
{
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 20);
    json_t *root = whole("[[sim tokens=5 cached=9 reasoning=4]]", &text, 2);
    const json_t *usage = json_object_get(root, "usage");
    const json_t *choices = json_object_get(root, "choices");

    assert_int_equal(json_array_size(choices), 2);
    assert_string_equal(
        json_string_or_null(json_object_get(json_array_get(choices, 0), "message"), "content"),
        text.data);
    assert_int_equal(json_count_or(json_object_get(usage, "prompt_tokens"), -1), 5);
    assert_int_equal(json_count_or(json_object_get(usage, "completion_tokens"), -1), 2 * 5 + 4);
    assert_int_equal(json_count_or(json_object_get(usage, "total_tokens"), -1), 19);
    assert_int_equal(
        json_count_or(
            json_object_get(json_object_get(usage, "prompt_tokens_details"), "cached_tokens"), -1),
        5);
    json_decref(root);
    buf_release(&text);
}

static void test_tool_answers_carry_whole_arguments(void **state)
{
    static const struct {
        const char *marker;
        size_t calls;
        const char *arguments;
    } cases[] = {
        {"[[sim fault=tool]]", 1, "{\"sku\":\"K-7\"}"},
        {"[[sim fault=two_tools]]", 2, "{\"sku\":\"K-7\"}"},
        {"[[sim fault=bad_tool]]", 1, "{\"sku\":\"K-7"},
        {"[[sim fault=empty_tool]]", 1, ""},
    };
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 20);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *root = whole(cases[i].marker, &text, 1);
        const json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
        const json_t *message = json_object_get(choice, "message");
        const json_t *calls = json_object_get(message, "tool_calls");
        const json_t *function = json_object_get(json_array_get(calls, 0), "function");

        assert_string_equal(json_string_or_null(choice, "finish_reason"), "tool_calls");
        assert_true(json_is_null(json_object_get(message, "content")));
        assert_int_equal(json_array_size(calls), cases[i].calls);
        assert_string_equal(json_string_or_null(function, "arguments"), cases[i].arguments);
        json_decref(root);
    }
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompt_without_marker_asks_for_nothing),
        cmocka_unit_test(test_marker_sets_knobs_wherever_it_stands),
        cmocka_unit_test(test_later_marker_wins_and_at_limits_one_to_a_provider),
        cmocka_unit_test(test_every_fault_has_a_name_that_is_understood),
        cmocka_unit_test(test_mistakes_in_a_marker_are_errors),
        cmocka_unit_test(test_model_name_asks_for_a_scenario),
        cmocka_unit_test(test_code_brings_its_status),
        cmocka_unit_test(test_words_depend_on_seed_and_position_only),
        cmocka_unit_test(test_bad_requests_are_refused_as_the_service_does),
        cmocka_unit_test(test_request_gives_last_user_text_and_counts),
        cmocka_unit_test(test_errors_have_the_service_shape),
        cmocka_unit_test(test_whole_answer_counts_its_words),
        cmocka_unit_test(test_tool_answers_carry_whole_arguments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
