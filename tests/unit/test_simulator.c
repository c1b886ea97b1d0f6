/* SPDX-License-Identifier: Apache-2.0 */
/* A running simulator, looked at byte by byte: answers, refusals, faults that pass, log, webhooks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "tests/unit/simulator_fixture.h"

/* --- good answers ----------------------------------------------------------------------------- */

static void test_stream_has_role_words_finish_usage_and_end(void **state)
{
    struct sim_answer answer = sim_chat("hi [[sim tokens=5]]", STREAM);

    (void)state;
    assert_int_equal(answer.status, 200);
    assert_true(answer.is_whole);
    assert_true(text_contains(&answer.raw, "text/event-stream", 17));
    assert_int_equal(text_count(&answer.body, "data: "), 1 + 5 + 1 + 1 + 1);
    assert_int_equal(text_count(&answer.body, "\"role\":\"assistant\""), 1);
    assert_int_equal(text_count(&answer.body, "\"usage\":null"), 7);
    assert_int_equal(text_count(&answer.body, "\"finish_reason\":\"stop\""), 1);
    assert_int_equal(text_count(&answer.body, "\"choices\":[],\"usage\":{\"prompt_tokens\":5,"
                                              "\"completion_tokens\":5,\"total_tokens\":10,"),
                     1);
    assert_string_equal(answer.body.data + answer.body.len - 14, "data: [DONE]\n\n");
    sim_answer_release(&answer);
}

static void test_usage_is_told_only_when_asked_for(void **state)
{
    struct sim_answer answer = sim_chat("hi", ",\"stream\":true");

    (void)state;
    assert_true(answer.is_whole);
    assert_int_equal(text_count(&answer.body, "usage"), 0);
    sim_answer_release(&answer);
}

static void test_same_prompt_gives_same_text(void **state)
{
    struct sim_answer a = sim_chat("hi [[sim unicode=1]]", "");
    struct sim_answer b = sim_chat("hi [[sim unicode=1]]", "");
    struct sim_answer c = sim_chat("ho [[sim unicode=1]]", "");
    json_t *texts[3];

    (void)state;
    texts[0] = sim_answer_json(&a);
    texts[1] = sim_answer_json(&b);
    texts[2] = sim_answer_json(&c);
    assert_true(
        json_equal(json_object_get(texts[0], "choices"), json_object_get(texts[1], "choices")));
    assert_false(
        json_equal(json_object_get(texts[0], "choices"), json_object_get(texts[2], "choices")));
    for (int i = 0; i < 3; i++)
        json_decref(texts[i]);
    sim_answer_release(&a);
    sim_answer_release(&b);
    sim_answer_release(&c);
}

static void test_max_tokens_echo_and_choices_are_honoured(void **state)
{
    struct sim_answer cut = sim_chat("hi", STREAM ",\"max_completion_tokens\":3");
    struct sim_answer echo = sim_chat("say  this [[sim echo=1]] back", "");
    struct sim_answer two = sim_chat("hi [[sim tokens=4]]", STREAM ",\"n\":2");

    (void)state;
    assert_int_equal(text_count(&cut.body, "\"finish_reason\":\"length\""), 1);
    assert_int_equal(text_count(&cut.body, "\"completion_tokens\":3,"), 1);
    assert_int_equal(text_count(&echo.body, "\"content\":\"say  this  back\""), 1);
    assert_int_equal(text_count(&two.body, "\"choices\":[{\"index\":1,\"delta\":{\"content\""),
                     5 - 1);
    assert_int_equal(text_count(&two.body, "\"completion_tokens\":8,"), 1);
    sim_answer_release(&cut);
    sim_answer_release(&echo);
    sim_answer_release(&two);
}

