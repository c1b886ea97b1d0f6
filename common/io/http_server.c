/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server's listeners: accepting within caps, refusing politely beyond them, draining. */
#include "common/io/http_server.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/map.h"
#include "common/io/http_conn.h"
#include "common/io/http_tls.h"

enum {
    ACCEPTS_PER_TURN = 64,
    ACCEPT_REST_MS = 100, /* after the kernel had no descriptor or memory for a connection */
    /* Of a slow reader's bytes the kernel holds this much unsent; the rest waits with us, where it
     * is counted and capped. */
    UNSENT_IN_KERNEL = 256 * 1024,
    /* Connections over a cap that are being told so; more than this are closed without a word. */
    REFUSING_MAX = 256,
};

static const struct log_context context = {.component = "http"};

/* --- accepting ----------------------------------------------------------------------------------
 */

static int per_ip_count(const struct http_server *server, const char *peer)
{
    return (int)(intptr_t)map_get(server->per_ip, peer, strlen(peer));
}

/* False when the map has no room: then the connection is over the cap. */
static bool per_ip_add(struct http_server *server, const char *peer, int change)
{
    int count = per_ip_count(server, peer) + change;

    if (count == 0) {
        map_remove(server->per_ip, peer, strlen(peer));
        return true;
    }
    return map_put(server->per_ip, peer, strlen(peer), (void *)(intptr_t)count);
}

/* Why a connection is not taken, or NULL when it is (and counted). */
static const char *admit(struct http_server *server, const char *peer)
{
    const struct http_limits *limits = &server->options.limits;

    if (server->is_draining)
        return "The server is shutting down; try again";
    if (server->stats.connections >= limits->max_connections)
        return "The server has too many connections; try again";
    if (server->per_ip && (per_ip_count(server, peer) >= limits->max_connections_per_ip ||
                           !per_ip_add(server, peer, 1)))
        return "Too many connections from this address; try again";
    server->stats.connections++;
    return NULL;
}

static void refuse_connection(struct http_conn *conn, const char *why)
{
    struct http_server *server = conn->server;
    struct http_refusal refusal;

    http_refuse(&refusal, 503, server->is_draining ? "unavailable" : "overloaded", "%s", why);
    conn->is_refused = true;
    server->stats.refused++;
    server->refusing++;
    http_conn_refuse(conn, &refusal);
    http_conn_wake(conn);
}

bool http_server_adopt(struct http_server *server, int fd, const char *peer)
{
    struct http_conn *conn;
    const char *why;

    server->stats.accepted++;
    conn = http_conn_new(server, fd, peer);
    if (!conn)
        return false;
    TAILQ_INSERT_TAIL(&server->conns, conn, link);
    why = admit(server, peer);
    if (why)
        refuse_connection(conn, why);
    return true;
}

void http_server_forget(struct http_conn *conn)
{
    struct http_server *server = conn->server;

    TAILQ_REMOVE(&server->conns, conn, link);
    if (conn->is_refused)
        server->refusing--;
    else
        server->stats.connections--;
    if (!conn->is_refused && server->per_ip)
        (void)!per_ip_add(server, conn->peer, -1); /* a smaller count needs no room */
    if (conn->is_busy)
        server->stats.requests--;
    conn->is_busy = false;
    /* Freed by the turn, when no callback of libevent for it can be on the stack. */
    conn->is_forgotten = true;
    http_conn_wake(conn);
}

static void peer_name(const struct sockaddr_storage *address, char *out, size_t size)
{
    const struct sockaddr_in *v4 = (const void *)address;
    const struct sockaddr_in6 *v6 = (const void *)address;

    out[0] = '\0';
    if (address->ss_family == AF_INET)
        inet_ntop(AF_INET, &v4->sin_addr, out, (socklen_t)size);
    else if (address->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
        inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], out, (socklen_t)size);
    else if (address->ss_family == AF_INET6)
        inet_ntop(AF_INET6, &v6->sin6_addr, out, (socklen_t)size);
}

