/* SPDX-License-Identifier: Apache-2.0 */
/* Lines out of bytes cut anywhere, and the file that keeps answers nobody reads yet. */
#include "producer/line_split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "producer/answer_spool.h"

enum { LINE_MAX_TEST = 8 };

/* What came out, as "1:text 2:- 3:!" (blank, over). */
static void split_all(const char *input, size_t step, char *out, size_t size)
{
    struct line_split split;
    size_t len = strlen(input), at = 0, used, end = 0;
    enum line_kind kind;

    out[0] = '\0';
    line_split_init(&split, LINE_MAX_TEST);
    while (at < len) {
        size_t piece = step < len - at ? step : len - at;

        kind = line_split_feed(&split, input + at, piece, &used);
        assert_true(used > 0 && used <= piece);
        at += used;
        if (kind != LINE_NONE)
            end += (size_t)snprintf(out + end, size - end, "%d:%s ", (int)split.number,
                                    kind == LINE_TEXT    ? split.line.data
                                    : kind == LINE_BLANK ? "-"
                                                         : "!");
    }
    kind = line_split_finish(&split);
    if (kind != LINE_NONE)
        snprintf(out + end, size - end, "%d:%s$", (int)split.number,
                 kind == LINE_TEXT    ? split.line.data
                 : kind == LINE_BLANK ? "-"
                                      : "!");
    line_split_release(&split);
}

static void test_lines_are_the_same_however_the_bytes_are_cut(void **state)
{
    static const struct {
        const char *input;
        const char *expected;
    } cases[] = {
        {"", ""},
        {"a", "1:a$"},
        {"a\n", "1:a "},
        {"a\nb", "1:a 2:b$"},
        {"\n\n", "1:- 2:- "},
        {" \t\r\nb\n", "1:- 2:b "},
        {"12345678\n", "1:12345678 "},
        {"123456789\nb\n", "1:! 2:b "},
        {"123456789012345678901234567890", "1:!$"},
        {"a\n123456789\n\nb", "1:a 2:! 3:- 4:b$"},
        {"a\n   ", "1:a 2:-$"},
    };
    char out[128];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t step = 1; step < 12; step++) {
            split_all(cases[i].input, step, out, sizeof(out));
            assert_string_equal(out, cases[i].expected);
        }
}

static void test_spool_gives_back_what_was_added_in_order(void **state)
{
    struct answer_spool spool;
    struct err err;
    char out[7];
    size_t len;

    (void)state;
    answer_spool_init(&spool);
    assert_true(answer_spool_is_empty(&spool));
    for (int round = 0; round < 3; round++) {
        assert_true(answer_spool_add(&spool, "hello ", 6, &err));
        assert_true(answer_spool_add(&spool, "world", 5, &err));
        assert_true(answer_spool_take(&spool, out, sizeof(out), &len, &err));
        assert_memory_equal(out, "hello w", len);
        assert_false(answer_spool_is_empty(&spool));
        assert_true(answer_spool_take(&spool, out, sizeof(out), &len, &err));
        assert_int_equal(len, 4);
        assert_memory_equal(out, "orld", len);
        assert_true(answer_spool_is_empty(&spool));
        assert_int_equal(spool.write_at, 0); /* the file shrinks when it was read */
    }
    answer_spool_release(&spool);
}

static void test_spool_has_a_maximum(void **state)
{
    struct answer_spool spool;
    struct err err;

    (void)state;
    answer_spool_init(&spool);
    spool.write_at = ANSWER_SPOOL_MAX - 1;
    assert_false(answer_spool_add(&spool, "ab", 2, &err));
    answer_spool_release(&spool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_are_the_same_however_the_bytes_are_cut),
        cmocka_unit_test(test_spool_gives_back_what_was_added_in_order),
        cmocka_unit_test(test_spool_has_a_maximum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
