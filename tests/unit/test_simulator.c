/* SPDX-License-Identifier: Apache-2.0 */
/* A running simulator, looked at byte by byte: a process of its own, plain sockets, every fault. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "tests/simulator/scenario.h"
#include "tests/simulator/simulator.h"

enum { DEADLINE_MS = 20000, QUIET_MS = 150, BYTES_MAX = 64 << 20 };

static int port;
static pid_t simulator_pid;
static char log_path[] = "/tmp/test_simulator-XXXXXX";

/* --- the simulator in a process of its own ---------------------------------------------------- */

static void on_term(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(arg);
}

/* Never returns: serves until TERM, then frees all so that the leak check means something. */
static void serve(int out)
{
    const struct simulator_options options = {
        .listen = "127.0.0.1:0", .log_path = log_path, .max_connections = 1000};
    struct event_base *base = event_base_new();
    struct event *term = evsignal_new(base, SIGTERM, on_term, base);
    struct simulator simulator;
    struct err err;

    signal(SIGPIPE, SIG_IGN);
    event_add(term, NULL);
    if (!simulator_open(&simulator, base, &options, &err) ||
        write(out, &simulator.port, sizeof(simulator.port)) != sizeof(simulator.port)) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    event_base_dispatch(base);
    simulator_close(&simulator);
    event_free(term);
    event_base_free(base);
    exit(0);
}

static int start_simulator(void **state)
{
    int pipes[2];
    int fd = mkstemp(log_path);

    (void)state;
    if (fd < 0 || pipe(pipes) != 0)
        return -1;
    close(fd);
    fflush(NULL);
    simulator_pid = fork();
    if (simulator_pid == 0) {
        close(pipes[0]);
        serve(pipes[1]);
    }
    close(pipes[1]);
    ssize_t n = read(pipes[0], &port, sizeof(port));
    close(pipes[0]);
    return n == sizeof(port) ? 0 : -1;
}

static int stop_simulator(void **state)
{
    int status = -1;

    (void)state;
    kill(simulator_pid, SIGTERM);
    waitpid(simulator_pid, &status, 0);
    unlink(log_path);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* --- a client that sees everything ------------------------------------------------------------ */

enum ending { ENDED_FIN, ENDED_RESET, STILL_OPEN };

static const char *const ending_names[] = {"closed", "reset", "still open"};

/* What came back.  body is de-chunked; is_whole tells whether the last chunk (or all bytes of the
 * length) came. */
struct answer {
    struct buf raw;
    struct buf body;
    size_t chunks;
    size_t longest_chunk;
    int status;
    bool is_whole;
    enum ending ending;
};

static int dial(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void send_request(int fd, const char *method, const char *path, const char *key,
                         const char *extra, const char *body)
{
    struct buf request;

    buf_init(&request, BYTES_MAX);
    buf_printf(&request, "%s %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n%s", method, path,
               extra);
    if (key)
        buf_printf(&request, "authorization: Bearer %s\r\n", key);
    buf_printf(&request, "content-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
               strlen(body), body);
    assert_false(request.is_broken);
    assert_int_equal(send(fd, request.data, request.len, MSG_NOSIGNAL), request.len);
    buf_release(&request);
}

/* Reads until the connection ends, or until nothing came for quiet_ms. */
static enum ending read_all(int fd, struct buf *raw, int quiet_ms)
{
    char block[65536];

    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};

        if (poll(&wait, 1, quiet_ms) == 0)
            return STILL_OPEN;
        ssize_t n = recv(fd, block, sizeof(block), 0);
        if (n == 0)
            return ENDED_FIN;
        if (n < 0)
            return errno == ECONNRESET ? ENDED_RESET : STILL_OPEN;
        assert_true(buf_append(raw, block, (size_t)n));
    }
}

