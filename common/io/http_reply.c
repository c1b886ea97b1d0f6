/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: whole or streamed, framed for who asked, never piling up without end. */
#include <assert.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <http_parser.h>
#include <string.h>

#include "common/io/http_conn.h"

enum { REFUSAL_BODY_MAX = 8 * 1024, REFUSAL_FIELDS_MAX = 64 * 1024 };

/* --- the head -----------------------------------------------------------------------------------
 */

/* What stands in every answer's head. */
struct answer_head {
    int status;
    int minor; /* of the version the client speaks */
    const char *content_type;
    const char *request_id;
    const struct buf *fields; /* may be NULL */
    int64_t content_length;   /* -1: none */
    bool is_chunked;
    bool keep_alive;
};

static const char *reason(int status)
{
    const char *text = http_status_str((enum http_status)status);

    return text[0] == '<' ? "Unknown" : text;
}

static void write_head(struct http_server *server, struct evbuffer *out,
                       const struct answer_head *head)
{
    evbuffer_add_printf(out, "HTTP/1.1 %d %s\r\ndate: %s\r\nx-request-id: %s\r\n", head->status,
                        reason(head->status), http_server_date(server), head->request_id);
    if (head->content_type)
        evbuffer_add_printf(out, "content-type: %s\r\n", head->content_type);
    if (head->fields && head->fields->len > 0)
        evbuffer_add(out, head->fields->data, head->fields->len);
    if (head->content_length >= 0)
        evbuffer_add_printf(out, "content-length: %lld\r\n", (long long)head->content_length);
    if (head->is_chunked)
        evbuffer_add_printf(out, "transfer-encoding: chunked\r\n");
    if (!head->keep_alive)
        evbuffer_add_printf(out, "connection: close\r\n");
    else if (head->minor == 0)
        evbuffer_add_printf(out, "connection: keep-alive\r\n");
    evbuffer_add(out, "\r\n", 2);
}

/* Will another request follow on this connection, as far as can be said when the head is sent?  A
 * body that is being read is expected to be read to its end. */
static void decide_keep_alive(struct http_request *request)
{
    struct http_conn *conn = request->conn;
    bool is_read = request->body.want != HTTP_BODY_UNASKED && !request->body.is_settled;

    if (conn->server->is_draining || conn->is_eof ||
        (!is_read && !http_body_is_discardable(request)))
        conn->keep_alive = false;
}

static void write_answer_head(struct http_request *request, int status, const char *content_type,
                              int64_t content_length)
{
    struct http_conn *conn = request->conn;

    struct answer_head head = {
        .status = status,
        .minor = request->head.minor,
        .content_type = content_type,
        .request_id = request->id,
        .fields = &request->fields,
        .content_length = content_length,
        .is_chunked = request->is_chunked_out,
        .keep_alive = conn->keep_alive,
    };

    request->status = status;
    write_head(conn->server, http_conn_output(conn), &head);
}

void http_add_header(struct http_request *request, const char *name, const char *value)
{
    struct buf *fields = &request->fields;
    size_t start = fields->len;

    assert(request->answer == HTTP_ANSWER_NONE);
    if (!buf_printf(fields, "%s: %s", name, value) || !buf_reserve(fields, 2)) {
        /* Half a field would take the next one with it. */
        fields->len = start;
        fields->is_broken = false;
        return;
    }
    for (size_t i = start; i < fields->len; i++) {
        if ((unsigned char)fields->data[i] < 0x20 || fields->data[i] == 0x7f)
            fields->data[i] = ' ';
    }
    buf_puts(fields, "\r\n");
}

static void announce_head(struct http_request *request)
{
    const struct http_server_options *options = &request->conn->server->options;

    if (options->on_head)
        options->on_head(request, options->arg);
}

/* --- refusals -----------------------------------------------------------------------------------
 */

static void write_refusal(struct http_conn *conn, struct answer_head *head,
                          const struct http_refusal *refusal)
{
    struct http_server *server = conn->server;
    struct buf body;

    buf_init(&body, REFUSAL_BODY_MAX);
    server->options.refuse(&body, refusal->status, refusal->code, NULL, refusal->message);
    head->status = refusal->status;
    head->content_type = "application/json";
    head->content_length = (int64_t)body.len;
    write_head(server, http_conn_output(conn), head);
    evbuffer_add(http_conn_output(conn), body.data, body.len);
    buf_release(&body);
}

/* fields: what was added to the answer that is refused; may be NULL. */
static void write_refusal_with(struct http_conn *conn, const char *id, const struct buf *fields,
                               const struct http_refusal *refusal)
{
    struct answer_head head = {.minor = 1, .request_id = id};
    struct buf all;

    buf_init(&all, REFUSAL_FIELDS_MAX);
    if (fields && fields->len > 0)
        buf_append(&all, fields->data, fields->len);
    if (refusal->status == 503)
        buf_puts(&all, "retry-after: 1\r\n");
    if (all.len > 0)
        head.fields = &all;
    write_refusal(conn, &head, refusal);
    buf_release(&all);
}

