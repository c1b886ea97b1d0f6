/* SPDX-License-Identifier: Apache-2.0 */
/* GET /openapi.json: the contract, as it was when the program was built. */
#include "producer/openapi.h"

#include <stdint.h>

#include "common/io/http_server.h"

/* producer/openapi.json, by .incbin (see the Makefile). */
extern const char openapi_document[];
extern const uint64_t openapi_document_size;

void openapi_handle(struct request_context *context)
{
    http_reply(context->http, 200, "application/json", openapi_document,
               (size_t)openapi_document_size);
}
