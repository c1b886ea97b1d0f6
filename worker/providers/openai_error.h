/* SPDX-License-Identifier: Apache-2.0 */
/* What an OpenAI-shaped error means.  Pure. */
#ifndef WORKER_PROVIDERS_OPENAI_ERROR_H
#define WORKER_PROVIDERS_OPENAI_ERROR_H

#include <jansson.h>

#include "worker/providers/provider.h"

/* An answer whose status is not 2xx. */
void openai_read_failure(int status, const char *body, size_t len, struct failure *out);

/* An `error` member inside a stream, whatever its type. */
void openai_read_stream_error(const json_t *error, struct failure *out);

#endif
