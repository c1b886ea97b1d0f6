/* SPDX-License-Identifier: Apache-2.0 */
/* The one error table of the API: code to HTTP status and type, and the envelope. */
#ifndef COMMON_MODEL_API_ERROR_H
#define COMMON_MODEL_API_ERROR_H

#include "common/base/err.h"

struct buf;

/* The status of a code of the API ("invalid_value" is 400); 500 for an unknown one. */
int api_error_status(const char *code);
/* The `type` of a status: "invalid_request_error"; budget_exceeded has its own. */
const char *api_error_type(int status, const char *code);

/* Appends {"error":{"message","type","param","code"}}. param NULL or "" is written as null. */
void api_error_write(struct buf *out, int status, const char *code, const char *param,
                     const char *message);

#endif
