/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes a whole server connection: any bytes, in any pieces, to a handler that does everything. */
#include <event2/event.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/io/http_conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WRITES_MAX = 100 };

/* Requests that a handler has started and not ended; each round must leave none behind. */
static int open_requests;
static struct http_request *held;

static void refuse(struct buf *body, int status, const char *code, const char *param,
                   const char *message)
{
    (void)param;
    if (status < 400 || !code)
        abort();
    buf_puts(body, message);
}

static void reply(struct http_request *request)
{
    open_requests--;
    http_reply(request, 200, "text/plain", "ok", 2);
}

static bool visit(const char *name, const char *value, void *arg, struct err *err)
{
    (void)arg;
    return strlen(name) + strlen(value) < 64 || err_set(err, "long");
}

static void on_body(struct http_request *request, const char *data, size_t len, void *arg)
{
    (void)arg;
    if (data[len] != '\0')
        abort();
    reply(request);
}

static void on_chunk(struct http_request *request, const char *data, size_t len, void *arg)
{
    (void)arg;
    if (len > 0 && data[0] == 'p')
        http_pause_body(request);
    held = request;
}

static void on_end(struct http_request *request, bool ok, const char *code, void *arg)
{
    (void)arg;
    if (!ok && !code)
        abort();
    held = NULL;
    reply(request);
}

static void on_close(struct http_request *request, void *arg)
{
    (void)arg;
    if (held == request)
        held = NULL;
    open_requests--;
    http_end(request);
}

/* More than may be pending; but what answers a HEAD goes nowhere and is never too much. */
static void answer_stream(struct http_request *request)
{
    http_start(request, 200, "text/plain");
    for (int i = 0; i < WRITES_MAX && http_write(request, "0123456789", 10); i++)
        continue;
    open_requests--;
    http_end(request);
}

static void handle(struct http_request *request, void *arg)
{
    struct err err;
    const char *path = http_path(request);

    (void)arg;
    open_requests++;
    if (!http_query_each(request, visit, NULL, &err))
        http_add_header(request, "x-error", err.message);
    switch (path[0] ? path[1] : '\0') {
    case 'r':
        http_on_close(request, on_close, NULL);
        http_read_body(request, 64, on_body, NULL);
        break;
    case 's':
        http_stream_body(request, 64, 0, on_chunk, on_end, NULL);
        break;
    case 'h':
        http_on_close(request, on_close, NULL);
        break;
    case 'w':
        answer_stream(request);
        break;
    case 'a':
        open_requests--;
        http_abort(request, path[2] == 'h');
        break;
    default:
        reply(request);
    }
}

static void turn(struct event_base *base, int fd)
{
    char discarded[4096];

    event_base_loop(base, EVLOOP_NONBLOCK);
    while (read(fd, discarded, sizeof(discarded)) > 0)
        continue;
    if (held)
        http_resume_body(held);
}

/* The first byte says how large the pieces are that the rest is sent in. */
static void play(struct event_base *base, int fd, const uint8_t *data, size_t size)
{
    size_t piece = size > 0 && data[0] > 0 ? data[0] : SIZE_MAX;

    for (size_t at = 1; at < size;) {
        size_t len = size - at < piece ? size - at : piece;
        ssize_t n = send(fd, data + at, len, MSG_NOSIGNAL);

        turn(base, fd);
        if (n < 0)
            break;
        at += (size_t)n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_server_options options = {
        .handler = handle,
        .refuse = refuse,
        .limits = {.max_head_bytes = 512,
                   .max_uri_bytes = 128,
                   .max_fields = 8,
                   .max_pending_bytes = 256},
    };
    struct event_base *base = event_base_new();
    struct http_server *server;
    struct err err;
    int ends[2];

    open_requests = 0;
    held = NULL;
    server = http_server_new(base, &options, NULL, 0, &err);
    if (!server || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0 ||
        !http_server_adopt(server, ends[0], "fuzz"))
        abort();
    play(base, ends[1], data, size);
    shutdown(ends[1], SHUT_WR);
    for (int i = 0; i < 4; i++)
        turn(base, ends[1]);
    close(ends[1]);
    turn(base, ends[1]);
    http_server_free(server);
    event_base_free(base);
    /* Those that only wait for a body are ended by the server; nobody else may be left. */
    if (open_requests != 0)
        abort();
    return 0;
}
