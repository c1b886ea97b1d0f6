/* SPDX-License-Identifier: Apache-2.0 */
/* The error table of the API. */
#include "common/model/api_error.h"

#include <string.h>

#include "common/base/buf.h"

static const struct {
    const char *code;
    int status;
} codes[] = {
    {"invalid_json", 400},
    {"missing_field", 400},
    {"unknown_field", 400},
    {"invalid_value", 400},
    {"never_fits", 400},
    {"missing_key", 401},
    {"invalid_key", 401},
    {"missing_scope", 403},
    {"tenant_disabled", 403},
    {"not_found", 404},
    {"model_not_found", 404},
    {"no_result", 404},
    {"method_not_allowed", 405},
    {"timeout", 408},
    {"conflict", 409},
    {"length_required", 411},
    {"too_large", 413},
    {"unsupported_media_type", 415},
    {"idempotency_mismatch", 422},
    {"rate_limited", 429},
    {"queue_full", 429},
    {"budget_exceeded", 429},
    {"headers_too_large", 431},
    {"internal", 500},
    {"not_implemented", 501},
    {"overloaded", 503},
    {"unavailable", 503},
    {"http_version", 505},
};

int api_error_status(const char *code)
{
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (strcmp(code, codes[i].code) == 0)
            return codes[i].status;
    return 500;
}

const char *api_error_type(int status, const char *code)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 429:
        return code && strcmp(code, "budget_exceeded") == 0 ? "insufficient_quota"
                                                            : "rate_limit_error";
    default:
        return status >= 500 ? "api_error" : "invalid_request_error";
    }
}

void api_error_write(struct buf *out, int status, const char *code, const char *param,
                     const char *message)
{
    buf_puts(out, "{\"error\":{\"message\":");
    buf_put_json_string(out, message, strlen(message));
    buf_printf(out, ",\"type\":\"%s\",\"param\":", api_error_type(status, code));
    buf_put_json_text(out, param && *param ? param : NULL);
    buf_printf(out, ",\"code\":\"%s\"}}\n", code);
}
