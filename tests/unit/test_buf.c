/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers grow up to their maximum, and a failed append leaves what was there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"

/* One test asks for more memory than there is. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void test_appends_join_and_are_terminated(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 1000);
    assert_null(buf.data);
    assert_true(buf_append(&buf, "ab\0c", 4));
    assert_true(buf_puts(&buf, "de"));
    assert_true(buf_putc(&buf, 'f'));
    assert_true(buf_printf(&buf, "%d-%s", 42, "x"));
    assert_int_equal(buf.len, 11);
    assert_memory_equal(buf.data, "ab\0cdef42-x", 12);
    buf_release(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.max, 1000);
}

static void test_empty_append_terminates(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 0);
    assert_true(buf_append(&buf, NULL, 0));
    assert_string_equal(buf.data, "");
    assert_false(buf_putc(&buf, 'x'));
    buf_release(&buf);
}

static void test_maximum_is_reached_and_not_passed(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 100);
    for (int i = 0; i < 100; i++)
        assert_true(buf_putc(&buf, 'x'));
    assert_int_equal(buf.cap, 101);
    assert_false(buf_putc(&buf, 'y'));
    assert_true(buf.is_broken);
    assert_int_equal(buf.len, 100);
    assert_int_equal(strlen(buf.data), 100);
    assert_false(buf_append(&buf, "", 0));
    assert_false(buf_printf(&buf, "%s", ""));
    buf_clear(&buf);
    assert_true(buf_puts(&buf, "again"));
    assert_string_equal(buf.data, "again");
    buf_release(&buf);
}

static void test_printf_over_maximum_adds_nothing(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 10);
    assert_true(buf_puts(&buf, "12345"));
    assert_false(buf_printf(&buf, "%s", "678901"));
    assert_string_equal(buf.data, "12345");
    buf_release(&buf);
}

static void test_printf_that_cannot_be_formatted_breaks(void **state)
{
    struct buf buf;
    const wchar_t bad[] = {0x110000, 0};

    (void)state;
    buf_init(&buf, 10);
    assert_false(buf_printf(&buf, "%ls", bad));
    assert_true(buf.is_broken);
    buf_release(&buf);
}

static void test_memory_that_is_not_there_breaks(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, SIZE_MAX);
    assert_true(buf_puts(&buf, "kept"));
    assert_false(buf_reserve(&buf, SIZE_MAX / 2));
    assert_true(buf.is_broken);
    assert_string_equal(buf.data, "kept");
    buf_clear(&buf);
    assert_false(buf_reserve(&buf, SIZE_MAX / 2 + 2));
    buf_release(&buf);
}

static void test_reserved_room_does_not_move(void **state)
{
    struct buf buf;
    char *before;

    (void)state;
    buf_init(&buf, 100000);
    assert_true(buf_reserve(&buf, 50000));
    assert_string_equal(buf.data, "");
    before = buf.data;
    for (int i = 0; i < 50000; i++)
        assert_true(buf_putc(&buf, 'x'));
    assert_ptr_equal(buf.data, before);
    buf_release(&buf);
}

static void test_drop_front_keeps_the_rest(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 100);
    buf_drop_front(&buf, 0);
    assert_null(buf.data);
    assert_true(buf_puts(&buf, "hello world"));
    buf_drop_front(&buf, 6);
    assert_string_equal(buf.data, "world");
    assert_int_equal(buf.len, 5);
    buf_drop_front(&buf, 5);
    assert_string_equal(buf.data, "");
    buf_release(&buf);
}

static void test_json_string_escapes(void **state)
{
    static const struct {
        const char *text;
        const char *json;
    } cases[] = {
        {"", "\"\""},
        {"plain", "\"plain\""},
        {"a\"b\\c", "\"a\\\"b\\\\c\""},
        {"\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\""},
        {"\x01\x1f\x7f", "\"\\u0001\\u001f\x7f\""},
        {"caf\xc3\xa9 \xf0\x9f\x8c\x99/", "\"caf\xc3\xa9 \xf0\x9f\x8c\x99/\""},
    };
    struct buf buf;

    (void)state;
    buf_init(&buf, 100);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        buf_clear(&buf);
        assert_true(buf_put_json_string(&buf, cases[i].text, strlen(cases[i].text)));
        assert_string_equal(buf.data, cases[i].json);
    }
    buf_clear(&buf);
    assert_true(buf_put_json_string(&buf, "a\0b", 3));
    assert_string_equal(buf.data, "\"a\\u0000b\"");
    buf_release(&buf);
}

static void test_json_text_is_a_string_or_null(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 20);
    assert_true(buf_put_json_text(&buf, "a\"b"));
    assert_true(buf_put_json_text(&buf, NULL));
    assert_true(buf_put_json_text(&buf, ""));
    assert_string_equal(buf.data, "\"a\\\"b\"null\"\"");
    buf_release(&buf);
}

static void test_json_string_that_does_not_fit_adds_nothing(void **state)
{
    const char *text = "ab\ncd";

    (void)state;
    for (size_t max = 0; max < 3 + 8; max++) {
        struct buf buf;

        buf_init(&buf, max);
        if (max >= 3)
            assert_true(buf_puts(&buf, "123"));
        assert_false(buf_put_json_string(&buf, text, strlen(text)));
        assert_true(buf.is_broken);
        assert_int_equal(buf.len, max >= 3 ? 3 : 0);
        assert_true(!buf.data || strlen(buf.data) == buf.len);
        buf_release(&buf);
    }
}

static void test_detach_hands_memory_over(void **state)
{
    struct buf buf;
    char *data;
    size_t len = 99;

    (void)state;
    buf_init(&buf, 10);
    assert_true(buf_puts(&buf, "mine"));
    data = buf_detach(&buf, &len);
    assert_string_equal(data, "mine");
    assert_int_equal(len, 4);
    assert_null(buf.data);
    free(data);
    data = buf_detach(&buf, NULL);
    assert_string_equal(data, "");
    free(data);
    assert_true(buf_puts(&buf, "12345"));
    assert_false(buf_puts(&buf, "678901"));
    assert_null(buf_detach(&buf, &len));
    assert_false(buf.is_broken);
    assert_int_equal(buf.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appends_join_and_are_terminated),
        cmocka_unit_test(test_empty_append_terminates),
        cmocka_unit_test(test_maximum_is_reached_and_not_passed),
        cmocka_unit_test(test_printf_over_maximum_adds_nothing),
        cmocka_unit_test(test_printf_that_cannot_be_formatted_breaks),
        cmocka_unit_test(test_memory_that_is_not_there_breaks),
        cmocka_unit_test(test_reserved_room_does_not_move),
        cmocka_unit_test(test_drop_front_keeps_the_rest),
        cmocka_unit_test(test_json_string_escapes),
        cmocka_unit_test(test_json_text_is_a_string_or_null),
        cmocka_unit_test(test_json_string_that_does_not_fit_adds_nothing),
        cmocka_unit_test(test_detach_hands_memory_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
