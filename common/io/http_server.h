/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.1 server: streamed bodies in, streamed answers out, every size and time capped. */
#ifndef COMMON_IO_HTTP_SERVER_H
#define COMMON_IO_HTTP_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct buf;
struct event_base;
struct http_request;
struct http_server;

/* All limits; 0 means the default that is named. */
struct http_limits {
    int max_connections;        /* over it a new one gets 503 and is closed; 0: 10000 */
    int max_connections_per_ip; /* the same; 0: no limit of its own */
    size_t max_head_bytes;      /* request line and headers; 0: 32 KiB */
    size_t max_uri_bytes;       /* 0: 8 KiB */
    int max_fields;             /* 0: 100 */
    int64_t head_timeout_ms;    /* whole head, from the first byte or the accept; 0: 10 s */
    int64_t idle_timeout_ms;    /* between requests of one connection; 0: 75 s */
    int64_t body_grace_ms;      /* then at least body_min_rate; 0: 10 s */
    size_t body_min_rate;       /* bytes per second; 0: 1024 */
    int64_t write_timeout_ms;   /* no byte taken by a peer that has bytes waiting; 0: 30 s */
    size_t max_pending_bytes;   /* unsent answer bytes of one connection (http_write); 0: 1 MiB */
};

/* Called when the head was read and judged, before any byte of the body is taken.  The handler (or
 * what it starts) must end the request exactly once, with http_reply, http_end or http_abort; until
 * then `request` stays valid, also when the client goes away (see http_on_close) and even when the
 * server is freed.
 *
 * No callback of this interface is ever called from inside one of its functions, so a handler may
 * set things up in any order, and may end the request inside any of its callbacks. */
typedef void http_handler_fn(struct http_request *request, void *arg);

struct http_server_options {
    struct http_limits limits;
    http_handler_fn *handler;
    void *arg;
    /* Writes the error envelope for refusals the server itself makes (framing, syntax, time, size):
     * code is of the API's error table.  Required. */
    void (*refuse)(struct buf *body, int status, const char *code, const char *param,
                   const char *message);
    /* Called before the head of an answer is written (not of a refusal for bad framing): may add
     * fields.  May be NULL. */
    void (*on_head)(struct http_request *request, void *arg);
    /* Called when a request has been ended, for metrics and logs; may be NULL.  status is 0 when
     * the client was gone, or dropped, before any answer. */
    void (*on_answered)(const struct http_request *request, int status, int64_t duration_us,
                        void *arg);
    const char *tls_certificate; /* PEM files; NULL: plain */
    const char *tls_key;
};

struct http_server_stats {
    int connections;        /* open now, without those that are being refused */
    int requests;           /* with their handlers, or answered but not yet sent out whole */
    uint64_t accepted;      /* ever, with refused ones */
    uint64_t refused;       /* connections over a cap or while draining: 503 */
    uint64_t bad_requests;  /* refused for framing, syntax, size or version */
    uint64_t timeouts;      /* heads, bodies and readers that were too slow */
    uint64_t accept_errors; /* no descriptor or memory: accepting rested */
};

/* Takes over listening sockets (see http_listen).  On failure they are still the caller's. */
struct http_server *http_server_new(struct event_base *base,
                                    const struct http_server_options *options, const int *listeners,
                                    int count, struct err *err) MUST_CHECK;
/* Closes idle connections; requests in flight go on with `connection: close`; what still comes, be
 * it a request on an open connection or a new connection, gets 503 `unavailable` and is closed. */
void http_server_drain(struct http_server *server);
/* In flight: with a handler, or answered but not yet taken whole by the kernel. */
int http_server_requests(const struct http_server *server);
void http_server_stats(const struct http_server *server, struct http_server_stats *out);
/* Drops all connections (on_close runs).  Not from inside a callback of this server. */
void http_server_free(struct http_server *server);

/* "127.0.0.1:8080", "[::]:80", ":0".  Returns the socket, or -1; *port gets the real port. */
int http_listen(const char *address, int *port, struct err *err) MUST_CHECK;
/* Is it such an address?  Nothing is looked up or opened. */
bool http_listen_check(const char *address, struct err *err) MUST_CHECK;

/* --- the request ------------------------------------------------------------------------------ */

const char *http_method(const struct http_request *request); /* "GET" */
/* Percent-decoded, no query, valid UTF-8 without NUL.  "%2F" stays as it is (in upper case), so
 * that a slash in the path is always one that divides segments. */
const char *http_path(const struct http_request *request);
const char *http_request_id(const struct http_request *request); /* the caller's own or ours */
/* The value of a header field, NULL when absent; repeated list fields are joined with ", ".
 * name in lower case. */
