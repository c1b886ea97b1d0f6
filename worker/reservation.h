/* SPDX-License-Identifier: Apache-2.0 */
/* What is booked for a call before it is made: its worst case, by request and target.  Pure. */
#ifndef WORKER_RESERVATION_H
#define WORKER_RESERVATION_H

#include <stddef.h>
#include <stdint.h>

#include "common/model/request_facts.h"
#include "common/model/settings.h"

struct reservation {
    int64_t input_tokens;  /* at most */
    int64_t output_tokens; /* at most */
    int64_t cost_nano;     /* at most */
    struct price price;    /* in force now; the call keeps it */
    int64_t est_tokens;    /* for tokens per minute: a guess of both */
};

struct reservation reservation_of(const struct target *target, const struct request_facts *facts);

/* Tokens that so many bytes of output can hold at most, for a stream that did not say. */
int64_t reservation_output(const struct reservation *reservation, int64_t bytes);

#endif
