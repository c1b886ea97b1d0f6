/* SPDX-License-Identifier: Apache-2.0 */
/* A Chat Completions request, checked as the real service checks it. */
#ifndef TESTS_SIMULATOR_CHAT_REQUEST_H
#define TESTS_SIMULATOR_CHAT_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/crypto.h"
#include "common/base/err.h"

enum { CHAT_MODEL_SIZE = 160, CHAT_FUNCTION_SIZE = 65 };

struct chat_request {
    char model[CHAT_MODEL_SIZE];
    char function[CHAT_FUNCTION_SIZE];  /* name of the first tool; "" without tools */
    struct buf last_user;               /* text of the last user message, parts joined */
    uint8_t prompt_sha256[SHA256_SIZE]; /* of the text of all messages, joined by newlines */
    int64_t prompt_bytes;               /* of the text of all messages */
    int64_t max_tokens;                 /* -1: not given */
    int64_t choices;                    /* n */
    bool is_stream;
    bool has_usage; /* stream_options.include_usage */
};

void chat_request_init(struct chat_request *request);
void chat_request_release(struct chat_request *request);

/* Reads body into an initialised request.  False: err holds the service's code and param (the
 * status is 400).  What was understood before the error stays in the request, for the log.  With
 * is_lenient unknown fields pass, as with compatible servers. */
bool chat_request_parse(struct chat_request *request, const char *body, size_t len, bool is_lenient,
                        struct err *err) MUST_CHECK;

/* The service's count: a quarter of the bytes, rounded up. */
int64_t chat_request_prompt_tokens(const struct chat_request *request);

#endif
