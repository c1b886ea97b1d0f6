/* SPDX-License-Identifier: Apache-2.0 */
/* curl_multi on the event loop: sockets and timers for curl, starting and ending of calls.
 *
 * libcurl may not be entered from its own callbacks, so everything that adds or removes a handle
 * happens at loop level: http_call_start() queues, http_call_cancel() marks dead, and the work
 * event does both. */
#include "common/io/http_client.h"

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/http_internal.h"

#include <curl/curl.h>
#include <event2/event.h>

#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { MAX_CALLS_DEFAULT = 10000, MAX_IDLE_DEFAULT = 256, SCRATCH_MAX = 256 * 1024 };

/* A socket curl wants watched. */
struct watch {
    struct http_client *client;
    struct event *event;
};

void http_call_move(struct http_call *call, enum http_call_state state)
{
    struct http_client *client = call->client;

    TAILQ_REMOVE(&client->calls[call->state], call, link);
    if (call->state != CALL_DEAD && state == CALL_DEAD)
        client->count--;
    call->state = state;
    TAILQ_INSERT_TAIL(&client->calls[state], call, link);
    if (state != CALL_ACTIVE)
        event_active(client->work, 0, 0);
}

static void take_from_curl(struct http_call *call)
{
    if (!call->is_in_multi)
        return;
    curl_multi_remove_handle(call->client->multi, call->easy);
    call->is_in_multi = false;
}

static void free_dead(struct http_client *client)
{
    struct http_call *call;

    while ((call = TAILQ_FIRST(&client->calls[CALL_DEAD])) != NULL) {
        TAILQ_REMOVE(&client->calls[CALL_DEAD], call, link);
        take_from_curl(call);
        http_call_free(call);
    }
}

static void client_destroy(struct http_client *client)
{
    free_dead(client);
    if (client->multi)
        curl_multi_cleanup(client->multi); /* still calls on_socket and on_timer_wanted */
    if (client->timer)
        event_free(client->timer);
    if (client->tick)
        event_free(client->tick);
    if (client->work)
        event_free(client->work);
    buf_release(&client->scratch);
    free(client->ca_file);
    free(client);
}

void http_client_enter(struct http_client *client)
{
    client->is_busy = true;
}

void http_client_leave(struct http_client *client)
{
    client->is_busy = false;
    if (client->is_freed)
        client_destroy(client);
}

/* curl counts busy connections against its pool limit too; ours is meant for idle ones. */
static void set_pool_size(struct http_client *client)
{
    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS,
                      (long)client->count + client->options.max_idle_connections);
}

void http_client_end_call(struct http_call *call, enum http_outcome outcome)
{
    struct http_answer answer = {
        .outcome = outcome,
        .status = call->status,
        .message = call->message,
        .duration_us = clock_monotonic_us() - call->start_us,
        .first_byte_us = call->final_head_us ? call->final_head_us - call->start_us : 0,
    };

    memcpy(answer.peer, call->peer, sizeof(answer.peer));
    set_pool_size(call->client); /* before the connection goes back */
    take_from_curl(call);
    http_call_move(call, CALL_DEAD);
    if (call->callbacks.on_done)
        call->callbacks.on_done(call, &answer, call->arg);
}

static void read_results(struct http_client *client)
{
    CURLMsg *msg;
    int left;

    while (!client->is_freed && (msg = curl_multi_info_read(client->multi, &left)) != NULL) {
        char *private = NULL;
        CURLcode code = msg->data.result;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &private);
        struct http_call *call = (struct http_call *)(void *)private;
        if (call && call->state == CALL_ACTIVE)
            http_client_end_call(call, http_call_outcome(call, (int)code));
    }
}

static void turn_curl(struct http_client *client, curl_socket_t fd, int what)
{
    int running;

    http_client_enter(client);
    curl_multi_socket_action(client->multi, fd, what, &running);
    read_results(client);
    http_client_leave(client);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    turn_curl(arg, CURL_SOCKET_TIMEOUT, 0);
}

static void on_ready_socket(evutil_socket_t fd, short what, void *arg)
{
    struct watch *watch = arg;
    int flags =
        ((what & EV_READ) ? CURL_CSELECT_IN : 0) | ((what & EV_WRITE) ? CURL_CSELECT_OUT : 0);

    turn_curl(watch->client, fd, flags);
}

