/* SPDX-License-Identifier: Apache-2.0 */
/* A raw-socket server in threads, so that each misbehaviour is exact, and calls of the HTTP client
 * to it whose every word is kept. */
#ifndef TESTS_UNIT_HTTP_CLIENT_FIXTURE_H
#define TESTS_UNIT_HTTP_CLIENT_FIXTURE_H

#include "common/io/http_client.h"

#include <event2/event.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { CONNECTIONS_MAX = 256, PARALLEL = 200 };

/* --- the server ------------------------------------------------------------------------------- */

/* Each connection gets a thread that runs the script, and is closed when that returns. */
struct raw_server;
typedef void script_fn(struct raw_server *server, int fd, int nth_connection);

struct visit {
    struct raw_server *server;
    int fd;
    int nth;
};

struct raw_server {
    int listener;
    int port;
    script_fn *script;
    pthread_t acceptor;
    pthread_t threads[CONNECTIONS_MAX];
    struct visit visits[CONNECTIONS_MAX];
    int accepted;
    atomic_int requests; /* whole ones read */
    atomic_int closed;   /* scripts that saw the client close */
    atomic_bool is_stopping;
    pthread_barrier_t barrier; /* of PARALLEL */
    char first_request[8192];
};

/* For scripts.  False: not all of it could be sent. */
bool raw_say(int fd, const char *text);
/* Reads one whole request; false when the client closed. */
bool raw_read_request(struct raw_server *server, int fd);
/* Waits until the client closes (or sends something). */
void raw_wait_for_close(struct raw_server *server, int fd);
/* The connection will be reset when it is closed. */
void raw_reset(int fd);

/* Scripts: a good answer to each request; never an answer. */
void answer_hello(struct raw_server *server, int fd, int nth);
void stay_silent(struct raw_server *server, int fd, int nth);

/* A socket on a free port of 127.0.0.1 that does not listen. */
int bind_free_port(int *port);

/* --- the calls -------------------------------------------------------------------------------- */

/* What the test saw of one call. */
struct seen {
    struct event_base *base;
    struct http_call *call;
    int done;
    int waiting_for; /* leave the loop at so many done */
    struct http_answer answer;
    char message[256];
    char headers[4096];
    char body[65536];
    size_t body_len;
    int status_at_data;
    bool stop_at_data;
    bool cancel_at_data;
    bool cancel_at_header;
    struct http_client *free_at_done;
    bool was_sent;
};

extern const struct http_callbacks seen_callbacks;
extern const struct http_client_options plain_options;

/* A loop, a client on it, a server, and the call that is made next. */
struct http_world {
    struct event_base *base;
    struct http_client *client;
    struct raw_server *server;
    struct http_call_spec spec;
    char url[128];
    struct seen seen;
};

struct http_world *http_world_new(script_fn *script, const struct http_client_options *options);
void http_world_free(struct http_world *world);

struct http_call *http_world_begin(struct http_world *world, struct seen *seen);
/* Turns the loop until a call is done; fails the test when nothing happens. */
void http_world_turn(struct http_world *world);
/* Turns the loop until the server counted so many (await_atomic: lets the loop rest). */
void http_world_turn_until(struct http_world *world, atomic_int *count, int wanted);
void await_atomic(atomic_int *count, int wanted);
/* A whole call; the result is the world's. */
struct seen *http_world_run(struct http_world *world);

void assert_http_outcome(const struct seen *seen, enum http_outcome outcome);

#endif
