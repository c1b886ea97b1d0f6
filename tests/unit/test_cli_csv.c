/* SPDX-License-Identifier: Apache-2.0 */
/* CSV comes in strictly, a row at a time, and goes out so that no cell runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "producer/cli/csv_rows.h"
#include "producer/cli/csv_write.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* "LINE:cell|cell;" for each row, "LINE!" for a broken one. */
static void read_all(const char *text, size_t len, struct buf *out)
{
    FILE *file = fmemopen((void *)(uintptr_t)text, len, "r");
    struct csv_rows *rows = csv_rows_new(file);
    enum csv_outcome outcome;
    struct csv_row row;
    struct err err;

    buf_puts(out, "");
    while ((outcome = csv_rows_next(rows, &row, &err)) != CSV_NO_MORE) {
        buf_printf(out, "%d%s", (int)row.line, outcome == CSV_BROKEN ? "!" : ":");
        for (int i = 0; outcome == CSV_ROW && i < row.count; i++)
            buf_printf(out, "%s%s", i ? "|" : "", row.cells[i]);
        buf_puts(out, outcome == CSV_ROW ? ";" : "");
    }
    csv_rows_free(rows);
    fclose(file);
}

static void test_rows_are_read_with_their_lines(void **state)
{
    static const struct {
        const char *text, *rows;
    } cases[] = {
        {"a,b\n1,2\n", "1:a|b;2:1|2;"},
        {"a,b\r\n1,2", "1:a|b;2:1|2;"},
        {"\xef\xbb\xbf"
         "a\n1\n",
         "1:a;2:1;"},
        {"a\n\n\nb\n", "1:a;4:b;"},
        {"\"a\n\nb\"\nc\n", "1:a\n\nb;4:c;"},
        {"\"x\ny\",2\nz,3\n", "1:x\ny|2;3:z|3;"},
        {"\"say \"\"hi\"\"\",\n", "1:say \"hi\"|;"},
        {" a , b \n", "1: a | b ;"},
        {"", ""},
        {"\n\n", ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf out;

        if (!*cases[i].text)
            continue;
        buf_init(&out, 4096);
        read_all(cases[i].text, strlen(cases[i].text), &out);
        assert_string_equal(out.data, cases[i].rows);
        buf_release(&out);
    }
}

static void test_a_broken_row_costs_only_itself(void **state)
{
    static const struct {
        const char *text, *rows;
    } cases[] = {
        {"a\nb\"c\nd\n", "1:a;2!3:d;"},
        {"a\n\"\n\n", "1:a;2!"},
        {"a\n\"b\"c\nd\n", "1:a;2!3:d;"},
        /* A quote that is never closed does not swallow the rest. */
        {"a\n\"open\nb\nc\n", "1:a;2!3:b;4:c;"},
        {"a\n\"open\nb,\"x\"\nc\n", "1:a;2!3:b|x;4:c;"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf out;

        buf_init(&out, 4096);
        read_all(cases[i].text, strlen(cases[i].text), &out);
        assert_string_equal(out.data, cases[i].rows);
        buf_release(&out);
    }
}

static void test_a_nul_byte_breaks_its_row(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 4096);
    read_all("a\nb\0c\nd\n", 8, &out);
    assert_string_equal(out.data, "1:a;2!3:d;");
    buf_release(&out);
}

static void test_cells_that_would_run_are_escaped(void **state)
{
    static const struct {
        const char *text, *cell;
    } cases[] = {
        {"plain", "plain"},
        {"=1+1", "'=1+1"},
        {"+cmd|' /C calc'!A0", "\"'+cmd|' /C calc'!A0\""},
        {"-2+3", "'-2+3"},
        {"@SUM(A1)", "'@SUM(A1)"},
        {"\tx", "'\tx"},
        {"\rx", "\"'\rx\""},
        {"-1.5", "-1.5"},
        {"+49", "+49"},
        {"a,b", "\"a,b\""},
        {"say \"hi\"", "\"say \"\"hi\"\"\""},
        {"two\nlines", "\"two\nlines\""},
        {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf out;

        buf_init(&out, 4096);
        buf_puts(&out, "");
        assert_true(csv_put(&out, cases[i].text, strlen(cases[i].text), true));
        assert_string_equal(out.data, cases[i].cell);
        buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_read_with_their_lines),
        cmocka_unit_test(test_a_broken_row_costs_only_itself),
        cmocka_unit_test(test_a_nul_byte_breaks_its_row),
        cmocka_unit_test(test_cells_that_would_run_are_escaped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
