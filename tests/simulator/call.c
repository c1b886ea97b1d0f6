/* SPDX-License-Identifier: Apache-2.0 */
/* One call being answered: its life from the first delay to the log, and what can befall it before
 * there is an answer.  Steps run in call_advance; a call dies in call_finish and nowhere else. */
#include "tests/simulator/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/str.h"
#include "common/io/http_server.h"
#include "tests/simulator/simulator.h"
#include "tests/simulator/words.h"

enum {
    OUT_MAX = 256 << 20,
    EVENT_MAX = 128 << 20,
    BATCH_BYTES = 128 << 10,  /* written at once */
    PENDING_HIGH = 512 << 10, /* more than this unsent: wait for the client */
    PENDING_LOW = 128 << 10,
    LINGER_US = 20000, /* lets the client read what came before a reset */
};

/* --- the end ---------------------------------------------------------------------------------- */

static void call_finish(struct call *call)
{
    uint8_t sha[SHA256_SIZE];
    struct call_end end = {
        .status = call->status,
        .outcome = call->outcome,
        .has_sent_usage = call->has_sent_usage,
    };

    sha256_stream_finish(call->sha, sha);
    if (call->status == 200 && call->outcome != CALL_ERROR)
        end.prompt_tokens = call->answer.prompt_tokens;
    if (call->done > 0) {
        end.prompt_tokens = call->answer.prompt_tokens;
        end.output_tokens = chat_completion_tokens(&call->answer, call->done);
        end.text_sha256 = sha;
    }
    call_log_end(call->simulator->calls, call->seq, &end);
    pacer_cancel(call->simulator->pacer, &call->timer);
    gates_leave(&call->gate);
    chat_request_release(&call->request);
    buf_release(&call->out);
    buf_release(&call->event);
    buf_release(&call->text);
    free(call);
}

/* The client went away.  One that only shut its sending side counts as gone too: no provider client
 * does that, and until something is written a closed socket looks no different. */
static void on_close(struct http_request *http, void *arg)
{
    struct call *call = arg;

    (void)http;
    call->is_gone = true;
    call_advance(call);
}

static void end_connection(struct call *call)
{
    if (call->is_replied)
        return;
    if (call->is_gone) {
        call->outcome = call->simulator->is_closing ? CALL_CUT : CALL_CLIENT_GONE;
        http_abort(call->http, false);
    } else if (call->close == CLOSE_END) {
        http_end(call->http);
    } else {
        http_abort(call->http, call->close == CLOSE_RESET);
    }
}

/* --- the machine ------------------------------------------------------------------------------ */

static bool is_dripping(const struct call *call)
{
    return scenario_has(&call->scenario, FAULT_DRIP);
}

/* Sends `len` bytes of out, each in a chunk of its own if that is asked for. */
static void send_out(struct call *call, size_t len)
{
    size_t piece = scenario_has(&call->scenario, FAULT_SPLIT_BYTES) ? 1 : len;

    for (size_t at = 0; at < len; at += piece) {
        if (!http_write(call->http, call->out.data + at, piece)) {
            call->is_gone = true;
            break;
        }
    }
    if (len == call->out.len)
        buf_clear(&call->out);
    else
        buf_drop_front(&call->out, len);
}

static void on_drain(struct http_request *http, void *arg)
{
    (void)http;
    call_advance(arg);
}

/* Hands out's bytes to the connection.  False: wait until the client has read some. */
static bool call_flush(struct call *call)
{
    if (call->out.len == 0)
        return true;
    if (is_dripping(call)) {
        send_out(call, 1);
        return !call_sleep(call, clock_monotonic_us() + call->scenario.drip_ms * US_PER_MS);
    }
    send_out(call, call->out.len);
    if (call->is_gone || http_pending(call->http) <= PENDING_HIGH)
        return true;
    http_on_drain(call->http, PENDING_LOW, on_drain, call);
    return false;
}

/* Runs steps until one waits.  A dripping call sends a byte for each time it is called, and takes
 * its next step when none is left. */
static enum call_next call_turn(struct call *call)
{
    enum call_next next = CALL_MORE;

    while (next == CALL_MORE && !call->is_gone) {
        bool is_due = call->out.len >= BATCH_BYTES || (is_dripping(call) && call->out.len > 0);

        if (is_due && !call_flush(call))
            return CALL_WAIT;
        if (!call->is_gone)
            next = call->step(call);
        if (next == CALL_WAIT && is_dripping(call) && call->out.len > 0)
            next = CALL_MORE;
    }
    if (next == CALL_WAIT && !is_dripping(call))
        call_flush(call);
    return next;
}

