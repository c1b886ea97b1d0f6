/* SPDX-License-Identifier: Apache-2.0 */
/* A small HTTP server and raw clients on one loop, for the tests of common/io/http_server. */
#ifndef TESTS_UNIT_HTTP_FIXTURE_H
#define TESTS_UNIT_HTTP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/http_server.h"
#include "tests/unit/valgrind.h"

#define UNUSED __attribute__((unused))

enum { PATIENCE_MS = 10000, CLIENT_MAX = 64 * 1024 * 1024 };

struct fixture {
    struct event_base *base;
    struct http_server *server;
    int port;
    struct http_request *held; /* of a handler that ends it later */
    int handled;
    int closes;        /* on_close calls */
    int half_closes;   /* on_half_close calls */
    int drains;        /* on_drain calls */
    int body_ends;     /* on_end or done calls */
    int answered;      /* on_answered calls */
    int last_status;   /* of on_answered */
    size_t body_bytes; /* given to on_chunk */
    char body_code[32];
    bool ends_on_close; /* the on_close of held requests ends them */
};

struct client {
    int fd;
    struct buf in;
    bool is_eof;
    bool is_reset;
};

/* --- the server under test -------------------------------------------------------------------- */

static UNUSED void fixture_refuse(struct buf *body, int status, const char *code, const char *param,
                                  const char *message)
{
    (void)status;
    (void)param;
    buf_puts(body, "{\"error\":{\"message\":");
    buf_put_json_string(body, message, strlen(message));
    buf_printf(body, ",\"type\":\"x\",\"param\":null,\"code\":\"%s\"}}", code);
}

static UNUSED void fixture_on_answered(const struct http_request *request, int status,
                                       int64_t duration_us, void *arg)
{
    struct fixture *fixture = arg;

    assert_non_null(http_path(request));
    assert_true(duration_us >= 0);
    fixture->answered++;
    fixture->last_status = status;
}

/* A server as options say, but for its listener, its fixture and how it refuses. */
static UNUSED struct fixture *fixture_new_with(struct http_server_options options)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct err err = {{0}, {0}, {0}};
    int fd;

    options.arg = fixture;
    options.refuse = fixture_refuse;
    fixture->base = event_base_new();
    fd = http_listen("127.0.0.1:0", &fixture->port, &err);
    assert_true(fd >= 0);
    fixture->server = http_server_new(fixture->base, &options, &fd, 1, &err);
    if (!fixture->server)
        fail_msg("%s", err.message);
    return fixture;
}

static UNUSED struct fixture *fixture_new(const struct http_limits *limits,
                                          http_handler_fn *handler)
{
    struct http_server_options options = {.handler = handler, .on_answered = fixture_on_answered};

    if (limits)
        options.limits = *limits;
    return fixture_new_with(options);
}

static UNUSED void fixture_free(struct fixture *fixture)
{
    http_server_free(fixture->server);
    event_base_loop(fixture->base, EVLOOP_NONBLOCK); /* lets go of what libevent put off */
    event_base_free(fixture->base);
    free(fixture);
}

/* --- the clients ------------------------------------------------------------------------------ */

static UNUSED struct client client_open_buffered(struct fixture *fixture, int receive_buffer)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)fixture->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct client client = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};

    if (receive_buffer > 0)
        setsockopt(client.fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    assert_int_equal(connect(client.fd, (struct sockaddr *)&address, sizeof(address)), 0);
    fcntl(client.fd, F_SETFL, O_NONBLOCK);
    buf_init(&client.in, CLIENT_MAX);
    return client;
}

static UNUSED struct client client_open(struct fixture *fixture)
{
    return client_open_buffered(fixture, 0);
}

static UNUSED void client_close(struct client *client)
{
    close(client->fd);
    buf_release(&client->in);
}

/* Closes it so that the server sees a reset. */
static UNUSED void client_reset(struct client *client)
{
    struct linger linger = {.l_onoff = 1};

    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    client_close(client);
}

static UNUSED void client_read(struct client *client)
{
    char chunk[65536];
    ssize_t n;

    while (!client->is_eof && !client->is_reset) {
        n = read(client->fd, chunk, sizeof(chunk));
        if (n > 0)
            assert_true(buf_append(&client->in, chunk, (size_t)n));
        else if (n == 0)
            client->is_eof = true;
        else if (errno == ECONNRESET)
            client->is_reset = true;
        else
            break;
    }
}

static UNUSED void turn(struct fixture *fixture)
{
    event_base_loop(fixture->base, EVLOOP_NONBLOCK);
}

/* Turns the loop until cond is true; the test fails when that takes too long. */
#define pump_until(fix, who, cond)                                                                \
    do {                                                                                          \
        int64_t pump_deadline = clock_monotonic_us() + patient_ms(PATIENCE_MS) * US_PER_MS;       \
        struct client *pump_client = (who);                                                       \
        for (;;) {                                                                                \
            struct pollfd pump_poll = {.fd = pump_client ? pump_client->fd : -1,                  \
                                       .events = POLLIN};                                         \
            turn(fix);                                                                            \
            if (pump_client)                                                                      \
                client_read(pump_client);                                                         \
            if (cond)                                                                             \
                break;                                                                            \
            if (clock_monotonic_us() > pump_deadline)                                             \
                fail_msg("gave up waiting for: %s; got: %s", #cond,                               \
                         pump_client && pump_client->in.data ? pump_client->in.data : "nothing"); \
            poll(&pump_poll, 1, 1);                                                               \
        }                                                                                         \
    } while (0)

/* Sends everything, turning the loop (and reading) when the socket is full.  False when the server
 * closed before all was sent. */
static UNUSED bool client_send(struct fixture *fixture, struct client *client, const void *data,
                               size_t len)
{
    const char *at = data;
    int64_t deadline = clock_monotonic_us() + patient_ms(PATIENCE_MS) * US_PER_MS;

    while (len > 0) {
        ssize_t n = send(client->fd, at, len, MSG_NOSIGNAL);

        if (n > 0) {
            at += n;
            len -= (size_t)n;
            continue;
        }
        if (errno != EAGAIN)
            return false;
        turn(fixture);
        client_read(client);
        assert_true(clock_monotonic_us() < deadline);
    }
    return true;
}

static UNUSED bool client_puts(struct fixture *fixture, struct client *client, const char *text)
{
    return client_send(fixture, client, text, strlen(text));
}

static UNUSED bool client_has(const struct client *client, const char *text)
{
    return client->in.len > 0 &&
           memmem(client->in.data, client->in.len, text, strlen(text)) != NULL;
}

static UNUSED int client_count(const struct client *client, const char *text)
{
    int count = 0;

    for (const char *at = client->in.data; at && (at = strstr(at, text)) != NULL; at++)
        count++;
    return count;
}

static UNUSED bool client_is_over(const struct client *client)
{
    return client->is_eof || client->is_reset;
}

/* Sends text on a connection of its own and reads to the end; the caller frees the answer. */
static UNUSED char *exchange(struct fixture *fixture, const char *text, size_t len)
{
    struct client client = client_open(fixture);
    size_t ignored;

    client_send(fixture, &client, text, len);
    shutdown(client.fd, SHUT_WR);
    pump_until(fixture, &client, client_is_over(&client));
    assert_false(client.is_reset);
    close(client.fd);
    if (client.in.len == 0)
        buf_puts(&client.in, "");
    return buf_detach(&client.in, &ignored);
}

static UNUSED int status_of(const char *answer)
{
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? atoi(answer + 9) : 0;
}

#endif
