/* SPDX-License-Identifier: Apache-2.0 */
/* A running simulator, looked at byte by byte: every fault is what it says. */
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

static const char *const ending_names[] = {"closed", "reset", "still open"};

/* What each fault looks like from the other end of the wire, streamed and not. */
static const struct fault_case {
    const char *marker;
    const char *has;   /* in the body */
    const char *lacks; /* in the body */
    enum ending ending;
    bool is_whole; /* HTTP framing came to its end */
    int status;
} stream_cases[] = {
    {"fault=reset_before", "", "data", ENDED_RESET, false, 0},
    {"fault=close_before", "", "data", ENDED_FIN, false, 0},
    {"fault=reset_after_head", "", "data", ENDED_RESET, false, 200},
    {"fault=reset_mid after=2", "content", "finish_reason\":\"", ENDED_RESET, false, 200},
    {"fault=close_mid after=2", "\n\n", "finish_reason\":\"", ENDED_FIN, false, 200},
    {"fault=cut_line", "data: {", "[DONE]", ENDED_FIN, false, 200},
    {"fault=end_mid", "data: {", "[DONE]", ENDED_FIN, true, 200},
    {"fault=silence", "", "data", STILL_OPEN, false, 0},
    {"fault=silence_head", "", "data", STILL_OPEN, false, 200},
    {"fault=silence_mid", "data: {", "[DONE]", STILL_OPEN, false, 200},
    {"fault=junk", "<<junk>>", "no such", ENDED_FIN, true, 200},
    {"fault=error_in_stream code=rate_limit_exceeded status=429", "{\"error\":{", "no such",
     ENDED_FIN, true, 429},
    {"fault=error_in_stream code=server_error", "data: {\"error\":{", "finish_reason\":\"",
     ENDED_FIN, true, 200},
    {"fault=huge_event bytes=3000000", "xxxxxxxx", "no such", ENDED_FIN, true, 200},
    {"fault=bad_utf8", "\"content\":\"\xff\xfe\xc3\"", "no such", ENDED_FIN, true, 200},
    {"fault=nul", "\"content\":\"a\\u0000b\"", "no such", ENDED_FIN, true, 200},
    {"fault=lone_surrogate", "\"content\":\"\\ud83d\"", "no such", ENDED_FIN, true, 200},
    {"fault=no_done", "\"finish_reason\":\"stop\"", "[DONE]", ENDED_FIN, true, 200},
    {"fault=no_finish", "[DONE]", "finish_reason\":\"", ENDED_FIN, true, 200},
    {"fault=no_usage", "[DONE]", "prompt_tokens", ENDED_FIN, true, 200},
    {"fault=keep_open", "[DONE]", "no such", STILL_OPEN, false, 200},
    {"fault=html_200", "<html>", "data: ", ENDED_FIN, true, 200},
    {"fault=json_error_200", "{\"error\":{", "data: ", ENDED_FIN, true, 200},
    {"fault=empty_200", "", "d", ENDED_FIN, true, 200},
    {"fault=crlf", "\r\n\r\ndata: {", "\n\n", ENDED_FIN, true, 200},
    {"fault=comments", ": keep-alive\n\ndata: {", "no such", ENDED_FIN, true, 200},
    {"fault=bom",
     "\xef\xbb\xbf"
     "data: {",
     "no such", ENDED_FIN, true, 200},
    {"fault=content_filter", "\"finish_reason\":\"content_filter\"", "stop", ENDED_FIN, true, 200},
    {"fault=refusal", "{\"refusal\":\"", "{\"content\":\"", ENDED_FIN, true, 200},
    {"fault=length", "\"finish_reason\":\"length\"", "stop", ENDED_FIN, true, 200},
    {"fault=unknown_finish", "\"finish_reason\":\"eos_token\"", "stop", ENDED_FIN, true, 200},
    {"fault=bad_tool", "\"arguments\":\"\\\"K-7\"", "stop", ENDED_FIN, true, 200},
    {"fault=empty_tool", "\"finish_reason\":\"tool_calls\"", "sku", ENDED_FIN, true, 200},
    {"status=200 tokens=0", "\"finish_reason\":\"stop\"", "{\"content\":\"", ENDED_FIN, true, 200},
};

static const struct fault_case whole_cases[] = {
    {"fault=reset_before", "", "choices", ENDED_RESET, false, 0},
    {"fault=reset_after_head", "", "choices", ENDED_RESET, false, 200},
    {"fault=close_mid", "{\"id\":", "total_tokens", ENDED_FIN, false, 200},
    {"fault=reset_mid", "{\"id\":", "total_tokens", ENDED_RESET, false, 200},
    {"fault=end_mid", "{\"id\":", "total_tokens", ENDED_FIN, true, 200},
    {"fault=silence", "", "choices", STILL_OPEN, false, 0},
    {"fault=silence_mid", "{\"id\":", "total_tokens", STILL_OPEN, false, 200},
    {"fault=junk", "chatcmpl-junk", "total_tokens", ENDED_FIN, true, 200},
    {"fault=no_usage", "choices", "total_tokens", ENDED_FIN, true, 200},
    {"fault=no_finish", "\"finish_reason\":null", "stop", ENDED_FIN, true, 200},
    {"fault=html_200", "<html>", "choices", ENDED_FIN, true, 200},
    {"fault=json_error_200", "{\"error\":{", "choices", ENDED_FIN, true, 200},
    {"fault=nul", "\"content\":\"a\\u0000b", "no such", ENDED_FIN, true, 200},
    {"fault=bad_utf8", "\"content\":\"\xff\xfe\xc3", "no such", ENDED_FIN, true, 200},
    {"fault=refusal", "\"content\":null,\"refusal\":\"", "no such", ENDED_FIN, true, 200},
    {"fault=content_filter", "\"finish_reason\":\"content_filter\"", "stop", ENDED_FIN, true, 200},
    {"fault=two_tools", "\"tool_calls\":[{\"id\":\"call_", "stop", ENDED_FIN, true, 200},
};

