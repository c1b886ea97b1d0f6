/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one provider call on the loop. */
#include "worker/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/log.h"

#include <event2/event.h>

enum {
    FAILURE_BODY_MAX = 64 * 1024,
    LINGER_MS = 200,     /* after the end marker, for the connection to become reusable */
    WIRE_PER_TEXT = 128, /* bytes on the wire for a byte of text, at most */
    WIRE_LEAST = 64 * 1024 * 1024,
};

static const struct log_context log_call = {.component = "call"};

struct call {
    struct call_spec spec;
    const struct wire_format *format;
    struct http_call *http;
    struct answer *answer;
    struct event *timer;
    struct buf body; /* of an answer that is no stream */
    struct retry_headers retry;
    struct rate_headers rate;
    bool is_wrong_type; /* 2xx, but not events */
    int64_t started_us;
    int64_t first_token_us;
    int64_t events;
    int64_t progress_us; /* the last parsed event; 0: none yet */
};

static void call_free(struct call *call)
{
    if (!call)
        return;
    if (call->timer)
        event_free(call->timer);
    if (call->answer)
        call->format->answer_free(call->answer);
    buf_release(&call->body);
    free(call);
}

static bool is_success(int status)
{
    return status >= 200 && status < 300;
}

/* --- how it ended ----------------------------------------------------------------------------- */

static void fail(struct failure *failure, enum error_type type, const char *message)
{
    *failure = (struct failure){.type = type, .may_fall_back = true};
    snprintf(failure->message, sizeof(failure->message), "%s", message);
}

/* Words for people; addresses and curl's own words stay in the log. */
static void judge_transport(enum http_outcome outcome, struct failure *failure)
{
    switch (outcome) {
    case HTTP_NOT_SENT:
    case HTTP_BLOCKED:
        fail(failure, ERROR_NETWORK, "no connection to the provider");
        break;
    case HTTP_CONNECT_TIMEOUT:
        fail(failure, ERROR_TIMEOUT, "no connection to the provider within the timeout");
        break;
    case HTTP_FIRST_BYTE_TIMEOUT:
        fail(failure, ERROR_TIMEOUT, "the provider did not begin its answer in time");
        break;
    case HTTP_IDLE_TIMEOUT:
        fail(failure, ERROR_TIMEOUT, "the provider's stream fell silent");
        break;
    case HTTP_TOTAL_TIMEOUT:
        fail(failure, ERROR_TIMEOUT, "the answer was not whole within the call's timeout");
        break;
    case HTTP_CUT:
    case HTTP_RESENT:
        fail(failure, ERROR_NETWORK, "the connection to the provider broke");
        break;
    case HTTP_TOO_LARGE:
    case HTTP_BAD_ANSWER:
    case HTTP_DONE:
    case HTTP_STOPPED:
        fail(failure, ERROR_PROTOCOL, "the provider's answer is not what the format promises");
        break;
    }
}

static void judge_body(const struct call *call, int status, struct failure *failure)
{
    const char *body = call->body.len > 0 ? call->body.data : "";

    call->format->read_failure(status, body, call->body.len, failure);
    if (!is_success(status))
        return;
    failure->type = ERROR_PROTOCOL;
    failure->may_fall_back = true;
}

static void judge(struct call *call, enum http_outcome outcome, int status, struct call_end *end)
{
    bool is_answer = outcome == HTTP_DONE || outcome == HTTP_STOPPED;

    call->format->answer_finish(call->answer, &end->result);
    if (end->result.is_complete && !call->is_wrong_type && is_success(status)) {
        end->booked.is_complete = true;
        end->booked.has_usage = end->result.has_usage;
        return;
    }
    end->booked.has_usage = end->result.has_usage;
    if ((status > 0 && !is_success(status)) || (call->is_wrong_type && is_answer))
        judge_body(call, status, &end->failure);
    else if (is_answer && end->result.failure.type != ERROR_NONE)
        end->failure = end->result.failure;
    else
        judge_transport(outcome, &end->failure);
    failure_hide_key(&end->failure, call->spec.target->provider->api_key);
}

static void describe(struct call *call, enum http_outcome outcome, int status, bool was_sent,
                     struct call_end *end)
{
    *end = (struct call_end){
        .booked = {.outcome = outcome, .status = status, .was_sent = was_sent},
        .should_retry = call->retry.should_retry,
        .retry_after_ms = retry_headers_wait_ms(&call->retry, clock_now_us()),
        .rate = rate_headers_finish(&call->rate, clock_now_us()),
        .first_token_us = call->first_token_us,
        .duration_us = clock_monotonic_us() - call->started_us,
    };
    judge(call, outcome, status, end);
}

static void finish(struct call *call, enum http_outcome outcome, int status, bool was_sent)
{
    struct call_end end;

    describe(call, outcome, status, was_sent, &end);
    call->spec.on_done(&end, call->spec.arg);
    call_free(call);
}

static void on_done(struct http_call *http, const struct http_answer *answer, void *arg)
{
    struct call *call = arg;

    call->http = NULL;
    if (answer->outcome != HTTP_DONE && answer->outcome != HTTP_STOPPED)
        log_debug(&log_call, "call broke: provider=%s outcome=%s status=%d: %s",
                  call->spec.target->provider->name, http_outcome_name(answer->outcome),
                  answer->status, answer->message ? answer->message : "");
    finish(call, answer->outcome, answer->status,
           http_call_was_sent(http) || http_outcome_sent(answer->outcome));
}

/* --- timers ----------------------------------------------------------------------------------- */

static void arm(struct call *call, int64_t us)
{
    struct timeval wait = {.tv_sec = us / US_PER_S, .tv_usec = us % US_PER_S};

    evtimer_add(call->timer, &wait);
}