static void read_chunks(struct answer *answer, const char *at, const char *end)
{
    while (at < end) {
        char *after;
        size_t len = strtoul(at, &after, 16);

        if (after == at || after + 2 > end || memcmp(after, "\r\n", 2) != 0)
            return;
        at = after + 2;
        if (len == 0) {
            answer->is_whole = end - at == 2;
            return;
        }
        size_t here = (size_t)(end - at) < len ? (size_t)(end - at) : len;
        buf_append(&answer->body, at, here);
        answer->chunks++;
        if (len > answer->longest_chunk)
            answer->longest_chunk = len;
        at += here + 2;
    }
}

static void parse_answer(struct answer *answer)
{
    const char *raw = answer->raw.data;
    const char *head_end = answer->raw.len > 0 ? strstr(raw, "\r\n\r\n") : NULL;

    if (!head_end)
        return;
    const char *body = head_end + 4;
    size_t len = answer->raw.len - (size_t)(body - raw);
    const char *length = strcasestr(raw, "content-length: ");
    answer->status = atoi(raw + strlen("HTTP/1.1 "));
    if (strcasestr(raw, "transfer-encoding: chunked")) {
        read_chunks(answer, body, raw + answer->raw.len);
        return;
    }
    buf_append(&answer->body, body, len);
    answer->is_whole = length && strtoul(length + 16, NULL, 10) == len;
}

static void answer_release(struct answer *answer)
{
    buf_release(&answer->raw);
    buf_release(&answer->body);
}

static struct answer read_answer(int fd, int quiet_ms)
{
    struct answer answer = {.status = 0};

    buf_init(&answer.raw, BYTES_MAX);
    buf_init(&answer.body, BYTES_MAX);
    answer.ending = read_all(fd, &answer.raw, quiet_ms);
    close(fd);
    parse_answer(&answer);
    buf_puts(&answer.body, ""); /* so that data is a string */
    return answer;
}

static struct answer ask(const char *method, const char *path, const char *body)
{
    int fd = dial();

    send_request(fd, method, path, "sk-test-1234", "", body);
    return read_answer(fd, DEADLINE_MS);
}

