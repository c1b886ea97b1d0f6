/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator in a process of its own, and plain sockets to it. */
#include "tests/unit/simulator_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/base/str.h"

char sim_log_path[] = "/tmp/test_simulator-XXXXXX";
static struct simulator_fixture simulator;

/* --- the process ------------------------------------------------------------------------------ */

static void on_term(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(arg);
}

/* Never returns: serves until TERM, then frees all so that the leak check means something. */
static void serve(const struct simulator_options *options, int out)
{
    struct event_base *base = event_base_new();
    struct event *term = evsignal_new(base, SIGTERM, on_term, base);
    struct simulator served;
    struct err err;

    signal(SIGPIPE, SIG_IGN);
    event_add(term, NULL);
    if (!simulator_open(&served, base, options, &err) ||
        write(out, &served.port, sizeof(served.port)) != sizeof(served.port)) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    event_base_dispatch(base);
    simulator_close(&served);
    event_base_loop(base, EVLOOP_NONBLOCK); /* lets go of what libevent put off */
    event_free(term);
    event_base_free(base);
    exit(0);
}

bool simulator_fixture_start(struct simulator_fixture *fixture,
                             const struct simulator_options *options)
{
    int pipes[2];

    if (pipe(pipes) != 0)
        return false;
    fflush(NULL);
    fixture->pid = fork();
    if (fixture->pid == 0) {
        close(pipes[0]);
        serve(options, pipes[1]);
    }
    close(pipes[1]);
    ssize_t n = read(pipes[0], &fixture->port, sizeof(fixture->port));
    close(pipes[0]);
    return n == sizeof(fixture->port);
}

bool simulator_fixture_stop(const struct simulator_fixture *fixture, struct rusage *usage)
{
    int status = -1;

    kill(fixture->pid, SIGTERM);
    return wait4(fixture->pid, &status, 0, usage) == fixture->pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

int sim_group_start(void **state)
{
    const struct simulator_options options = {
        .listen = "127.0.0.1:0", .log_path = sim_log_path, .max_connections = 1000};
    int fd = mkstemp(sim_log_path);

    (void)state;
    if (fd < 0)
        return -1;
    close(fd);
    return simulator_fixture_start(&simulator, &options) ? 0 : -1;
}

int sim_group_stop(void **state)
{
    bool ok = simulator_fixture_stop(&simulator, NULL);

    (void)state;
    unlink(sim_log_path);
    return ok ? 0 : -1;
}

int sim_reset(void **state)
{
    (void)state;
    sim_post("/sim/reset", "", 200);
    return 0;
}

/* --- a client that sees everything ------------------------------------------------------------ */

int sim_dial(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)simulator.port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

void sim_send(int fd, const char *method, const char *path, const char *key, const char *extra,
              const char *body)
{
    struct buf request;

    buf_init(&request, SIM_BYTES_MAX);
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

enum ending sim_read_all(int fd, struct buf *raw, int quiet_ms)
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

static void read_chunks(struct sim_answer *answer, const char *at, const char *end)
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

static void parse_answer(struct sim_answer *answer)
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

void sim_answer_release(struct sim_answer *answer)
{
    buf_release(&answer->raw);
    buf_release(&answer->body);
}

struct sim_answer sim_read_answer(int fd, int quiet_ms)
{
    struct sim_answer answer = {.status = 0};

    buf_init(&answer.raw, SIM_BYTES_MAX);
    buf_init(&answer.body, SIM_BYTES_MAX);
    answer.ending = sim_read_all(fd, &answer.raw, quiet_ms);
    close(fd);
    parse_answer(&answer);
    buf_puts(&answer.body, ""); /* so that data is a string */
    return answer;
}

struct sim_answer sim_ask(const char *method, const char *path, const char *body)
{
    int fd = sim_dial();

    sim_send(fd, method, path, "sk-test-1234", "", body);
    return sim_read_answer(fd, SIM_DEADLINE_MS);
}

char *sim_chat_body(const char *model, const char *prompt, const char *rest)
{
    struct buf body;

    buf_init(&body, SIM_BYTES_MAX);
    buf_printf(&body, "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":", model);
    buf_put_json_string(&body, prompt, strlen(prompt));
    buf_printf(&body, "}]%s}", rest);
    return buf_detach(&body, NULL);
}

struct sim_answer sim_chat_at(const char *path, const char *model, const char *prompt,
                              const char *rest, int quiet_ms)
{
    char *body = sim_chat_body(model, prompt, rest);
    int fd = sim_dial();

    sim_send(fd, "POST", path, "sk-test-1234", "x-nightshift-call: call_1\r\n", body);
    free(body);
    return sim_read_answer(fd, quiet_ms);
}

struct sim_answer sim_chat(const char *prompt, const char *rest)
{
    return sim_chat_at("/main/v1/chat/completions", "gpt", prompt, rest, SIM_DEADLINE_MS);
}

bool text_contains(const struct buf *buf, const char *text, size_t len)
{
    return len == 0 || memmem(buf->data, buf->len, text, len) != NULL;
}

int text_count(const struct buf *buf, const char *text)
{
    int count = 0;

    for (const char *at = buf->data; (at = strstr(at, text)); at += strlen(text))
        count++;
    return count;
}

json_t *sim_answer_json(const struct sim_answer *answer)
{
    struct err err;
    json_t *root = json_parse(answer->body.data, answer->body.len, JSON_READ_LENIENT, &err);

    if (!root)
        fail_msg("%s: %s", err.message, answer->body.data);
    return root;
}

json_t *sim_get(const char *path)
{
    struct sim_answer answer = sim_ask("GET", path, "");

    assert_int_equal(answer.status, 200);
    json_t *root = sim_answer_json(&answer);
    sim_answer_release(&answer);
    return root;
}

void sim_post(const char *path, const char *body, int status)
{
    struct sim_answer answer = sim_ask("POST", path, body);

    assert_int_equal(answer.status, status);
    sim_answer_release(&answer);
}
