/* SPDX-License-Identifier: Apache-2.0 */
/* Ids carry their time, ascend, and only the exact form is read back. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/id.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SOME_US (INT64_C(1795230245678) * US_PER_MS)

static void test_id_is_a_version_7_uuid_of_its_time(void **state)
{
    struct id id = id_make(SOME_US + 999);

    (void)state;
    assert_int_equal(id.bytes[6] >> 4, 7);
    assert_int_equal(id.bytes[8] >> 6, 2);
    assert_true(id_time_us(id) == SOME_US);
    assert_true(id_time_us(id_make(0)) == 0);
}

static void test_ids_of_one_millisecond_ascend(void **state)
{
    struct id last = id_make(SOME_US);

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct id next = id_make(SOME_US + i % 1000);

        assert_true(id_compare(last, next) < 0);
        assert_true(id_time_us(next) == SOME_US);
        last = next;
    }
    assert_true(id_compare(last, id_make(SOME_US + US_PER_MS)) < 0);
}

static void test_ids_ascend_while_the_clock_steps_back(void **state)
{
    static const int64_t later_us = SOME_US + INT64_C(3600) * US_PER_S;
    struct id last = id_make(later_us);

    (void)state;
    for (int64_t back_us = 0; back_us <= 900 * US_PER_MS; back_us += 700) {
        struct id next = id_make(later_us - back_us);

        assert_true(id_compare(last, next) < 0);
        last = next;
    }
    assert_true(id_time_us(last) == later_us);
    assert_true(id_time_us(id_make(SOME_US)) == SOME_US); /* set back by hand */
}

static void test_ids_compare(void **state)
{
    struct id zero = {.bytes = {0}};
    struct id one = zero;

    (void)state;
    one.bytes[15] = 1;
    assert_true(id_is_zero(zero));
    assert_false(id_is_zero(one));
    assert_true(id_equal(one, one));
    assert_false(id_equal(one, zero));
    assert_true(id_compare(zero, one) < 0);
    assert_true(id_compare(one, zero) > 0);
}

static void test_format_and_parse_agree(void **state)
{
    char text[ID_TEXT_SIZE];
    struct id id, back;

    (void)state;
    assert_true(id_parse("job_0193497a1b2c7def8123456789abcdef", 36, "job_", &id));
    id_format(id, "job_", text);
    assert_string_equal(text, "job_0193497a1b2c7def8123456789abcdef");
    id = id_make(SOME_US);
    id_format(id, "batch_", text);
    assert_true(id_parse(text, strlen(text), "batch_", &back));
    assert_true(id_equal(id, back));
}

static void test_only_the_exact_form_is_an_id(void **state)
{
    static const char *const bad[] = {
        "",
        "job_",
        "0193497a1b2c7def8123456789abcdef",
        "jab_0193497a1b2c7def8123456789abcdef",
        "job_0193497a1b2c7def8123456789abcde",
        "job_0193497a1b2c7def8123456789abcdef0",
        "job_0193497A1b2c7def8123456789abcdef",
        "job_0193497a1b2c7def8123456789abcdeg",
        "job_0193497a1b2c7def8123456789abc/ef",
        "job_0193497a1b2c4def8123456789abcdef", /* version 4 */
        "job_0193497a1b2c7defc123456789abcdef", /* another variant */
    };
    struct id id;

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(id_parse(bad[i], strlen(bad[i]), "job_", &id));
}

static void test_call_ids_both_ways(void **state)
{
    static const int calls[] = {1, 9, 10, 4096, INT_MAX};
    struct id job = id_make(SOME_US);
    char text[CALL_ID_SIZE];

    (void)state;
    for (size_t i = 0; i < COUNT(calls); i++) {
        struct id back;
        int call = 0;

        id_format_call(job, calls[i], text);
        assert_true(id_parse_call(text, strlen(text), &back, &call));
        assert_true(id_equal(job, back));
        assert_int_equal(call, calls[i]);
    }
}

static void test_only_the_exact_form_is_a_call_id(void **state)
{
    static const char *const bad[] = {
        "",
        "call_0193497a1b2c7def8123456789abcdef",
        "call_0193497a1b2c7def8123456789abcdef_",
        "call_0193497a1b2c7def8123456789abcdef_0",
        "call_0193497a1b2c7def8123456789abcdef_01",
        "call_0193497a1b2c7def8123456789abcdef_-1",
        "call_0193497a1b2c7def8123456789abcdef_1x",
        "call_0193497a1b2c7def8123456789abcdef-1",
        "call_0193497a1b2c7def8123456789abcdef_2147483648",
        "coll_0193497a1b2c7def8123456789abcdef_1",
    };
    struct id job;
    int call = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(id_parse_call(bad[i], strlen(bad[i]), &job, &call));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_id_is_a_version_7_uuid_of_its_time),
        cmocka_unit_test(test_ids_of_one_millisecond_ascend),
        cmocka_unit_test(test_ids_ascend_while_the_clock_steps_back),
        cmocka_unit_test(test_ids_compare),
        cmocka_unit_test(test_format_and_parse_agree),
        cmocka_unit_test(test_only_the_exact_form_is_an_id),
        cmocka_unit_test(test_call_ids_both_ways),
        cmocka_unit_test(test_only_the_exact_form_is_a_call_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