static char *chat_body(const char *model, const char *prompt, const char *rest)
{
    struct buf body;

    buf_init(&body, BYTES_MAX);
    buf_printf(&body, "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":", model);
    buf_put_json_string(&body, prompt, strlen(prompt));
    buf_printf(&body, "}]%s}", rest);
    return buf_detach(&body, NULL);
}

#define STREAM ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"

static struct answer chat_at(const char *path, const char *model, const char *prompt,
                             const char *rest, int quiet_ms)
{
    char *body = chat_body(model, prompt, rest);
    int fd = dial();

    send_request(fd, "POST", path, "sk-test-1234", "x-nightshift-call: call_1\r\n", body);
    free(body);
    return read_answer(fd, quiet_ms);
}

static struct answer chat(const char *prompt, const char *rest)
{
    return chat_at("/main/v1/chat/completions", "gpt", prompt, rest, DEADLINE_MS);
}

static bool contains(const struct buf *buf, const char *text, size_t len)
{
    return len == 0 || memmem(buf->data, buf->len, text, len) != NULL;
}

static int count_of(const struct buf *buf, const char *text)
{
    int count = 0;

    for (const char *at = buf->data; (at = strstr(at, text)); at += strlen(text))
        count++;
    return count;
}

static json_t *parse_json(const struct answer *answer)
{
    struct err err;
    json_t *root = json_parse(answer->body.data, answer->body.len, JSON_READ_LENIENT, &err);

    if (!root)
        fail_msg("%s: %s", err.message, answer->body.data);
    return root;
}

static json_t *get_json(const char *path)
{
    struct answer answer = ask("GET", path, "");

    assert_int_equal(answer.status, 200);
    json_t *root = parse_json(&answer);
    answer_release(&answer);
    return root;
}

static int64_t stat_of(const char *name)
{
    json_t *root = get_json("/sim/stats");
    int64_t value = json_integer_value(json_object_get(root, name));

    json_decref(root);
    return value;
}

static void post(const char *path, const char *body, int status)
{
    struct answer answer = ask("POST", path, body);

    assert_int_equal(answer.status, status);
    answer_release(&answer);
}

static int reset_simulator(void **state)
{
    (void)state;
    post("/sim/reset", "", 200);
    return 0;
}

/* Asks until stats say so.  Each question is a round trip, which is wait enough. */
static void wait_for_stat(const char *name, int64_t wanted)
{
    int64_t deadline = clock_monotonic_us() + DEADLINE_MS * US_PER_MS;

    while (stat_of(name) != wanted) {
        if (clock_monotonic_us() > deadline)
            fail_msg("%s never became %lld", name, (long long)wanted);
    }
}

/* --- good answers ----------------------------------------------------------------------------- */

static void test_stream_has_role_words_finish_usage_and_end(void **state)
{
    struct answer answer = chat("hi [[sim tokens=5]]", STREAM);

    (void)state;
    assert_int_equal(answer.status, 200);
    assert_true(answer.is_whole);
    assert_true(contains(&answer.raw, "text/event-stream", 17));
    assert_int_equal(count_of(&answer.body, "data: "), 1 + 5 + 1 + 1 + 1);
    assert_int_equal(count_of(&answer.body, "\"role\":\"assistant\""), 1);
    assert_int_equal(count_of(&answer.body, "\"usage\":null"), 7);
    assert_int_equal(count_of(&answer.body, "\"finish_reason\":\"stop\""), 1);
    assert_int_equal(count_of(&answer.body, "\"choices\":[],\"usage\":{\"prompt_tokens\":5,"
                                            "\"completion_tokens\":5,\"total_tokens\":10,"),
                     1);
    assert_string_equal(answer.body.data + answer.body.len - 14, "data: [DONE]\n\n");
    answer_release(&answer);
}

static void test_usage_is_told_only_when_asked_for(void **state)
{
    struct answer answer = chat("hi", ",\"stream\":true");

    (void)state;
    assert_true(answer.is_whole);
    assert_int_equal(count_of(&answer.body, "usage"), 0);
    answer_release(&answer);
}

static void test_same_prompt_gives_same_text(void **state)
{
    struct answer a = chat("hi [[sim unicode=1]]", "");
    struct answer b = chat("hi [[sim unicode=1]]", "");
    struct answer c = chat("ho [[sim unicode=1]]", "");
    json_t *texts[3];

    (void)state;
    texts[0] = parse_json(&a);
    texts[1] = parse_json(&b);
    texts[2] = parse_json(&c);
    assert_true(
        json_equal(json_object_get(texts[0], "choices"), json_object_get(texts[1], "choices")));
    assert_false(
        json_equal(json_object_get(texts[0], "choices"), json_object_get(texts[2], "choices")));
    for (int i = 0; i < 3; i++)
        json_decref(texts[i]);
    answer_release(&a);
    answer_release(&b);
    answer_release(&c);
}

static void test_max_tokens_echo_and_choices_are_honoured(void **state)
{
    struct answer cut = chat("hi", STREAM ",\"max_completion_tokens\":3");
    struct answer echo = chat("say  this [[sim echo=1]] back", "");
    struct answer two = chat("hi [[sim tokens=4]]", STREAM ",\"n\":2");

    (void)state;
    assert_int_equal(count_of(&cut.body, "\"finish_reason\":\"length\""), 1);
    assert_int_equal(count_of(&cut.body, "\"completion_tokens\":3,"), 1);
    assert_int_equal(count_of(&echo.body, "\"content\":\"say  this  back\""), 1);
    assert_int_equal(count_of(&two.body, "\"choices\":[{\"index\":1,\"delta\":{\"content\""),
                     5 - 1);
    assert_int_equal(count_of(&two.body, "\"completion_tokens\":8,"), 1);
    answer_release(&cut);
    answer_release(&echo);
    answer_release(&two);
}

static void test_tool_calls_stream_in_fragments(void **state)
{
    struct answer one = chat("[[sim fault=tool]]", STREAM);
    struct answer two = chat("[[sim fault=two_tools]]", STREAM);

    (void)state;
    assert_int_equal(count_of(&one.body, "\"tool_calls\":[{\"index\":0,"), 4);
    assert_int_equal(count_of(&one.body, "\"name\":\"lookup\",\"arguments\":\"\""), 1);
    assert_int_equal(count_of(&one.body, "\"finish_reason\":\"tool_calls\""), 1);
    assert_int_equal(count_of(&two.body, "\"tool_calls\":[{\"index\":1,"), 4);
    answer_release(&one);
    answer_release(&two);
}

/* --- faults ----------------------------------------------------------------------------------- */

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
    struct answer answer = chat_at("/main/v1/chat/completions", "gpt", prompt, rest,
                                   row->ending == STILL_OPEN ? QUIET_MS : DEADLINE_MS);
    if (answer.ending != row->ending)
        fail_msg("%s: %s, expected %s", row->marker, ending_names[answer.ending],
                 ending_names[row->ending]);
    if (answer.status != row->status)
        fail_msg("%s: status %d", row->marker, answer.status);
    if (answer.is_whole != row->is_whole)
        fail_msg("%s: framing is %s", row->marker, answer.is_whole ? "whole" : "broken off");
    if (!contains(&answer.body, row->has, strlen(row->has)))
        fail_msg("%s: lacks %s in: %s", row->marker, row->has, answer.body.data);
    if (contains(&answer.body, row->lacks, strlen(row->lacks)))
        fail_msg("%s: has %s in: %s", row->marker, row->lacks, answer.body.data);
    answer_release(&answer);
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
    struct answer answer = chat("[[sim fault=cut_line after=1]]", STREAM);
    const char *last;

    (void)state;
    assert_true(answer.body.len > 2);
    assert_true(answer.body.data[answer.body.len - 1] != '\n');
    last = memrchr(answer.body.data, '\n', answer.body.len);
    assert_memory_equal(last + 1, "data: {", 7);
    answer_release(&answer);
}

