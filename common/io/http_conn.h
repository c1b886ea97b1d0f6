/* SPDX-License-Identifier: Apache-2.0 */
/* The insides of the HTTP server, for common/io/http_*.c and for tests that bring their own socket.
 */
#ifndef COMMON_IO_HTTP_CONN_H
#define COMMON_IO_HTTP_CONN_H

#include <netinet/in.h>
#include <sys/queue.h>

#include "common/base/buf.h"
#include "common/io/http_chunk.h"
#include "common/io/http_head.h"
#include "common/io/http_server.h"

struct bufferevent;
struct event;
struct evbuffer;
struct http_conn;
struct http_parser;
struct map;
struct ssl_ctx_st;

/* One rule keeps this safe: functions of the interface only note what the handler wants and call
 * http_conn_wake(); the machine (http_conn_advance) runs from libevent's callbacks alone.  So no
 * callback of the handler ever runs inside a call of the handler, the machine never runs inside
 * itself, and a connection is freed only at the end of a turn, when nothing of libevent points at
 * it any more. */

TAILQ_HEAD(http_conn_list, http_conn);

struct http_listener {
    int fd;
    struct event *event;
    struct http_server *server;
};

struct http_server {
    struct event_base *base;
    struct http_server_options options; /* limits with their defaults filled in */
    struct ssl_ctx_st *tls;
    struct http_listener *listeners;
    int listener_count;
    struct event *accept_retry; /* after the kernel had no descriptor for us */
    struct event *turn;         /* runs the machines of `woken` */
    struct http_conn_list conns;
    struct http_conn_list woken;
    struct map *per_ip; /* address -> count; NULL when there is no such limit */
    bool is_draining;
    int refusing; /* connections that only get a 503; not in stats.connections */
    struct http_server_stats stats;
    int64_t date_s; /* of `date` */
    char date[40];
};

enum http_conn_state {
    HTTP_CONN_HEAD,    /* between requests or inside a head; there is no request */
    HTTP_CONN_REQUEST, /* a request is with its handler, its body may be coming in */
    HTTP_CONN_DISCARD, /* answered; the rest of its body is read and thrown away */
    HTTP_CONN_FLUSH,   /* the last bytes go out, then our side is shut */
    HTTP_CONN_LINGER,  /* reading to the end, so that no reset eats the answer */
    HTTP_CONN_DEAD,    /* the socket is gone; waits for the request to be ended */
};

struct http_conn {
    struct http_server *server; /* NULL when the server is gone and the request is not */
    struct bufferevent *bev;    /* NULL when DEAD */
    struct event *timer;
    TAILQ_ENTRY(http_conn) link;
    TAILQ_ENTRY(http_conn) woken;
    struct http_request *request;
    struct http_head_scan scan;
    struct buf head;
    int64_t deadline_us; /* 0: none */
    int64_t armed_us;    /* when the timer will fire; at or before the deadline */
    enum http_conn_state state;
    char peer[INET6_ADDRSTRLEN];
    bool is_refused; /* gets a 503 on being accepted and is not counted */
    bool is_woken;
    bool is_forgotten; /* by its server: to be freed when it is woken */
    bool is_advancing;
    bool is_eof;     /* the peer has shut its side */
    bool is_broken;  /* the socket reported an error */
    bool is_reading; /* EV_READ is on */
    bool is_busy;    /* counted in stats.requests */
    bool keep_alive; /* after the answer of this request */
    bool was_used;   /* answered at least one request */
};

enum http_body_framing { HTTP_FRAMED_NONE, HTTP_FRAMED_LENGTH, HTTP_FRAMED_CHUNKED };

enum http_body_want { HTTP_BODY_UNASKED, HTTP_BODY_READ, HTTP_BODY_STREAM, HTTP_BODY_DISCARD };

struct http_body {
    enum http_body_framing framing;
    enum http_body_want want;
    int64_t remaining; /* of a framed length */
    struct http_chunk chunk;
    size_t received;
    size_t max;
    int64_t idle_us; /* 0: the minimum rate rules */
    int64_t held_us; /* time that was left when the body was paused */
    bool expects_continue;
    bool is_started;
    bool is_complete; /* all of it was decoded */
    bool is_paused;
    bool is_settled; /* its end, good or bad, was told */
    struct buf data;
    http_body_fn *done;
    http_chunk_fn *on_chunk;
    http_body_end_fn *on_end;
    void *arg;
};

