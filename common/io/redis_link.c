/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting, greeting, reading and dropping of one Redis connection. */
#include "common/io/redis_link.h"

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/redis_url.h"
#include "common/io/resolve.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <hiredis/hiredis.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

enum {
    COMMAND_TIMEOUT_DEFAULT_MS = 1000,
    RETRY_BASE_MS = 50,
    RETRY_CAP_MS = 2000,
    RUN_ID_SIZE = 64,
    OUTPUT_MAX = 64 * 1024 * 1024, /* commands waiting to be written */
    REPLY_MAX = 64 * 1024 * 1024,  /* one reply not yet whole */
};

/* WAITING until the timer says to begin; RESOLVING the host name; CONNECTING; GREETING: logging in
 * and asking who is there; READY. */
enum link_state { LINK_WAITING, LINK_RESOLVING, LINK_CONNECTING, LINK_GREETING, LINK_READY };

struct redis_link {
    struct event_base *base;
    struct redis_url url;
    struct redis_link_events events;
    void *arg;
    int64_t timeout_us;

    enum link_state state;
    struct event *begin; /* the next attempt */
    struct event *deadline;
    int64_t due_us; /* 0: nothing expected */
    struct resolve *resolve;
    char addresses[RESOLVE_ADDRESSES_MAX][RESOLVE_ADDRESS_SIZE];
    size_t address_count;
    size_t next_address;
    struct bufferevent *stream;
    redisReader *reader;
    int greetings_due; /* replies of the greeting still to come; the last is INFO's */
    int failures;      /* in a row */
    bool is_warned;    /* of the present outage */
    char run_id[RUN_ID_SIZE];

    int busy;      /* below us on the stack something uses the link */
    bool is_freed; /* free the memory when no longer busy */
};

static const struct log_context about = {.component = "redis"};

static void close_stream(struct redis_link *link)
{
    if (link->stream)
        bufferevent_free(link->stream);
    if (link->reader)
        redisReaderFree(link->reader);
    resolve_cancel(link->resolve);
    link->stream = NULL;
    link->reader = NULL;
    link->resolve = NULL;
    link->due_us = 0;
    link->run_id[0] = '\0';
}

static void leave(struct redis_link *link)
{
    if (--link->busy > 0 || !link->is_freed)
        return;
    redis_url_release(&link->url);
    free(link);
}

static void begin_in(struct redis_link *link, int64_t wait_ms)
{
    link->state = LINK_WAITING;
    event_add(link->begin, &(struct timeval){.tv_sec = (time_t)(wait_ms / 1000),
                                             .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)});
}

static void warn_once(struct redis_link *link, const char *why)
{
    if (link->is_warned)
        log_debug(&about, "still no connection: %s", why);
    else
        log_warn(&about, "no connection: %s", why);
    link->is_warned = true;
}

/* The next address at once; a new lookup after a wait when none is left. */
static void fail(struct redis_link *link, const char *why)
{
    static const struct backoff_policy policy = {.base_ms = RETRY_BASE_MS, .cap_ms = RETRY_CAP_MS};
    bool was_ready = link->state == LINK_READY;
    bool was_connecting = link->state == LINK_CONNECTING;

    warn_once(link, why); /* why may live in what is closed next */
    close_stream(link);
    if (was_connecting && link->next_address < link->address_count) {
        begin_in(link, 0);
    } else {
        link->address_count = 0;
        link->failures++;
        begin_in(link, backoff_full_jitter_ms(&policy, link->failures, backoff_random()));
    }
    if (was_ready)
        link->events.on_lost(link->arg);
}

void redis_link_drop(struct redis_link *link, const char *why)
{
    if (link->is_freed || link->state == LINK_WAITING)
        return;
    link->busy++;
    fail(link, why);
    leave(link);
}

