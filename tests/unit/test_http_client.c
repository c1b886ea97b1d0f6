/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client against a raw-socket server in a thread, so that each misbehaviour is exact. */
#include "common/base/clock.h"
#include "common/io/http_client.h"

#include <event2/event.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { CONNECTIONS_MAX = 256, REQUEST_MAX = 4 * 1024 * 1024, PARALLEL = 200, GIVE_UP_S = 20 };

/* Name lookups of the process: slow.test blocks until let go, missing.test does not exist. */
static sem_t slow_lookup;
static atomic_int slow_waiting;
static atomic_int slow_left;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

    if (node && strcmp(node, "missing.test") == 0)
        return EAI_NONAME;
    if (node && strcmp(node, "slow.test") == 0) {
        atomic_fetch_add(&slow_waiting, 1);
        while (sem_wait(&slow_lookup) != 0)
            ;
        atomic_fetch_add(&slow_left, 1);
        return EAI_NONAME;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(node, service, hints, result);
}

/* The server: each connection gets a thread that runs the script. */
struct server;
typedef void script_fn(struct server *server, int fd, int nth_connection);

struct visit {
    struct server *server;
    int fd;
    int nth;
};

struct server {
    int listener;
    int port;
    script_fn *script;
    pthread_t acceptor;
    pthread_t threads[CONNECTIONS_MAX];
    struct visit visits[CONNECTIONS_MAX];
    int accepted;
    atomic_int requests; /* whole ones read */
    atomic_int closed;   /* scripts that saw the client close */
    atomic_bool is_stopping;
    pthread_barrier_t barrier;
    char first_request[8192];
};

static void *visit_main(void *arg)
{
    struct visit *visit = arg;

    visit->server->script(visit->server, visit->fd, visit->nth);
    close(visit->fd);
    return NULL;
}

static void *accept_main(void *arg)
{
    struct server *server = arg;

    for (;;) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0 || atomic_load(&server->is_stopping)) {
            if (fd >= 0)
                close(fd);
            return NULL;
        }
        int nth = server->accepted++;
        server->visits[nth] = (struct visit){server, fd, nth};
        pthread_create(&server->threads[nth], NULL, visit_main, &server->visits[nth]);
    }
}

static int connect_to(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connect(fd, (struct sockaddr *)&to, sizeof(to));
    return fd;
}

