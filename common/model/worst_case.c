/* SPDX-License-Identifier: Apache-2.0 */
/* Upper-leaning token bounds of a call, and what they cost. */
#include "common/model/worst_case.h"

#include "common/base/money.h"
#include "common/model/settings.h"

enum { BYTES_PER_TOKEN = 3, OUTPUT_GUESS = 4096 };

int64_t worst_case_input_tokens(size_t request_bytes)
{
    return (int64_t)((request_bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN);
}

int64_t worst_case_output_tokens(const struct target *target, int64_t asked)
{
    if (asked > 0)
        return asked;
    if (target && target->max_output_tokens > 0)
        return target->max_output_tokens;
    return target && target->context_tokens > 0 ? target->context_tokens : OUTPUT_GUESS;
}

int64_t worst_case_nano(const struct target *target, size_t request_bytes, int64_t asked)
{
    return money_cost(&target->price, worst_case_input_tokens(request_bytes), 0,
                      worst_case_output_tokens(target, asked));
}