static void check_fault(const struct fault_case *row, const char *rest)
{
    char prompt[160];

    snprintf(prompt, sizeof(prompt), "go [[sim tokens=6 %s]]", row->marker);
    struct sim_answer answer =
        sim_chat_at("/main/v1/chat/completions", "gpt", prompt, rest,
                    row->ending == STILL_OPEN ? SIM_QUIET_MS : SIM_DEADLINE_MS);
    if (answer.ending != row->ending)
        fail_msg("%s: %s, expected %s", row->marker, ending_names[answer.ending],
                 ending_names[row->ending]);
    if (answer.status != row->status)
        fail_msg("%s: status %d", row->marker, answer.status);
    if (answer.is_whole != row->is_whole)
        fail_msg("%s: framing is %s", row->marker, answer.is_whole ? "whole" : "broken off");
    if (!text_contains(&answer.body, row->has, strlen(row->has)))
        fail_msg("%s: lacks %s in: %s", row->marker, row->has, answer.body.data);
    if (text_contains(&answer.body, row->lacks, strlen(row->lacks)))
        fail_msg("%s: has %s in: %s", row->marker, row->lacks, answer.body.data);
    sim_answer_release(&answer);
}

static void test_every_fault_of_a_stream_is_what_it_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(stream_cases) / sizeof(stream_cases[0]); i++)
        check_fault(&stream_cases[i], STREAM);
}

static void test_every_fault_of_a_whole_answer_is_what_it_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(whole_cases) / sizeof(whole_cases[0]); i++)
        check_fault(&whole_cases[i], "");
}

static void test_cut_line_ends_inside_an_event(void **state)
{
    struct sim_answer answer = sim_chat("[[sim fault=cut_line after=1]]", STREAM);
    const char *last;

    (void)state;
    assert_true(answer.body.len > 2);
    assert_true(answer.body.data[answer.body.len - 1] != '\n');
    last = memrchr(answer.body.data, '\n', answer.body.len);
    assert_memory_equal(last + 1, "data: {", 7);
    sim_answer_release(&answer);
}

static void test_split_bytes_sends_chunks_of_one_byte(void **state)
{
    struct sim_answer answer = sim_chat("[[sim fault=split_bytes unicode=1 tokens=4]]", STREAM);

    (void)state;
    assert_true(answer.is_whole);
    assert_int_equal(answer.longest_chunk, 1);
    assert_int_equal(answer.chunks, answer.body.len);
    sim_answer_release(&answer);
}

static void test_drip_sends_all_in_single_bytes(void **state)
{
    struct sim_answer answer =
        sim_chat("[[sim fault=drip drip_ms=0 tokens=1]]", ",\"stream\":true");

    (void)state;
    assert_true(answer.is_whole);
    assert_int_equal(answer.longest_chunk, 1);
    assert_true(text_contains(&answer.body, "[DONE]", 6));
    sim_answer_release(&answer);
}

static void test_pings_go_on_without_content(void **state)
{
    char *body = sim_chat_body("gpt", "[[sim fault=pings ping_ms=1 after=0]]", STREAM);
    struct buf raw;
    int fd = sim_dial();

    (void)state;
    buf_init(&raw, SIM_BYTES_MAX);
    sim_send(fd, "POST", "/v1/chat/completions", "k", "", body);
    while (raw.len == 0 || text_count(&raw, ": ping\n\n") < 3) {
        char block[4096];
        ssize_t n = recv(fd, block, sizeof(block), 0);

        assert_true(n > 0);
        assert_true(buf_append(&raw, block, (size_t)n));
    }
    assert_int_equal(text_count(&raw, "finish_reason\":\""), 0);
    close(fd);
    free(body);
    buf_release(&raw);
}

static void test_usage_on_every_chunk_grows(void **state)
{
    struct sim_answer answer =
        sim_chat("[[sim fault=usage_every_chunk tokens=3]]", ",\"stream\":true");

    (void)state;
    for (int i = 0; i <= 3; i++) {
        char text[40];

        snprintf(text, sizeof(text), "\"completion_tokens\":%d,", i);
        assert_int_equal(text_count(&answer.body, text), i == 3 ? 2 : 1);
    }
    sim_answer_release(&answer);
}

static void test_words_come_at_the_rate_asked_for(void **state)
{
    int64_t begin = clock_monotonic_us();
    struct sim_answer answer = sim_chat("[[sim delay_ms=30 tokens=5 gap_ms=10]]", STREAM);

    (void)state;
    assert_true(answer.is_whole);
    assert_true(clock_monotonic_us() - begin >= 70 * US_PER_MS);
    sim_answer_release(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define LIVE(test) cmocka_unit_test_setup(test, sim_reset)
        LIVE(test_every_fault_of_a_stream_is_what_it_says),
        LIVE(test_every_fault_of_a_whole_answer_is_what_it_says),
        LIVE(test_cut_line_ends_inside_an_event),
        LIVE(test_split_bytes_sends_chunks_of_one_byte),
        LIVE(test_drip_sends_all_in_single_bytes),
        LIVE(test_pings_go_on_without_content),
        LIVE(test_usage_on_every_chunk_grows),
        LIVE(test_words_come_at_the_rate_asked_for),
    };

    return cmocka_run_group_tests(tests, sim_group_start, sim_group_stop);
}