const char *http_header(const struct http_request *request, const char *name);
/* -1: no body length was announced (no body, unless http_is_chunked). */
int64_t http_content_length(const struct http_request *request);
bool http_is_chunked(const struct http_request *request);
const char *http_peer(const struct http_request *request); /* "127.0.0.1" */

/* The decoded query parameters in order; the visitor returns false to stop.  False with err when
 * the encoding is broken or a name comes a second time (code invalid_value), or the visitor
 * stopped.
 */
bool http_query_each(const struct http_request *request,
                     bool (*visit)(const char *name, const char *value, void *arg, struct err *err),
                     void *arg, struct err *err) MUST_CHECK;

void http_set_data(struct http_request *request, void *data); /* the handler's own pointer */
void *http_data(const struct http_request *request);

/* Called once if the client goes away before the request is ended: stop working for it, then end it
 * (http_end or http_abort; what is written is thrown away).  A client that only shuts its sending
 * side still gets its answer; see http_on_half_close. */
void http_on_close(struct http_request *request, void (*on_close)(struct http_request *, void *arg),
                   void *arg);
bool http_is_closed(const struct http_request *request);
/* Called once when the client has shut its sending side.  That is legal, and also how a client that
 * left looks until something is written to it: only the handler can know which is likely. */
void http_on_half_close(struct http_request *request,
                        void (*on_half_close)(struct http_request *, void *), void *arg);

/* --- the body --------------------------------------------------------------------------------- */

/* Reads the whole body into memory, at most max bytes.  Sends "100 Continue" when asked for.  data
 * is NUL-terminated and lives until the request ends.  When the body is over max (413), too slow
 * (408) or broken (400) the server answers by itself and done is not called; the request then
 * counts as closed: on_close runs, and must see to its end.  Without an on_close the server ends it
 * too, as it does when the client leaves before done was called: who only waits for done needs
 * none. */
typedef void http_body_fn(struct http_request *request, const char *data, size_t len, void *arg);
void http_read_body(struct http_request *request, size_t max, http_body_fn *done, void *arg);

/* Streams the body.  on_chunk gets bytes as they come; on_end is called once: ok false when the
 * client broke off or a limit was passed (code tells: "incomplete", "too_large", "timeout",
 * "invalid_value" for broken framing), and the answer may still be written if the connection lives
 * (if not, on_close follows unless the request was ended).  total_max bounds the sum; idle_ms (0:
 * the minimum rate rules) is the longest silence. */
typedef void http_chunk_fn(struct http_request *request, const char *data, size_t len, void *arg);
typedef void http_body_end_fn(struct http_request *request, bool ok, const char *code, void *arg);
void http_stream_body(struct http_request *request, size_t total_max, int64_t idle_ms,
                      http_chunk_fn *on_chunk, http_body_end_fn *on_end, void *arg);
/* Back-pressure: nothing more is read from the socket, and the clock of the body stands still,
 * until http_resume_body.  May be called in on_chunk.  Meanwhile a client that leaves is not
 * noticed. */
void http_pause_body(struct http_request *request);
void http_resume_body(struct http_request *request);

/* --- the answer ------------------------------------------------------------------------------- */

/* Adds a field to the answer's head; name in lower case.  Before http_reply/http_start.  Control
 * characters in value become blanks.  The server itself writes date, x-request-id, content-length,
 * transfer-encoding and connection, and content-type from what http_reply is given. */
void http_add_header(struct http_request *request, const char *name, const char *value);

/* The whole answer at once; ends the request.  content_type may be NULL.  To HEAD only the head is
 * sent: handlers do as for GET.  A body not read yet is drained within limits or the
 * connection closes after the answer. */
void http_reply(struct http_request *request, int status, const char *content_type,
                const void *body, size_t len);

/* A streamed answer (chunked; to HTTP/1.0 until close): start, write any number of times, end. */
void http_start(struct http_request *request, int status, const char *content_type);
/* All of data is taken, or nothing: false when more than max_pending_bytes wait already or the
 * client is gone.  Then stop until on_drain, or drop the stream. */
bool http_write(struct http_request *request, const void *data, size_t len) MUST_CHECK;
size_t http_pending(const struct http_request *request); /* bytes not yet taken by the kernel */
/* Calls on_drain once when pending falls to below or at low_water. */
void http_on_drain(struct http_request *request, size_t low_water,
                   void (*on_drain)(struct http_request *, void *arg), void *arg);
void http_end(struct http_request *request);

/* How long a peer that has bytes waiting may take none, from now on and on this connection, instead
 * of write_timeout_ms; negative: write_timeout_ms again.  For who may go on sending a body before
 * reading the answer. */
void http_set_write_timeout(struct http_request *request, int64_t ms);

/* Drops the connection, with a reset if hard (SO_LINGER 0) or a plain FIN, after what was written
 * so far (for a reset: as much of it as the kernel takes at once).  Ends the request. */
void http_abort(struct http_request *request, bool hard);

#endif
