/* SPDX-License-Identifier: Apache-2.0 */
/* What the headers of an answer say of limits. */
#include "producer/intake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_a_reset_is_written_as_clients_of_openai_read_it(void **state)
{
    static const struct {
        int64_t us;
        const char *text;
    } cases[] = {
        {-5, "0s"},
        {0, "0s"},
        {1, "1ms"},
        {999000, "999ms"},
        {999001, "1s"},
        {1000000, "1s"},
        {1500000, "1.500s"},
        {59999999, "1m0s"},
        {60000000, "1m0s"},
        {61000000, "1m1s"},
        {90250000, "1m30.250s"},
        {INT64_C(3600000000), "60m0s"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[RESET_TEXT_SIZE];

        intake_format_reset(cases[i].us, text);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_reset_is_written_as_clients_of_openai_read_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