static void rest_accepting(struct http_server *server)
{
    struct timeval wait = {.tv_usec = ACCEPT_REST_MS * 1000};

    log_warn(&context, "accept: %s; resting %d ms", strerror(errno), ACCEPT_REST_MS);
    server->stats.accept_errors++;
    for (int i = 0; i < server->listener_count; i++)
        event_del(server->listeners[i].event);
    event_add(server->accept_retry, &wait);
}

static bool is_exhausted(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void setup_socket(int fd)
{
    int unsent = UNSENT_IN_KERNEL;
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
}

/* Accepts one.  False when there is nothing more to accept now. */
static bool accept_one(struct http_server *server, int listener)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    char peer[INET6_ADDRSTRLEN];
    int fd = accept4(listener, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        if (is_exhausted(errno))
            rest_accepting(server);
        /* The others (ECONNABORTED, EPROTO, ...) are of that one connection. */
        return !is_exhausted(errno) && errno != EAGAIN && errno != EWOULDBLOCK;
    }
    if (server->refusing >= REFUSING_MAX) {
        server->stats.accepted++;
        server->stats.refused++;
        close(fd);
        return true;
    }
    setup_socket(fd);
    peer_name(&address, peer, sizeof(peer));
    if (!http_server_adopt(server, fd, peer))
        log_warn(&context, "accept from %s: out of memory", peer);
    return true;
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct http_listener *listener = arg;

    (void)what;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        if (!accept_one(listener->server, fd))
            break;
    }
}

static void on_accept_retry(evutil_socket_t fd, short what, void *arg)
{
    struct http_server *server = arg;

    (void)fd;
    (void)what;
    for (int i = 0; i < server->listener_count; i++)
        event_add(server->listeners[i].event, NULL);
}

/* --- the turn -----------------------------------------------------------------------------------
 */

static void run_woken(struct http_server *server)
{
    struct http_conn_list woken = TAILQ_HEAD_INITIALIZER(woken);
    struct http_conn *conn;

    TAILQ_CONCAT(&woken, &server->woken, woken);
    while ((conn = TAILQ_FIRST(&woken)) != NULL) {
        TAILQ_REMOVE(&woken, conn, woken);
        conn->is_woken = false;
        if (conn->is_forgotten)
            http_conn_free(conn);
        else
            http_conn_advance(conn);
    }
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run_woken(arg);
}