/* Ends the call from here. */
static void stop(struct call *call, enum http_outcome outcome)
{
    int status = http_call_status(call->http);
    bool was_sent = http_call_was_sent(call->http);

    http_call_cancel(call->http);
    call->http = NULL;
    finish(call, outcome, status, was_sent);
}

/* Bytes are no progress: pings and half events can come for ever. */
static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct call *call = arg;
    const struct provider *provider = call->spec.target->provider;
    int64_t due, now = clock_monotonic_us();

    (void)fd;
    (void)what;
    if (call->format->answer_is_done(call->answer)) {
        stop(call, HTTP_DONE);
        return;
    }
    due = call->progress_us > 0 ? call->progress_us + provider->idle_ms * US_PER_MS
                                : call->started_us + provider->first_byte_ms * US_PER_MS;
    if (now < due)
        arm(call, due - now);
    else
        stop(call, call->progress_us > 0 ? HTTP_IDLE_TIMEOUT : HTTP_FIRST_BYTE_TIMEOUT);
}

static void note_progress(struct call *call)
{
    int64_t events = call->format->answer_events(call->answer);
    bool is_first = call->events == 0;

    if (events == call->events)
        return;
    call->events = events;
    call->progress_us = clock_monotonic_us();
    if (call->format->answer_is_done(call->answer))
        arm(call, LINGER_MS * US_PER_MS);
    else if (is_first)
        arm(call, call->spec.target->provider->idle_ms * US_PER_MS);
}

/* --- what comes ------------------------------------------------------------------------------- */

static bool starts_with(const char *text, const char *what)
{
    return strncasecmp(text, what, strlen(what)) == 0;
}

static void on_header(struct http_call *http, const char *name, const char *value, void *arg)
{
    struct call *call = arg;

    (void)http;
    retry_headers_add(&call->retry, name, value);
    rate_headers_add(&call->rate, name, value);
    if (strcmp(name, "content-type") == 0)
        call->is_wrong_type =
            starts_with(value, "application/json") || starts_with(value, "text/html");
}

static bool on_data(struct http_call *http, const char *data, size_t len, void *arg)
{
    struct call *call = arg;
    bool ok;

    if (!is_success(http_call_status(http)) || call->is_wrong_type) {
        size_t room = FAILURE_BODY_MAX - call->body.len;

        buf_append(&call->body, data, len < room ? len : room);
        return true;
    }
    ok = call->format->answer_feed(call->answer, data, len);
    note_progress(call);
    call->spec.on_turn(call->spec.arg);
    return ok;
}

static void note_first_token(struct call *call)
{
    if (call->first_token_us < 0)
        call->first_token_us = clock_monotonic_us() - call->started_us;
}

static void on_text(const char *text, size_t len, void *arg)
{
    struct call *call = arg;

    note_first_token(call);
    call->spec.sink.on_text(text, len, call->spec.sink.arg);
}

static void on_tool(const struct tool_delta *delta, void *arg)
{
    struct call *call = arg;

    note_first_token(call);
    call->spec.sink.on_tool(delta, call->spec.sink.arg);
}

/* --- start ------------------------------------------------------------------------------------ */

static bool send_request(struct call *call, struct err *err)
{
    static const struct http_callbacks callbacks = {
        .on_header = on_header, .on_data = on_data, .on_done = on_done};
    const struct provider *provider = call->spec.target->provider;
    struct wire_call wire;

    if (!call->format->write_call(call->spec.target, call->spec.request, call->spec.request_len,
                                  call->spec.call_id, &wire, err))
        return false;
    struct http_call_spec spec = {
        .method = "POST",
        .url = wire.url,
        .headers = (const char *const *)wire.headers,
        .body = wire.body.data,
        .body_len = wire.body.len,
        .connect_timeout_ms = provider->connect_ms,
        .first_byte_timeout_ms = provider->first_byte_ms,
        .total_timeout_ms = call->spec.total_ms,
        .max_body_bytes = call->spec.max_bytes * WIRE_PER_TEXT + WIRE_LEAST,
    };
    call->http = http_call_start(call->spec.http, &spec, &callbacks, call, err);
    wire_call_release(&wire);
    return call->http != NULL;
}

struct call *call_start(const struct call_spec *spec, struct err *err)
{
    struct call *call = calloc(1, sizeof(*call));

    if (!call) {
        err_set(err, "out of memory");
        return NULL;
    }
    call->spec = *spec;
    call->format = wire_format_find(spec->target->provider->format);
    call->started_us = clock_monotonic_us();
    call->first_token_us = -1;
    retry_headers_init(&call->retry);
    rate_headers_init(&call->rate);
    buf_init(&call->body, FAILURE_BODY_MAX);
    call->timer = event_new(spec->base, -1, 0, on_timer, call);
    call->answer = call->format->answer_new(&(struct answer_spec){
        .sink = {.on_text = on_text, .on_tool = on_tool, .arg = call},
        .model = spec->target->model,
        .id = spec->call_id,
        .max_bytes = spec->max_bytes,
    });
    if (!call->timer || !call->answer) {
        err_set(err, "out of memory");
    } else if (send_request(call, err)) {
        arm(call, spec->target->provider->first_byte_ms * US_PER_MS);
        return call;
    }
    call_free(call);
    return NULL;
}

void call_cut(struct call *call, struct call_end *end)
{
    int status = http_call_status(call->http);
    bool was_sent = http_call_was_sent(call->http);

    http_call_cancel(call->http);
    call->http = NULL;
    describe(call, HTTP_CUT, status, was_sent, end);
    end->result.response = NULL;
    end->result.response_len = 0;
    call_free(call);
}
