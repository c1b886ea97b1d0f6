/* SPDX-License-Identifier: Apache-2.0 */
/* The thin body that tells a receiver of an ended job. */
#ifndef COMMON_MODEL_WEBHOOK_BODY_H
#define COMMON_MODEL_WEBHOOK_BODY_H

#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/model/job.h"

struct buf;

enum { WEBHOOK_BODY_MAX = 256 * 1024 };

/* What the body is made of; NULL where nothing is known. */
struct webhook_job {
    struct id id;
    enum job_state state; /* a terminal one */
    int64_t ended_us;
    const char *workflow;
    const char *metadata; /* JSON object */
    bool has_usage;
    bool is_usage_estimated;
    int64_t input_tokens, output_tokens, cached_input_tokens;
    int64_t cost_nano;
    const uint8_t *result_sha256; /* SHA256_SIZE bytes */
    int sequence;
};

/* Appends the body: the same bytes for the same facts.  False: out of memory, or over out's
 * maximum. */
bool webhook_body_write(const struct webhook_job *job, struct buf *out) MUST_CHECK;

#endif