void redis_link_expect_by(struct redis_link *link, int64_t due_us)
{
    int64_t wait_us = due_us - clock_monotonic_us();

    link->due_us = due_us;
    if (due_us == 0 || event_pending(link->deadline, EV_TIMEOUT, NULL))
        return; /* a timer already set looks at due_us when it fires */
    if (wait_us < 0)
        wait_us = 0;
    event_add(link->deadline, &(struct timeval){.tv_sec = (time_t)(wait_us / US_PER_S),
                                                .tv_usec = (suseconds_t)(wait_us % US_PER_S)});
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct redis_link *link = arg;

    (void)fd;
    (void)what;
    if (link->due_us != 0 && clock_monotonic_us() >= link->due_us)
        redis_link_drop(link, "no reply in time");
    else
        redis_link_expect_by(link, link->due_us);
}

static bool send_command(struct redis_link *link, const char *const *args, const size_t *lens,
                         int count)
{
    /* hiredis forgets to say const; it only reads. */
    union {
        const char *const *in;
        const char **out;
    } words = {.in = args};
    struct evbuffer *output = bufferevent_get_output(link->stream);
    sds text = NULL; /* the other form, with plain memory, prints each length by vsnprintf, twice */
    int len = redisFormatSdsCommandArgv(&text, count, words.out, lens);
    bool ok = len > 0 && evbuffer_get_length(output) + (size_t)len <= OUTPUT_MAX &&
              bufferevent_write(link->stream, text, (size_t)len) == 0;

    if (len > 0)
        redisFreeSdsCommand(text);
    return ok;
}

bool redis_link_send(struct redis_link *link, const char *const *args, const size_t *lens,
                     int count)
{
    return !link->is_freed && link->state == LINK_READY && send_command(link, args, lens, count);
}

static void greet(struct redis_link *link)
{
    const char *const login[] = {"AUTH", link->url.user ? link->url.user : link->url.password,
                                 link->url.password};
    char db[16];
    const char *const pick[] = {"SELECT", db};
    const char *const ping[] = {"PING"}; /* refused while Redis still loads */
    const char *const ask[] = {"INFO", "server"};
    bool ok = true;

    link->state = LINK_GREETING;
    link->greetings_due = 2;
    if (link->url.password) {
        ok = ok && send_command(link, login, NULL, link->url.user ? 3 : 2);
        link->greetings_due++;
    }
    if (link->url.db > 0) {
        snprintf(db, sizeof(db), "%d", link->url.db);
        ok = ok && send_command(link, pick, NULL, 2);
        link->greetings_due++;
    }
    if (!ok || !send_command(link, ping, NULL, 1) || !send_command(link, ask, NULL, 2))
        fail(link, "out of memory");
}

/* run_id:0123... out of INFO.  It stays unknown to a user who may not ask. */
static void note_run_id(struct redis_link *link, const struct redis_reply *reply)
{
    static const char name[] = "\r\nrun_id:";
    const char *at = reply->kind == REDIS_TEXT ? strstr(reply->text, name) : NULL;
    size_t len;

    if (!at)
        return;
    at += strlen(name);
    len = strcspn(at, "\r\n");
    if (len < sizeof(link->run_id)) {
        memcpy(link->run_id, at, len);
        link->run_id[len] = '\0';
    }
}

static void on_greeting(struct redis_link *link, const struct redis_reply *reply)
{
    bool may_fail = --link->greetings_due <= 1 && reply->kind == REDIS_ERROR &&
                    strncmp(reply->text, "NOPERM", strlen("NOPERM")) == 0;

    if (reply->kind == REDIS_ERROR && !may_fail) {
        fail(link, reply->text);
        return;
    }
    if (link->greetings_due > 0)
        return;
    note_run_id(link, reply);
    if (link->is_warned)
        log_info(&about, "connected");
    link->is_warned = false;
    link->failures = 0;
    link->state = LINK_READY;
    link->due_us = 0;
    link->events.on_ready(link->arg);
}

