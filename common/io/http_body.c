/* SPDX-License-Identifier: Apache-2.0 */
/* A request's body: strict framing, then http-parser, then the handler; with caps and a clock. */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <http_parser.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/io/http_conn.h"

/* What is left of a body after its answer is read and thrown away up to here; with more than this
 * to come, closing is cheaper for both. */
enum { DISCARD_MAX = 64 * 1024 };

/* --- http-parser --------------------------------------------------------------------------------
 */

/* What http-parser made of the head, while it is running over it. */
struct parse {
    struct http_request *request;
    bool is_head_done;
    bool is_message_done;
    bool keep_alive;
    bool is_chunked;
    uint64_t content_length;
};

static int on_headers_complete(http_parser *parser)
{
    struct parse *parse = parser->data;

    parse->is_head_done = true;
    parse->keep_alive = http_should_keep_alive(parser) != 0;
    parse->is_chunked = (parser->flags & F_CHUNKED) != 0;
    parse->content_length = parser->content_length;
    /* We never upgrade: the offer is ignored and the body is read as framed (RFC 9110 7.8). */
    parser->upgrade = 0;
    return 0;
}

static int on_message_complete(http_parser *parser)
{
    ((struct parse *)parser->data)->is_message_done = true;
    return 0;
}

static void deliver(struct http_request *request, const char *data, size_t len);

static int on_body(http_parser *parser, const char *at, size_t len)
{
    deliver(((struct parse *)parser->data)->request, at, len);
    return 0;
}