static void start_queued(struct http_client *client)
{
    struct http_call *call;

    while (!client->is_freed && (call = TAILQ_FIRST(&client->calls[CALL_QUEUED])) != NULL) {
        http_call_move(call, CALL_ACTIVE);
        set_pool_size(client);
        call->is_in_multi = curl_multi_add_handle(client->multi, call->easy) == CURLM_OK;
        if (!call->is_in_multi)
            http_client_end_call(call, http_call_outcome(call, CURLE_FAILED_INIT));
    }
}

static void on_work(evutil_socket_t fd, short what, void *arg)
{
    struct http_client *client = arg;

    (void)fd;
    (void)what;
    http_client_enter(client);
    free_dead(client);
    start_queued(client);
    http_client_leave(client);
}

/* curl: call me back in so many ms.  Must not enter curl from here. */
static int on_timer_wanted(CURLM *multi, long timeout_ms, void *arg)
{
    struct http_client *client = arg;
    struct timeval wait = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};

    (void)multi;
    if (timeout_ms < 0)
        return event_del(client->timer);
    return event_add(client->timer, &wait);
}

static void watch_free(struct watch *watch)
{
    if (!watch)
        return;
    if (watch->event)
        event_free(watch->event);
    free(watch);
}

/* curl: watch this socket so, or not at all (before it closes it: the number may come back as
 * another socket at once). */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct http_client *client = arg;
    struct watch *watch = socket_arg;
    short events = EV_PERSIST;

    (void)easy;
    watch_free(watch);
    curl_multi_assign(client->multi, fd, NULL);
    if (what == CURL_POLL_REMOVE)
        return 0;
    if (what & CURL_POLL_IN)
        events |= EV_READ;
    if (what & CURL_POLL_OUT)
        events |= EV_WRITE;
    watch = calloc(1, sizeof(*watch));
    if (!watch)
        return -1;
    watch->client = client;
    watch->event = event_new(client->base, fd, events, on_ready_socket, watch);
    if (!watch->event || event_add(watch->event, NULL) != 0) {
        watch_free(watch);
        return -1;
    }
    curl_multi_assign(client->multi, fd, watch);
    return 0;
}

static bool make_multi(struct http_client *client)
{
    int bad = 0;

    client->multi = curl_multi_init();
    if (!client->multi)
        return false;
    bad |= (int)curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    bad |= (int)curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
    bad |= (int)curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted);
    bad |= (int)curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
    bad |= (int)curl_multi_setopt(client->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    return bad == 0;
}

static bool make_events(struct http_client *client)
{
    const struct timeval second = {.tv_sec = 1};

    client->timer = evtimer_new(client->base, on_timer, client);
    client->tick = event_new(client->base, -1, EV_PERSIST, on_timer, client);
    client->work = event_new(client->base, -1, 0, on_work, client);
    return client->timer && client->tick && client->work && event_add(client->tick, &second) == 0;
}

struct http_client *http_client_new(struct event_base *base,
                                    const struct http_client_options *options, struct err *err)
{
    static bool is_initialised;
    struct http_client *client;

    if (!is_initialised && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        err_set(err, "start libcurl: it refused");
        return NULL;
    }
    is_initialised = true;
    client = xcalloc(1, sizeof(*client));
    client->base = base;
    client->options = *options;
    if (client->options.max_calls <= 0)
        client->options.max_calls = MAX_CALLS_DEFAULT;
    if (client->options.max_idle_connections <= 0)
        client->options.max_idle_connections = MAX_IDLE_DEFAULT;
    if (options->ca_file)
        client->ca_file = xstrdup(options->ca_file);
    client->options.ca_file = client->ca_file;
    buf_init(&client->scratch, SCRATCH_MAX);
    for (int i = 0; i < CALL_STATES; i++)
        TAILQ_INIT(&client->calls[i]);
    if (!make_events(client) || !make_multi(client)) {
        err_set(err, "make an HTTP client: out of memory");
        client_destroy(client);
        return NULL;
    }
    return client;
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    for (int i = 0; i < CALL_DEAD; i++) {
        struct http_call *call;
        while ((call = TAILQ_FIRST(&client->calls[i])) != NULL)
            http_call_cancel(call);
    }
    client->is_freed = true;
    if (!client->is_busy)
        client_destroy(client);
}

int http_client_calls(const struct http_client *client)
{
    return client->count;
}
