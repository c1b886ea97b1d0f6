/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the HTTP API, several at once or one that is waited for. */
#ifndef PRODUCER_CLI_API_H
#define PRODUCER_CLI_API_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/buf.h"
#include "common/base/err.h"

struct cli;
struct event_base;
struct api;
struct api_call;

enum api_who { WHO_NOBODY, WHO_TENANT, WHO_ADMIN };

enum { API_BODY_MAX = 256 * 1024 * 1024, API_NEXT_SIZE = 128 };

struct api_request {
    enum api_who who;
    const char *method;
    const char *path; /* with its query */
    const char *body; /* NULL: none */
    size_t body_len;
    const char *content_type; /* NULL: application/json */
    const char *accept;
    const char *idempotency_key;
    const char *last_event_id;
    int64_t timeout_ms; /* 0: 90 s; without a byte for so long the call ends */
    bool is_repeatable; /* api_run asks again when the answer breaks off, or is a 503 */
    bool is_endless;    /* no deadline while bytes come: event streams */
    /* Pieces of a 2xx answer's body as they come, instead of collecting it; false ends the call. */
    bool (*on_data)(const char *data, size_t len, void *arg);
    void *arg;
};

/* status 0: no answer came, and message says why.  body is NUL-terminated. */
struct api_answer {
    int status;
    const char *body;
    size_t body_len;
    const char *message; /* of the failure: the server's own, or what went wrong on the way */
    const char *code;    /* of the error object; "" */
    const char *content_type;
    const char *next_after; /* X-Next-After: the next page is behind it; "" */
    int64_t retry_after_ms; /* 0: not said */
    int64_t date_us;        /* the server's clock by its Date field; 0: not said */
    int64_t asked_us, answered_us;
    bool is_replayed;  /* Idempotent-Replayed */
    bool was_stopped;  /* on_data returned false */
    bool is_truncated; /* the answer broke off */
};
typedef void api_done_fn(const struct api_answer *answer, void *arg);

/* NULL with the reason printed: a key is missing, or the URL is bad. */
struct api *api_of(struct cli *cli);
void api_free(struct api *api);
struct event_base *api_base(struct api *api);

/* done is called exactly once, never from inside, unless cancelled.  NULL: err says why. */
struct api_call *api_start(struct cli *cli, const struct api_request *request, api_done_fn *done,
                           void *arg, struct err *err) MUST_CHECK;
void api_cancel(struct api_call *call);

/* Waits for the answer and hands it to done.  The exit code: CLI_DONE for 2xx; anything else has
 * been told on standard error. */
int api_run(struct cli *cli, const struct api_request *request, api_done_fn *done, void *arg);
void api_pause(struct api *api, int64_t ms);
/* What an answer means for the exit code; tells nothing. */
int api_exit(const struct api_answer *answer);
/* Tells why an answer is not a good one, and gives its exit code. */
int api_tell(const struct cli *cli, const struct api_answer *answer);

/* The body of a 2xx answer, parsed: *out is the caller's.  With --json it is printed as it came and
 * *out stays NULL. */
int api_json(struct cli *cli, const struct api_request *request, json_t **out);
/* The same without regard to --json. */
int api_fetch(struct cli *cli, const struct api_request *request, json_t **out);

/* Appends text percent-encoded; and "?name=value" or "&name=value" (nothing when value is NULL). */
bool api_put_escaped(struct buf *path, const char *text);
bool api_put_query(struct buf *path, const char *name, const char *value);

#endif