const char *http_server_date(struct http_server *server)
{
    time_t now = time(NULL);
    struct tm tm;

    if (now != server->date_s) {
        server->date_s = now;
        gmtime_r(&now, &tm);
        strftime(server->date, sizeof(server->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return server->date;
}

/* --- making, draining, freeing ------------------------------------------------------------------
 */

static void fill_defaults(struct http_limits *limits)
{
    const struct http_limits defaults = {
        .max_connections = 10000,
        .max_head_bytes = 32 * 1024,
        .max_uri_bytes = 8 * 1024,
        .max_fields = 100,
        .head_timeout_ms = 10 * 1000,
        .idle_timeout_ms = 75 * 1000,
        .body_grace_ms = 10 * 1000,
        .body_min_rate = 1024,
        .write_timeout_ms = 30 * 1000,
        .max_pending_bytes = 1024 * 1024,
    };

#define FILL(name) limits->name = limits->name != 0 ? limits->name : defaults.name
    FILL(max_connections);
    FILL(max_head_bytes);
    FILL(max_uri_bytes);
    FILL(max_fields);
    FILL(head_timeout_ms);
    FILL(idle_timeout_ms);
    FILL(body_grace_ms);
    FILL(body_min_rate);
    FILL(write_timeout_ms);
    FILL(max_pending_bytes);
#undef FILL
}

static bool add_listeners(struct http_server *server, const int *fds, int count)
{
    server->listeners = calloc((size_t)count + 1, sizeof(*server->listeners));
    if (!server->listeners)
        return false;
    for (int i = 0; i < count; i++) {
        struct http_listener *listener = &server->listeners[i];

        listener->fd = -1; /* the caller's until all has gone well */
        listener->server = server;
        listener->event =
            event_new(server->base, fds[i], EV_READ | EV_PERSIST, on_accept, listener);
        server->listener_count++;
        if (!listener->event || event_add(listener->event, NULL) != 0)
            return false;
    }
    for (int i = 0; i < count; i++)
        server->listeners[i].fd = fds[i];
    return true;
}

static bool server_start(struct http_server *server, const int *listeners, int count,
                         struct err *err)
{
    const struct http_server_options *options = &server->options;

    if (options->tls_certificate) {
        server->tls = http_tls_new(options->tls_certificate, options->tls_key, err);
        if (!server->tls)
            return false;
    }
    if (options->limits.max_connections_per_ip > 0) {
        server->per_ip = map_new((size_t)options->limits.max_connections);
        if (!server->per_ip)
            return err_set(err, "start the HTTP server: out of memory");
    }
    server->turn = event_new(server->base, -1, 0, on_turn, server);
    server->accept_retry = evtimer_new(server->base, on_accept_retry, server);
    if (!server->turn || !server->accept_retry || !add_listeners(server, listeners, count))
        return err_set(err, "start the HTTP server: out of memory");
    return true;
}

/* libevent writes with writev(2), which has no MSG_NOSIGNAL: a client that left must not be the end
 * of the program.  Whoever has chosen another way to handle the signal keeps it. */
static void ignore_sigpipe(void)
{
    struct sigaction old;

    if (sigaction(SIGPIPE, NULL, &old) == 0 && !(old.sa_flags & SA_SIGINFO) &&
        old.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

struct http_server *http_server_new(struct event_base *base,
                                    const struct http_server_options *options, const int *listeners,
                                    int count, struct err *err)
{
    struct http_server *server = calloc(1, sizeof(*server));

    assert(options->handler && options->refuse);
    if (!server) {
        err_set(err, "start the HTTP server: out of memory");
        return NULL;
    }
    ignore_sigpipe();
    server->base = base;
    server->options = *options;
    fill_defaults(&server->options.limits);
    TAILQ_INIT(&server->conns);
    TAILQ_INIT(&server->woken);
    if (!server_start(server, listeners, count, err)) {
        http_server_free(server);
        return NULL;
    }
    return server;
}

void http_server_drain(struct http_server *server)
{
    struct http_conn *conn;

    server->is_draining = true;
    for (conn = TAILQ_FIRST(&server->conns); conn; conn = TAILQ_NEXT(conn, link))
        http_conn_wake(conn);
}

int http_server_requests(const struct http_server *server)
{
    return server->stats.requests;
}

void http_server_stats(const struct http_server *server, struct http_server_stats *out)
{
    *out = server->stats;
}

static void free_listeners(struct http_server *server)
{
    for (int i = 0; i < server->listener_count; i++) {
        if (server->listeners[i].event)
            event_free(server->listeners[i].event);
        if (server->listeners[i].fd >= 0)
            close(server->listeners[i].fd);
    }
    free(server->listeners);
}

/* Ends what can be ended.  A request that its handler has not ended yet stays with its connection,
 * which then belongs to nobody and is freed when the request ends. */
static void free_connections(struct http_server *server)
{
    struct http_conn *conn;

    for (conn = TAILQ_FIRST(&server->conns); conn; conn = TAILQ_NEXT(conn, link)) {
        http_conn_die(conn);
        http_conn_wake(conn);
    }
    while (!TAILQ_EMPTY(&server->woken))
        run_woken(server);
    while ((conn = TAILQ_FIRST(&server->conns)) != NULL) {
        TAILQ_REMOVE(&server->conns, conn, link);
        http_conn_orphan(conn);
    }
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    if (server->listeners)
        free_listeners(server);
    free_connections(server);
    if (server->accept_retry)
        event_free(server->accept_retry);
    if (server->turn)
        event_free(server->turn);
    map_free(server->per_ip);
    http_tls_free(server->tls);
    free(server);
}
