/* SPDX-License-Identifier: Apache-2.0 */
/* What the sets of a submit have to do with Redis. */
#include "producer/intake_sets.h"

static bool has_meters(const struct limit_set *set)
{
    return set->submits_per_minute >= 0 || set->tokens_per_minute >= 0;
}

bool intake_sets_have_meters(const struct applied_limit *limits, int count)
{
    for (int i = 0; i < count; i++)
        if (has_meters(limits[i].set))
            return true;
    return false;
}

bool intake_sets_are_of_caller(const struct applied_limit *limits, int count)
{
    for (int i = 0; i < count; i++)
        if (limits[i].scope != LIMIT_TENANT && limits[i].scope != LIMIT_KEY &&
            !limits[i].set->is_shadow && has_meters(limits[i].set))
            return false;
    return true;
}

bool intake_sets_need_taking(const struct applied_limit *limits, int count)
{
    for (int i = 0; i < count; i++)
        if (limits[i].set->submits_per_minute >= 0)
            return true;
    return !intake_sets_are_of_caller(limits, count);
}
