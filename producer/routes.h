/* SPDX-License-Identifier: Apache-2.0 */
/* The table of method, path, handler and scope, and what a handler is given. */
#ifndef PRODUCER_ROUTES_H
#define PRODUCER_ROUTES_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/model/api_key.h"
#include "common/model/job.h"
#include "producer/intake.h"

struct http_request;
struct producer;
struct route_entry;

enum scope {
    SCOPE_NONE,       /* anybody, also without a key */
    SCOPE_JOBS_READ,  /* "jobs:read", a tenant's key */
    SCOPE_JOBS_WRITE, /* "jobs:write", a tenant's key */
    SCOPE_ADMIN,      /* "admin", a key of no tenant */
};

enum { CALLER_KEY_SIZE = 40 };

/* Who is calling; all empty under SCOPE_NONE. */
struct caller {
    char key_id[CALLER_KEY_SIZE];   /* "jwt:NAME" for tokens of the identity provider NAME */
    char tenant[JOB_LABEL_MAX + 1]; /* "" for an admin key */
};

enum body_kind {
    BODY_NONE,     /* a body that comes all the same is thrown away */
    BODY_JSON,     /* read whole before the handler runs; another content-type than JSON is 415, no
                      length 411 */
    BODY_OPTIONAL, /* the same, but none at all is fine (body_len 0) */
    BODY_STREAM,   /* left to the handler, which calls http_stream_body */
};

enum { ROUTE_PARAMS_MAX = 2 };

/* One request that was routed and authenticated.  Lives until the request is ended (http_reply,
 * http_end, http_abort), as `http` does; handlers must end it exactly once, at any time later.  A
 * handler that only waits for the database need not watch for clients that leave: what it answers
 * to them is thrown away.  http_data() of the request is the context itself; use `data`. */
struct request_context {
    struct producer *producer;
    struct http_request *http;
    const struct route_entry *route;
    struct caller caller; /* known also with a refusal for want of a scope */
    struct err *refusal;  /* NULL: none */
    char params[ROUTE_PARAMS_MAX][JOB_LABEL_MAX + 1]; /* what stood for {…} in the path; "" where it
                                                         was too long to be anything */
    const char *body;                                 /* BODY_JSON, BODY_OPTIONAL: NUL-terminated */
    size_t body_len;
    int64_t body_charge;         /* counted in producer->body_bytes */
    struct intake_meters meters; /* for the headers of the answer */
    void *data;                  /* the handler's own */
};

typedef void route_handler_fn(struct request_context *context);

struct route_entry {
    const char *method;
    const char *pattern; /* "/v1/jobs/{id}/events"; as ":id" in the `path` label of the metrics */
    enum scope scope;
    enum body_kind body;
    route_handler_fn *handler;
};

/* http_server's handler, on_head and on_answered; arg is the producer. */
void routes_handle(struct http_request *http, void *arg);
void routes_head(struct http_request *http, void *arg);
void routes_answered(const struct http_request *http, int status, int64_t duration_us, void *arg);

/* The pure part: finds the entry of a method and path.  NULL with *allow (of ALLOW_SIZE, comma
 * separated methods) empty: no such path; not empty: another method.  HEAD is served as GET. */
enum { ALLOW_SIZE = 64 };
const struct route_entry *routes_find(const char *method, const char *path,
                                      char params[ROUTE_PARAMS_MAX][JOB_LABEL_MAX + 1],
                                      char allow[ALLOW_SIZE]);

#endif
