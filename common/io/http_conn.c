/* SPDX-License-Identifier: Apache-2.0 */
/* The machine of one server connection: head, request, discard, flush, linger, dead. */
#include "common/io/http_conn.h"

#include <assert.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/io/http_tls.h"

enum {
    /* Read ahead at most this much: pipelined requests, or a body its handler does not take yet. */
    READ_AHEAD = 16 * 1024,
    WRITE_AT_ONCE = 256 * 1024,
    /* A pipeline's next request waits until fewer answer bytes than this wait. */
    PIPELINE_PENDING_MAX = 64 * 1024,
    /* Steps of one connection before others get their turn. */
    STEPS_PER_TURN = 64,
    LINGER_MS = 5000,
};

struct evbuffer *http_conn_output(const struct http_conn *conn)
{
    return conn->bev ? bufferevent_get_output(conn->bev) : NULL;
}

size_t http_conn_pending(const struct http_conn *conn)
{
    return conn->bev ? evbuffer_get_length(bufferevent_get_output(conn->bev)) : 0;
}

bool http_conn_is_late(const struct http_conn *conn)
{
    return conn->deadline_us > 0 && clock_monotonic_us() >= conn->deadline_us;
}

void http_conn_wake(struct http_conn *conn)
{
    struct http_server *server = conn->server;

    if (!server) {
        /* The server is gone; all that can still happen is that the handler ends the request. */
        if (conn->request->is_ended)
            http_conn_free(conn);
        return;
    }
    if (conn->is_advancing || conn->is_woken)
        return;
    conn->is_woken = true;
    TAILQ_INSERT_TAIL(&server->woken, conn, woken);
    event_active(server->turn, EV_TIMEOUT, 0);
}

static int64_t after_ms(int64_t ms)
{
    return clock_monotonic_us() + ms * US_PER_MS;
}

static const struct http_limits *limits_of(const struct http_conn *conn)
{
    return &conn->server->options.limits;
}

/* --- ends ---------------------------------------------------------------------------------------
 */

void http_conn_die(struct http_conn *conn)
{
    if (conn->state == HTTP_CONN_DEAD)
        return;
    if (conn->state == HTTP_CONN_DISCARD) { /* its request was answered long ago */
        http_request_free(conn->request);
        conn->request = NULL;
    }
    conn->state = HTTP_CONN_DEAD;
    conn->deadline_us = 0;
    bufferevent_free(conn->bev);
    conn->bev = NULL;
    event_del(conn->timer);
    if (!conn->request || conn->request->is_ended)
        return;
    conn->request->is_closed = true;
    http_body_lose(conn->request);
    http_request_tell_closed(conn->request);
}

