/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of one running simulator, and its way from an HTTP request to the right part. */
#ifndef TESTS_SIMULATOR_SIMULATOR_H
#define TESTS_SIMULATOR_SIMULATOR_H

#include <stdint.h>

#include "common/base/err.h"

struct call_log;
struct event_base;
struct faults;
struct gates;
struct hooks;
struct http_request;
struct http_server;
struct pacer;

struct simulator_options {
    const char *listen;   /* "127.0.0.1:0" */
    const char *log_path; /* NULL: calls are kept in memory only */
    uint64_t seed;        /* changes all texts */
    int max_connections;
    bool is_lenient; /* unknown fields of requests pass */
};

/* All borrowed by the handlers while the simulator runs. */
struct simulator {
    struct event_base *base;
    struct http_server *server;
    struct pacer *pacer;
    struct call_log *calls;
    struct faults *faults;
    struct gates *gates;
    struct hooks *hooks;
    uint64_t seed;
    int port;
    bool is_lenient;
    bool is_closing; /* calls in flight are cut by us, not left by their clients */
};

/* Listens and answers on base's loop from now on.  simulator->port is the real port. */
bool simulator_open(struct simulator *simulator, struct event_base *base,
                    const struct simulator_options *options, struct err *err) MUST_CHECK;
void simulator_close(struct simulator *simulator);

/* The handler of endpoints.c: finds what a path stands for. */
void endpoints_handle(struct http_request *request, void *arg);

#endif