/* Fills out from what hiredis parsed; text stays in raw.  False when memory is out. */
static bool convert(const redisReply *raw, struct redis_reply *out)
{
    struct redis_reply *items;

    *out = (struct redis_reply){.kind = REDIS_NIL};
    switch (raw->type) {
    case REDIS_REPLY_INTEGER:
        out->kind = REDIS_INT;
        out->number = raw->integer;
        return true;
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        out->kind = raw->type == REDIS_REPLY_ERROR ? REDIS_ERROR : REDIS_TEXT;
        out->text = raw->str;
        out->len = raw->len;
        return true;
    case REDIS_REPLY_ARRAY:
        items = calloc(raw->elements + 1, sizeof(*items));
        out->kind = REDIS_LIST;
        out->items = items;
        for (size_t i = 0; items && i < raw->elements; i++, out->count++)
            if (!convert(raw->element[i], &items[i]))
                return false;
        return items != NULL;
    default:
        return true;
    }
}

static void release(const struct redis_reply *reply)
{
    union {
        const struct redis_reply *in;
        void *out;
    } items = {.in = reply->items};

    for (size_t i = 0; i < reply->count; i++)
        release(&reply->items[i]);
    free(items.out);
}

static void handle(struct redis_link *link, redisReply *raw)
{
    struct redis_reply reply;

    if (!convert(raw, &reply))
        fail(link, "out of memory");
    else if (link->state == LINK_GREETING)
        on_greeting(link, &reply);
    else
        link->events.on_reply(&reply, link->arg);
    release(&reply);
    freeReplyObject(raw);
}

static void feed_reader(struct redis_link *link)
{
    struct evbuffer *input = bufferevent_get_input(link->stream);
    struct evbuffer_iovec piece;

    while (evbuffer_peek(input, -1, NULL, &piece, 1) > 0) {
        redisReaderFeed(link->reader, piece.iov_base, piece.iov_len);
        evbuffer_drain(input, piece.iov_len);
    }
}

static void on_readable(struct bufferevent *stream, void *arg)
{
    struct redis_link *link = arg;
    redisReader *reader = link->reader; /* lives as long as stream */

    link->busy++;
    feed_reader(link);
    /* A callback may drop or free the link: the stream is then another, or none. */
    while (!link->is_freed && link->stream == stream) {
        void *raw = NULL;

        if (redisReaderGetReply(reader, &raw) != REDIS_OK) {
            fail(link, reader->errstr);
        } else if (raw) {
            handle(link, raw);
            continue;
        } else if (reader->len > REPLY_MAX) {
            fail(link, "a reply is too large");
        }
        break;
    }
    leave(link);
}

static void set_tcp_options(struct bufferevent *stream)
{
    int fd = bufferevent_getfd(stream);
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* fails on UNIX sockets: fine */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
    struct redis_link *link = arg;
    int code = EVUTIL_SOCKET_ERROR();

    link->busy++;
    if (what & BEV_EVENT_CONNECTED) {
        set_tcp_options(stream);
        greet(link);
    } else if (what & BEV_EVENT_EOF) {
        fail(link, "Redis closed the connection");
    } else if (what & BEV_EVENT_ERROR) {
        fail(link, strerror(code));
    }
    leave(link);
}

static socklen_t fill_address(const struct redis_link *link, const char *text,
                              struct sockaddr_storage *out)
{
    struct sockaddr_un *local = (struct sockaddr_un *)out;
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

    memset(out, 0, sizeof(*out));
    if (link->url.path) {
        local->sun_family = AF_UNIX;
        snprintf(local->sun_path, sizeof(local->sun_path), "%s", link->url.path);
        return sizeof(*local);
    }
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)link->url.port);
        return sizeof(*v4);
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)link->url.port);
    return inet_pton(AF_INET6, text, &v6->sin6_addr) == 1 ? sizeof(*v6) : 0;
}