static void test_tool_calls_stream_in_fragments(void **state)
{
    struct sim_answer one = sim_chat("[[sim fault=tool]]", STREAM);
    struct sim_answer two = sim_chat("[[sim fault=two_tools]]", STREAM);

    (void)state;
    assert_int_equal(text_count(&one.body, "\"tool_calls\":[{\"index\":0,"), 4);
    assert_int_equal(text_count(&one.body, "\"name\":\"lookup\",\"arguments\":\"\""), 1);
    assert_int_equal(text_count(&one.body, "\"finish_reason\":\"tool_calls\""), 1);
    assert_int_equal(text_count(&two.body, "\"tool_calls\":[{\"index\":1,"), 4);
    sim_answer_release(&one);
    sim_answer_release(&two);
}

/* --- refusals --------------------------------------------------------------------------------- */

static void test_statuses_bring_headers_and_the_error_shape(void **state)
{
    static const struct {
        const char *model;
        const char *marker;
        int status;
        const char *header;
        const char *code;
    } cases[] = {
        {"gpt", "status=429 retry_after=2", 429, "retry-after: 2\r\n", "rate_limit_exceeded"},
        {"gpt", "status=429 retry_after=0.5", 429, "retry-after: 0.5\r\n", "rate_limit_exceeded"},
        {"gpt", "status=429 retry_after=date", 429, " GMT\r\n", "rate_limit_exceeded"},
        {"gpt", "status=429 retry_after=past-date", 429, " GMT\r\n", "rate_limit_exceeded"},
        {"gpt", "status=429 retry_after=absurd", 429, "retry-after: 9999999",
         "rate_limit_exceeded"},
        {"gpt", "status=429 retry_after_ms=250", 429, "retry-after-ms: 250\r\n",
         "rate_limit_exceeded"},
        {"gpt", "status=429 should_retry=false", 429, "x-should-retry: false\r\n",
         "rate_limit_exceeded"},
        {"gpt", "status=429 remaining=0 reset=6m0s", 429, "x-ratelimit-reset-requests: 6m0s\r\n",
         "rate_limit_exceeded"},
        {"gpt", "code=insufficient_quota", 429, "", "insufficient_quota"},
        {"gpt", "code=context_length_exceeded", 400, "", "context_length_exceeded"},
        {"gpt", "code=content_policy_violation", 400, "", "content_policy_violation"},
        {"gpt", "status=401", 401, "", "invalid_api_key"},
        {"gpt", "status=403", 403, "", "unsupported_country_region_territory"},
        {"gpt", "status=404", 404, "", "model_not_found"},
        {"gpt", "status=500", 500, "", "null"},
        {"sim-502", "tokens=1", 502, "", "null"},
        {"sim-503", "tokens=1", 503, "", "null"},
        {"sim-529", "tokens=1", 529, "", "overloaded"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char prompt[128];

        snprintf(prompt, sizeof(prompt), "[[sim %s]]", cases[i].marker);
        struct sim_answer answer =
            sim_chat_at("/v1/chat/completions", cases[i].model, prompt, STREAM, SIM_DEADLINE_MS);
        assert_int_equal(answer.status, cases[i].status);
        assert_true(text_contains(&answer.raw, cases[i].header, strlen(cases[i].header)));
        assert_true(text_contains(&answer.body, cases[i].code, strlen(cases[i].code)));
        assert_true(text_contains(&answer.body, "{\"error\":{\"message\":", 20));
        sim_answer_release(&answer);
    }
}

static void test_keys_paths_and_bad_requests_are_refused(void **state)
{
    static const struct {
        const char *method;
        const char *path;
        const char *key;
        const char *body;
        int status;
        const char *says;
    } cases[] = {
        {"POST", "/v1/chat/completions", NULL, "{}", 401, "You didn't provide an API key"},
        {"POST", "/v1/chat/completions", "bad-key", "{}", 401, "invalid_api_key"},
        {"POST", "/v1/chat/completions", "k", "{}", 400, "you must provide a model"},
        {"POST", "/a/v1/chat/completions", "k", "{", 400, "could not parse"},
        {"POST", "/a/v1/chat/completions", "k",
         "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"[[sim tokns=1]]\"}]}",
         400, "nearest is tokens"},
        {"POST", "/a/b/v1/chat/completions", "k", "{}", 404, "Invalid URL"},
        {"GET", "/v1/chat/completions", "k", "", 405, "Not allowed"},
        {"GET", "/v1/models", NULL, "", 401, "API key"},
        {"GET", "/main/v1/models", "k", "", 200, "gpt-4o-mini"},
        {"GET", "/sim/calls?limit=0", "k", "", 400, "limit"},
        {"GET", "/sim/calls?wat=0", "k", "", 400, "wat"},
        {"GET", "/healthz", NULL, "", 200, "ok"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = sim_dial();

        sim_send(fd, cases[i].method, cases[i].path, cases[i].key, "", cases[i].body);
        struct sim_answer answer = sim_read_answer(fd, SIM_DEADLINE_MS);
        assert_int_equal(answer.status, cases[i].status);
        if (!text_contains(&answer.body, cases[i].says, strlen(cases[i].says)))
            fail_msg("%s: %s", cases[i].path, answer.body.data);
        sim_answer_release(&answer);
    }
}

/* --- faults that pass ------------------------------------------------------------------------- */

static void test_times_counts_by_key_or_by_prompt(void **state)
{
    static const struct {
        const char *prompt;
        int status;
    } calls[] = {
        {"[[sim status=500 times=2 key=k1]] a", 500}, {"[[sim status=500 times=2 key=k1]] b", 500},
        {"[[sim status=500 times=2 key=k1]] c", 200}, {"[[sim status=500 times=1]] d", 500},
        {"[[sim status=500 times=1]] e", 500},        {"[[sim status=500 times=1]] d", 200},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        struct sim_answer answer = sim_chat(calls[i].prompt, "");

        assert_int_equal(answer.status, calls[i].status);
        sim_answer_release(&answer);
    }
}

static void expect_status(const char *path, int status)
{
    struct sim_answer answer = sim_chat_at(path, "gpt", "hi", "", SIM_DEADLINE_MS);

    assert_int_equal(answer.status, status);
    sim_answer_release(&answer);
}

static void test_standing_fault_hits_its_provider_until_cleared(void **state)
{
    (void)state;
    sim_post("/sim/faults",
             "{\"provider\":\"main\",\"status\":429,\"retry_after\":\"1\",\"times\":1}", 200);
    expect_status("/spare/v1/chat/completions", 200);
    expect_status("/main/v1/chat/completions", 429);
    expect_status("/main/v1/chat/completions", 200);
    sim_post("/sim/faults", "{\"provider\":\"*\",\"status\":503}", 200);
    expect_status("/spare/v1/chat/completions", 503);
    expect_status("/v1/chat/completions", 503);
    struct sim_answer answer = sim_ask("DELETE", "/sim/faults", "");
    assert_int_equal(answer.status, 200);
    sim_answer_release(&answer);
    expect_status("/spare/v1/chat/completions", 200);
    sim_post("/sim/faults", "{\"provider\":\"main\",\"statu\":503}", 400);
    sim_post("/sim/faults", "{\"status\":503}", 400);
    sim_post("/sim/faults", "{", 400);
}

static void test_held_stream_waits_for_its_release(void **state)
{
    char *body = sim_chat_body("gpt", "[[sim hold=gate after=2 tokens=4]]", STREAM);
    int fd = sim_dial();
    struct buf raw;

    (void)state;
    buf_init(&raw, SIM_BYTES_MAX);
    sim_send(fd, "POST", "/v1/chat/completions", "k", "", body);
    free(body);
    assert_int_equal(sim_read_all(fd, &raw, SIM_QUIET_MS), STILL_OPEN);
    assert_int_equal(text_count(&raw, "{\"content\":\""), 2);
    json_t *stats = sim_get("/sim/stats");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(stats, "holding"), "gate")),
                     1);
    json_decref(stats);
    sim_post("/sim/release/gate", "", 200);
    assert_int_equal(sim_read_all(fd, &raw, SIM_DEADLINE_MS), ENDED_FIN);
    assert_int_equal(text_count(&raw, "{\"content\":\""), 4);
    close(fd);
    buf_release(&raw);
    struct sim_answer late = sim_chat("[[sim hold=gate]]", STREAM); /* the gate stays open */
    assert_true(late.is_whole);
    sim_answer_release(&late);
}

