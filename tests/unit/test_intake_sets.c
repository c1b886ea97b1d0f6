/* SPDX-License-Identifier: Apache-2.0 */
/* Which sets of a submit are Redis's business. */
#include "producer/intake_sets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct limit_set of_submits = {.submits_per_minute = 60, .tokens_per_minute = -1};
static const struct limit_set of_none = {.submits_per_minute = 0, .tokens_per_minute = -1};
static const struct limit_set of_tokens = {.submits_per_minute = -1, .tokens_per_minute = 100};
static const struct limit_set of_calls = {
    .submits_per_minute = -1, .tokens_per_minute = -1, .requests_per_minute = 5};
static const struct limit_set shadow_submits = {
    .submits_per_minute = 60, .tokens_per_minute = -1, .is_shadow = true};
static const struct limit_set shadow_tokens = {
    .submits_per_minute = -1, .tokens_per_minute = 100, .is_shadow = true};

static void test_redis_is_asked_only_where_it_has_something_to_count_or_tell(void **state)
{
    static const struct {
        struct applied_limit sets[2];
        int count;
        bool have_meters, are_of_caller, need_taking;
    } cases[] = {
        {{{LIMIT_TENANT, "", &of_none}}, 0, false, true, false},
        {{{LIMIT_TENANT, "", &of_calls}}, 1, false, true, false},
        {{{LIMIT_TENANT, "", &of_submits}}, 1, true, true, true},
        {{{LIMIT_TENANT, "", &of_none}}, 1, true, true, true},
        {{{LIMIT_KEY, "k", &of_tokens}}, 1, true, true, false},
        {{{LIMIT_TENANT, "", &of_tokens}, {LIMIT_KEY, "k", &of_submits}}, 2, true, true, true},
        {{{LIMIT_TENANT, "", &shadow_submits}}, 1, true, true, true},
        {{{LIMIT_WORKFLOW, "w", &of_calls}}, 1, false, true, false},
        {{{LIMIT_WORKFLOW, "w", &of_submits}}, 1, true, false, true},
        {{{LIMIT_TENANT, "", &of_tokens}, {LIMIT_USER, "u", &of_tokens}}, 2, true, false, true},
        {{{LIMIT_MODEL, "m", &shadow_tokens}}, 1, true, true, false},
        {{{LIMIT_TENANT, "", &of_tokens}, {LIMIT_USER, "u", &shadow_submits}}, 2, true, true, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct applied_limit *sets = cases[i].sets;

        if (intake_sets_have_meters(sets, cases[i].count) != cases[i].have_meters ||
            intake_sets_are_of_caller(sets, cases[i].count) != cases[i].are_of_caller ||
            intake_sets_need_taking(sets, cases[i].count) != cases[i].need_taking)
            fail_msg("case %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_redis_is_asked_only_where_it_has_something_to_count_or_tell),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
