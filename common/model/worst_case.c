/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds of a call's tokens, and what they cost. */
#include "common/model/worst_case.h"

#include "common/base/clock.h"
#include "common/base/money.h"
#include "common/model/settings.h"

enum {
    BYTES_PER_TOKEN = 3,
    OUTPUT_GUESS = 4096,
    CONTEXT_GUESS = 1048576, /* of a model that does not say; few in use have more, by 0.2 % */
    /* What providers put around the text. */
    PER_REQUEST = 16,
    PER_MESSAGE = 16,
    PER_TOOL = 64,
    TOOLS_PREAMBLE = 640,
};

/* A call leaves at most so long after it was bounded, and then has the price of that moment. */
#define AHEAD_US (3600 * US_PER_S)

int64_t worst_case_input_tokens(size_t request_bytes)
{
    return (int64_t)((request_bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN);
}

static int64_t output_or(const struct target *target, int64_t asked, int64_t unknown)
{
    if (asked > 0)
        return asked;
    if (target && target->max_output_tokens > 0)
        return target->max_output_tokens;
    return target && target->context_tokens > 0 ? target->context_tokens : unknown;
}

int64_t worst_case_output_tokens(const struct target *target, int64_t asked)
{
    return output_or(target, asked, OUTPUT_GUESS);
}

int64_t worst_case_output_bound(const struct target *target, int64_t asked)
{
    return output_or(target, asked, CONTEXT_GUESS);
}

int64_t worst_case_tokens(const struct target *target, const struct request_facts *facts)
{
    return worst_case_input_tokens((size_t)facts->bytes) +
           worst_case_output_tokens(target, facts->max_output);
}

int64_t worst_case_input_bound(const struct target *target, const struct request_facts *facts)
{
    int64_t tokens = facts->bytes + PER_REQUEST + facts->messages * PER_MESSAGE +
                     facts->tools * PER_TOOL + (facts->tools > 0 ? TOOLS_PREAMBLE : 0);
    int64_t context = target->context_tokens > 0 ? target->context_tokens : CONTEXT_GUESS;

    return facts->has_attachment && context > tokens ? context : tokens;
}

int64_t worst_case_nano(const struct target *target, const struct request_facts *facts)
{
    int64_t now_us = clock_db_us();
    struct price dearest = target_dearest_price(target, now_us, now_us + AHEAD_US);

    if (dearest.cached_input_nano_per_mtok > dearest.input_nano_per_mtok)
        dearest.input_nano_per_mtok = dearest.cached_input_nano_per_mtok;
    return money_cost(&dearest, worst_case_input_bound(target, facts), 0,
                      worst_case_output_bound(target, facts->max_output));
}

int64_t worst_case_least_nano(const struct route *route, const struct request_facts *facts)
{
    int64_t least = INT64_MAX;

    for (int i = 0; i < route->target_count; i++) {
        int64_t cost = worst_case_nano(&route->targets[i], facts);

        least = cost < least ? cost : least;
    }
    return least;
}

int64_t worst_case_most_nano(const struct route *route, const struct request_facts *facts)
{
    int64_t most = 0;

    for (int i = 0; i < route->target_count; i++) {
        int64_t cost = worst_case_nano(&route->targets[i], facts);

        most = cost > most ? cost : most;
    }
    return most;
}
