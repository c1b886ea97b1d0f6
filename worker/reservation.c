/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds of common/model/worst_case for one target. */
#include "worker/reservation.h"

#include "common/base/clock.h"
#include "common/model/worst_case.h"

struct reservation reservation_of(const struct target *target, const struct request_facts *facts)
{
    return (struct reservation){
        .input_tokens = worst_case_input_bound(target, facts),
        .output_tokens = worst_case_output_bound(target, facts->max_output),
        .cost_nano = worst_case_nano(target, facts),
        .price = target_price(target, clock_db_us()),
        .est_tokens = worst_case_tokens(target, facts),
    };
}

/* No tokenizer makes more than one token of a byte. */
int64_t reservation_output(const struct reservation *reservation, int64_t bytes)
{
    return bytes < reservation->output_tokens ? bytes : reservation->output_tokens;
}
