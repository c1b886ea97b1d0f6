/* SPDX-License-Identifier: Apache-2.0 */
/* Errors say what happened, fit their fields and may quote themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/err.h"
#include "common/base/str.h"

static void test_set_gives_message_alone(void **state)
{
    struct err err = {.code = "old", .param = "old"};

    (void)state;
    assert_false(err_set(&err, "open %s: %s", "a.yaml", "no such file"));
    assert_string_equal(err.message, "open a.yaml: no such file");
    assert_string_equal(err.code, "");
    assert_string_equal(err.param, "");
}

static void test_input_names_code_and_field(void **state)
{
    struct err err;

    (void)state;
    assert_false(err_input(&err, "invalid_value", "request.n", "n must be %d", 1));
    assert_string_equal(err.message, "n must be 1");
    assert_string_equal(err.code, "invalid_value");
    assert_string_equal(err.param, "request.n");
    assert_false(err_input(&err, "invalid_json", NULL, "line %d", 3));
    assert_string_equal(err.param, "");
}

static void test_wrap_keeps_code_and_field(void **state)
{
    struct err err;

    (void)state;
    err_input(&err, "invalid_value", "n", "not a number");
    assert_false(err_wrap(&err, "line %d", 7));
    assert_string_equal(err.message, "line 7: not a number");
    assert_string_equal(err.code, "invalid_value");
    assert_string_equal(err.param, "n");
}

static void test_error_may_quote_itself(void **state)
{
    struct err err;

    (void)state;
    err_input(&err, "missing_field", "request", "no request");
    err_input(&err, err.code, err.param, "line 3: %s", err.message);
    assert_string_equal(err.message, "line 3: no request");
    assert_string_equal(err.code, "missing_field");
    assert_string_equal(err.param, "request");
    err_set(&err, "start: %s", err.message);
    assert_string_equal(err.message, "start: line 3: no request");
}

static void test_long_message_is_cut_at_a_character(void **state)
{
    char text[2 * ERR_MESSAGE_MAX];
    struct err err;

    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'x', sizeof(text));
        for (size_t i = shift; i + 4 < sizeof(text); i += 4)
            memcpy(text + i, "\xf0\x9f\x8c\x99", 4);
        text[sizeof(text) - 1] = '\0';
        err_input(&err, "invalid_value", text, "%s", text);
        assert_true(strlen(err.message) >= ERR_MESSAGE_MAX - 4);
        assert_true(str_utf8_valid(err.message, strlen(err.message)));
        assert_string_equal(err.message + strlen(err.message) - 3, "...");
        assert_true(str_utf8_valid(err.param, strlen(err.param)));
        assert_string_equal(err.param + strlen(err.param) - 3, "...");
        err_wrap(&err, "%s", text);
        assert_true(str_utf8_valid(err.message, strlen(err.message)));
        assert_string_equal(err.message + strlen(err.message) - 3, "...");
    }
}

static void test_message_of_just_the_size_is_whole(void **state)
{
    char text[ERR_MESSAGE_MAX + 1];
    struct err err;

    (void)state;
    memset(text, 'x', sizeof(text));
    text[ERR_MESSAGE_MAX - 1] = '\0';
    err_set(&err, "%s", text);
    assert_string_equal(err.message, text);
    text[ERR_MESSAGE_MAX - 1] = 'x';
    text[ERR_MESSAGE_MAX] = '\0';
    err_set(&err, "%s", text);
    assert_int_equal(strlen(err.message), ERR_MESSAGE_MAX - 1);
    assert_string_equal(err.message + ERR_MESSAGE_MAX - 5, "x...");
}

static void test_clear_empties_all(void **state)
{
    struct err err = {.message = "m", .code = "c", .param = "p"};

    (void)state;
    err_clear(&err);
    assert_string_equal(err.message, "");
    assert_string_equal(err.code, "");
    assert_string_equal(err.param, "");
}

static void test_nobody_listening_is_fine(void **state)
{
    (void)state;
    assert_false(err_set(NULL, "x"));
    assert_false(err_input(NULL, "c", "p", "x"));
    assert_false(err_wrap(NULL, "x"));
    err_clear(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_gives_message_alone),
        cmocka_unit_test(test_input_names_code_and_field),
        cmocka_unit_test(test_wrap_keeps_code_and_field),
        cmocka_unit_test(test_error_may_quote_itself),
        cmocka_unit_test(test_long_message_is_cut_at_a_character),
        cmocka_unit_test(test_message_of_just_the_size_is_whole),
        cmocka_unit_test(test_clear_empties_all),
        cmocka_unit_test(test_nobody_listening_is_fine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