static void connect_next(struct redis_link *link)
{
    struct sockaddr_storage address;
    socklen_t len = fill_address(link, link->addresses[link->next_address++], &address);

    link->state = LINK_CONNECTING;
    redis_link_expect_by(link, clock_monotonic_us() + link->timeout_us);
    link->reader = redisReaderCreate();
    link->stream = bufferevent_socket_new(link->base, -1, BEV_OPT_CLOSE_ON_FREE);
    if (!link->reader || !link->stream) {
        fail(link, "out of memory");
        return;
    }
    bufferevent_setcb(link->stream, on_readable, NULL, on_event, link);
    bufferevent_enable(link->stream, EV_READ | EV_WRITE);
    /* A connect that fails at once reaches on_event here; then the stream is gone already. */
    if (len == 0 ||
        bufferevent_socket_connect(link->stream, (struct sockaddr *)&address, (int)len) != 0) {
        if (link->state == LINK_CONNECTING)
            fail(link, len == 0 ? "not an address" : strerror(errno));
    }
}

static void on_resolved(const char *const *addresses, size_t count, const char *error, void *arg)
{
    struct redis_link *link = arg;

    link->resolve = NULL;
    link->busy++;
    for (size_t i = 0; i < count; i++)
        snprintf(link->addresses[i], sizeof(link->addresses[i]), "%s", addresses[i]);
    link->address_count = count;
    link->next_address = 0;
    if (count == 0)
        fail(link, error);
    else
        connect_next(link);
    leave(link);
}

static void find_addresses(struct redis_link *link)
{
    struct err err;

    link->next_address = 0;
    if (link->url.path || resolve_is_address(link->url.host)) {
        snprintf(link->addresses[0], sizeof(link->addresses[0]), "%s",
                 link->url.path ? "" : link->url.host);
        link->address_count = 1;
        connect_next(link);
        return;
    }
    link->state = LINK_RESOLVING;
    link->resolve = resolve_start(link->base, link->url.host, on_resolved, link, &err);
    if (!link->resolve)
        fail(link, err.message);
}

static void on_begin(evutil_socket_t fd, short what, void *arg)
{
    struct redis_link *link = arg;

    (void)fd;
    (void)what;
    link->busy++;
    if (link->next_address < link->address_count)
        connect_next(link);
    else
        find_addresses(link);
    leave(link);
}

struct redis_link *redis_link_new(struct event_base *base, const struct redis_options *options,
                                  const struct redis_link_events *events, void *arg,
                                  struct err *err)
{
    struct redis_url url;
    struct redis_link *link;
    int64_t timeout_ms = options->command_timeout_ms;

    if (!redis_url_parse(options->url, &url, err))
        return NULL;
    link = xcalloc(1, sizeof(*link));
    link->base = base;
    link->url = url;
    link->events = *events;
    link->arg = arg;
    link->timeout_us = (timeout_ms > 0 ? timeout_ms : COMMAND_TIMEOUT_DEFAULT_MS) * US_PER_MS;
    link->begin = evtimer_new(base, on_begin, link);
    link->deadline = evtimer_new(base, on_deadline, link);
    if (!link->begin || !link->deadline) {
        err_set(err, "connect to Redis: out of memory");
        redis_link_free(link);
        return NULL;
    }
    begin_in(link, 0);
    return link;
}

void redis_link_free(struct redis_link *link)
{
    if (!link || link->is_freed)
        return;
    link->busy++;
    link->is_freed = true;
    link->state = LINK_WAITING;
    close_stream(link);
    if (link->begin)
        event_free(link->begin);
    if (link->deadline)
        event_free(link->deadline);
    leave(link);
}

bool redis_link_is_ready(const struct redis_link *link)
{
    return link->state == LINK_READY;
}

const char *redis_link_run_id(const struct redis_link *link)
{
    return link->run_id;
}

int64_t redis_link_timeout_us(const struct redis_link *link)
{
    return link->timeout_us;
}
