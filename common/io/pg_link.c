/* SPDX-License-Identifier: Apache-2.0 */
/* One libpq connection in pipeline mode that comes back by itself whenever it is lost. */
#include "common/io/pg_link.h"

#include <event2/event.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/io/pg_target.h"
#include "common/io/resolve.h"

enum {
    CONNECT_TIMEOUT_MS = 5000,
    STEADY_MS = 1000,          /* a connection that lived this long was a good one */
    COMPLAINT_EVERY_MS = 30000 /* of the same outage */
};

static const struct backoff_policy reconnect_policy = {.base_ms = 100, .cap_ms = 2000};

/* Each state has at most one thing to wait for, and the timer is its deadline. */
enum link_state {
    LINK_WAITING,    /* timer: the backoff */
    LINK_RESOLVING,  /* resolve; timer: connect timeout */
    LINK_CONNECTING, /* conn, io; timer: the same connect timeout */
    LINK_READY,      /* conn, io for reading, write_event while output is stuck */
};

struct pg_link {
    struct event_base *base;
    struct pg_link_options options;
    enum link_state state;
    struct pg_target *target;
    struct resolve *resolve;
    PGconn *conn;
    struct event *io;
    struct event *write_event;
    struct event *timer;
    int failures; /* in a row */
    int64_t ready_us;
    int64_t complained_us;
};

static void link_advance(struct pg_link *link);

/* libpq's messages end in a newline and may have several lines. */
static void copy_line(char *out, size_t size, const char *message)
{
    size_t len = 0;

    for (; *message && len + 1 < size; message++)
        out[len++] = *message == '\n' || *message == '\t' ? ' ' : *message;
    while (len > 0 && out[len - 1] == ' ')
        len--;
    out[len] = '\0';
}

static void timer_set(struct pg_link *link, int64_t ms)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    event_add(link->timer, &wait);
}

static void event_drop(struct event **event)
{
    if (*event)
        event_free(*event);
    *event = NULL;
}

static void link_close(struct pg_link *link)
{
    event_drop(&link->io);
    event_drop(&link->write_event);
    resolve_cancel(link->resolve);
    link->resolve = NULL;
    PQfinish(link->conn);
    link->conn = NULL;
}

/* The first failure of an outage is told at once, then one in a while. */
static void complain(struct pg_link *link, const char *why, int64_t wait_ms)
{
    int64_t now_us = clock_monotonic_us();
    bool is_due =
        link->failures == 1 || now_us - link->complained_us >= COMPLAINT_EVERY_MS * US_PER_MS;

    if (is_due)
        link->complained_us = now_us;
    log_write(is_due ? LOG_WARN : LOG_DEBUG, link->options.log,
              "database connection failed: %s: failures=%d retry_ms=%lld", why, link->failures,
              (long long)wait_ms);
}

/* Whatever happened: closed, and begun again later. */
static void link_restart(struct pg_link *link, const char *why)
{
    char line[ERR_MESSAGE_MAX];
    int64_t wait_ms;

    copy_line(line, sizeof(line), why); /* why may belong to conn */
    link_close(link);
    link->failures++;
    wait_ms = backoff_full_jitter_ms(&reconnect_policy, link->failures, backoff_random());
    complain(link, line, wait_ms);
    link->state = LINK_WAITING;
    timer_set(link, wait_ms);
}

static void attempt_failed(struct pg_link *link, const char *why)
{
    link_restart(link, why);
    link->options.on_failed(link->options.arg);
}

void pg_link_drop(struct pg_link *link, const char *why)
{
    if (clock_monotonic_us() - link->ready_us >= STEADY_MS * US_PER_MS)
        link->failures = 0;
    link_restart(link, why);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct pg_link *link = arg;

    (void)fd, (void)what;
    if (pg_link_flush(link))
        link->options.on_flushed(link->options.arg);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct pg_link *link = arg;
    const char *broken = NULL;

    (void)fd, (void)what;
    if (!PQconsumeInput(link->conn) || PQstatus(link->conn) == CONNECTION_BAD)
        broken = PQerrorMessage(link->conn);
    else if (event_pending(link->write_event, EV_WRITE, NULL) && pg_link_flush(link))
        event_active(link->write_event, EV_WRITE, 0); /* on_flushed, from its own callback */
    link->options.on_input(broken, link->options.arg);
}

bool pg_link_flush(struct pg_link *link)
{
    int left = PQflush(link->conn);

    if (left < 0)
        event_active(link->io, EV_READ, 0); /* reading finds out what is wrong */
    if (left == 0)
        event_del(link->write_event);
    else
        event_add(link->write_event, NULL);
    return left == 0;
}

PGconn *pg_link_conn(const struct pg_link *link)
{
    return link->state == LINK_READY ? link->conn : NULL;
}

