/* SPDX-License-Identifier: Apache-2.0 */
/* Money is an integer of nano-US-dollars (1e-9 USD); prices are nano-dollars per million tokens. */
#ifndef COMMON_BASE_MONEY_H
#define COMMON_BASE_MONEY_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

enum { MONEY_TEXT_SIZE = 32 };

#define NANO_PER_USD INT64_C(1000000000)
/* Just under 2^53 nano-dollars: what a Lua number holds exactly. */
#define MONEY_MAX_NANO (INT64_C(9000000) * NANO_PER_USD)

/* "0.000123400": always nine places. */
void money_format(int64_t nano, char out[MONEY_TEXT_SIZE]);

/* A non-negative decimal with up to nine places ("0.25", "3", "1e-5" is refused); at most
 * MONEY_MAX_NANO. */
bool money_parse(const char *text, size_t len, int64_t *nano) MUST_CHECK;

/* As money_parse but for the text of any JSON number, exponents included ("1.5e-7"); exact or
 * refused.  Used for prices, where nano-dollars per million tokens resolve 1e-15 USD. */
bool money_parse_number(const char *text, size_t len, int64_t *nano) MUST_CHECK;

struct price {
    int64_t input_nano_per_mtok;
    int64_t cached_input_nano_per_mtok;
    int64_t output_nano_per_mtok;
};

/* Cost of a call in nano-dollars: summed exactly, rounded up once.  cached is part of input.
 * Negative counts are taken as 0; the result saturates at INT64_MAX. */
int64_t money_cost(const struct price *price, int64_t input, int64_t cached, int64_t output);

#endif