static const http_parser_settings parser_settings = {
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* Feeds exactly len bytes of this message. */
static bool feed(struct http_request *request, struct parse *parse, const char *data, size_t len)
{
    http_parser *parser = request->parser;
    size_t taken;

    parse->request = request;
    parser->data = parse;
    taken = http_parser_execute(parser, &parser_settings, data, len);
    parser->data = NULL;
    return taken == len && HTTP_PARSER_ERRNO(parser) == HPE_OK;
}

static bool refuse_parse(const http_parser *parser, struct http_refusal *refusal)
{
    enum http_errno error = HTTP_PARSER_ERRNO(parser);

    if (error == HPE_OK) /* it has only read the bytes in another way than we did */
        return http_refuse(refusal, 400, "invalid_value", "The framing of the body is ambiguous");
    if (error == HPE_INVALID_METHOD)
        return http_refuse(refusal, 501, "not_implemented", "The method is not known here");
    if (error == HPE_HEADER_OVERFLOW)
        return http_refuse(refusal, 431, "headers_too_large",
                           "The head of the request is too large");
    return http_refuse(refusal, 400, "invalid_value", "The request cannot be parsed: %s",
                       http_errno_description(error));
}

/* Our own reading of the framing and http-parser's must be the same. */
static bool framing_agrees(const struct http_head *head, const struct parse *parse)
{
    uint64_t length = head->content_length < 0 ? UINT64_MAX : (uint64_t)head->content_length;
    bool has_body = head->is_chunked || head->content_length > 0;

    return parse->is_head_done && parse->is_chunked == head->is_chunked &&
           parse->is_message_done == !has_body &&
           (head->is_chunked || parse->is_message_done || parse->content_length == length);
}

static bool expects_continue(const struct http_head *head)
{
    const struct http_field *field = http_head_find(head, "expect");

    return field && head->minor == 1 && field->value_len == strlen("100-continue") &&
           strncasecmp(field->value, "100-continue", field->value_len) == 0;
}

bool http_body_init(struct http_request *request, bool *keep_alive, struct http_refusal *refusal)
{
    const struct http_head *head = &request->head;
    struct http_body *body = &request->body;
    struct parse parse = {0};

    request->parser = malloc(sizeof(*request->parser));
    if (!request->parser)
        return http_refuse(refusal, 503, "overloaded", "The server is out of memory");
    http_parser_init(request->parser, HTTP_REQUEST);
    if (!feed(request, &parse, request->raw.data, request->raw.len))
        return refuse_parse(request->parser, refusal);
    if (request->parser->method == HTTP_CONNECT)
        return http_refuse(refusal, 501, "not_implemented", "This is not a proxy");
    if (!framing_agrees(head, &parse))
        return http_refuse(refusal, 400, "invalid_value", "The length of the body is ambiguous");
    *keep_alive = parse.keep_alive;
    body->is_complete = parse.is_message_done;
    if (head->is_chunked)
        body->framing = HTTP_FRAMED_CHUNKED;
    else if (!body->is_complete)
        body->framing = HTTP_FRAMED_LENGTH;
    body->remaining = head->content_length;
    body->expects_continue = !body->is_complete && expects_continue(head);
    return true;
}

void http_body_release(struct http_request *request)
{
    buf_release(&request->body.data);
    free(request->parser);
    request->parser = NULL;
}

/* --- the clock ----------------------------------------------------------------------------------
 */

/* A body is given body_grace_ms in hand; bytes buy time at the minimum rate, up to the grace again.
 * So a client at or over the rate goes on for ever, a silent one ends after the grace. */
static void clock_start(struct http_request *request)
{
    const struct http_limits *limits = &request->conn->server->options.limits;
    struct http_body *body = &request->body;
    int64_t allowed = body->idle_us > 0 ? body->idle_us : limits->body_grace_ms * US_PER_MS;

    request->conn->deadline_us = clock_monotonic_us() + allowed;
}

static void clock_credit(struct http_request *request, size_t len)
{
    const struct http_limits *limits = &request->conn->server->options.limits;
    struct http_conn *conn = request->conn;
    struct http_body *body = &request->body;
    int64_t now = clock_monotonic_us();
    int64_t most = now + limits->body_grace_ms * US_PER_MS;
    int64_t earned = (int64_t)((double)len * (double)US_PER_S / (double)limits->body_min_rate);

    if (body->idle_us > 0)
        conn->deadline_us = now + body->idle_us;
    else
        conn->deadline_us = earned > most - conn->deadline_us ? most : conn->deadline_us + earned;
}

void http_pause_body(struct http_request *request)
{
    struct http_conn *conn = request->conn;
    struct http_body *body = &request->body;

    if (body->is_paused || body->is_settled || request->is_ended)
        return;
    body->is_paused = true;
    if (body->is_started && conn->deadline_us > 0) {
        body->held_us = conn->deadline_us - clock_monotonic_us();
        conn->deadline_us = 0;
    }
    http_conn_wake(conn);
}

void http_resume_body(struct http_request *request)
{
    struct http_body *body = &request->body;

    if (!body->is_paused || request->is_ended)
        return;
    body->is_paused = false;
    if (body->is_started && !request->is_closed && !body->is_complete) {
        /* At least a second, so that what waited in the socket counts before the clock strikes. */
        int64_t left = body->held_us > US_PER_S ? body->held_us : US_PER_S;

        request->conn->deadline_us = clock_monotonic_us() + left;
    }
    http_conn_wake(request->conn);
}

/* --- its end ------------------------------------------------------------------------------------
 */

static void settle(struct http_request *request, bool ok, const char *code)
{
    struct http_body *body = &request->body;
    http_body_fn *done = body->done;

    body->is_settled = true;
    request->conn->deadline_us = 0;
    if (request->is_ended)
        return;
    if (body->want == HTTP_BODY_STREAM) {
        body->on_end(request, ok, code, body->arg);
    } else if (body->want == HTTP_BODY_READ && ok) {
        body->done = NULL;
        done(request, body->data.data ? body->data.data : "", body->data.len, body->arg);
    }
}

/* The body cannot be had: a streaming handler is told and may answer; else the server does. */
static void fail(struct http_request *request, const char *code, const struct http_refusal *refusal)
{
    struct http_conn *conn = request->conn;

    conn->keep_alive = false;
    if (conn->server && strcmp(code, "timeout") == 0)
        conn->server->stats.timeouts++;
    else if (conn->server)
        conn->server->stats.bad_requests++;
    settle(request, false, code);
    if (request->body.want == HTTP_BODY_READ && !request->is_ended)
        http_reply_instead(request, refusal);
}

void http_body_lose(struct http_request *request)
{
    struct http_body *body = &request->body;

    if (body->want == HTTP_BODY_STREAM && !body->is_settled)
        settle(request, false, "incomplete");
}

static void fail_too_large(struct http_request *request)
{
    struct http_refusal refusal;

    http_refuse(&refusal, 413, "too_large", "The body is larger than the limit of %zu bytes",
                request->body.max);
    fail(request, "too_large", &refusal);
}

static void fail_late(struct http_request *request)
{
    struct http_refusal refusal;

    http_refuse(&refusal, 408, "timeout", "The body came too slowly: %zu bytes so far",
                request->body.received);
    fail(request, "timeout", &refusal);
}

static void fail_incomplete(struct http_request *request)
{
    struct http_refusal refusal;

    http_refuse(&refusal, 400, "invalid_value", "The body ended early, after %zu bytes",
                request->body.received);
    fail(request, "incomplete", &refusal);
}

/* --- decoding -----------------------------------------------------------------------------------
 */

static void deliver(struct http_request *request, const char *data, size_t len)
{
    struct http_body *body = &request->body;

    body->received += len;
    clock_credit(request, len);
    if (body->want == HTTP_BODY_READ) {
        if (!buf_append(&body->data, data, len)) {
            struct http_refusal refusal;

            http_refuse(&refusal, 503, "overloaded", "The server is out of memory");
            fail(request, "too_large", &refusal);
        }
    } else if (body->want == HTTP_BODY_STREAM && !request->is_ended) {
        body->on_chunk(request, data, len, body->arg);
    }
}

static bool would_be_too_large(const struct http_body *body, size_t len)
{
    return body->want != HTTP_BODY_DISCARD && len > body->max - body->received;
}

/* The next run at data, *used bytes long. */
static bool next_run(struct http_body *body, const char *data, size_t len, size_t *used,
                     enum http_chunk_run *run, struct http_refusal *refusal)
{
    if (body->framing == HTTP_FRAMED_LENGTH) {
        *used = (uint64_t)body->remaining < len ? (size_t)body->remaining : len;
        *run = HTTP_RUN_DATA;
        body->remaining -= (int64_t)*used;
        body->is_complete = body->remaining == 0;
        return true;
    }
    *run = http_chunk_next(&body->chunk, data, len, used, refusal);
    body->is_complete = body->chunk.state == HTTP_CHUNK_DONE;
    return *run != HTTP_RUN_REFUSED;
}

static void take(struct http_request *request, const char *data, size_t len, size_t *used)
{
    struct http_body *body = &request->body;
    struct parse parse = {0};
    struct http_refusal refusal;
    enum http_chunk_run run;

    if (!next_run(body, data, len, used, &run, &refusal)) {
        fail(request, "invalid_value", &refusal);
        return;
    }
    if (run == HTTP_RUN_DATA && would_be_too_large(body, *used)) {
        fail_too_large(request);
        return;
    }
    if (run == HTTP_RUN_TRAILER)
        return;
    if (!feed(request, &parse, data, *used) || parse.is_message_done != body->is_complete) {
        refuse_parse(request->parser, &refusal);
        fail(request, "invalid_value", &refusal);
    }
}

/* The first look at a body that the handler wants. */
static void start(struct http_request *request)
{
    struct http_body *body = &request->body;
    struct evbuffer *input = bufferevent_get_input(request->conn->bev);

    body->is_started = true;
    if (body->is_complete)
        return;
    if (body->framing == HTTP_FRAMED_LENGTH && body->want != HTTP_BODY_DISCARD &&
        (uint64_t)body->remaining > body->max) {
        fail_too_large(request);
        return;
    }
    if (body->expects_continue && evbuffer_get_length(input) == 0 &&
        request->answer == HTTP_ANSWER_NONE)
        evbuffer_add_printf(http_conn_output(request->conn), "HTTP/1.1 100 Continue\r\n\r\n");
    body->expects_continue = false;
    if (!body->is_paused)
        clock_start(request);
}

bool http_body_step(struct http_request *request)
{
    struct http_conn *conn = request->conn;
    struct http_body *body = &request->body;
    struct evbuffer *input = bufferevent_get_input(conn->bev);
    struct evbuffer_iovec at;
    size_t used = 0;

    if (body->want == HTTP_BODY_UNASKED || body->is_settled || body->is_paused)
        return false;
    if (!body->is_started) {
        start(request);
        return true;
    }
    if (body->is_complete) {
        settle(request, true, NULL);
        return true;
    }
    if (evbuffer_peek(input, -1, NULL, &at, 1) > 0 && at.iov_len > 0) {
        take(request, at.iov_base, at.iov_len, &used);
        evbuffer_drain(input, used);
        return true;
    }
    if (conn->is_eof)
        fail_incomplete(request);
    else if (http_conn_is_late(conn))
        fail_late(request);
    else
        return false;
    return true;
}

bool http_body_is_discardable(const struct http_request *request)
{
    const struct http_body *body = &request->body;

    if (body->is_complete)
        return true;
    return !body->is_settled && !body->expects_continue && !request->conn->is_eof &&
           body->framing == HTTP_FRAMED_LENGTH && body->remaining <= DISCARD_MAX;
}

/* --- what the handler calls ---------------------------------------------------------------------
 */

static void want(struct http_request *request, enum http_body_want what, size_t max, void *arg)
{
    struct http_body *body = &request->body;

    if (request->is_ended)
        return;
    body->want = what;
    body->max = max;
    body->arg = arg;
    http_conn_wake(request->conn);
}

void http_read_body(struct http_request *request, size_t max, http_body_fn *done, void *arg)
{
    request->body.done = done;
    want(request, HTTP_BODY_READ, max, arg);
}

void http_stream_body(struct http_request *request, size_t total_max, int64_t idle_ms,
                      http_chunk_fn *on_chunk, http_body_end_fn *on_end, void *arg)
{
    request->body.on_chunk = on_chunk;
    request->body.on_end = on_end;
    request->body.idle_us = idle_ms * US_PER_MS;
    want(request, HTTP_BODY_STREAM, total_max, arg);
}
