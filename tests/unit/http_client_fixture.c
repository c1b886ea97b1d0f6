/* SPDX-License-Identifier: Apache-2.0 */
/* The server of the HTTP client's tests, and the calls that they make. */
#include "tests/unit/http_client_fixture.h"

#include "common/base/clock.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { REQUEST_MAX = 4 * 1024 * 1024, GIVE_UP_S = 20 };

/* --- the server ------------------------------------------------------------------------------- */

static void *visit_main(void *arg)
{
    struct visit *visit = arg;

    visit->server->script(visit->server, visit->fd, visit->nth);
    close(visit->fd);
    return NULL;
}

static void *accept_main(void *arg)
{
    struct raw_server *server = arg;

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

int bind_free_port(int *port)
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

static struct raw_server *raw_server_start(script_fn *script)
{
    struct raw_server *server = calloc(1, sizeof(*server));

    server->script = script;
    server->listener = bind_free_port(&server->port);
    assert_int_equal(listen(server->listener, 512), 0);
    pthread_barrier_init(&server->barrier, NULL, PARALLEL);
    pthread_create(&server->acceptor, NULL, accept_main, server);
    return server;
}

static void raw_server_stop(struct raw_server *server)
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

bool raw_say(int fd, const char *text)
{
    return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

void raw_wait_for_close(struct raw_server *server, int fd)
{
    char byte;

    if (recv(fd, &byte, 1, 0) <= 0)
        atomic_fetch_add(&server->closed, 1);
}

void raw_reset(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

bool raw_read_request(struct raw_server *server, int fd)
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

/* --- the calls -------------------------------------------------------------------------------- */

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

const struct http_client_options plain_options = {.max_calls = 0};

const struct http_callbacks seen_callbacks = {
    .on_header = on_header, .on_data = on_data, .on_done = on_done};

struct http_world *http_world_new(script_fn *script, const struct http_client_options *options)
{
    struct http_world *world = calloc(1, sizeof(*world));
    struct err err;

    world->base = event_base_new();
    world->client = http_client_new(world->base, options, &err);
    assert_non_null(world->client);
    world->server = raw_server_start(script);
    snprintf(world->url, sizeof(world->url), "http://127.0.0.1:%d/v1/x", world->server->port);
    world->spec = (struct http_call_spec){.method = "POST",
                                          .url = world->url,
                                          .body = "{\"a\":1}",
                                          .body_len = 7,
                                          .max_body_bytes = 32768};
    return world;
}

void http_world_free(struct http_world *world)
{
    http_client_free(world->client);
    event_base_free(world->base);
    raw_server_stop(world->server);
    free(world);
}

static void on_give_up(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    fail_msg("nothing happened for %d s", GIVE_UP_S);
}

void http_world_turn(struct http_world *world)
{
    struct event *give_up = evtimer_new(world->base, on_give_up, NULL);

    event_add(give_up, &(struct timeval){.tv_sec = GIVE_UP_S});
    event_base_dispatch(world->base);
    event_free(give_up);
}

struct http_call *http_world_begin(struct http_world *world, struct seen *seen)
{
    struct err err = {.message = ""};

    seen->base = world->base;
    seen->waiting_for = 1;
    seen->call = http_call_start(world->client, &world->spec, &seen_callbacks, seen, &err);
    if (!seen->call)
        fail_msg("%s", err.message);
    assert_int_equal(seen->done, 0);
    return seen->call;
}

struct seen *http_world_run(struct http_world *world)
{
    memset(&world->seen, 0, sizeof(world->seen));
    http_world_begin(world, &world->seen);
    while (!world->seen.done)
        http_world_turn(world);
    return &world->seen;
}

void assert_http_outcome(const struct seen *seen, enum http_outcome outcome)
{
    if (seen->answer.outcome != outcome)
        fail_msg("outcome %s (%s), expected %s", http_outcome_name(seen->answer.outcome),
                 seen->message, http_outcome_name(outcome));
    assert_int_equal(seen->done, 1);
    assert_int_equal(seen->was_sent, http_outcome_sent(outcome));
}

void await_atomic(atomic_int *count, int wanted)
{
    int64_t until_us = clock_monotonic_us() + GIVE_UP_S * US_PER_S;

    while (atomic_load(count) < wanted && clock_monotonic_us() < until_us)
        poll(NULL, 0, 1);
    assert_true(atomic_load(count) >= wanted);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(arg);
}

void http_world_turn_until(struct http_world *world, atomic_int *count, int wanted)
{
    struct event *tick = event_new(world->base, -1, EV_PERSIST, on_tick, world->base);
    int64_t until_us = clock_monotonic_us() + GIVE_UP_S * US_PER_S;

    event_add(tick, &(struct timeval){.tv_usec = 2000});
    while (atomic_load(count) < wanted && clock_monotonic_us() < until_us)
        event_base_dispatch(world->base);
    assert_true(atomic_load(count) >= wanted);
    event_free(tick);
}

/* --- scripts ---------------------------------------------------------------------------------- */

void answer_hello(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    while (raw_read_request(server, fd))
        raw_say(fd, "HTTP/1.1 200 OK\r\nX-One:  a b \r\nContent-Length: 5\r\n\r\nhello");
}

void stay_silent(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    raw_read_request(server, fd);
    raw_wait_for_close(server, fd);
}