static void test_split_bytes_sends_chunks_of_one_byte(void **state)
{
    struct answer answer = chat("[[sim fault=split_bytes unicode=1 tokens=4]]", STREAM);

    (void)state;
    assert_true(answer.is_whole);
    assert_int_equal(answer.longest_chunk, 1);
    assert_int_equal(answer.chunks, answer.body.len);
    answer_release(&answer);
}

static void test_drip_sends_all_in_single_bytes(void **state)
{
    struct answer answer = chat("[[sim fault=drip drip_ms=0 tokens=1]]", ",\"stream\":true");

    (void)state;
    assert_true(answer.is_whole);
    assert_int_equal(answer.longest_chunk, 1);
    assert_true(contains(&answer.body, "[DONE]", 6));
    answer_release(&answer);
}

static void test_pings_go_on_without_content(void **state)
{
    char *body = chat_body("gpt", "[[sim fault=pings ping_ms=1 after=0]]", STREAM);
    struct buf raw;
    int fd = dial();

    (void)state;
    buf_init(&raw, BYTES_MAX);
    send_request(fd, "POST", "/v1/chat/completions", "k", "", body);
    while (raw.len == 0 || count_of(&raw, ": ping\n\n") < 3) {
        char block[4096];
        ssize_t n = recv(fd, block, sizeof(block), 0);

        assert_true(n > 0);
        assert_true(buf_append(&raw, block, (size_t)n));
    }
    assert_int_equal(count_of(&raw, "finish_reason\":\""), 0);
    close(fd);
    free(body);
    buf_release(&raw);
}

static void test_usage_on_every_chunk_grows(void **state)
{
    struct answer answer = chat("[[sim fault=usage_every_chunk tokens=3]]", ",\"stream\":true");

    (void)state;
    for (int i = 0; i <= 3; i++) {
        char text[40];

        snprintf(text, sizeof(text), "\"completion_tokens\":%d,", i);
        assert_int_equal(count_of(&answer.body, text), i == 3 ? 2 : 1);
    }
    answer_release(&answer);
}