void call_advance(struct call *call)
{
    enum call_next next = call->is_gone ? CALL_OVER : call_turn(call);
    if (next == CALL_OVER || call->is_gone) {
        end_connection(call);
        call_finish(call);
    }
}

static void on_wake(void *arg)
{
    call_advance(arg);
}

/* --- for steps -------------------------------------------------------------------------------- */

bool call_sleep(struct call *call, int64_t due_us)
{
    return pacer_set(call->simulator->pacer, &call->timer, due_us);
}

void call_add_text(struct call *call, const char *text, size_t len)
{
    sha256_stream_add(call->sha, text, len);
}

enum call_next call_step_forever(struct call *call)
{
    call->step = call_step_forever;
    return CALL_WAIT;
}

bool call_is_held(const struct call *call)
{
    return call->scenario.hold[0] && (!call->was_held || call->gate.gate);
}

enum call_next call_step_hold(struct call *call)
{
    if (call->gate.gate)
        return CALL_WAIT; /* woken by something else */
    if (call->was_held)
        return CALL_MORE;
    call->was_held = true;
    if (gates_wait(call->simulator->gates, call->scenario.hold, &call->gate))
        return CALL_WAIT;
    return CALL_MORE;
}

/* Ends the connection when all that was written has left, or else a reset would eat it. */
static enum call_next step_close(struct call *call)
{
    if (call->out.len > 0 && !call_flush(call))
        return CALL_WAIT;
    if (call->is_gone || call->close == CLOSE_END)
        return CALL_OVER;
    if (call->status != 0 && http_pending(call->http) > 0) {
        http_on_drain(call->http, 0, on_drain, call);
        return CALL_WAIT;
    }
    if (call->status != 0 && call->close == CLOSE_RESET && !call->has_lingered) {
        call->has_lingered = true;
        return call_sleep(call, clock_monotonic_us() + LINGER_US) ? CALL_WAIT : CALL_OVER;
    }
    return CALL_OVER;
}

enum call_next call_close_with(struct call *call, enum call_close how, enum call_outcome outcome)
{
    call->close = how;
    call->outcome = outcome;
    call->step = step_close;
    return CALL_MORE;
}

/* --- before there is an answer ---------------------------------------------------------------- */