static void on_notice(void *arg, const char *message)
{
    struct pg_link *link = arg;
    char line[ERR_MESSAGE_MAX];

    copy_line(line, sizeof(line), message);
    log_info(link->options.log, "database says: %s", line);
}

static void link_ready(struct pg_link *link)
{
    int fd = PQsocket(link->conn);

    event_drop(&link->io);
    event_del(link->timer);
    link->io = event_new(link->base, fd, EV_READ | EV_PERSIST, on_readable, link);
    link->write_event = event_new(link->base, fd, EV_WRITE, on_writable, link);
    if (!link->io || !link->write_event || event_add(link->io, NULL) != 0 ||
        PQsetnonblocking(link->conn, 1) != 0 || !PQenterPipelineMode(link->conn)) {
        attempt_failed(link, "cannot enter pipeline mode");
        return;
    }
    PQsetNoticeProcessor(link->conn, on_notice, link);
    link->state = LINK_READY;
    link->ready_us = clock_monotonic_us();
    log_info(link->options.log, "database connected: backend=%d attempts=%d",
             PQbackendPID(link->conn), link->failures + 1);
    link->options.on_ready(link->options.arg);
}

static void on_connect_io(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    link_advance(arg);
}

/* The socket may be another one after each step. */
static void wait_for_socket(struct pg_link *link, short what)
{
    event_drop(&link->io);
    link->io = event_new(link->base, PQsocket(link->conn), what, on_connect_io, link);
    if (!link->io || event_add(link->io, NULL) != 0)
        attempt_failed(link, "connect: cannot watch the socket");
}

static void connect_step(struct pg_link *link)
{
    switch (PQconnectPoll(link->conn)) {
    case PGRES_POLLING_READING:
        wait_for_socket(link, EV_READ);
        break;
    case PGRES_POLLING_WRITING:
        wait_for_socket(link, EV_WRITE);
        break;
    case PGRES_POLLING_OK:
        link_ready(link);
        break;
    default:
        attempt_failed(link, PQerrorMessage(link->conn));
        break;
    }
}

static void connect_start(struct pg_link *link)
{
    struct err err = {.message = ""};

    link->conn = pg_target_connect(link->target, false, &err);
    link->state = LINK_CONNECTING;
    if (!link->conn)
        attempt_failed(link, err.message);
    else if (PQstatus(link->conn) == CONNECTION_BAD)
        attempt_failed(link, PQerrorMessage(link->conn));
    else
        wait_for_socket(link, EV_WRITE);
}

static void on_resolved(const char *const *addresses, size_t count, const char *error, void *arg)
{
    struct pg_link *link = arg;

    link->resolve = NULL;
    if (error)
        log_debug(link->options.log, "look up %s: %s", pg_target_unresolved(link->target), error);
    pg_target_set_addresses(link->target, addresses, count);
    link_advance(link);
}

static void resolve_step(struct pg_link *link)
{
    const char *host = pg_target_unresolved(link->target);
    struct err err;

    if (!host) {
        connect_start(link);
        return;
    }
    link->resolve = resolve_start(link->base, host, on_resolved, link, &err);
    if (!link->resolve)
        attempt_failed(link, err.message);
}

/* What the link waited for has come. */
static void link_advance(struct pg_link *link)
{
    switch (link->state) {
    case LINK_WAITING:
        link->state = LINK_RESOLVING;
        timer_set(link, CONNECT_TIMEOUT_MS);
        pg_target_forget_addresses(link->target);
        resolve_step(link);
        break;
    case LINK_RESOLVING:
        resolve_step(link);
        break;
    case LINK_CONNECTING:
        connect_step(link);
        break;
    case LINK_READY:
        break;
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct pg_link *link = arg;

    (void)fd, (void)what;
    if (link->state == LINK_WAITING) {
        link_advance(link);
        return;
    }
    pg_target_rotate(link->target);
    attempt_failed(link, link->state == LINK_RESOLVING ? "looking up the host takes too long"
                                                       : "connecting takes too long");
}

struct pg_link *pg_link_new(struct event_base *base, const struct pg_link_options *options,
                            struct err *err)
{
    struct pg_link *link = calloc(1, sizeof(*link));

    if (!link) {
        err_set(err, "database connection: out of memory");
        return NULL;
    }
    link->base = base;
    link->options = *options;
    link->target = pg_target_new(options->url, options->application, options->settings, err);
    link->timer = event_new(base, -1, 0, on_timer, link);
    if (link->target && link->timer) {
        timer_set(link, 0);
        return link;
    }
    if (link->target)
        err_set(err, "database connection: out of memory");
    pg_link_free(link);
    return NULL;
}

void pg_link_free(struct pg_link *link)
{
    if (!link)
        return;
    link_close(link);
    event_drop(&link->timer);
    pg_target_free(link->target);
    free(link);
}
