/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a delivery after each kind of try. */
#include "common/model/webhook_schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/str.h"

static const struct webhook_policy policy = {
    .schedule_ms = {0, 5000, 300000, 1800000},
    .schedule_count = 4,
};

static const struct {
    enum http_outcome outcome;
    int status;
    int attempt;
    enum webhook_verdict verdict;
    const char *error;
} cases[] = {
    {HTTP_DONE, 200, 1, WEBHOOK_DELIVERED, NULL},
    {HTTP_DONE, 204, 4, WEBHOOK_DELIVERED, NULL},
    {HTTP_DONE, 299, 1, WEBHOOK_DELIVERED, NULL},
    {HTTP_TOO_LARGE, 200, 1, WEBHOOK_DELIVERED, NULL},
    {HTTP_DONE, 301, 1, WEBHOOK_RETRY, "redirect"},
    {HTTP_DONE, 307, 4, WEBHOOK_FAILED, "redirect"},
    {HTTP_DONE, 400, 1, WEBHOOK_RETRY, "bad_status"},
    {HTTP_DONE, 404, 1, WEBHOOK_RETRY, "bad_status"},
    {HTTP_DONE, 409, 1, WEBHOOK_RETRY, "bad_status"},
    {HTTP_DONE, 410, 1, WEBHOOK_DISABLE, "gone"},
    {HTTP_DONE, 410, 4, WEBHOOK_DISABLE, "gone"},
    {HTTP_TOO_LARGE, 410, 1, WEBHOOK_DISABLE, "gone"},
    {HTTP_DONE, 429, 1, WEBHOOK_RETRY, "bad_status"},
    {HTTP_DONE, 500, 3, WEBHOOK_RETRY, "bad_status"},
    {HTTP_DONE, 503, 4, WEBHOOK_FAILED, "bad_status"},
    {HTTP_TOO_LARGE, 500, 1, WEBHOOK_RETRY, "bad_status"},
    {HTTP_TOO_LARGE, 0, 1, WEBHOOK_RETRY, "bad_answer"},
    {HTTP_NOT_SENT, 0, 1, WEBHOOK_RETRY, "connect_failed"},
    {HTTP_BLOCKED, 0, 1, WEBHOOK_FAILED, "blocked_address"},
    {HTTP_CONNECT_TIMEOUT, 0, 1, WEBHOOK_RETRY, "timeout"},
    {HTTP_FIRST_BYTE_TIMEOUT, 0, 1, WEBHOOK_RETRY, "timeout"},
    {HTTP_TOTAL_TIMEOUT, 0, 4, WEBHOOK_FAILED, "timeout"},
    {HTTP_TOTAL_TIMEOUT, 200, 1, WEBHOOK_RETRY, "timeout"},
    {HTTP_CUT, 0, 1, WEBHOOK_RETRY, "connection_lost"},
    {HTTP_CUT, 200, 1, WEBHOOK_RETRY, "connection_lost"},
    {HTTP_RESENT, 0, 1, WEBHOOK_RETRY, "connection_lost"},
    {HTTP_BAD_ANSWER, 0, 1, WEBHOOK_RETRY, "bad_answer"},
    /* more tries than the schedule has, after crashes */
    {HTTP_DONE, 500, 5, WEBHOOK_FAILED, "bad_status"},
    {HTTP_DONE, 200, 9, WEBHOOK_DELIVERED, NULL},
};

static void test_table_of_tries(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct webhook_try try = {.attempt = cases[i].attempt,
                                  .outcome = cases[i].outcome,
                                  .status = cases[i].status,
                                  .retry_after_ms = -1};
        struct webhook_choice choice = webhook_choose(&policy, &try, 12345);

        if (choice.verdict != cases[i].verdict || !str_equal(choice.error, cases[i].error))
            fail_msg("case %zu: verdict %d, error %s", i, (int)choice.verdict,
                     choice.error ? choice.error : "none");
        assert_true(choice.verdict == WEBHOOK_RETRY || choice.wait_ms == 0);
    }
}

static int64_t wait_of(int attempt, int64_t retry_after_ms, uint64_t random)
{
    struct webhook_try try = {
        .attempt = attempt, .outcome = HTTP_DONE, .status = 503, .retry_after_ms = retry_after_ms};
    struct webhook_choice choice = webhook_choose(&policy, &try, random);

    assert_int_equal(choice.verdict, WEBHOOK_RETRY);
    return choice.wait_ms;
}

static void test_waits_follow_the_schedule_with_jitter(void **state)
{
    bool differs = false;

    (void)state;
    for (uint64_t random = 0; random < 2000; random += 7) {
        assert_in_range(wait_of(1, -1, random), 4500, 5500);
        assert_in_range(wait_of(2, -1, random), 270000, 330000);
        assert_in_range(wait_of(3, -1, random), 1620000, 1980000);
        differs = differs || wait_of(1, -1, random) != wait_of(1, -1, 0);
    }
    assert_true(differs);
}

static void test_receiver_may_ask_for_a_longer_wait_only(void **state)
{
    (void)state;
    assert_int_equal(wait_of(1, 60000, 1), 60000);
    assert_in_range(wait_of(2, 1000, 1), 270000, 330000);
    assert_in_range(wait_of(2, 0, 1), 270000, 330000);
}

static void test_retry_after_is_read(void **state)
{
    static const struct {
        const char *value;
        int64_t wait_ms;
    } values[] = {
        {"0", 0},
        {"120", 120000},
        {"86400", 86400000},
        {"86401", 86400000},
        {"99999999999999999999999", 86400000},
        {"Fri, 21 Nov 2025 03:04:15 GMT", 10000},
        {"Fri, 21 Nov 2025 03:04:00 GMT", 0},
        {"Fri, 21 Nov 2125 03:04:00 GMT", 86400000},
        {"", -1},
        {"-1", -1},
        {"1.5", -1},
        {"soon", -1},
        {"10 s", -1},
    };
    const int64_t now_us = INT64_C(1763694245) * US_PER_S; /* 2025-11-21T03:04:05Z */

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (webhook_retry_after_ms(values[i].value, now_us) != values[i].wait_ms)
            fail_msg("%s: %d", values[i].value,
                     (int)webhook_retry_after_ms(values[i].value, now_us));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_of_tries),
        cmocka_unit_test(test_waits_follow_the_schedule_with_jitter),
        cmocka_unit_test(test_receiver_may_ask_for_a_longer_wait_only),
        cmocka_unit_test(test_retry_after_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
