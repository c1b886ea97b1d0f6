/* SPDX-License-Identifier: Apache-2.0 */
/* Cursors: their text, their order, and which of them a job can have had. */
#include "producer/cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/model/job.h"

static void test_cursor_text_comes_back(void **state)
{
    static const struct cursor cursors[] = {
        {0, 0, 0}, {1, 2, 3}, {INT32_MAX, SEQ_ENDED, 0}, {7, INT32_MAX, CURSOR_OFFSET_MAX}};
    struct cursor back;
    char text[CURSOR_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(cursors) / sizeof(cursors[0]); i++) {
        cursor_format(&cursors[i], text);
        assert_int_equal(strlen(text), CURSOR_LEN);
        assert_true(cursor_parse(text, strlen(text), &back));
        assert_int_equal(cursor_compare(&cursors[i], &back), 0);
    }
    cursor_format(&(struct cursor){1, 2, 255}, text);
    assert_string_equal(text, "00000001000000020000000000ff");
}

static void test_cursor_texts_compare_as_cursors_do(void **state)
{
    static const struct cursor rising[] = {{0, 0, 0},  {0, SEQ_ENDED, 0},    {1, 1, 0},
                                           {1, 2, 9},  {1, 2, 10},           {1, 2, 4096},
                                           {1, 10, 0}, {1, SEQ_RETRYING, 0}, {16, 1, 0}};
    char texts[2][CURSOR_SIZE];

    (void)state;
    for (size_t i = 0; i + 1 < sizeof(rising) / sizeof(rising[0]); i++) {
        cursor_format(&rising[i], texts[0]);
        cursor_format(&rising[i + 1], texts[1]);
        assert_true(strcmp(texts[0], texts[1]) < 0);
        assert_int_equal(cursor_compare(&rising[i], &rising[i + 1]), -1);
        assert_int_equal(cursor_compare(&rising[i + 1], &rising[i]), 1);
    }
}

static void test_cursor_that_is_none_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "0",
        "00000001000000020000000000f",   /* short */
        "00000001000000020000000000fff", /* long */
        "0000000100000002000000000 ff",
        "00000001000000020000000000FF",
        "-0000001000000020000000000ff",
        "80000000000000000000000000ff", /* over int */
        "0000000080000000000000000000",
    };
    struct cursor cursor;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(cursor_parse(bad[i], strlen(bad[i]), &cursor));
}

static void test_only_cursors_the_job_can_have_had_are_possible(void **state)
{
    const struct cursor_facts other = {.has_row = true};
    const struct cursor_facts text = {
        .has_row = true, .is_text = true, .row_offset = 10, .row_len = 5, .is_boundary = true};
    const struct cursor_facts cut_char = {
        .has_row = true, .is_text = true, .row_offset = 10, .row_len = 5};
    const struct cursor_facts nothing = {.last_seq = -1};
    const struct cursor_facts open_chunk = {.last_seq = 4, .text_end = 100};
    const struct {
        struct cursor cursor;
        const struct cursor_facts *facts;
        bool expected;
    } cases[] = {
        {{1, 1, 0}, &other, true},
        {{1, 1, 1}, &other, false},
        {{1, 2, 15}, &text, true},
        {{1, 2, 11}, &text, true},
        {{1, 2, 10}, &text, false},
        {{1, 2, 16}, &text, false},
        {{1, 2, 0}, &text, false},
        {{1, 2, 12}, &cut_char, false},
        {{9, 1, 1}, &nothing, false},
        {{9, 1, 0}, &nothing, false},
        {{1, 5, 101}, &open_chunk, true},
        {{1, 6, 500}, &open_chunk, true},
        {{1, 5, 100}, &open_chunk, false}, /* that text is stored, elsewhere */
        {{1, 5, 0}, &open_chunk, false},
        {{1, 3, 101}, &open_chunk, false},
        {{1, 5 + CURSOR_ROWS_AHEAD, 101}, &open_chunk, false},
        {{1, 5, CURSOR_OFFSET_MAX}, &open_chunk, false},
        {{1, SEQ_ENDED, 0}, &open_chunk, false},
        {{1, SEQ_ENDED + 1, 0}, &nothing, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (cursor_is_possible(&cases[i].cursor, cases[i].facts) != cases[i].expected)
            fail_msg("case %zu", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cursor_text_comes_back),
        cmocka_unit_test(test_cursor_texts_compare_as_cursors_do),
        cmocka_unit_test(test_cursor_that_is_none_is_refused),
        cmocka_unit_test(test_only_cursors_the_job_can_have_had_are_possible),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