/* --- the log ---------------------------------------------------------------------------------- */

static int64_t sim_stat(const char *name)
{
    json_t *root = sim_get("/sim/stats");
    int64_t value = json_integer_value(json_object_get(root, name));

    json_decref(root);
    return value;
}

/* Asks until stats say so.  Each question is a round trip, which is wait enough. */
static void wait_for_stat(const char *name, int64_t wanted)
{
    int64_t deadline = clock_monotonic_us() + SIM_DEADLINE_MS * US_PER_MS;

    while (sim_stat(name) != wanted) {
        if (clock_monotonic_us() > deadline)
            fail_msg("%s never became %lld", name, (long long)wanted);
    }
}

static void test_client_that_leaves_is_logged_as_gone(void **state)
{
    static const char *const markers[] = {"[[sim fault=silence]]", "[[sim gap_ms=60000]]",
                                          "[[sim hold=never]]", "[[sim delay_ms=60000]]"};

    (void)state;
    for (size_t i = 0; i < sizeof(markers) / sizeof(markers[0]); i++) {
        char *body = sim_chat_body("gpt", markers[i], STREAM);
        int fd = sim_dial();

        sim_send(fd, "POST", "/v1/chat/completions", "k", "", body);
        wait_for_stat("in_flight", 1);
        close(fd);
        wait_for_stat("in_flight", 0);
        assert_int_equal(sim_stat("aborted"), (int64_t)i + 1);
        free(body);
    }
}

