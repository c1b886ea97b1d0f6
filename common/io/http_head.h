/* SPDX-License-Identifier: Apache-2.0 */
/* The strict check of a request's raw head, byte by byte, before http-parser sees it. */
#ifndef COMMON_IO_HTTP_HEAD_H
#define COMMON_IO_HTTP_HEAD_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

/* http-parser forgives much that two parties can read differently: bare LF, obs-fold, a space
 * before the colon, no Host or two, Transfer-Encoding on HTTP/1.0, versions like 1.9.  Whatever is
 * ambiguous is refused here, so that no proxy in front of us can be made to see another request
 * than we do. */

/* Why a request is not taken: the answer to give.  code is of the API's error table. */
struct http_refusal {
    int status;
    const char *code;
    char message[160];
};

/* Fills *refusal and returns false, so that a check reads `return http_refuse(...)`. */
bool http_refuse(struct http_refusal *refusal, int status, const char *code, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

struct http_head_limits {
    size_t max_bytes;
    size_t max_uri_bytes;
    int max_fields;
};

/* Finds where a head ends while its bytes come in, each byte looked at once. */
struct http_head_scan {
    size_t bytes;      /* of this head so far */
    size_t line_bytes; /* of this line, its CR LF included */
    int lines;         /* complete ones, the request line is the first */
    bool is_after_cr;
};

enum http_head_state { HTTP_HEAD_MORE, HTTP_HEAD_DONE, HTTP_HEAD_REFUSED };

/* Start with a zeroed scan.  *used says how many bytes belong to the head (all of them when it
 * says MORE); an empty line before the request line is counted as part of the head. */
enum http_head_state http_head_scan(struct http_head_scan *scan,
                                    const struct http_head_limits *limits, const char *data,
                                    size_t len, size_t *used, struct http_refusal *refusal);

struct http_field {
    char *name;
    size_t name_len;
    char *value;
    size_t value_len;
};

struct http_head {
    char *method;
    size_t method_len;
    char *target;
    size_t target_len;
    int minor; /* HTTP/1.minor: 0 or 1 */
    struct http_field *fields;
    int field_count;
    bool is_chunked;
    int64_t content_length; /* -1: none announced */
};

/* Splits and judges a head that http_head_scan called done; *head points into data, which is not
 * changed.  After a refusal the fields found so far are there (for x-request-id).
 * http_head_release in both cases. */
bool http_head_parse(struct http_head *head, char *data, size_t len,
                     const struct http_head_limits *limits,
                     struct http_refusal *refusal) MUST_CHECK;

/* Makes strings of it, in place: names in lower case, everything NUL-terminated. */
void http_head_seal(struct http_head *head);

/* The first field of that (lower-case) name, or NULL. */
struct http_field *http_head_find(const struct http_head *head, const char *name);

void http_head_release(struct http_head *head);

/* RFC 9110's token characters; also used for trailer fields. */
bool http_is_token_char(char c);

#endif