static void http_date(int64_t us, char *out, size_t size)
{
    time_t seconds = (time_t)(us / US_PER_S);
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(out, size, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

/* The words that stand for a form of Retry-After; any other value is sent as it is. */
static void add_retry_after(struct call *call)
{
    const char *wanted = call->scenario.retry_after;
    char value[SCENARIO_SHORT_SIZE];

    if (!wanted[0])
        return;
    snprintf(value, sizeof(value), "%s", wanted);
    if (strcmp(wanted, "date") == 0)
        http_date(clock_now_us() + 2 * US_PER_S, value, sizeof(value));
    else if (strcmp(wanted, "past-date") == 0)
        http_date(clock_now_us() - 60 * US_PER_S, value, sizeof(value));
    else if (strcmp(wanted, "far-date") == 0)
        http_date(clock_now_us() + US_PER_DAY, value, sizeof(value));
    else if (strcmp(wanted, "absurd") == 0)
        snprintf(value, sizeof(value), "99999999999999999999");
    else if (strcmp(wanted, "negative") == 0)
        snprintf(value, sizeof(value), "-5");
    else if (strcmp(wanted, "nan") == 0)
        snprintf(value, sizeof(value), "NaN");
    http_add_header(call->http, "retry-after", value);
}

static void add_headers(struct call *call)
{
    const struct scenario *scenario = &call->scenario;
    char number[32];

    http_add_header(call->http, "openai-version", "2020-10-01");
    add_retry_after(call);
    if (scenario->retry_after_ms >= 0) {
        snprintf(number, sizeof(number), "%lld", (long long)scenario->retry_after_ms);
        http_add_header(call->http, "retry-after-ms", number);
    }
    if (scenario->should_retry[0])
        http_add_header(call->http, "x-should-retry", scenario->should_retry);
    if (scenario->remaining[0])
        http_add_header(call->http, "x-ratelimit-remaining-requests", scenario->remaining);
    if (scenario->reset[0])
        http_add_header(call->http, "x-ratelimit-reset-requests", scenario->reset);
}

static enum call_next reply(struct call *call, int status, const char *type, const char *body,
                            size_t len)
{
    call->status = status;
    call->outcome = CALL_ERROR;
    call->is_replied = true;
    http_reply(call->http, status, type, body, len);
    return CALL_OVER;
}

static enum call_next reply_error(struct call *call, int status)
{
    struct buf body;

    buf_init(&body, 4096);
    chat_error_for(&body, status == 200 ? 500 : status, call->scenario.code);
    enum call_next next = reply(call, status, "application/json", body.data, body.len);
    buf_release(&body);
    return next;
}

static enum call_next step_answer(struct call *call)
{
    static const char html[] =
        "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in to "
        "the network.</body></html>\n";
    const struct scenario *scenario = &call->scenario;
    int status = scenario_status(scenario);

    add_headers(call);
    if (status != 200)
        return reply_error(call, status);
    if (scenario_has(scenario, FAULT_HTML_200))
        return reply(call, 200, "text/html; charset=utf-8", html, sizeof(html) - 1);
    if (scenario_has(scenario, FAULT_JSON_ERROR_200))
        return reply_error(call, 200);
    if (scenario_has(scenario, FAULT_EMPTY_200))
        return reply(call, 200, "application/json", "", 0);
    call->step = call->request.is_stream ? stream_step_head : whole_step_render;
    return CALL_MORE;
}

static enum call_next step_begin(struct call *call)
{
    const struct scenario *scenario = &call->scenario;

    if (!call->has_waited && scenario->delay_ms > 0) {
        call->has_waited = true;
        if (call_sleep(call, clock_monotonic_us() + scenario->delay_ms * US_PER_MS))
            return CALL_WAIT;
    }
    if (scenario_has(scenario, FAULT_RESET_BEFORE))
        return call_close_with(call, CLOSE_RESET, CALL_CUT);
    if (scenario_has(scenario, FAULT_CLOSE_BEFORE))
        return call_close_with(call, CLOSE_FIN, CALL_CUT);
    if (scenario_has(scenario, FAULT_SILENCE))
        return call_step_forever(call);
    call->step = step_answer;
    return CALL_MORE;
}

/* --- the beginning ---------------------------------------------------------------------------- */

/* The text an echo repeats: the last user's, without markers. */
static void strip_markers(struct buf *text)
{
    size_t from = 0, to = 0, offset = 0, start, length;

    while (text->len > 0 && scenario_next_marker(text->data, text->len, &offset, &start, &length)) {
        memmove(text->data + to, text->data + from, start - from);
        to += start - from;
        from = start + length;
    }
    if (from == 0)
        return;
    memmove(text->data + to, text->data + from, text->len - from);
    text->len = to + text->len - from;
    text->data[text->len] = '\0';
}

static void answer_init(struct call *call)
{
    struct chat_answer *answer = &call->answer;
    const struct chat_request *request = &call->request;

    *answer = (struct chat_answer){
        .scenario = &call->scenario,
        .seed = words_seed(request->prompt_sha256, call->simulator->seed),
        .number = call->seq,
        .created = clock_now_us() / US_PER_S,
        .prompt_tokens = chat_request_prompt_tokens(request),
        .choices = request->choices,
        .has_usage = request->has_usage,
    };
    memcpy(answer->model, request->model, sizeof(answer->model));
    memcpy(answer->function, request->function, sizeof(answer->function));
    if (call->scenario.is_echo) {
        strip_markers(&call->request.last_user);
        answer->echo = request->last_user.data ? request->last_user.data : "";
        answer->echo_len = request->last_user.len;
    } else {
        buf_release(&call->request.last_user);
    }
    answer->items = chat_answer_items(answer);
    if (request->max_tokens >= 0 && answer->items > request->max_tokens) {
        answer->items = request->max_tokens;
        answer->is_cut = true;
    }
}

struct call *call_begin(struct simulator *simulator, struct http_request *http,
                        struct chat_request *request, const struct scenario *scenario,
                        const struct call_facts *facts)
{
    int64_t seq = call_log_begin(simulator->calls, facts);

    if (seq == 0)
        return NULL;
    struct call *call = xcalloc(1, sizeof(*call));
    call->simulator = simulator;
    call->http = http;
    call->scenario = *scenario;
    call->seq = seq;
    call->request = *request;
    chat_request_init(request); /* now the call's */
    call->sha = sha256_stream_new();
    buf_init(&call->out, OUT_MAX);
    buf_init(&call->event, EVENT_MAX);
    buf_init(&call->text, EVENT_MAX);
    pacer_entry_init(&call->timer, on_wake, call);
    call->gate.fn = on_wake;
    call->gate.arg = call;
    call->step = step_begin;
    answer_init(call);
    http_on_close(http, on_close, call);
    http_on_half_close(http, on_close, call);
    return call;
}
