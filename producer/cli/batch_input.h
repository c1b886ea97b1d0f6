/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a batch's file, NDJSON or CSV, as lines of a bulk upload. */
#ifndef PRODUCER_CLI_BATCH_INPUT_H
#define PRODUCER_CLI_BATCH_INPUT_H

#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"

struct batch_input;

/* What a line that says less gets; every member but the first two may be NULL. */
struct batch_defaults {
    const char *name; /* of the run: part of the idempotency keys */
    bool is_csv;
    const char *model, *system, *prompt_template, *max_tokens, *workflow, *priority;
};

struct batch_line {
    int64_t number;   /* in the file, from 1 */
    struct buf *body; /* a line of a bulk upload, with its idempotency_key, without newline */
    struct err err;   /* is_bad: why */
    bool is_bad;
};

enum { BATCH_LINE_MAX = 16 * 1024 * 1024 };

/* path "-" is standard input.  Fails when the file cannot be opened, or a CSV's header is no good.
 */
struct batch_input *batch_input_open(const char *path, const struct batch_defaults *defaults,
                                     struct err *err) MUST_CHECK;
void batch_input_free(struct batch_input *input);

/* The next line; its body is written into line->body, which is the caller's.  False: there is none
 * more (err is empty), or reading failed. */
bool batch_input_next(struct batch_input *input, struct batch_line *line,
                      struct err *err) MUST_CHECK;

/* One NDJSON line as the bulk upload takes it (without a key).  Pure. */
bool batch_body_of_json(const char *text, size_t len, const struct batch_defaults *defaults,
                        struct buf *out, struct err *err) MUST_CHECK;

/* Puts the line's idempotency key into it, unless it has one: the same for the same name, number
 * and body.  Pure. */
bool batch_add_key(const char *name, int64_t number, const struct buf *body, struct buf *out,
                   struct err *err) MUST_CHECK;

#endif