/* From now on closing means a reset: the kernel's buffers are freed at once, and the peer knows. */
static void close_by_reset(struct http_conn *conn)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    setsockopt(bufferevent_getfd(conn->bev), SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static void die_by_reset(struct http_conn *conn)
{
    if (!http_tls_is_on(conn->bev)) {
        /* A socket's bufferevent keeps the front of its output frozen outside of its own writes. */
        evbuffer_unfreeze(bufferevent_get_output(conn->bev), 1);
        evbuffer_write(bufferevent_get_output(conn->bev), bufferevent_getfd(conn->bev));
    }
    close_by_reset(conn);
    http_conn_die(conn);
}

static void begin_flush(struct http_conn *conn)
{
    conn->state = HTTP_CONN_FLUSH;
    conn->keep_alive = false;
    /* An answer goes on as long as the peer takes bytes of it (the write timeout); only what never
     * was a request has a deadline: its TLS may never come up. */
    conn->deadline_us = conn->request ? 0 : after_ms(limits_of(conn)->head_timeout_ms);
    buf_release(&conn->head);
}

void http_conn_refuse(struct http_conn *conn, const struct http_refusal *refusal)
{
    char id[sizeof(conn->request->id)];

    http_request_make_id(id);
    http_reply_refusal(conn, id, refusal);
    begin_flush(conn);
}

static void drain_input(struct http_conn *conn)
{
    struct evbuffer *input = bufferevent_get_input(conn->bev);

    evbuffer_drain(input, evbuffer_get_length(input));
}

/* --- steps: each returns true when it changed something and wants another look
 * -------------------- */

static bool step_flush(struct http_conn *conn)
{
    int64_t linger_ms = limits_of(conn)->head_timeout_ms;

    drain_input(conn);
    if (http_conn_is_late(conn)) {
        http_conn_die(conn);
        return false;
    }
    if (http_conn_pending(conn) > 0)
        return false;
    http_tls_shutdown(conn->bev);
    shutdown(bufferevent_getfd(conn->bev), SHUT_WR);
    conn->state = HTTP_CONN_LINGER;
    conn->deadline_us = after_ms(linger_ms < LINGER_MS ? linger_ms : LINGER_MS);
    return true;
}

static bool step_linger(struct http_conn *conn)
{
    drain_input(conn);
    if (conn->is_eof || http_conn_is_late(conn))
        http_conn_die(conn);
    return false;
}

/* Moves the bytes of a head from the socket's buffer to conn->head. */
static enum http_head_state read_head(struct http_conn *conn, struct http_refusal *refusal)
{
    const struct http_limits *limits = limits_of(conn);
    struct http_head_limits head_limits = {
        .max_bytes = limits->max_head_bytes,
        .max_uri_bytes = limits->max_uri_bytes,
        .max_fields = limits->max_fields,
    };
    struct evbuffer *input = bufferevent_get_input(conn->bev);
    enum http_head_state state = HTTP_HEAD_MORE;
    struct evbuffer_iovec at;

    while (state == HTTP_HEAD_MORE && evbuffer_peek(input, -1, NULL, &at, 1) > 0 &&
           at.iov_len > 0) {
        size_t used = 0;

        state = http_head_scan(&conn->scan, &head_limits, at.iov_base, at.iov_len, &used, refusal);
        if (state != HTTP_HEAD_REFUSED && !buf_append(&conn->head, at.iov_base, used)) {
            http_refuse(refusal, 503, "overloaded", "The server is out of memory");
            state = HTTP_HEAD_REFUSED;
        }
        evbuffer_drain(input, used);
    }
    return state;
}

static bool refuse_bad(struct http_conn *conn, const struct http_refusal *refusal)
{
    conn->server->stats.bad_requests++;
    http_conn_refuse(conn, refusal);
    return true;
}

static bool begin_request(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    struct http_refusal refusal;
    char id[sizeof(conn->request->id)];

    conn->scan = (struct http_head_scan){0};
    conn->deadline_us = 0;
    conn->request = http_request_new(conn, &refusal, id);
    if (conn->request && !server->is_draining) {
        conn->state = HTTP_CONN_REQUEST;
        server->options.handler(conn->request, server->options.arg);
        return true;
    }
    if (conn->request) {
        server->stats.refused++;
        memcpy(id, conn->request->id, sizeof(id));
        http_refuse(&refusal, 503, "unavailable", "The server is shutting down; try again");
        http_request_free(conn->request);
        conn->request = NULL;
    } else {
        server->stats.bad_requests++;
    }
    http_reply_refusal(conn, id, &refusal);
    begin_flush(conn);
    return true;
}

/* No more bytes for now: has the head run out of time, or the connection of use? */
static bool wait_for_head(struct http_conn *conn)
{
    bool is_idle = conn->scan.bytes == 0;
    struct http_refusal refusal;

    if (is_idle && (conn->is_eof || conn->server->is_draining || http_conn_is_late(conn))) {
        begin_flush(conn);
        return true;
    }
    if (conn->is_eof) {
        http_refuse(&refusal, 400, "invalid_value", "The request ended inside its head");
        return refuse_bad(conn, &refusal);
    }
    if (http_conn_is_late(conn)) {
        conn->server->stats.timeouts++;
        http_refuse(&refusal, 408, "timeout", "The head of the request came too slowly");
        http_conn_refuse(conn, &refusal);
        return true;
    }
    return false;
}

static bool step_head(struct http_conn *conn)
{
    bool was_idle = conn->scan.bytes == 0;
    struct http_refusal refusal;

    if (http_conn_pending(conn) > PIPELINE_PENDING_MAX)
        return false;
    switch (read_head(conn, &refusal)) {
    case HTTP_HEAD_DONE:
        return begin_request(conn);
    case HTTP_HEAD_REFUSED:
        return refuse_bad(conn, &refusal);
    case HTTP_HEAD_MORE:
        break;
    }
    /* From the accept for the first request, from its first byte for later ones. */
    if (was_idle && conn->scan.bytes > 0 && conn->was_used)
        conn->deadline_us = after_ms(limits_of(conn)->head_timeout_ms);
    return wait_for_head(conn);
}

static void begin_head(struct http_conn *conn)
{
    http_request_free(conn->request);
    conn->request = NULL;
    conn->state = HTTP_CONN_HEAD;
    conn->was_used = true;
    conn->deadline_us = after_ms(limits_of(conn)->idle_timeout_ms);
}

/* The handler has ended the request. */
static bool finish_request(struct http_conn *conn)
{
    struct http_request *request = conn->request;
    const struct http_server_options *options = &conn->server->options;

    if (options->on_answered)
        options->on_answered(request, request->status, clock_monotonic_us() - request->started_us,
                             options->arg);
    if (conn->state == HTTP_CONN_DEAD || request->abort == HTTP_ABORT_RESET) {
        if (conn->state != HTTP_CONN_DEAD)
            die_by_reset(conn);
    } else if (!conn->keep_alive || !http_body_is_discardable(request)) {
        begin_flush(conn);
    } else if (!request->body.is_complete) {
        request->body.want = HTTP_BODY_DISCARD;
        request->body.is_paused = false;
        request->body.is_started = false;
        conn->state = HTTP_CONN_DISCARD;
        return true;
    } else {
        begin_head(conn);
        return true;
    }
    http_request_free(request);
    conn->request = NULL;
    return true;
}

static bool tell_half_close(struct http_request *request)
{
    if (!request->conn->is_eof || request->is_half_close_told || !request->on_half_close)
        return false;
    request->is_half_close_told = true;
    request->on_half_close(request, request->on_half_close_arg);
    return true;
}

static bool tell_drained(struct http_request *request)
{
    void (*on_drain)(struct http_request *, void *) = request->on_drain;

    if (!on_drain || request->is_closed || http_conn_pending(request->conn) > request->low_water)
        return false;
    request->on_drain = NULL;
    on_drain(request, request->on_drain_arg);
    return true;
}

static bool step_request(struct http_conn *conn)
{
    struct http_request *request = conn->request;

    if (request->is_ended)
        return finish_request(conn);
    if (request->is_closed && !request->is_close_told) {
        http_request_tell_closed(request);
        if (request->is_ended)
            return true;
    }
    if (request->is_closed)
        return false;
    if (conn->is_eof)
        conn->keep_alive = false;
    return http_body_step(request) || tell_drained(request) || tell_half_close(request);
}

/* The socket is gone but the handler has not ended the request yet. */
static bool step_dead(struct http_conn *conn)
{
    struct http_request *request = conn->request;

    if (!request)
        return false;
    if (request->is_ended)
        return finish_request(conn);
    http_body_lose(request);
    if (!request->is_ended)
        http_request_tell_closed(request);
    return request->is_ended;
}

static bool step_discard(struct http_conn *conn)
{
    if (http_body_step(conn->request) && !conn->request->body.is_settled)
        return true;
    if (!conn->request->body.is_settled)
        return false;
    if (conn->keep_alive) {
        begin_head(conn);
    } else { /* too slow, or broken off */
        http_request_free(conn->request);
        conn->request = NULL;
        begin_flush(conn);
    }
    return true;
}

static bool step(struct http_conn *conn)
{
    static bool (*const steps[])(struct http_conn *) = {
        [HTTP_CONN_HEAD] = step_head,       [HTTP_CONN_REQUEST] = step_request,
        [HTTP_CONN_DISCARD] = step_discard, [HTTP_CONN_FLUSH] = step_flush,
        [HTTP_CONN_LINGER] = step_linger,   [HTTP_CONN_DEAD] = step_dead,
    };

    if (conn->is_broken)
        http_conn_die(conn);
    return steps[conn->state](conn);
}

/* --- after the steps ----------------------------------------------------------------------------
 */

static bool wants_to_read(const struct http_conn *conn)
{
    if (conn->is_eof || conn->state == HTTP_CONN_DEAD)
        return false;
    if (conn->state == HTTP_CONN_HEAD)
        return http_conn_pending(conn) <= PIPELINE_PENDING_MAX;
    if (conn->state == HTTP_CONN_REQUEST) {
        const struct http_body *body = &conn->request->body;

        return !body->is_paused && !(body->is_settled && !body->is_complete);
    }
    return true;
}

static void update_reading(struct http_conn *conn)
{
    bool wanted = wants_to_read(conn);

    if (!conn->bev || wanted == conn->is_reading)
        return;
    conn->is_reading = wanted;
    if (wanted)
        bufferevent_enable(conn->bev, EV_READ);
    else
        bufferevent_disable(conn->bev, EV_READ);
}

/* The timer is only set again when it would fire too late; firing early costs one look. */
static void update_timer(struct http_conn *conn)
{
    struct timeval wait;
    int64_t left;

    if (!conn->bev || conn->deadline_us == 0 ||
        (conn->armed_us > 0 && conn->armed_us <= conn->deadline_us))
        return;
    conn->armed_us = conn->deadline_us;
    left = conn->deadline_us - clock_monotonic_us();
    if (left < 0)
        left = 0;
    wait.tv_sec = (time_t)(left / US_PER_S);
    wait.tv_usec = (suseconds_t)(left % US_PER_S);
    event_add(conn->timer, &wait);
}

static void update_busy(struct http_conn *conn)
{
    bool is_answering = conn->state != HTTP_CONN_LINGER && http_conn_pending(conn) > 0;
    bool is_busy =
        ((conn->request && !conn->request->is_ended) || is_answering) && !conn->is_refused;

    if (is_busy != conn->is_busy)
        conn->server->stats.requests += is_busy ? 1 : -1;
    conn->is_busy = is_busy;
}

static void update_watermark(struct http_conn *conn)
{
    size_t low = conn->request && conn->request->on_drain ? conn->request->low_water : 0;

    if (conn->bev)
        bufferevent_setwatermark(conn->bev, EV_WRITE, low, 0);
}

void http_conn_advance(struct http_conn *conn)
{
    int steps = 0;
    bool is_more = true;

    assert(!conn->is_advancing);
    conn->is_advancing = true;
    while (is_more && steps++ < STEPS_PER_TURN)
        is_more = step(conn);
    conn->is_advancing = false;
    update_busy(conn);
    if (conn->state == HTTP_CONN_DEAD && !conn->request) {
        http_server_forget(conn);
        return;
    }
    update_watermark(conn);
    update_reading(conn);
    update_timer(conn);
    if (is_more)
        http_conn_wake(conn);
}

/* --- libevent -----------------------------------------------------------------------------------
 */

static void on_io(struct bufferevent *bev, void *arg)
{
    (void)bev;
    http_conn_advance(arg);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct http_conn *conn = arg;

    (void)bev;
    if (what & BEV_EVENT_CONNECTED) /* TLS is up */
        return;
    if (what & BEV_EVENT_TIMEOUT) {
        conn->server->stats.timeouts++;
        close_by_reset(conn);
        conn->is_broken = true;
    } else if ((what & BEV_EVENT_EOF) && (what & BEV_EVENT_READING)) {
        conn->is_eof = true;
        conn->is_reading = false;
        /* libevent's TLS stops both directions here; the answer still has to go out. */
        if (http_tls_is_on(conn->bev))
            bufferevent_enable(conn->bev, EV_WRITE);
    } else {
        conn->is_broken = true;
    }
    http_conn_advance(conn);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct http_conn *conn = arg;

    (void)fd;
    (void)what;
    conn->armed_us = 0;
    http_conn_advance(conn);
}

/* --- making and freeing -------------------------------------------------------------------------
 */

static void setup_bufferevent(struct http_conn *conn)
{
    const struct http_limits *limits = limits_of(conn);
    struct timeval wait = {
        .tv_sec = (time_t)(limits->write_timeout_ms / 1000),
        .tv_usec = (suseconds_t)(limits->write_timeout_ms % 1000 * 1000),
    };

    bufferevent_setcb(conn->bev, on_io, on_io, on_event, conn);
    bufferevent_setwatermark(conn->bev, EV_READ, 0, READ_AHEAD);
    bufferevent_set_max_single_write(conn->bev, WRITE_AT_ONCE);
    bufferevent_set_timeouts(conn->bev, NULL, &wait);
    bufferevent_enable(conn->bev, EV_READ | EV_WRITE);
    conn->is_reading = true;
}

struct http_conn *http_conn_new(struct http_server *server, int fd, const char *peer)
{
    struct http_conn *conn = calloc(1, sizeof(*conn));

    if (!conn) {
        close(fd);
        return NULL;
    }
    conn->server = server;
    buf_init(&conn->head, server->options.limits.max_head_bytes + 1);
    strncpy(conn->peer, peer, sizeof(conn->peer) - 1);
    conn->timer = evtimer_new(server->base, on_timer, conn);
    conn->bev = conn->timer ? http_tls_accept(server->base, server->tls, fd) : NULL;
    if (!conn->bev) {
        if (conn->timer)
            close(fd);
        http_conn_free(conn);
        return NULL;
    }
    setup_bufferevent(conn);
    conn->deadline_us = after_ms(server->options.limits.head_timeout_ms);
    update_timer(conn);
    return conn;
}

void http_conn_orphan(struct http_conn *conn)
{
    conn->server = NULL;
    event_free(conn->timer); /* its event base may be gone before the request ends */
    conn->timer = NULL;
}

void http_conn_free(struct http_conn *conn)
{
    http_request_free(conn->request);
    if (conn->bev)
        bufferevent_free(conn->bev);
    if (conn->timer)
        event_free(conn->timer);
    buf_release(&conn->head);
    free(conn);
}