/* The line of call number seq in the log file, once it is there. */
static json_t *wait_for_line(int64_t seq)
{
    int64_t deadline = clock_monotonic_us() + SIM_DEADLINE_MS * US_PER_MS;
    char start[48], line[4096];
    json_t *found = NULL;

    snprintf(start, sizeof(start), "{\"seq\":%lld,", (long long)seq);
    while (!found && clock_monotonic_us() < deadline) {
        FILE *file = fopen(sim_log_path, "r");

        assert_non_null(file);
        while (!found && fgets(line, sizeof(line), file)) {
            if (strncmp(line, start, strlen(start)) == 0 && strchr(line, '\n'))
                found = json_loads(line, 0, NULL);
        }
        fclose(file);
    }
    assert_non_null(found);
    return found;
}

static void test_log_tells_every_call_and_the_file_agrees(void **state)
{
    static const char *const wanted[] = {"completed", "cut", "error"};
    struct sim_answer answers[] = {
        sim_chat("hi [[sim tokens=3]]", STREAM),
        sim_chat("hi [[sim fault=close_mid after=2]]", STREAM),
        sim_chat("hi [[sim status=500]]", STREAM),
    };
    json_t *list = sim_get("/sim/calls");
    const json_t *calls = json_object_get(list, "data");

    (void)state;
    assert_int_equal(json_array_size(calls), 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *call = json_array_get(calls, i);

        sim_answer_release(&answers[i]);
        assert_string_equal(json_string_or_null(call, "outcome"), wanted[i]);
        assert_string_equal(json_string_or_null(call, "provider"), "main");
        assert_string_equal(json_string_or_null(call, "key"), "1234");
        assert_string_equal(
            json_string_or_null(json_object_get(call, "headers"), "x-nightshift-call"), "call_1");
    }
    const json_t *first = json_array_get(calls, 0), *cut = json_array_get(calls, 1);
    assert_int_equal(json_count_or(json_object_get(first, "output_tokens"), -1), 3);
    assert_true(json_is_true(json_object_get(first, "sent_usage")));
    assert_int_equal(json_count_or(json_object_get(cut, "output_tokens"), -1), 2);
    assert_false(json_is_true(json_object_get(cut, "sent_usage")));
    int64_t last = json_count_or(json_object_get(list, "last_seq"), -1);
    json_decref(list);
    char path[64];
    snprintf(path, sizeof(path), "/sim/calls?after=%lld", (long long)last - 1);
    list = sim_get(path);
    const json_t *call = json_array_get(json_object_get(list, "data"), 0);
    assert_int_equal(json_array_size(json_object_get(list, "data")), 1);
    json_t *line = wait_for_line(last);
    assert_true(json_equal(line, call));
    json_decref(line);
    json_decref(list);
}