enum http_answer { HTTP_ANSWER_NONE, HTTP_ANSWER_STREAM, HTTP_ANSWER_WHOLE };

struct http_joined; /* a repeated field's values in one string */

struct http_request {
    struct http_conn *conn;
    struct buf raw; /* the bytes `head` points into */
    struct http_head head;
    struct http_parser *parser;
    struct http_joined *joined;
    char *path;
    const char *query;
    char id[129];
    void *data;
    void (*on_close)(struct http_request *, void *);
    void *on_close_arg;
    void (*on_half_close)(struct http_request *, void *);
    void *on_half_close_arg;
    void (*on_drain)(struct http_request *, void *);
    void *on_drain_arg;
    size_t low_water;
    struct http_body body;
    enum http_answer answer;
    int status;        /* of the answer; 0: none was given */
    struct buf fields; /* http_add_header */
    int64_t started_us;
    bool is_head;     /* method HEAD: the answer has no body */
    bool is_bodyless; /* nor has a 204 or 304 */
    bool is_chunked_out;
    bool is_ended;
    bool is_closed; /* nobody waits for an answer any more */
    bool is_close_told;
    bool is_half_close_told;
    enum { HTTP_NO_ABORT, HTTP_ABORT_FIN, HTTP_ABORT_RESET } abort;
};

/* --- http_server.c: what the connections need of their server -------------------------------- */

/* Takes over a connected, non-blocking socket, as if it had been accepted.  False when there is no
 * memory; the socket is closed then. */
bool http_server_adopt(struct http_server *server, int fd, const char *peer);
void http_server_forget(struct http_conn *conn); /* takes it out of every list and count */
const char *http_server_date(struct http_server *server);

/* --- http_conn.c ------------------------------------------------------------------------------ */

/* Takes over fd; false as http_server_adopt. */
struct http_conn *http_conn_new(struct http_server *server, int fd, const char *peer);
void http_conn_free(struct http_conn *conn);
/* The server of a DEAD connection goes away; the connection goes when its request is ended. */
void http_conn_orphan(struct http_conn *conn);
void http_conn_wake(struct http_conn *conn); /* the machine runs soon; callable anywhere */
void http_conn_advance(struct http_conn *conn);
/* Answers what never became a request; the connection closes after it. */
void http_conn_refuse(struct http_conn *conn, const struct http_refusal *refusal);
/* Closes the socket now.  on_close has run when it returns. */
void http_conn_die(struct http_conn *conn);
bool http_conn_is_late(const struct http_conn *conn);            /* the deadline has passed */
struct evbuffer *http_conn_output(const struct http_conn *conn); /* NULL when DEAD */
size_t http_conn_pending(const struct http_conn *conn);

/* --- http_request.c --------------------------------------------------------------------------- */

/* Makes a request of the connection's head (taken over).  NULL with the refusal to send; id then
 * holds the request id to send it with (129 bytes). */
struct http_request *http_request_new(struct http_conn *conn, struct http_refusal *refusal,
                                      char *id);
void http_request_free(struct http_request *request);
void http_request_make_id(char *id);
/* Tells the handler, once, that nobody waits any more. */
void http_request_tell_closed(struct http_request *request);

/* --- http_body.c ------------------------------------------------------------------------------ */

/* Gives the head to http-parser: both must read it the same way. */
bool http_body_init(struct http_request *request, bool *keep_alive,
                    struct http_refusal *refusal) MUST_CHECK;
void http_body_release(struct http_request *request);
/* Decodes a run of what has come in.  True when something happened: look again. */
bool http_body_step(struct http_request *request);
/* May what is left be read and thrown away, so that the connection can go on? */
bool http_body_is_discardable(const struct http_request *request);
/* The client is gone: a streaming handler is told that its body ends here. */
void http_body_lose(struct http_request *request);

/* --- http_reply.c ----------------------------------------------------------------------------- */

void http_reply_refusal(struct http_conn *conn, const char *id, const struct http_refusal *refusal);
/* The server answers a request of its own accord; the handler only has to end it. */
void http_reply_instead(struct http_request *request, const struct http_refusal *refusal);

#endif
