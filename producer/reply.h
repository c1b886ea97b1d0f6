/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that every handler gives: JSON, the error envelope.  Each ends the request. */
#ifndef PRODUCER_REPLY_H
#define PRODUCER_REPLY_H

#include <stddef.h>

#include "common/base/err.h"
#include "common/io/pg.h"

struct buf;
struct http_request;

/* Sends body (and releases it); when it is broken, a 500 instead. */
void reply_json(struct http_request *http, int status, struct buf *body);
/* Status and type follow from the code.  503 and 429 get Retry-After: 1 and x-should-retry: true,
 * 409 gets x-should-retry: false; reply_error_retry says otherwise. */
void reply_error(struct http_request *http, const char *code, const char *param, const char *fmt,
                 ...) PRINTF_LIKE(4, 5);
/* As reply_error, with Retry-After and x-should-retry: true. */
void reply_error_retry(struct http_request *http, const char *code, const char *param,
                       int retry_after_s, const char *fmt, ...) PRINTF_LIKE(5, 6);
/* From an err whose code may be empty (then it is `internal`, the message is logged and not sent).
 */
void reply_err(struct http_request *http, const struct err *err);
/* A statement did not succeed: 503 `unavailable` where Postgres is away or busy, else 500; logs
 * what was attempted. */
void reply_pg_failure(struct http_request *http, const char *what, enum pg_status status,
                      const char *sqlstate, const char *message);
void reply_empty(struct http_request *http, int status); /* 204 */

#endif
