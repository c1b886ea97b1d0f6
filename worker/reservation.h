/* SPDX-License-Identifier: Apache-2.0 */
/* What is booked for a call before it is made: its worst case, by request and target.  Pure. */
#ifndef WORKER_RESERVATION_H
#define WORKER_RESERVATION_H

#include <stddef.h>
#include <stdint.h>

#include "common/model/settings.h"

struct reservation {
    int64_t input_tokens;
    int64_t output_tokens;
    int64_t cost_nano;
};

/* request is a chat completion request that json_parse accepted. */
struct reservation reservation_of(const struct target *target, const char *request, size_t len);

/* Tokens that so many bytes of output can hold at most, for a stream that did not say. */
int64_t reservation_output(const struct reservation *reservation, int64_t bytes);

#endif
