/* SPDX-License-Identifier: Apache-2.0 */
/* The error envelope and JSON answers. */
#include "producer/reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/http_server.h"
#include "common/model/api_error.h"
#include "common/model/store.h"

enum { ERROR_SIZE_MAX = 16 * 1024, RETRY_SIZE = 16 };

static const char json_type[] = "application/json";

/* Codes that may pass if the same request is sent again. */
static bool is_passing(const char *code)
{
    int status = api_error_status(code);

    return status == 503 || status == 429;
}

/* Cut, where it must be, between characters. */
static void PRINTF_LIKE(2, 0) format(char out[ERR_MESSAGE_MAX], const char *fmt, va_list args)
{
    int len = vsnprintf(out, ERR_MESSAGE_MAX, fmt, args);

    if (len >= ERR_MESSAGE_MAX)
        out[str_utf8_boundary(out, ERR_MESSAGE_MAX - 1)] = '\0';
}

static void send_error(struct http_request *http, const char *code, const char *param,
                       int retry_after_s, const char *message)
{
    int status = api_error_status(code);
    char retry[RETRY_SIZE];
    struct buf body;

    if (retry_after_s > 0) {
        snprintf(retry, sizeof(retry), "%d", retry_after_s);
        http_add_header(http, "retry-after", retry);
    }
    if (retry_after_s > 0 || status == 409)
        http_add_header(http, "x-should-retry", retry_after_s > 0 ? "true" : "false");
    if (status == 401)
        http_add_header(http, "www-authenticate", "Bearer");
    buf_init(&body, ERROR_SIZE_MAX);
    api_error_write(&body, status, code, param, message);
    http_reply(http, status, json_type, body.data, body.len);
    buf_release(&body);
}

void reply_json(struct http_request *http, int status, struct buf *body)
{
    if (body->is_broken)
        reply_error(http, "internal", NULL, "The answer does not fit into memory");
    else
        http_reply(http, status, json_type, body->data, body->len);
    buf_release(body);
}

void reply_error(struct http_request *http, const char *code, const char *param, const char *fmt,
                 ...)
{
    char message[ERR_MESSAGE_MAX];
    va_list args;

    va_start(args, fmt);
    format(message, fmt, args);
    va_end(args);
    send_error(http, code, param, is_passing(code) ? 1 : 0, message);
}

void reply_error_retry(struct http_request *http, const char *code, const char *param,
                       int retry_after_s, const char *fmt, ...)
{
    char message[ERR_MESSAGE_MAX];
    va_list args;

    va_start(args, fmt);
    format(message, fmt, args);
    va_end(args);
    send_error(http, code, param, retry_after_s, message);
}

void reply_err(struct http_request *http, const struct err *err)
{
    struct log_context context = {.component = "api", .request = http_request_id(http)};

    if (!*err->code) {
        log_error(&context, "request failed: %s", err->message);
        send_error(http, "internal", NULL, 0, "Something went wrong on our side");
        return;
    }
    send_error(http, err->code, err->param, is_passing(err->code) ? 1 : 0, err->message);
}

void reply_pg_failure(struct http_request *http, const char *what, enum pg_status status,
                      const char *sqlstate, const char *message)
{
    struct log_context context = {.component = "api", .request = http_request_id(http)};
    bool is_away = status != PG_FAILED || store_is_passing(sqlstate ? sqlstate : "");

    if (is_away) {
        log_warn(&context, "%s: the database is away: %s", what, message ? message : "");
        send_error(http, "unavailable", NULL, 1, "The database is not there just now");
        return;
    }
    log_error(&context, "%s: the database refused it: %s (%s)", what, message ? message : "",
              sqlstate ? sqlstate : "");
    send_error(http, "internal", NULL, 0, "Something went wrong on our side");
}

void reply_empty(struct http_request *http, int status)
{
    http_reply(http, status, NULL, "", 0);
}
