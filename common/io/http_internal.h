/* SPDX-License-Identifier: Apache-2.0 */
/* What http_client.c (the multi handle and the loop) and http_call.c (one transfer) share. */
#ifndef COMMON_IO_HTTP_INTERNAL_H
#define COMMON_IO_HTTP_INTERNAL_H

#include <sys/queue.h>

#include "common/base/buf.h"
#include "common/io/http_client.h"

struct curl_slist;
struct event;

enum { HTTP_MESSAGE_MAX = 256 }; /* CURL_ERROR_SIZE */

/* Which of the client's lists a call is in; http_call_move() is the only one who changes either.
 *
 * QUEUED: made, not yet handed to curl (that happens at loop level, never inside a curl callback).
 * ACTIVE: curl has it.
 * DEAD:   ended or cancelled; waits for the loop to take it from curl and free it. */
enum http_call_state { CALL_QUEUED, CALL_ACTIVE, CALL_DEAD, CALL_STATES };

TAILQ_HEAD(http_call_list, http_call);

struct http_client {
    struct event_base *base;
    struct http_client_options options;
    char *ca_file;
    void *multi;         /* CURLM */
    struct event *timer; /* curl's own timeout */
    struct event *tick;  /* asks curl once a second whether a wake-up was lost */
    struct event *work;  /* starts the queued, frees the dead */
    struct http_call_list calls[CALL_STATES];
    int count;          /* queued and active */
    bool is_busy;       /* below us on the stack something uses the client */
    bool is_freed;      /* destroy when no longer busy */
    struct buf scratch; /* one header field, for on_header */
};

struct http_call {
    TAILQ_ENTRY(http_call) link;
    enum http_call_state state;
    struct http_client *client;
    struct http_callbacks callbacks;
    void *arg;
    void *easy; /* CURL */
    bool is_in_multi;
    struct curl_slist *headers;
    char *body;
    struct event *timer;

    int64_t connect_timeout_us;
    int64_t first_byte_timeout_us;
    int64_t idle_timeout_us;
    int64_t total_timeout_us;
    size_t max_body_bytes;
    size_t max_head_bytes;

    int64_t start_us;
    int64_t final_head_us; /* when the final head began; 0: not yet */
    int64_t last_byte_us;
    int sends;          /* times curl was about to put the request on the wire */
    bool is_resent;     /* curl wanted to send again and was stopped */
    bool is_blocked;    /* an address was refused */
    bool is_in_head;    /* a status line was read, its empty line was not */
    bool head_is_whole; /* the final head was read to its empty line */
    bool is_stopped;    /* we told curl to abort, for the reason stopped_as */
    enum http_outcome stopped_as;
    int head_status; /* of the head being read, 1xx too */
    int status;
    size_t head_bytes;
    size_t body_bytes;
    char peer[64];
    char message[HTTP_MESSAGE_MAX];
};

/* http_client.c: puts call into the list of state. */
void http_call_move(struct http_call *call, enum http_call_state state);
/* Guards every entry from the loop.  Between the two the client is not destroyed. */
void http_client_enter(struct http_client *client);
void http_client_leave(struct http_client *client);
/* Ends an active or queued call: takes it from curl, tells on_done, leaves it DEAD.  Only at loop
 * level, between enter and leave. */
void http_client_end_call(struct http_call *call, enum http_outcome outcome);

/* http_call.c: what curl's result (a CURLcode) means, given what the call saw. */
enum http_outcome http_call_outcome(struct http_call *call, int code);
void http_call_free(struct http_call *call); /* not in the multi handle any more */

#endif
