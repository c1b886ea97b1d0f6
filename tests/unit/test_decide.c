/* SPDX-License-Identifier: Apache-2.0 */
/* Retry, fallback, requeue or failure; settled, released or unknown: tables. */
#include "worker/decide.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NOW_US (INT64_C(1000) * US_PER_S)

static void test_calls_are_booked_by_what_is_proven(void **state)
{
    static const struct {
        struct booked_call call;
        enum call_state state;
    } cases[] = {
        {{HTTP_DONE, 200, true, true, true}, CALL_SETTLED},
        {{HTTP_DONE, 200, true, true, false}, CALL_SETTLED}, /* estimated */
        {{HTTP_DONE, 200, true, false, true}, CALL_SETTLED}, /* no end marker, but the bill */
        {{HTTP_DONE, 200, true, false, false}, CALL_UNKNOWN},
        {{HTTP_CUT, 200, true, false, false}, CALL_UNKNOWN},
        {{HTTP_CUT, 0, true, false, false}, CALL_UNKNOWN},
        {{HTTP_RESENT, 0, true, false, false}, CALL_UNKNOWN},
        {{HTTP_FIRST_BYTE_TIMEOUT, 0, true, false, false}, CALL_UNKNOWN},
        {{HTTP_IDLE_TIMEOUT, 200, true, false, false}, CALL_UNKNOWN},
        {{HTTP_TOTAL_TIMEOUT, 200, true, false, false}, CALL_UNKNOWN},
        {{HTTP_NOT_SENT, 0, false, false, false}, CALL_RELEASED},
        {{HTTP_BLOCKED, 0, false, false, false}, CALL_RELEASED},
        {{HTTP_CONNECT_TIMEOUT, 0, false, false, false}, CALL_RELEASED},
        {{HTTP_CUT, 0, false, false, false}, CALL_RELEASED}, /* cut by us before it left */
        {{HTTP_DONE, 302, true, false, false}, CALL_RELEASED},
        {{HTTP_DONE, 400, true, false, false}, CALL_RELEASED},
        {{HTTP_DONE, 401, true, false, false}, CALL_RELEASED},
        {{HTTP_DONE, 429, true, false, false}, CALL_RELEASED},
        {{HTTP_DONE, 500, true, false, false}, CALL_UNKNOWN},
        {{HTTP_DONE, 502, true, false, false}, CALL_UNKNOWN},
        {{HTTP_DONE, 503, true, false, false}, CALL_RELEASED},
        {{HTTP_DONE, 504, true, false, false}, CALL_UNKNOWN},
        {{HTTP_DONE, 529, true, false, false}, CALL_RELEASED},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        if (decide_booking(&cases[i].call) != cases[i].state)
            fail_msg("case %zu: %s", i, call_state_name(decide_booking(&cases[i].call)));
}

static struct job_facts facts_of(int targets)
{
    return (struct job_facts){
        .attempts = 1, .max_attempts = 5, .target_count = targets, .now_us = NOW_US, .random = 77};
}

/* After one failure at the first of so many targets. */
static void test_each_failure_leads_where_it_should(void **state)
{
    static const struct {
        int targets;
        struct failed_call failed;
        bool goes_on;
        enum next_step step;
        int target;
    } cases[] = {
        {1, {0, ERROR_OVERLOADED, true, SHOULD_RETRY_UNSAID, -1}, true, NEXT_WAIT, 0},
        {2, {0, ERROR_OVERLOADED, true, SHOULD_RETRY_UNSAID, -1}, true, NEXT_CALL, 1},
        {1, {0, ERROR_OVERLOADED, true, SHOULD_RETRY_UNSAID, 30000}, true, NEXT_REQUEUE, 0},
        {1, {0, ERROR_OVERLOADED, true, SHOULD_RETRY_NO, -1}, true, NEXT_FAIL, 0},
        {2, {0, ERROR_OVERLOADED, true, SHOULD_RETRY_NO, -1}, true, NEXT_CALL, 1},
        {1, {0, ERROR_TIMEOUT, true, SHOULD_RETRY_UNSAID, -1}, true, NEXT_WAIT, 0},
        {1, {0, ERROR_NETWORK, true, SHOULD_RETRY_UNSAID, -1}, true, NEXT_WAIT, 0},
        {1, {0, ERROR_PROTOCOL, true, SHOULD_RETRY_UNSAID, -1}, true, NEXT_WAIT, 0},
        {1, {0, ERROR_RATE_LIMITED, true, SHOULD_RETRY_UNSAID, -1}, true, NEXT_REQUEUE, 0},
        {1, {0, ERROR_RATE_LIMITED, true, SHOULD_RETRY_UNSAID, 0}, true, NEXT_REQUEUE, 0},
        {2, {0, ERROR_RATE_LIMITED, true, SHOULD_RETRY_UNSAID, 9}, true, NEXT_CALL, 1},
        {1, {0, ERROR_AUTH, true, SHOULD_RETRY_UNSAID, -1}, true, NEXT_FAIL, 0},
        {2, {0, ERROR_AUTH, true, SHOULD_RETRY_UNSAID, -1}, true, NEXT_CALL, 1},
        {2, {0, ERROR_QUOTA, true, SHOULD_RETRY_UNSAID, -1}, true, NEXT_CALL, 1},
        {2, {0, ERROR_BAD_REQUEST, false, SHOULD_RETRY_UNSAID, -1}, false, NEXT_CALL, 1},
        {2, {0, ERROR_BAD_REQUEST, true, SHOULD_RETRY_UNSAID, -1}, true, NEXT_CALL, 1},
        {1, {0, ERROR_BAD_REQUEST, false, SHOULD_RETRY_YES, -1}, true, NEXT_WAIT, 0},
        {2, {0, ERROR_CONTENT_FILTER, false, SHOULD_RETRY_UNSAID, -1}, false, NEXT_CALL, 1},
        {2, {0, ERROR_CONTEXT_LENGTH, true, SHOULD_RETRY_UNSAID, -1}, true, NEXT_CALL, 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct job_facts facts = facts_of(cases[i].targets);
        bool goes_on = decide_after_failure(&facts, &cases[i].failed);
        struct next next = decide_next(&facts);

        if (goes_on != cases[i].goes_on || next.step != cases[i].step ||
            next.target != cases[i].target)
            fail_msg("case %zu: %d %d %d", i, goes_on, (int)next.step, next.target);
    }
}

static void test_a_longer_context_is_looked_for(void **state)
{
    const struct failed_call failed = {.error = ERROR_CONTEXT_LENGTH, .may_fall_back = true};
    struct job_facts facts = facts_of(3);

    (void)state;
    facts.targets[0].context_tokens = 1000;
    facts.targets[1].context_tokens = 1000;
    facts.targets[2].context_tokens = 2000;
    assert_true(decide_after_failure(&facts, &failed));
    assert_int_equal(decide_next(&facts).step, NEXT_CALL);
    assert_int_equal(decide_next(&facts).target, 2);
    facts.targets[2].is_out = true;
    assert_int_equal(decide_next(&facts).step, NEXT_FAIL);
}

static void test_attempts_end(void **state)
{
    struct job_facts facts = facts_of(2);

    (void)state;
    facts.attempts = facts.max_attempts;
    assert_int_equal(decide_next(&facts).step, NEXT_FAIL);
}

static void test_a_closed_gate_sends_the_job_back_with_its_reason(void **state)
{
    struct job_facts facts = facts_of(2);

    (void)state;
    facts.targets[0].is_paused = true;
    assert_int_equal(decide_next(&facts).step, NEXT_CALL);
    assert_int_equal(decide_next(&facts).target, 1);
    facts.targets[1].is_paused = true;
    assert_int_equal(decide_next(&facts).step, NEXT_REQUEUE);
    assert_string_equal(decide_next(&facts).wait_reason, "provider");
    facts.targets[1].is_paused = false;
    facts.targets[1].ready_at_us = facts.now_us + 200 * US_PER_MS;
    facts.targets[1].wait_reason = "concurrency";
    assert_int_equal(decide_next(&facts).step, NEXT_REQUEUE);
    assert_int_equal(decide_next(&facts).wait_ms, 200);
    assert_string_equal(decide_next(&facts).wait_reason, "concurrency");
}

/* The first targets of a route are each as a letter says: n never fits, o is out for another
 * reason, w waits, c can be called. */
static void test_a_job_too_large_for_every_account_waits_and_for_some_goes_elsewhere(void **state)
{
    static const struct {
        const char *targets;
        enum next_step step;
        int target;
    } cases[] = {
        {"n", NEXT_NEVER, 0},     {"nn", NEXT_NEVER, 0}, {"nc", NEXT_CALL, 1},
        {"cn", NEXT_CALL, 0},     {"nnc", NEXT_CALL, 2}, {"nw", NEXT_REQUEUE, 0},
        {"wn", NEXT_REQUEUE, 0},  {"no", NEXT_FAIL, 0},  {"on", NEXT_FAIL, 0},
        {"now", NEXT_REQUEUE, 0}, {"o", NEXT_FAIL, 0},   {"", NEXT_FAIL, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *targets = cases[i].targets;
        struct job_facts facts = facts_of((int)strlen(targets));
        struct next next;

        for (int t = 0; targets[t]; t++) {
            facts.targets[t].never_fits = targets[t] == 'n';
            facts.targets[t].is_out = targets[t] == 'n' || targets[t] == 'o';
            facts.targets[t].ready_at_us = targets[t] == 'w' ? NOW_US + 2 * US_PER_S : 0;
            facts.targets[t].wait_reason = "rate_limit";
        }
        next = decide_next(&facts);
        if (next.step != cases[i].step || next.target != cases[i].target ||
            (next.step == NEXT_REQUEUE && next.wait_ms != 2000))
            fail_msg("%s: %d %d", targets, (int)next.step, next.target);
    }
}

static void test_the_earliest_target_sets_the_wait(void **state)
{
    struct job_facts facts = facts_of(2);
    struct failed_call failed = {
        .error = ERROR_RATE_LIMITED, .may_fall_back = true, .retry_after_ms = 9000};
    struct next next;

    (void)state;
    assert_true(decide_after_failure(&facts, &failed));
    failed.target = 1;
    failed.retry_after_ms = 4000;
    assert_true(decide_after_failure(&facts, &failed));
    next = decide_next(&facts);
    assert_int_equal(next.step, NEXT_REQUEUE);
    assert_int_equal(next.wait_ms, 4000);
    assert_string_equal(next.wait_reason, "rate_limit");
}

static void test_backoff_grows_until_it_leaves_the_slot(void **state)
{
    const struct failed_call failed = {
        .error = ERROR_OVERLOADED, .may_fall_back = true, .retry_after_ms = -1};
    int requeued = 0;

    (void)state;
    for (uint64_t random = 0; random < 1000; random++) {
        struct job_facts facts = facts_of(1);
        struct next next;

        facts.max_attempts = 20;
        facts.attempts = 10;
        facts.random = random * UINT64_C(0x9e3779b97f4a7c15);
        assert_true(decide_after_failure(&facts, &failed));
        next = decide_next(&facts);
        assert_true(next.wait_ms >= 0 && next.wait_ms <= 60000);
        assert_int_equal(next.step, next.wait_ms < 1000 ? NEXT_WAIT : NEXT_REQUEUE);
        requeued += next.step == NEXT_REQUEUE;
    }
    assert_true(requeued > 900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_are_booked_by_what_is_proven),
        cmocka_unit_test(test_each_failure_leads_where_it_should),
        cmocka_unit_test(test_a_longer_context_is_looked_for),
        cmocka_unit_test(test_attempts_end),
        cmocka_unit_test(test_a_closed_gate_sends_the_job_back_with_its_reason),
        cmocka_unit_test(test_a_job_too_large_for_every_account_waits_and_for_some_goes_elsewhere),
        cmocka_unit_test(test_the_earliest_target_sets_the_wait),
        cmocka_unit_test(test_backoff_grows_until_it_leaves_the_slot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