/* --- webhooks --------------------------------------------------------------------------------- */

static void test_hook_keeps_what_it_gets_and_answers_as_asked(void **state)
{
    static const struct {
        const char *path;
        int status;
        const char *header;
    } cases[] = {
        {"/hook/a", 200, ""},
        {"/hook/a?status=500&times=1", 500, ""},
        {"/hook/a?status=500&times=1", 200, ""},
        {"/hook/a?redirect=http%3A%2F%2Fx%2F", 302, "location: http://x/\r\n"},
        {"/hook/a?status=503&retry_after=7", 503, "retry-after: 7\r\n"},
        {"/hook/a?delay_ms=20", 200, ""},
        {"/hook/a?big=1", 200, "content-length: 8388608\r\n"},
        {"/hook/b", 200, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = sim_dial();

        sim_send(fd, "POST", cases[i].path, NULL,
                 "webhook-id: msg_1\r\nwebhook-signature: v1,abc\r\n", "{\"n\":1}");
        struct sim_answer answer = sim_read_answer(fd, SIM_DEADLINE_MS);
        assert_int_equal(answer.status, cases[i].status);
        assert_true(text_contains(&answer.raw, cases[i].header, strlen(cases[i].header)));
        sim_answer_release(&answer);
    }
    json_t *list = sim_get("/hook/a/log");
    const json_t *data = json_object_get(list, "data");
    const json_t *first = json_array_get(data, 0);
    assert_int_equal(json_array_size(data), sizeof(cases) / sizeof(cases[0]) - 1);
    assert_string_equal(json_string_or_null(first, "body"), "{\"n\":1}");
    assert_string_equal(json_string_or_null(json_object_get(first, "headers"), "webhook-id"),
                        "msg_1");
    json_decref(list);
}

static void test_hook_can_hang_or_reset(void **state)
{
    int hanging = sim_dial(), reset = sim_dial();

    (void)state;
    sim_send(hanging, "POST", "/hook/c?hang=1", NULL, "", "{}");
    sim_send(reset, "POST", "/hook/c?reset=1", NULL, "", "\xff");
    struct sim_answer answer = sim_read_answer(reset, SIM_DEADLINE_MS);
    assert_int_equal(answer.ending, ENDED_RESET);
    sim_answer_release(&answer);
    answer = sim_read_answer(hanging, SIM_QUIET_MS);
    assert_int_equal(answer.ending, STILL_OPEN);
    sim_answer_release(&answer);
    json_t *list = sim_get("/hook/c/log");
    assert_int_equal(json_array_size(json_object_get(list, "data")), 2);
    json_decref(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define LIVE(test) cmocka_unit_test_setup(test, sim_reset)
        LIVE(test_stream_has_role_words_finish_usage_and_end),
        LIVE(test_usage_is_told_only_when_asked_for),
        LIVE(test_same_prompt_gives_same_text),
        LIVE(test_max_tokens_echo_and_choices_are_honoured),
        LIVE(test_tool_calls_stream_in_fragments),
        LIVE(test_statuses_bring_headers_and_the_error_shape),
        LIVE(test_keys_paths_and_bad_requests_are_refused),
        LIVE(test_times_counts_by_key_or_by_prompt),
        LIVE(test_standing_fault_hits_its_provider_until_cleared),
        LIVE(test_held_stream_waits_for_its_release),
        LIVE(test_client_that_leaves_is_logged_as_gone),
        LIVE(test_log_tells_every_call_and_the_file_agrees),
        LIVE(test_hook_keeps_what_it_gets_and_answers_as_asked),
        LIVE(test_hook_can_hang_or_reset),
    };

    return cmocka_run_group_tests(tests, sim_group_start, sim_group_stop);
}
