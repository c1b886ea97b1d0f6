/* SPDX-License-Identifier: Apache-2.0 */
/* What a call may take at most: a bound on its price that holds, and a guess of its tokens.
 *
 * Money is reserved by the bound: a tokenizer never makes more tokens than the text has bytes, and
 * what a provider adds around messages and tools is added here.  A request with an image, a file or
 * sound is bounded by the model's context alone.  Tokens per minute go by the guess: a third of the
 * bytes, which leans up for the languages and tokenizers in use; also for output of no known size,
 * whose bound would fit into no limit. */
#ifndef COMMON_MODEL_WORST_CASE_H
#define COMMON_MODEL_WORST_CASE_H

#include <stddef.h>
#include <stdint.h>

#include "common/model/request_facts.h"

struct route;
struct target;

/* The guess of the input tokens of a request of so many bytes. */
int64_t worst_case_input_tokens(size_t request_bytes);

/* Output tokens: what the request asks for at most (0: says nothing), else the model's own maximum,
 * else its context, else a guess of what such answers take.  target may be NULL. */
int64_t worst_case_output_tokens(const struct target *target, int64_t asked);

/* The same as a bound: a model of no known size may fill the greatest context. */
int64_t worst_case_output_bound(const struct target *target, int64_t asked);

/* The guess of input and output, for tokens per minute.  target may be NULL. */
int64_t worst_case_tokens(const struct target *target, const struct request_facts *facts);

/* The bound on the input tokens that a call of target is charged for. */
int64_t worst_case_input_bound(const struct target *target, const struct request_facts *facts);

/* The bound on its price, in nano-dollars, if it leaves within the hour: a price that will come
 * into force until then counts, too. */
int64_t worst_case_nano(const struct target *target, const struct request_facts *facts);

/* Of the targets of a route the least and the greatest of these. */
int64_t worst_case_least_nano(const struct route *route, const struct request_facts *facts);
int64_t worst_case_most_nano(const struct route *route, const struct request_facts *facts);

#endif