void http_reply_refusal(struct http_conn *conn, const char *id, const struct http_refusal *refusal)
{
    write_refusal_with(conn, id, NULL, refusal);
}

void http_reply_instead(struct http_request *request, const struct http_refusal *refusal)
{
    struct http_conn *conn = request->conn;

    conn->keep_alive = false;
    request->is_closed = true;
    if (request->answer != HTTP_ANSWER_NONE || !conn->bev) {
        request->abort = HTTP_ABORT_FIN; /* half an answer is there: it can only be cut */
        return;
    }
    announce_head(request);
    request->answer = HTTP_ANSWER_WHOLE;
    request->status = refusal->status;
    write_refusal_with(conn, request->id, &request->fields, refusal);
}

/* --- whole --------------------------------------------------------------------------------------
 */

static bool is_bodyless(int status)
{
    return status == 204 || status == 304 || (status >= 100 && status < 200);
}

static void end(struct http_request *request)
{
    assert(!request->is_ended);
    request->is_ended = true;
    http_conn_wake(request->conn);
}

/* Nobody would get what is written now. */
static bool is_lost(const struct http_request *request)
{
    return request->is_closed || !request->conn->bev || !request->conn->server;
}

void http_reply(struct http_request *request, int status, const char *content_type,
                const void *body, size_t len)
{
    assert(!request->is_ended);
    if (!is_lost(request)) {
        assert(request->answer == HTTP_ANSWER_NONE);
        announce_head(request);
        request->answer = HTTP_ANSWER_WHOLE;
        if (status == 411) /* what follows may be the body that has no length: no request */
            request->conn->keep_alive = false;
        decide_keep_alive(request);
        write_answer_head(request, status, content_type, is_bodyless(status) ? -1 : (int64_t)len);
        if (len > 0 && !request->is_head && !is_bodyless(status))
            evbuffer_add(http_conn_output(request->conn), body, len);
    }
    end(request);
}

/* --- streamed -----------------------------------------------------------------------------------
 */

void http_start(struct http_request *request, int status, const char *content_type)
{
    assert(!request->is_ended && request->answer == HTTP_ANSWER_NONE);
    if (is_lost(request))
        return;
    announce_head(request);
    request->answer = HTTP_ANSWER_STREAM;
    request->is_bodyless = is_bodyless(status);
    request->is_chunked_out = request->head.minor > 0 && !request->is_bodyless;
    if (request->head.minor == 0)
        request->conn->keep_alive = false;
    decide_keep_alive(request);
    write_answer_head(request, status, content_type, -1);
}

bool http_write(struct http_request *request, const void *data, size_t len)
{
    struct evbuffer *out = http_conn_output(request->conn);

    assert(!request->is_ended);
    if (is_lost(request))
        return false;
    assert(request->answer == HTTP_ANSWER_STREAM);
    if (evbuffer_get_length(out) > request->conn->server->options.limits.max_pending_bytes)
        return false;
    if (len == 0 || request->is_head || request->is_bodyless)
        return true;
    if (request->is_chunked_out)
        evbuffer_add_printf(out, "%zx\r\n", len);
    evbuffer_add(out, data, len);
    if (request->is_chunked_out)
        evbuffer_add(out, "\r\n", 2);
    return true;
}

size_t http_pending(const struct http_request *request)
{
    return http_conn_pending(request->conn);
}

void http_on_drain(struct http_request *request, size_t low_water,
                   void (*on_drain)(struct http_request *, void *arg), void *arg)
{
    request->low_water = low_water;
    request->on_drain = on_drain;
    request->on_drain_arg = arg;
    http_conn_wake(request->conn);
}

void http_end(struct http_request *request)
{
    assert(!request->is_ended);
    if (!is_lost(request)) {
        struct http_refusal refusal;

        if (request->answer == HTTP_ANSWER_NONE) {
            http_refuse(&refusal, 500, "internal", "The server has no answer to this request");
            http_reply_instead(request, &refusal);
        } else if (request->is_chunked_out && !request->is_head) {
            evbuffer_add(http_conn_output(request->conn), "0\r\n\r\n", 5);
        }
    }
    end(request);
}

/* Never none at all: libevent goes on with a timeout that an event once had, also when it is added
 * again without one. */
void http_set_write_timeout(struct http_request *request, int64_t ms)
{
    struct http_conn *conn = request->conn;
    struct timeval wait;

    if (!conn->bev || !conn->server)
        return;
    if (ms < 0)
        ms = conn->server->options.limits.write_timeout_ms;
    wait.tv_sec = (time_t)(ms / 1000);
    wait.tv_usec = (suseconds_t)(ms % 1000 * 1000);
    bufferevent_set_timeouts(conn->bev, NULL, &wait);
}

void http_abort(struct http_request *request, bool hard)
{
    request->abort = hard ? HTTP_ABORT_RESET : HTTP_ABORT_FIN;
    request->conn->keep_alive = false;
    end(request);
}