static int bind_free_port(int *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static struct server *server_start(script_fn *script)
{
    struct server *server = calloc(1, sizeof(*server));

    server->script = script;
    server->listener = bind_free_port(&server->port);
    assert_int_equal(listen(server->listener, 512), 0);
    pthread_barrier_init(&server->barrier, NULL, PARALLEL);
    pthread_create(&server->acceptor, NULL, accept_main, server);
    return server;
}

static void server_stop(struct server *server)
{
    atomic_store(&server->is_stopping, true);
    close(connect_to(server->port)); /* wakes accept */
    pthread_join(server->acceptor, NULL);
    for (int i = 0; i < server->accepted; i++)
        pthread_join(server->threads[i], NULL);
    close(server->listener);
    pthread_barrier_destroy(&server->barrier);
    free(server);
}

static bool say(int fd, const char *text)
{
    return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

/* Waits until the client closes (or sends something). */
static void wait_for_close(struct server *server, int fd)
{
    char byte;

    if (recv(fd, &byte, 1, 0) <= 0)
        atomic_fetch_add(&server->closed, 1);
}

static void reset(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

/* Reads one whole request; false when the client closed. */
static bool read_request(struct server *server, int fd)
{
    char *text = calloc(1, REQUEST_MAX);
    size_t len = 0;
    size_t want = REQUEST_MAX - 1;
    bool whole = false;

    while (!whole) {
        ssize_t n = recv(fd, text + len, want - len, 0);
        if (n <= 0)
            break;
        len += (size_t)n;
        char *end = strstr(text, "\r\n\r\n");
        if (!end)
            continue;
        char *length = strcasestr(text, "content-length:");
        size_t body = length && length < end ? strtoul(length + 15, NULL, 10) : 0;
        whole = len >= (size_t)(end + 4 - text) + body;
    }
    if (whole && atomic_fetch_add(&server->requests, 1) == 0)
        snprintf(server->first_request, sizeof(server->first_request), "%s", text);
    free(text);
    return whole;
}

/* What the test saw of one call. */
struct seen {
    struct event_base *base;
    struct http_call *call;
    int done;
    int waiting_for; /* leave the loop at so many done */
    struct http_answer answer;
    char message[256];
    char headers[4096];
    char body[65536];
    size_t body_len;
    int status_at_data;
    bool stop_at_data;
    bool cancel_at_data;
    bool cancel_at_header;
    struct http_client *free_at_done;
    bool was_sent;
};

static void on_header(struct http_call *call, const char *name, const char *value, void *arg)
{
    struct seen *seen = arg;
    size_t len = strlen(seen->headers);

    snprintf(seen->headers + len, sizeof(seen->headers) - len, "%s=%s|", name, value);
    if (seen->cancel_at_header) {
        http_call_cancel(call);
        event_base_loopexit(seen->base, NULL);
    }
}

static bool on_data(struct http_call *call, const char *data, size_t len, void *arg)
{
    struct seen *seen = arg;

    seen->status_at_data = http_call_status(call);
    if (seen->body_len + len < sizeof(seen->body)) {
        memcpy(seen->body + seen->body_len, data, len);
        seen->body_len += len;
    }
    if (seen->cancel_at_data) {
        http_call_cancel(call);
        event_base_loopexit(seen->base, NULL);
    }
    return !seen->stop_at_data;
}

static void on_done(struct http_call *call, const struct http_answer *answer, void *arg)
{
    struct seen *seen = arg;

    seen->was_sent = http_call_was_sent(call);
    seen->answer = *answer;
    snprintf(seen->message, sizeof(seen->message), "%s", answer->message);
    if (seen->free_at_done)
        http_client_free(seen->free_at_done);
    if (++seen->done >= seen->waiting_for)
        event_base_loopbreak(seen->base);
}

static const struct http_callbacks callbacks = {
    .on_header = on_header, .on_data = on_data, .on_done = on_done};

struct world {
    struct event_base *base;
    struct http_client *client;
    struct server *server;
    struct http_call_spec spec;
    char url[128];
    struct seen seen;
};

static struct world *world_new(script_fn *script, const struct http_client_options *options)
{
    struct world *world = calloc(1, sizeof(*world));
    struct err err;

    world->base = event_base_new();
    world->client = http_client_new(world->base, options, &err);
    assert_non_null(world->client);
    world->server = server_start(script);
    snprintf(world->url, sizeof(world->url), "http://127.0.0.1:%d/v1/x", world->server->port);
    world->spec = (struct http_call_spec){.method = "POST",
                                          .url = world->url,
                                          .body = "{\"a\":1}",
                                          .body_len = 7,
                                          .max_body_bytes = 32768};
    return world;
}

static void world_free(struct world *world)
{
    http_client_free(world->client);
    event_base_free(world->base);
    server_stop(world->server);
    free(world);
}

static void on_give_up(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    fail_msg("nothing happened for %d s", GIVE_UP_S);
}

static void turn(struct world *world)
{
    struct event *give_up = evtimer_new(world->base, on_give_up, NULL);

    event_add(give_up, &(struct timeval){.tv_sec = GIVE_UP_S});
    event_base_dispatch(world->base);
    event_free(give_up);
}

static struct http_call *begin(struct world *world, struct seen *seen)
{
    struct err err = {.message = ""};

    seen->base = world->base;
    seen->waiting_for = 1;
    seen->call = http_call_start(world->client, &world->spec, &callbacks, seen, &err);
    if (!seen->call)
        fail_msg("%s", err.message);
    assert_int_equal(seen->done, 0);
    return seen->call;
}

static struct seen *run(struct world *world)
{
    memset(&world->seen, 0, sizeof(world->seen));
    begin(world, &world->seen);
    while (!world->seen.done)
        turn(world);
    return &world->seen;
}

static void assert_outcome(const struct seen *seen, enum http_outcome outcome)
{
    if (seen->answer.outcome != outcome)
        fail_msg("outcome %s (%s), expected %s", http_outcome_name(seen->answer.outcome),
                 seen->message, http_outcome_name(outcome));
    assert_int_equal(seen->done, 1);
    assert_int_equal(seen->was_sent, http_outcome_sent(outcome));
}

static const struct http_client_options plain = {.max_calls = 0};

/* Scripts */
static void answer_hello(struct server *server, int fd, int nth)
{
    (void)nth;
    while (read_request(server, fd))
        say(fd, "HTTP/1.1 200 OK\r\nX-One:  a b \r\nContent-Length: 5\r\n\r\nhello");
}

static void test_whole_answer_is_delivered(void **state)
{
    struct world *world = world_new(answer_hello, &plain);
    const char *const headers[] = {"Authorization: Bearer k", "X-Empty:", NULL};
    const struct seen *seen;
    (void)state;

    world->spec.headers = headers;
    seen = run(world);
    assert_outcome(seen, HTTP_DONE);
    assert_int_equal(seen->answer.status, 200);
    assert_int_equal(seen->status_at_data, 200);
    assert_string_equal(seen->headers, "x-one=a b|content-length=5|");
    assert_memory_equal(seen->body, "hello", 5);
    assert_int_equal(seen->body_len, 5);
    assert_string_equal(seen->answer.peer, "127.0.0.1");
    assert_true(seen->answer.first_byte_us > 0);
    assert_true(seen->answer.duration_us >= seen->answer.first_byte_us);
    assert_int_equal(http_client_calls(world->client), 0);
    world_free(world);
}

static void test_request_has_only_what_was_asked_for(void **state)
{
    struct world *world = world_new(answer_hello, &plain);
    const char *const headers[] = {"Authorization: Bearer k", "X-Empty:", NULL};
    const char *request = world->server->first_request;
    size_t body_len = 2 * 1024 * 1024; /* over it libcurl would say Expect: 100-continue */
    char *body = malloc(body_len);
    (void)state;

    memset(body, 'x', body_len);
    world->spec.headers = headers;
    world->spec.body = body;
    world->spec.body_len = body_len;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    assert_outcome(run(world), HTTP_DONE);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
    assert_memory_equal(request, "POST /v1/x HTTP/1.1\r\n", 21);
    assert_non_null(strstr(request, "\r\nAuthorization: Bearer k\r\n"));
    assert_non_null(strstr(request, "\r\nX-Empty:\r\n"));
    assert_non_null(strstr(request, "\r\nContent-Length: 2097152\r\n"));
    assert_null(strcasestr(request, "expect"));
    assert_null(strcasestr(request, "content-type"));
    assert_null(strcasestr(request, "accept-encoding"));
    assert_null(strcasestr(request, "transfer-encoding"));
    free(body);
    world_free(world);
}

static void test_methods_reach_the_wire(void **state)
{
    static const char *const methods[] = {"GET", "DELETE", "PUT", "PATCH", "HEAD"};
    (void)state;

    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        struct world *world = world_new(answer_hello, &plain);
        bool has_body = strcmp(methods[i], "PUT") == 0 || strcmp(methods[i], "PATCH") == 0;
        bool is_head = strcmp(methods[i], "HEAD") == 0;
        const struct seen *seen;

        world->spec.method = methods[i];
        if (!has_body)
            world->spec.body_len = 0;
        seen = run(world);
        assert_outcome(seen, HTTP_DONE);
        assert_int_equal(seen->body_len, is_head ? 0 : 5);
        assert_memory_equal(world->server->first_request, methods[i], strlen(methods[i]));
        assert_int_equal(strstr(world->server->first_request, "{\"a\":1}") != NULL, has_body);
        world_free(world);
    }
}

static void answer_chunked(struct server *server, int fd, int nth)
{
    (void)nth;
    while (read_request(server, fd))
        say(fd, "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
                "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: late\r\n\r\n");
}

static void test_chunked_answer_is_put_together_and_trailers_dropped(void **state)
{
    struct world *world = world_new(answer_chunked, &plain);
    const struct seen *seen = run(world);
    (void)state;

    assert_outcome(seen, HTTP_DONE);
    assert_int_equal(seen->answer.status, 201);
    assert_memory_equal(seen->body, "abcde", 5);
    assert_string_equal(seen->headers, "transfer-encoding=chunked|trailer=X-T|");
    world_free(world);
}

static void answer_until_close(struct server *server, int fd, int nth)
{
    (void)nth;
    read_request(server, fd);
    say(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it");
}

static void test_answer_without_length_ends_at_close(void **state)
{
    struct world *world = world_new(answer_until_close, &plain);
    const struct seen *seen = run(world);
    (void)state;

    assert_outcome(seen, HTTP_DONE);
    assert_int_equal(seen->body_len, 9);
    world_free(world);
}

static void answer_redirect(struct server *server, int fd, int nth)
{
    (void)nth;
    while (read_request(server, fd))
        say(fd, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nSet-Cookie: a=b\r\n"
                "Content-Length: 0\r\n\r\n");
}

static void test_redirects_are_not_followed_and_cookies_not_kept(void **state)
{
    struct world *world = world_new(answer_redirect, &plain);
    (void)state;

    assert_outcome(run(world), HTTP_DONE);
    assert_int_equal(world->seen.answer.status, 302);
    run(world);
    assert_int_equal(atomic_load(&world->server->requests), 2);
    assert_int_equal(world->server->accepted, 1); /* the connection was reused */
    world_free(world);
}

static void answer_continue_first(struct server *server, int fd, int nth)
{
    (void)nth;
    while (read_request(server, fd))
        say(fd, "HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n"
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
                "HTTP/1.1 200 OK\r\nX-Final: 1\r\nContent-Length: 2\r\n\r\nok");
}

static void test_provisional_heads_are_left_out(void **state)
{
    struct world *world = world_new(answer_continue_first, &plain);
    const struct seen *seen = run(world);
    (void)state;

    assert_outcome(seen, HTTP_DONE);
    assert_int_equal(seen->answer.status, 200);
    assert_string_equal(seen->headers, "x-final=1|content-length=2|");
    world_free(world);
}

/* One text per case, then the connection closes (or is reset). */
static const char *cut_text;
static bool cut_resets;

static void answer_cut(struct server *server, int fd, int nth)
{
    (void)nth;
    read_request(server, fd);
    say(fd, cut_text);
    if (cut_resets)
        reset(fd);
}

static void test_answer_that_breaks_off_is_cut(void **state)
{
    static const struct {
        const char *text;
        bool resets;
        int status;
    } cases[] = {
        {"", false, 0},
        {"", true, 0},
        {"HTTP/1.1 20", false, 0},
        {"HTTP/1.1 200 OK\r\nContent-Le", false, 200},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", false, 200},
        {"HTTP/1.1 100 Continue\r\n\r\n", false, 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhel", false, 200},
        {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", false, 200},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false, 200},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", false, 200},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", false, 200},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, 200},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false, 200},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world *world = world_new(answer_cut, &plain);

        cut_text = cases[i].text;
        cut_resets = cases[i].resets;
        assert_outcome(run(world), HTTP_CUT);
        assert_int_equal(world->seen.answer.status, cases[i].status);
        assert_true(world->seen.message[0] != '\0');
        assert_int_equal(atomic_load(&world->server->requests), 1);
        world_free(world);
    }
}

static void test_answer_that_is_not_http_is_told_apart(void **state)
{
    static const char *const cases[] = {
        "SSH-2.0-OpenSSH_9.2\r\n",
        "<html>hello</html>",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world *world = world_new(answer_cut, &plain);

        cut_text = cases[i];
        cut_resets = false;
        assert_outcome(run(world), HTTP_BAD_ANSWER);
        world_free(world);
    }
}

static void stay_silent(struct server *server, int fd, int nth)
{
    (void)nth;
    read_request(server, fd);
    wait_for_close(server, fd);
}

static void test_silence_ends_at_the_first_byte_timeout(void **state)
{
    struct world *world = world_new(stay_silent, &plain);
    const struct seen *seen;
    (void)state;

    world->spec.first_byte_timeout_ms = 200;
    world->spec.idle_timeout_ms = 10;
    seen = run(world);
    assert_outcome(seen, HTTP_FIRST_BYTE_TIMEOUT);
    assert_true(seen->answer.duration_us >= 200 * US_PER_MS);
    assert_int_equal(seen->answer.first_byte_us, 0);
    world_free(world);
}

static void drip_provisional(struct server *server, int fd, int nth)
{
    (void)nth;
    read_request(server, fd);
    while (say(fd, "HTTP/1.1 102 Processing\r\n\r\n"))
        poll(NULL, 0, 10);
}

static void test_provisional_heads_do_not_count_as_the_first_byte(void **state)
{
    struct world *world = world_new(drip_provisional, &plain);
    (void)state;

    world->spec.first_byte_timeout_ms = 200;
    assert_outcome(run(world), HTTP_FIRST_BYTE_TIMEOUT);
    world_free(world);
}

static void drip_then_stop(struct server *server, int fd, int nth)
{
    (void)nth;
    read_request(server, fd);
    say(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    for (int i = 0; i < 15; i++) {
        say(fd, ":\n\n");
        poll(NULL, 0, 50);
    }
    wait_for_close(server, fd);
}

static void test_drip_lives_and_its_silence_ends_at_the_idle_timeout(void **state)
{
    struct world *world = world_new(drip_then_stop, &plain);
    const struct seen *seen;
    (void)state;

    world->spec.first_byte_timeout_ms = 5000;
    world->spec.idle_timeout_ms = 500;
    seen = run(world);
    assert_outcome(seen, HTTP_IDLE_TIMEOUT);
    assert_int_equal(seen->body_len, 45);
    assert_true(seen->answer.duration_us >= 1200 * US_PER_MS);
    world_free(world);
}

static void drip_forever(struct server *server, int fd, int nth)
{
    (void)nth;
    read_request(server, fd);
    say(fd, "HTTP/1.1 200 OK\r\n\r\n");
    while (say(fd, "x"))
        poll(NULL, 0, 5);
}

static void test_endless_drip_ends_at_the_total_timeout(void **state)
{
    struct world *world = world_new(drip_forever, &plain);
    (void)state;

    world->spec.idle_timeout_ms = 5000;
    world->spec.total_timeout_ms = 300;
    assert_outcome(run(world), HTTP_TOTAL_TIMEOUT);
    assert_int_equal(world->seen.answer.status, 200);
    world_free(world);
}

static void flood(struct server *server, int fd, int nth)
{
    (void)nth;
    read_request(server, fd);
    say(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    while (say(fd, "0123456789012345678901234567890123456789"))
        ;
}

static void announce_much(struct server *server, int fd, int nth)
{
    (void)nth;
    read_request(server, fd);
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 32769\r\n\r\nabc");
    wait_for_close(server, fd);
}

static void flood_head(struct server *server, int fd, int nth)
{
    (void)nth;
    read_request(server, fd);
    say(fd, "HTTP/1.1 200 OK\r\n");
    while (say(fd, "X-Filler: 0123456789012345678901234567890123456789\r\n"))
        ;
}

static void flood_head_line(struct server *server, int fd, int nth)
{
    (void)nth;
    read_request(server, fd);
    say(fd, "HTTP/1.1 200 OK\r\nX-Filler: ");
    while (say(fd, "0123456789012345678901234567890123456789"))
        ;
}

static void flood_provisional(struct server *server, int fd, int nth)
{
    (void)nth;
    read_request(server, fd);
    while (say(fd, "HTTP/1.1 100 Continue\r\n\r\n"))
        ;
}

static void test_too_large_answers_are_refused(void **state)
{
    script_fn *const scripts[] = {flood, announce_much, flood_head, flood_head_line,
                                  flood_provisional};
    (void)state;

    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        struct world *world = world_new(scripts[i], &plain);

        assert_outcome(run(world), HTTP_TOO_LARGE);
        assert_true(world->seen.body_len <= 32768);
        world_free(world);
    }
}

static void answer_exactly_the_limit(struct server *server, int fd, int nth)
{
    static char filler[32769];
    (void)nth;

    read_request(server, fd);
    memset(filler, 'x', sizeof(filler) - 1);
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 32768\r\n\r\n");
    say(fd, filler);
    wait_for_close(server, fd);
}

static void test_answer_of_exactly_the_limit_passes(void **state)
{
    struct world *world = world_new(answer_exactly_the_limit, &plain);
    (void)state;

    assert_outcome(run(world), HTTP_DONE);
    assert_int_equal(world->seen.body_len, 32768);
    world_free(world);
}

static void test_refused_connection_was_not_sent(void **state)
{
    struct world *world = world_new(answer_hello, &plain);
    int port;
    int bound = bind_free_port(&port); /* bound but not listening: refuses */
    (void)state;

    snprintf(world->url, sizeof(world->url), "http://127.0.0.1:%d/", port);
    assert_outcome(run(world), HTTP_NOT_SENT);
    assert_string_equal(world->seen.answer.peer, "127.0.0.1");
    assert_int_equal(world->seen.answer.status, 0);
    close(bound);
    world_free(world);
}

static void test_unknown_name_was_not_sent(void **state)
{
    struct world *world = world_new(answer_hello, &plain);
    (void)state;

    snprintf(world->url, sizeof(world->url), "http://missing.test/");
    assert_outcome(run(world), HTTP_NOT_SENT);
    world_free(world);
}

static void be_no_tls(struct server *server, int fd, int nth)
{
    char bytes[4096];
    (void)server;
    (void)nth;

    recv(fd, bytes, sizeof(bytes), 0);
    say(fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
}

static void test_failed_tls_was_not_sent(void **state)
{
    struct world *world = world_new(be_no_tls, &plain);
    (void)state;

    snprintf(world->url, sizeof(world->url), "https://127.0.0.1:%d/", world->server->port);
    assert_outcome(run(world), HTTP_NOT_SENT);
    world_free(world);
}

static void be_silent_tls(struct server *server, int fd, int nth)
{
    char bytes[4096];
    (void)nth;

    recv(fd, bytes, sizeof(bytes), 0);
    wait_for_close(server, fd);
}

static void test_every_deadline_before_sending_is_a_connect_timeout(void **state)
{
    (void)state;

    for (int i = 0; i < 3; i++) {
        struct world *world = world_new(be_silent_tls, &plain);

        snprintf(world->url, sizeof(world->url), "https://127.0.0.1:%d/", world->server->port);
        world->spec.connect_timeout_ms = i == 0 ? 50 : 5000;
        world->spec.first_byte_timeout_ms = i == 1 ? 50 : 5000;
        world->spec.total_timeout_ms = i == 2 ? 50 : 5000;
        assert_outcome(run(world), HTTP_CONNECT_TIMEOUT);
        world_free(world);
    }
}

static void wait_for_count(atomic_int *count, int wanted)
{
    int64_t until_us = clock_monotonic_us() + GIVE_UP_S * US_PER_S;

    while (atomic_load(count) < wanted && clock_monotonic_us() < until_us)
        poll(NULL, 0, 1);
    assert_true(atomic_load(count) >= wanted);
}

static void test_slow_lookup_times_out_without_blocking_the_loop(void **state)
{
    struct world *world = world_new(answer_hello, &plain);
    struct seen cancelled = {.done = 0};
    int waiting = atomic_load(&slow_waiting);
    int64_t start_us = clock_monotonic_us();
    (void)state;

    snprintf(world->url, sizeof(world->url), "http://slow.test/");
    world->spec.connect_timeout_ms = 50;
    begin(world, &cancelled);
    event_base_loop(world->base, EVLOOP_NONBLOCK);
    http_call_cancel(cancelled.call);
    assert_outcome(run(world), HTTP_CONNECT_TIMEOUT);
    assert_int_equal(cancelled.done, 0);
    wait_for_count(&slow_waiting, waiting + 1);
    world_free(world);
    assert_true(clock_monotonic_us() - start_us < 5 * US_PER_S);
    for (int left = atomic_load(&slow_waiting) - atomic_load(&slow_left); left > 0; left--)
        sem_post(&slow_lookup);
    wait_for_count(&slow_left, atomic_load(&slow_waiting));
}

static int asked_port;

static bool allow_none(const struct sockaddr *address, void *arg)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

    assert_ptr_equal(arg, &asked_port);
    assert_int_equal(address->sa_family, AF_INET);
    asked_port = ntohs(in->sin_port);
    return false;
}

static void test_refused_address_is_never_connected_to(void **state)
{
    static const struct http_client_options guarded = {.address_allowed = allow_none,
                                                       .arg = &asked_port};
    struct world *world = world_new(answer_hello, &guarded);
    (void)state;

    assert_outcome(run(world), HTTP_BLOCKED);
    assert_int_equal(asked_port, world->server->port);
    assert_string_equal(world->seen.answer.peer, "127.0.0.1");
    assert_int_equal(world->server->accepted, 0);
    world_free(world);
}

/* Answers the first request of the first connection; swallows the next and hangs up. */
static void hang_up_on_second(struct server *server, int fd, int nth)
{
    if (nth > 0 || !read_request(server, fd)) {
        answer_hello(server, fd, nth);
        return;
    }
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    read_request(server, fd);
}

static void test_request_is_not_put_on_the_wire_twice(void **state)
{
    struct world *world = world_new(hang_up_on_second, &plain);
    (void)state;

    assert_outcome(run(world), HTTP_DONE);
    assert_outcome(run(world), HTTP_RESENT);
    assert_int_equal(atomic_load(&world->server->requests), 2); /* one of each call */
    assert_int_equal(world->server->accepted, 1);
    assert_outcome(run(world), HTTP_DONE);
    assert_int_equal(atomic_load(&world->server->requests), 3);
    world_free(world);
}

/* As above, but resets with the second request unread. */
static void reset_at_second(struct server *server, int fd, int nth)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    if (nth > 0 || !read_request(server, fd)) {
        answer_hello(server, fd, nth);
        return;
    }
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    poll(&wait, 1, -1);
    reset(fd);
}

static void test_reset_of_a_reused_connection_does_not_send_twice(void **state)
{
    struct world *world = world_new(reset_at_second, &plain);
    (void)state;

    assert_outcome(run(world), HTTP_DONE);
    run(world);
    assert_true(world->seen.answer.outcome == HTTP_RESENT ||
                world->seen.answer.outcome == HTTP_CUT);
    assert_int_equal(world->server->accepted, 1);
    assert_int_equal(atomic_load(&world->server->requests), 1);
    world_free(world);
}

/* Two connections are in the pool; either hangs up on its second request. */
static void hang_up_everywhere(struct server *server, int fd, int nth)
{
    (void)nth;
    if (!read_request(server, fd))
        return;
    while (atomic_load(&server->requests) < 2)
        poll(NULL, 0, 1);
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    read_request(server, fd);
}

static void test_request_is_not_moved_to_another_pooled_connection(void **state)
{
    struct world *world = world_new(hang_up_everywhere, &plain);
    struct seen other = {.done = 0};
    (void)state;

    begin(world, &other);
    assert_outcome(run(world), HTTP_DONE);
    if (!other.done)
        turn(world);
    assert_int_equal(other.done, 1);
    assert_int_equal(world->server->accepted, 2);
    assert_outcome(run(world), HTTP_RESENT);
    assert_int_equal(atomic_load(&world->server->requests), 3);
    assert_int_equal(world->server->accepted, 2);
    world_free(world);
}

static void answer_once_and_close(struct server *server, int fd, int nth)
{
    (void)nth;
    if (!read_request(server, fd))
        return;
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    shutdown(fd, SHUT_RDWR);
    atomic_fetch_add(&server->closed, 1);
}

static void test_connection_closed_while_idle_is_replaced(void **state)
{
    struct world *world = world_new(answer_once_and_close, &plain);
    (void)state;

    assert_outcome(run(world), HTTP_DONE);
    wait_for_count(&world->server->closed, 1);
    assert_outcome(run(world), HTTP_DONE);
    assert_int_equal(atomic_load(&world->server->requests), 2);
    assert_int_equal(world->server->accepted, 2);
    world_free(world);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(arg);
}

static void turn_until(struct world *world, atomic_int *count, int wanted)
{
    struct event *tick = event_new(world->base, -1, EV_PERSIST, on_tick, world->base);
    int64_t until_us = clock_monotonic_us() + GIVE_UP_S * US_PER_S;

    event_add(tick, &(struct timeval){.tv_usec = 2000});
    while (atomic_load(count) < wanted && clock_monotonic_us() < until_us)
        event_base_dispatch(world->base);
    assert_true(atomic_load(count) >= wanted);
    event_free(tick);
}

static void test_cancel_closes_the_connection_silently(void **state)
{
    struct world *world = world_new(stay_silent, &plain);
    struct seen seen = {.done = 0};
    (void)state;

    begin(world, &seen);
    turn_until(world, &world->server->requests, 1);
    assert_true(http_call_was_sent(seen.call));
    assert_int_equal(http_client_calls(world->client), 1);
    http_call_cancel(seen.call);
    assert_int_equal(http_client_calls(world->client), 0);
    turn_until(world, &world->server->closed, 1);
    assert_int_equal(seen.done, 0);
    world_free(world);
}

static void test_cancel_of_a_call_not_yet_begun_sends_nothing(void **state)
{
    struct world *world = world_new(answer_hello, &plain);
    struct seen seen = {.done = 0};
    (void)state;

    http_call_cancel(begin(world, &seen));
    run(world);
    assert_int_equal(seen.done, 0);
    assert_int_equal(atomic_load(&world->server->requests), 1);
    world_free(world);
}

static void say_some_and_wait(struct server *server, int fd, int nth)
{
    (void)nth;
    read_request(server, fd);
    say(fd, "HTTP/1.1 200 OK\r\nX-A: 1\r\nX-B: 2\r\nContent-Length: 50\r\n\r\nhel");
    wait_for_close(server, fd);
}

static void test_cancel_from_inside_a_callback(void **state)
{
    (void)state;

    for (int at_header = 0; at_header < 2; at_header++) {
        struct world *world = world_new(say_some_and_wait, &plain);
        struct seen seen = {.cancel_at_header = at_header, .cancel_at_data = !at_header};

        begin(world, &seen);
        turn(world);
        turn_until(world, &world->server->closed, 1);
        assert_int_equal(seen.done, 0);
        assert_int_equal(seen.body_len, at_header ? 0 : 3);
        if (at_header)
            assert_string_equal(seen.headers, "x-a=1|");
        world_free(world);
    }
}

static void test_reader_stops_the_call(void **state)
{
    struct world *world = world_new(say_some_and_wait, &plain);
    (void)state;

    world->seen.stop_at_data = true;
    begin(world, &world->seen);
    turn(world);
    assert_outcome(&world->seen, HTTP_STOPPED);
    turn_until(world, &world->server->closed, 1);
    world_free(world);
}

static void test_client_may_be_freed_from_a_callback(void **state)
{
    struct world *world = world_new(answer_hello, &plain);
    struct seen other = {.done = 0};
    (void)state;

    world->seen.free_at_done = world->client;
    begin(world, &world->seen);
    begin(world, &other);
    other.free_at_done = world->client;
    turn(world);
    assert_int_equal(world->seen.done + other.done, 1); /* the other was cancelled silently */
    world->client = NULL;
    world_free(world);
}

static void test_client_freed_with_calls_in_flight(void **state)
{
    struct world *world = world_new(stay_silent, &plain);
    struct seen seen[3] = {{.done = 0}};
    (void)state;

    for (int i = 0; i < 3; i++)
        begin(world, &seen[i]);
    turn_until(world, &world->server->requests, 3);
    http_client_free(world->client);
    world->client = NULL;
    wait_for_count(&world->server->closed, 3);
    world_free(world);
}

static void answer_all_together(struct server *server, int fd, int nth)
{
    (void)nth;
    if (!read_request(server, fd))
        return;
    pthread_barrier_wait(&server->barrier); /* passes only when all are here at once */
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    wait_for_close(server, fd);
}

static void test_two_hundred_calls_run_at_once(void **state)
{
    static const struct http_client_options few = {.max_calls = PARALLEL};
    struct world *world = world_new(answer_all_together, &few);
    struct seen *all = calloc(1, sizeof(*all));
    struct err err;
    (void)state;

    all->base = world->base;
    all->waiting_for = PARALLEL;
    for (int i = 0; i < PARALLEL; i++)
        assert_non_null(http_call_start(world->client, &world->spec, &callbacks, all, &err));
    assert_null(http_call_start(world->client, &world->spec, &callbacks, all, &err));
    turn(world);
    assert_int_equal(all->done, PARALLEL);
    assert_int_equal(all->answer.outcome, HTTP_DONE);
    assert_int_equal(all->body_len, 5 * PARALLEL);
    assert_int_equal(atomic_load(&world->server->requests), PARALLEL);
    assert_int_equal(http_client_calls(world->client), 0);
    free(all);
    world_free(world);
}

static void test_bad_requests_are_refused(void **state)
{
    static const struct {
        const char *method;
        const char *url;
        const char *header;
    } cases[] = {
        {"POST", "ftp://a/", "A: b"},
        {"POST", "file:///etc/passwd", "A: b"},
        {"POST", "", "A: b"},
        {"POST", "http://", "A: b"},
        {"POST", "http://user:pw@a/", "A: b"},
        {"POST", "http://a b/", "A: b"},
        {"POST", "http://[fe80::1%25eth0]/", "A: b"},
        {"POST", "http://a:99999/", "A: b"},
        {"PO ST", "http://a/", "A: b"},
        {"POST", "http://a/", "A: b\r\nC: d"},
        {"POST", "http://a/", "no colon"},
        {"POST", "http://a/", ": b"},
        {"POST", "http://a/", "Content-Length: 3"},
        {"POST", "http://a/", "transfer-encoding: chunked"},
        {"POST", "http://a/", "Expect: 100-continue"},
    };
    struct world *world = world_new(answer_hello, &plain);
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *const headers[] = {cases[i].header, NULL};
        struct err err = {.message = ""};

        world->spec.method = cases[i].method;
        world->spec.url = cases[i].url;
        world->spec.headers = headers;
        assert_null(http_call_start(world->client, &world->spec, &callbacks, NULL, &err));
        assert_true(err.message[0] != '\0');
    }
    assert_int_equal(http_client_calls(world->client), 0);
    world_free(world);
}

static void test_url_is_split(void **state)
{
    static const struct {
        const char *url;
        const char *scheme;
        const char *host;
        int port;
        bool has_userinfo;
    } cases[] = {
        {"https://Example.COM/x", "https", "example.com", 443, false},
        {"http://example.com:8080", "http", "example.com", 8080, false},
        {"http://u@example.com/", "http", "example.com", 80, true},
        {"http://[::1]:81/", "http", "::1", 81, false},
        {"http://0x7f.1/", "http", "127.0.0.1", 80, false},
        {"http://2130706433/", "http", "127.0.0.1", 80, false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct http_url url;
        struct err err;

        assert_true(http_url_parse(cases[i].url, &url, &err));
        assert_string_equal(url.scheme, cases[i].scheme);
        assert_string_equal(url.host, cases[i].host);
        assert_int_equal(url.port, cases[i].port);
        assert_int_equal(url.has_userinfo, cases[i].has_userinfo);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_answer_is_delivered),
        cmocka_unit_test(test_request_has_only_what_was_asked_for),
        cmocka_unit_test(test_methods_reach_the_wire),
        cmocka_unit_test(test_chunked_answer_is_put_together_and_trailers_dropped),
        cmocka_unit_test(test_answer_without_length_ends_at_close),
        cmocka_unit_test(test_redirects_are_not_followed_and_cookies_not_kept),
        cmocka_unit_test(test_provisional_heads_are_left_out),
        cmocka_unit_test(test_answer_that_breaks_off_is_cut),
        cmocka_unit_test(test_answer_that_is_not_http_is_told_apart),
        cmocka_unit_test(test_silence_ends_at_the_first_byte_timeout),
        cmocka_unit_test(test_provisional_heads_do_not_count_as_the_first_byte),
        cmocka_unit_test(test_drip_lives_and_its_silence_ends_at_the_idle_timeout),
        cmocka_unit_test(test_endless_drip_ends_at_the_total_timeout),
        cmocka_unit_test(test_too_large_answers_are_refused),
        cmocka_unit_test(test_answer_of_exactly_the_limit_passes),
        cmocka_unit_test(test_refused_connection_was_not_sent),
        cmocka_unit_test(test_unknown_name_was_not_sent),
        cmocka_unit_test(test_failed_tls_was_not_sent),
        cmocka_unit_test(test_every_deadline_before_sending_is_a_connect_timeout),
        cmocka_unit_test(test_slow_lookup_times_out_without_blocking_the_loop),
        cmocka_unit_test(test_refused_address_is_never_connected_to),
        cmocka_unit_test(test_request_is_not_put_on_the_wire_twice),
        cmocka_unit_test(test_reset_of_a_reused_connection_does_not_send_twice),
        cmocka_unit_test(test_request_is_not_moved_to_another_pooled_connection),
        cmocka_unit_test(test_connection_closed_while_idle_is_replaced),
        cmocka_unit_test(test_cancel_closes_the_connection_silently),
        cmocka_unit_test(test_cancel_of_a_call_not_yet_begun_sends_nothing),
        cmocka_unit_test(test_cancel_from_inside_a_callback),
        cmocka_unit_test(test_reader_stops_the_call),
        cmocka_unit_test(test_client_may_be_freed_from_a_callback),
        cmocka_unit_test(test_client_freed_with_calls_in_flight),
        cmocka_unit_test(test_two_hundred_calls_run_at_once),
        cmocka_unit_test(test_bad_requests_are_refused),
        cmocka_unit_test(test_url_is_split),
    };

    signal(SIGPIPE, SIG_IGN);
    sem_init(&slow_lookup, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
