/* SPDX-License-Identifier: Apache-2.0 */
/* A process's own share of the limits while Redis is away. */
#include "common/base/clock.h"
#include "common/model/admission_local.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { PROCESSES = 4, START_S = 1000 };

static const int64_t start_us = START_S * US_PER_S;
static const int64_t lease_us = 10 * US_PER_S;

static bool ask_at(struct admission_local *local, const char *name, const struct local_limit *limit,
                   int64_t tokens, int64_t now_us)
{
    struct local_refusal refusal;

    return admission_local_ask(local, name, limit, 1, tokens, PROCESSES, now_us, lease_us,
                               &refusal);
}

/* How many of one a millisecond pass in so many milliseconds. */
static int passed(const struct local_limit *limit, int64_t tokens, int64_t milliseconds)
{
    struct admission_local *local = admission_local_new();
    int count = 0;

    for (int64_t ms = 0; ms < milliseconds; ms++)
        count += ask_at(local, "", limit, tokens, start_us + ms * US_PER_MS);
    admission_local_free(local);
    return count;
}

static void test_rates_are_a_share_of_the_limit(void **state)
{
    static const struct {
        int64_t requests, tokens, each, least, most;
    } cases[] = {
        {4000, -1, 0, 1000, 1100}, /* a quarter of it, and a burst of a tenth */
        {4, -1, 0, 1, 2},
        {-1, 40000, 100, 100, 110},
        {-1, 4000, 5000, 1, 1}, /* more than a burst passes when nothing is owed */
        {4000, 40000, 100, 100, 110},
        {0, -1, 0, 0, 0},
        {-1, 0, 1, 0, 0},
        {-1, -1, 1, 60000, 60000},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct local_limit limit = {.scope = "t\ntenant",
                                          .requests = cases[i].requests,
                                          .tokens = cases[i].tokens,
                                          .leases = -1};

        assert_in_range(passed(&limit, cases[i].each, 60000), cases[i].least, cases[i].most);
    }
}

static void test_a_refusal_tells_the_longest_wait_and_takes_nothing(void **state)
{
    const struct local_limit limits[] = {
        {.scope = "a", .requests = 4, .tokens = -1, .leases = -1},
        {.scope = "b", .requests = 240, .tokens = -1, .leases = 1},
    };
    struct admission_local *local = admission_local_new();
    struct local_refusal refusal;
    (void)state;

    assert_true(
        admission_local_ask(local, "1", limits, 2, 0, PROCESSES, start_us, lease_us, &refusal));
    assert_false(
        admission_local_ask(local, "2", limits, 2, 0, PROCESSES, start_us, lease_us, &refusal));
    assert_int_equal(refusal.index, 0);
    assert_int_equal(refusal.dimension, ADMISSION_REQUESTS);
    assert_int_equal(refusal.wait_us, 60 * US_PER_S);
    admission_local_settle(local, "1");
    /* b's turn of a second was taken once, not by who was refused. */
    assert_true(ask_at(local, "3", &limits[1], 0, start_us + US_PER_S));
    admission_local_free(local);
}

static void test_leases_are_by_name_and_end_by_themselves(void **state)
{
    const struct local_limit limit = {.scope = "a", .requests = -1, .tokens = -1, .leases = 8};
    const struct local_limit small = {.scope = "b", .requests = -1, .tokens = -1, .leases = 1};
    struct admission_local *local = admission_local_new();
    (void)state;

    assert_true(ask_at(local, "1", &limit, 0, start_us));
    assert_true(ask_at(local, "1", &limit, 0, start_us)); /* the same */
    assert_true(ask_at(local, "2", &limit, 0, start_us));
    assert_false(ask_at(local, "3", &limit, 0, start_us));
    admission_local_settle(local, "1");
    admission_local_settle(local, "1");
    admission_local_settle(local, "nobody");
    assert_true(ask_at(local, "3", &limit, 0, start_us));
    assert_false(ask_at(local, "4", &limit, 0, start_us));
    assert_true(ask_at(local, "5", &small, 0, start_us)); /* a share is at least one */
    admission_local_free(local);
}

static void test_more_scopes_than_fit_forget_those_at_rest(void **state)
{
    struct admission_local *local = admission_local_new();
    struct local_limit limit = {.requests = 60, .tokens = -1, .leases = -1};
    char name[32];
    (void)state;

    limit.scope = name;
    for (int i = 0; i < 3 * LOCAL_SCOPES_MAX; i++) {
        snprintf(name, sizeof(name), "scope %d", i);
        assert_true(ask_at(local, "", &limit, 0, start_us + i * US_PER_MS));
    }
    assert_false(ask_at(local, "", &limit, 0, start_us + 3 * LOCAL_SCOPES_MAX * US_PER_MS));
    admission_local_free(local);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates_are_a_share_of_the_limit),
        cmocka_unit_test(test_a_refusal_tells_the_longest_wait_and_takes_nothing),
        cmocka_unit_test(test_leases_are_by_name_and_end_by_themselves),
        cmocka_unit_test(test_more_scopes_than_fit_forget_those_at_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
