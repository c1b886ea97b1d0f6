/* SPDX-License-Identifier: Apache-2.0 */
/* Tables fit their window, and nothing in them drives a terminal. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "producer/cli/output.h"
#include "producer/cli/table.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct table_column columns[] = {
    {.title = "id"},
    {.title = "name", .is_flexible = true},
    {.title = "count", .is_right = true},
};

static struct table *sample(void)
{
    static const char *const cells[] = {
        "a1", "a rather long name of something", "7", "b22", "short", "1234"};
    struct table *table = table_new(columns, COUNT(columns));

    for (size_t i = 0; i < COUNT(cells); i++)
        table_add(table, cells[i]);
    return table;
}

static void assert_printed(const struct table *table, int width, const char *expected)
{
    struct buf out;

    buf_init(&out, 65536);
    assert_true(table_print(table, width, "", "", &out));
    assert_string_equal(out.data, expected);
    buf_release(&out);
}

static void test_columns_line_up(void **state)
{
    struct table *table = sample();

    (void)state;
    assert_printed(table, 0,
                   "id   name                             count\n"
                   "a1   a rather long name of something      7\n"
                   "b22  short                             1234\n");
    table_free(table);
}

static void test_flexible_columns_are_cut_to_the_window(void **state)
{
    struct table *table = sample();

    (void)state;
    assert_printed(table, 26,
                   "id   name            count\n"
                   "a1   a rather long\xe2\x80\xa6      7\n"
                   "b22  short            1234\n");
    table_free(table);
}

static void test_too_narrow_a_window_gives_records(void **state)
{
    struct table *table = sample();

    (void)state;
    assert_printed(table, 15,
                   "id     a1\nname   a rather long name of something\ncount  7\n\n"
                   "id     b22\nname   short\ncount  1234\n");
    table_free(table);
}

/* Optional columns go from the right, those without any text first of all. */
static void test_what_is_optional_is_left_out(void **state)
{
    static const struct table_column some[] = {
        {.title = "id"},
        {.title = "model", .is_optional = true},
        {.title = "empty", .is_optional = true},
        {.title = "cost", .is_right = true, .is_optional = true},
    };
    static const char *const cells[] = {"abcdefghij", "gpt-4o-mini", "", "$0.10"};
    static const struct {
        int width;
        const char *titles;
    } cases[] = {
        {0, "id          model        empty   cost\n"},
        {32, "id          model         cost\n"},
        {24, "id          model\n"},
        {12, "id\n"},
    };
    struct table *table = table_new(some, COUNT(some));

    (void)state;
    for (size_t i = 0; i < COUNT(cells); i++)
        table_add(table, cells[i]);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf out;

        buf_init(&out, 65536);
        assert_true(table_print(table, cases[i].width, "", "", &out));
        assert_int_equal(strncmp(out.data, cases[i].titles, strlen(cases[i].titles)), 0);
        buf_release(&out);
    }
    table_free(table);
}

static void test_lines_never_pass_the_window(void **state)
{
    struct table *table = sample();

    (void)state;
    for (int width = 20; width < 60; width++) {
        struct buf out;
        const char *line;

        buf_init(&out, 65536);
        assert_true(table_print(table, width, "", "", &out));
        line = out.data;
        if (!strstr(out.data, "\n\n"))
            for (; *line; line += strcspn(line, "\n") + 1)
                assert_true(text_width(line, strcspn(line, "\n")) <= width);
        buf_release(&out);
    }
    table_free(table);
}

static void test_wide_characters_take_two_columns(void **state)
{
    static const struct {
        const char *text;
        int width;
    } cases[] = {
        {"abc", 3}, {"\xe6\x97\xa5\xe6\x9c\xac", 4}, {"e\xcc\x81", 1}, {"\xc3\xbc", 1}, {"", 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_int_equal(text_width(cases[i].text, strlen(cases[i].text)), cases[i].width);
    assert_int_equal(text_prefix("\xe6\x97\xa5\xe6\x9c\xac", 6, 3), 3);
}

static void test_control_characters_are_escaped(void **state)
{
    static const struct {
        const char *text, *cell, *whole;
    } cases[] = {
        {"plain \xc3\xbc", "plain \xc3\xbc", "plain \xc3\xbc"},
        {"\x1b[2J", "\\x1b[2J", "\\x1b[2J"},
        {"\x1b]0;title\x07", "\\x1b]0;title\\x07", "\\x1b]0;title\\x07"},
        {"a\nb\tc\rd", "a\\nb\\tc\\rd", "a\nb\tc\\rd"},
        {"\x7f\xc2\x9b", "\\x7f\\x9b", "\\x7f\\x9b"},
        {"\xe2\x80\xae", "\\u202e", "\\u202e"},
        {"\xff\xc3", "\\xff\\xc3", "\\xff\\xc3"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80", "\\xed\\xa0\\x80"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        for (int is_cell = 0; is_cell < 2; is_cell++) {
            struct buf out;

            buf_init(&out, 4096);
            assert_true(output_escape(&out, cases[i].text, strlen(cases[i].text), is_cell));
            assert_string_equal(out.data, is_cell ? cases[i].cell : cases[i].whole);
            buf_release(&out);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_line_up),
        cmocka_unit_test(test_flexible_columns_are_cut_to_the_window),
        cmocka_unit_test(test_too_narrow_a_window_gives_records),
        cmocka_unit_test(test_what_is_optional_is_left_out),
        cmocka_unit_test(test_lines_never_pass_the_window),
        cmocka_unit_test(test_wide_characters_take_two_columns),
        cmocka_unit_test(test_control_characters_are_escaped),
    };

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