static void test_words_come_at_the_rate_asked_for(void **state)
{
    int64_t begin = clock_monotonic_us();
    struct answer answer = chat("[[sim delay_ms=30 tokens=5 gap_ms=10]]", STREAM);

    (void)state;
    assert_true(answer.is_whole);
    assert_true(clock_monotonic_us() - begin >= 70 * US_PER_MS);
    answer_release(&answer);
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
        struct answer answer =
            chat_at("/v1/chat/completions", cases[i].model, prompt, STREAM, DEADLINE_MS);
        assert_int_equal(answer.status, cases[i].status);
        assert_true(contains(&answer.raw, cases[i].header, strlen(cases[i].header)));
        assert_true(contains(&answer.body, cases[i].code, strlen(cases[i].code)));
        assert_true(contains(&answer.body, "{\"error\":{\"message\":", 20));
        answer_release(&answer);
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
        int fd = dial();

        send_request(fd, cases[i].method, cases[i].path, cases[i].key, "", cases[i].body);
        struct answer answer = read_answer(fd, DEADLINE_MS);
        assert_int_equal(answer.status, cases[i].status);
        if (!contains(&answer.body, cases[i].says, strlen(cases[i].says)))
            fail_msg("%s: %s", cases[i].path, answer.body.data);
        answer_release(&answer);
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
        struct answer answer = chat(calls[i].prompt, "");

        assert_int_equal(answer.status, calls[i].status);
        answer_release(&answer);
    }
}

static void expect_status(const char *path, int status)
{
    struct answer answer = chat_at(path, "gpt", "hi", "", DEADLINE_MS);

    assert_int_equal(answer.status, status);
    answer_release(&answer);
}

static void test_standing_fault_hits_its_provider_until_cleared(void **state)
{
    (void)state;
    post("/sim/faults", "{\"provider\":\"main\",\"status\":429,\"retry_after\":\"1\",\"times\":1}",
         200);
    expect_status("/spare/v1/chat/completions", 200);
    expect_status("/main/v1/chat/completions", 429);
    expect_status("/main/v1/chat/completions", 200);
    post("/sim/faults", "{\"provider\":\"*\",\"status\":503}", 200);
    expect_status("/spare/v1/chat/completions", 503);
    expect_status("/v1/chat/completions", 503);
    struct answer answer = ask("DELETE", "/sim/faults", "");
    assert_int_equal(answer.status, 200);
    answer_release(&answer);
    expect_status("/spare/v1/chat/completions", 200);
    post("/sim/faults", "{\"provider\":\"main\",\"statu\":503}", 400);
    post("/sim/faults", "{\"status\":503}", 400);
    post("/sim/faults", "{", 400);
}

static void test_held_stream_waits_for_its_release(void **state)
{
    char *body = chat_body("gpt", "[[sim hold=gate after=2 tokens=4]]", STREAM);
    int fd = dial();
    struct buf raw;

    (void)state;
    buf_init(&raw, BYTES_MAX);
    send_request(fd, "POST", "/v1/chat/completions", "k", "", body);
    free(body);
    assert_int_equal(read_all(fd, &raw, QUIET_MS), STILL_OPEN);
    assert_int_equal(count_of(&raw, "{\"content\":\""), 2);
    json_t *stats = get_json("/sim/stats");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(stats, "holding"), "gate")),
                     1);
    json_decref(stats);
    post("/sim/release/gate", "", 200);
    assert_int_equal(read_all(fd, &raw, DEADLINE_MS), ENDED_FIN);
    assert_int_equal(count_of(&raw, "{\"content\":\""), 4);
    close(fd);
    buf_release(&raw);
    struct answer late = chat("[[sim hold=gate]]", STREAM); /* the gate stays open */
    assert_true(late.is_whole);
    answer_release(&late);
}

/* --- the log ---------------------------------------------------------------------------------- */

