/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of a Chat Completions body, as far as a job depends on them.  Pure. */
#ifndef COMMON_MODEL_CHAT_REQUEST_H
#define COMMON_MODEL_CHAT_REQUEST_H

#include <stdint.h>

#include <jansson.h>

#include "common/base/err.h"

/* What of a request matters to us; model is borrowed from it. */
struct chat_request {
    const char *model;
    int64_t max_output; /* max_completion_tokens, else max_tokens; 0: neither */
};

/* Checks the object `request`: model, messages, n, token limits.  All that is not known here is
 * left to the provider.  Errors name the field from "request" on. */
bool chat_request_read(const json_t *request, struct chat_request *out, struct err *err) MUST_CHECK;

#endif
