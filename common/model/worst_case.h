/* SPDX-License-Identifier: Apache-2.0 */
/* What a call may cost at most: token bounds and their price.  Pure. */
#ifndef COMMON_MODEL_WORST_CASE_H
#define COMMON_MODEL_WORST_CASE_H

#include <stddef.h>
#include <stdint.h>

struct target;

/* Input tokens of a request of so many bytes: a third of them, which leans up for the languages and
 * tokenizers in use. */
int64_t worst_case_input_tokens(size_t request_bytes);

/* Output tokens: what the request asks for at most (max_tokens or max_completion_tokens; 0: says
 * nothing), else the model's own maximum, else its context, else a guess.  target may be NULL. */
int64_t worst_case_output_tokens(const struct target *target, int64_t asked);

/* The price of both, in nano-dollars. */
int64_t worst_case_nano(const struct target *target, size_t request_bytes, int64_t asked);

#endif