static void test_client_that_leaves_is_logged_as_gone(void **state)
{
    static const char *const markers[] = {"[[sim fault=silence]]", "[[sim gap_ms=60000]]",
                                          "[[sim hold=never]]", "[[sim delay_ms=60000]]"};

    (void)state;
    for (size_t i = 0; i < sizeof(markers) / sizeof(markers[0]); i++) {
        char *body = chat_body("gpt", markers[i], STREAM);
        int fd = dial();

        send_request(fd, "POST", "/v1/chat/completions", "k", "", body);
        wait_for_stat("in_flight", 1);
        close(fd);
        wait_for_stat("in_flight", 0);
        assert_int_equal(stat_of("aborted"), (int64_t)i + 1);
        free(body);
    }
}

/* The line of call number seq in the log file, once it is there. */
static json_t *wait_for_line(int64_t seq)
{
    int64_t deadline = clock_monotonic_us() + DEADLINE_MS * US_PER_MS;
    char start[48], line[4096];
    json_t *found = NULL;

    snprintf(start, sizeof(start), "{\"seq\":%lld,", (long long)seq);
    while (!found && clock_monotonic_us() < deadline) {
        FILE *file = fopen(log_path, "r");

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
    struct answer answers[] = {
        chat("hi [[sim tokens=3]]", STREAM),
        chat("hi [[sim fault=close_mid after=2]]", STREAM),
        chat("hi [[sim status=500]]", STREAM),
    };
    json_t *list = get_json("/sim/calls");
    const json_t *calls = json_object_get(list, "data");

    (void)state;
    assert_int_equal(json_array_size(calls), 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *call = json_array_get(calls, i);

        answer_release(&answers[i]);
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
    list = get_json(path);
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
        int fd = dial();

        send_request(fd, "POST", cases[i].path, NULL,
                     "webhook-id: msg_1\r\nwebhook-signature: v1,abc\r\n", "{\"n\":1}");
        struct answer answer = read_answer(fd, DEADLINE_MS);
        assert_int_equal(answer.status, cases[i].status);
        assert_true(contains(&answer.raw, cases[i].header, strlen(cases[i].header)));
        answer_release(&answer);
    }
    json_t *list = get_json("/hook/a/log");
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
    int hanging = dial(), reset = dial();

    (void)state;
    send_request(hanging, "POST", "/hook/c?hang=1", NULL, "", "{}");
    send_request(reset, "POST", "/hook/c?reset=1", NULL, "", "\xff");
    struct answer answer = read_answer(reset, DEADLINE_MS);
    assert_int_equal(answer.ending, ENDED_RESET);
    answer_release(&answer);
    answer = read_answer(hanging, QUIET_MS);
    assert_int_equal(answer.ending, STILL_OPEN);
    answer_release(&answer);
    json_t *list = get_json("/hook/c/log");
    assert_int_equal(json_array_size(json_object_get(list, "data")), 2);
    json_decref(list);
}

#define LIVE(test) cmocka_unit_test_setup(test, reset_simulator)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIVE(test_stream_has_role_words_finish_usage_and_end),
        LIVE(test_usage_is_told_only_when_asked_for),
        LIVE(test_same_prompt_gives_same_text),
        LIVE(test_max_tokens_echo_and_choices_are_honoured),
        LIVE(test_tool_calls_stream_in_fragments),
        LIVE(test_every_fault_of_a_stream_is_what_it_says),
        LIVE(test_every_fault_of_a_whole_answer_is_what_it_says),
        LIVE(test_cut_line_ends_inside_an_event),
        LIVE(test_split_bytes_sends_chunks_of_one_byte),
        LIVE(test_drip_sends_all_in_single_bytes),
        LIVE(test_pings_go_on_without_content),
        LIVE(test_usage_on_every_chunk_grows),
        LIVE(test_words_come_at_the_rate_asked_for),
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

    return cmocka_run_group_tests(tests, start_simulator, stop_simulator);
}
