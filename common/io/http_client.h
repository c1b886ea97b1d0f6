/* SPDX-License-Identifier: Apache-2.0 */
/* Outgoing HTTP on curl_multi and the event loop: streamed answers, typed failures, four timeouts.
 */
#ifndef COMMON_IO_HTTP_CLIENT_H
#define COMMON_IO_HTTP_CLIENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/base/err.h"

struct event_base;
struct http_client;
struct http_call;

struct http_client_options {
    int max_calls;            /* at once; over it http_call_start refuses; 0: 10000 */
    int max_idle_connections; /* kept in the pool; 0: 256 */
    /* Asked with the very address curl is about to connect to; NULL: all are allowed.  A refusal
     * ends the call as HTTP_BLOCKED. */
    bool (*address_allowed)(const struct sockaddr *address, void *arg);
    void *arg;
    const char *ca_file; /* NULL: the system's */
};

/* Each client has its own multi handle and connection pool.  No proxies, netrc, cookies, redirects,
 * compression, HTTP/2 or alt-svc; only http and https; connections idle for over 20 s are not
 * reused.  A request is put on the wire once: see HTTP_RESENT. */
struct http_client *http_client_new(struct event_base *base,
                                    const struct http_client_options *options,
                                    struct err *err) MUST_CHECK;
/* Calls in flight are cancelled silently.  May be called from a callback. */
void http_client_free(struct http_client *client);
int http_client_calls(const struct http_client *client);

struct http_call_spec {
    const char *method; /* "POST" */
    const char *url;
    const char *const *headers; /* "name: value", NULL-terminated */
    const void *body;           /* copied; NULL with len 0 for none */
    size_t body_len;
    int64_t connect_timeout_ms;    /* name lookup and TLS included; 0: 5000 */
    int64_t first_byte_timeout_ms; /* from start to the first byte of the final head; 0: none */
    int64_t idle_timeout_ms;       /* between bytes of the body; 0: none (callers judge progress by
                                      parsed events with a timer of their own) */
    int64_t total_timeout_ms;      /* 0: none */
    size_t max_body_bytes;         /* over it the call ends as HTTP_TOO_LARGE; 0: 16 MiB */
    size_t max_head_bytes;         /* heads and trailers together; 0: 64 KiB */
};

enum http_outcome {
    HTTP_DONE,            /* a whole answer was read */
    HTTP_NOT_SENT,        /* proven: no byte of the request left (lookup, connect, TLS failed) */
    HTTP_BLOCKED,         /* the address was refused; nothing left */
    HTTP_CONNECT_TIMEOUT, /* nothing left */
    HTTP_FIRST_BYTE_TIMEOUT,
    HTTP_IDLE_TIMEOUT,
    HTTP_TOTAL_TIMEOUT,
    HTTP_CUT,    /* reset or closed before the answer was whole; an answer without a length ends
                    DONE where the connection closes */
    HTTP_RESENT, /* curl was about to put the request on the wire a second time; stopped */
    HTTP_TOO_LARGE,
    HTTP_STOPPED,    /* a callback returned false */
    HTTP_BAD_ANSWER, /* not HTTP */
};
const char *http_outcome_name(enum http_outcome outcome);
/* Did the request possibly leave this machine? */
bool http_outcome_sent(enum http_outcome outcome);

struct http_answer {
    enum http_outcome outcome;
    int status;          /* 0: no head came */
    const char *message; /* what curl says, for the log and for people */
    int64_t duration_us;
    int64_t first_byte_us; /* from start; 0: none came */
    char peer[64];         /* resolved address, "" unknown */
};

struct http_callbacks {
    /* Each header field of the final head (1xx and earlier heads left out), name in lower case,
     * value trimmed; NULL-terminated strings.  May be NULL. */
    void (*on_header)(struct http_call *call, const char *name, const char *value, void *arg);
    /* Body bytes.  http_call_status tells the status.  False ends the call as HTTP_STOPPED.  The
     * piece that would pass max_body_bytes is not handed over. */
    bool (*on_data)(struct http_call *call, const char *data, size_t len, void *arg);
    /* Exactly once unless cancelled; the call is gone after it returns.  The connection is back in
     * the pool by then. */
    void (*on_done)(struct http_call *call, const struct http_answer *answer, void *arg);
};

/* Never calls back from inside.  NULL: the URL, the method or a header field is bad (line breaks, a
 * user name in the URL, Content-Length, Transfer-Encoding, Expect), or too many calls are out.
 * Until the request is on the wire every deadline ends the call as HTTP_CONNECT_TIMEOUT. */
struct http_call *http_call_start(struct http_client *client, const struct http_call_spec *spec,
                                  const struct http_callbacks *callbacks, void *arg,
                                  struct err *err) MUST_CHECK;
/* Closes the connection; no callback will come.  May be called from the call's own on_header and
 * on_data. */
void http_call_cancel(struct http_call *call);
int http_call_status(const struct http_call *call);
/* Has the request been handed to the wire (the connection stood and sending began)? */
bool http_call_was_sent(const struct http_call *call);

/* Splits and checks a URL with curl's parser: http or https, no zone id.  host is in lower case and
 * without brackets; curl turns odd notations of IPv4 ("0x7f.1") into the usual one. */
struct http_url {
    char scheme[8];
    char host[256];
    int port;
    bool has_userinfo;
};
bool http_url_parse(const char *url, struct http_url *out, struct err *err) MUST_CHECK;

#endif
