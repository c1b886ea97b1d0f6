/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 to the letter of the standard, exact integers, labels, nearest names, hex. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/str.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct text {
    const char *bytes;
    size_t len;
};
#define TEXT(literal)                 \
    {                                 \
        literal, sizeof(literal) - 1, \
    }

static void test_utf8_valid_is_strict(void **state)
{
    static const struct text good[] = {
        TEXT(""),
        TEXT("\x01 ascii \x7f"),
        TEXT("\xc2\x80\xdf\xbf"),
        TEXT("\xe0\xa0\x80\xec\xbf\xbf"),
        TEXT("\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"),
        TEXT("\xf0\x90\x80\x80\xf1\x80\x80\x80\xf4\x8f\xbf\xbf"),
    };
    static const struct text bad[] = {
        TEXT("a\0b"),
        TEXT("\x80"),
        TEXT("\xc0\xaf"),
        TEXT("\xc1\xbf"),
        TEXT("\xc3"),
        TEXT("\xc3("),
        TEXT("\xe0\x9f\xbf"),
        TEXT("\xed\xa0\x80"),
        TEXT("\xe2\x82"),
        TEXT("\xe2\x82\xc0"),
        TEXT("\xf0\x8f\xbf\xbf"),
        TEXT("\xf4\x90\x80\x80"),
        TEXT("\xf5\x80\x80\x80"),
        TEXT("\xff"),
    };

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++)
        assert_true(str_utf8_valid(good[i].bytes, good[i].len));
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(str_utf8_valid(bad[i].bytes, bad[i].len));
}

static void test_utf8_boundary_leaves_cut_characters_out(void **state)
{
    static const struct {
        struct text text;
        size_t boundary;
    } cases[] = {
        {TEXT(""), 0},
        {TEXT("abc"), 3},
        {TEXT("a\xc3"), 1},
        {TEXT("a\xc3\xa9"), 3},
        {TEXT("\xe2"), 0},
        {TEXT("\xe2\x82"), 0},
        {TEXT("\xe2\x82\xac"), 3},
        {TEXT("x\xf0\x9f\x8c"), 1},
        {TEXT("x\xf0\x9f\x8c\x99"), 5},
        {TEXT("x\xff"), 2},             /* never a character: nothing to wait for */
        {TEXT("x\xed\xa0"), 3},         /* a surrogate in the making */
        {TEXT("x\x80\x80\x80\x80"), 5}, /* continuation of nothing */
        {TEXT("\x80"), 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_int_equal(str_utf8_boundary(cases[i].text.bytes, cases[i].text.len),
                         cases[i].boundary);
}

static void test_utf8_clean_replaces_what_is_wrong(void **state)
{
    static const struct {
        struct text text;
        const char *clean;
    } cases[] = {
        {TEXT(""), ""},
        {TEXT("ok \xe2\x82\xac"), "ok \xe2\x82\xac"},
        {TEXT("a\0b"), "a\xef\xbf\xbd"
                       "b"},
        {TEXT("\xff\xc3\xa9\xc3"), "\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd"},
        {TEXT("\xe2\x82z"), "\xef\xbf\xbdz"},
        {TEXT("\xf0\x9f\x8c\xf0"), "\xef\xbf\xbd\xef\xbf\xbd"},
    };
    struct buf buf;

    (void)state;
    buf_init(&buf, 100);
    for (size_t i = 0; i < COUNT(cases); i++) {
        buf_clear(&buf);
        assert_true(str_utf8_clean(&buf, cases[i].text.bytes, cases[i].text.len));
        assert_string_equal(buf.data, cases[i].clean);
        assert_true(str_utf8_valid(buf.data, buf.len));
    }
    buf_release(&buf);
    buf_init(&buf, 3);
    assert_false(str_utf8_clean(&buf, "ab\xff", 3));
    buf_release(&buf);
    buf_init(&buf, 1);
    assert_false(str_utf8_clean(&buf, "ab\xff", 3));
    buf_release(&buf);
}

static void test_utf8_count_counts_code_points(void **state)
{
    (void)state;
    assert_int_equal(str_utf8_count("", 0), 0);
    assert_int_equal(str_utf8_count("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\x99", 10), 4);
}

static void test_integers_are_exact(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {
        {"0", 0},
        {"7", 7},
        {"-1", -1},
        {"0042", 42},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
    };
    static const char *const bad[] = {
        "",
        "-",
        "+1",
        "-0",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "0x1",
        "--1",
        "1-2",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999",
    };
    int64_t value = 77;

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_true(str_to_i64(good[i].text, strlen(good[i].text), &value));
        assert_true(value == good[i].value);
    }
    value = 77;
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(str_to_i64(bad[i], strlen(bad[i]), &value));
    assert_true(value == 77);
    assert_true(str_to_i64("123456", 3, &value));
    assert_true(value == 123);
}

static void test_visible_ascii(void **state)
{
    (void)state;
    assert_true(str_is_visible_ascii("!~aZ09", 6));
    assert_false(str_is_visible_ascii("", 0));
    assert_false(str_is_visible_ascii("a b", 3));
    assert_false(str_is_visible_ascii("a\x7f", 2));
    assert_false(str_is_visible_ascii("\xc3\xa9", 2));
}

static void test_labels(void **state)
{
    static const char *const bad[] = {"", "a b", "a,b", "caf\xc3\xa9", "a\n", "[", "`", "{", "a+b"};
    const char *all = "azAZ09._/@:-";

    (void)state;
    assert_true(str_is_label(all, strlen(all), 12));
    assert_false(str_is_label(all, strlen(all), 11));
    assert_false(str_is_label("a\0b", 3, 10));
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(str_is_label(bad[i], strlen(bad[i]), 128));
}

static void test_nearest_name(void **state)
{
    static const char *const names[] = {"request", "priority", "max_attempts", "run_at", "n"};
    static const struct {
        const char *what;
        const char *nearest;
    } cases[] = {
        {"requst", "request"},
        {"piority", "priority"},
        {"maxattempts", "max_attempts"},
        {"runat", "run_at"},
        {"request", "request"},
        {"zzzzzz", NULL},
        {"", NULL},
        {"x", NULL},
        {"workflow", NULL},
    };
    char long_name[100];
    const char *longs[] = {long_name};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *got = str_nearest(cases[i].what, names, COUNT(names));

        assert_true(str_equal(got, cases[i].nearest));
    }
    memset(long_name, 'x', sizeof(long_name));
    long_name[sizeof(long_name) - 1] = '\0';
    assert_null(str_nearest(long_name, names, COUNT(names)));
    assert_null(str_nearest("xxxx", longs, 1));
    assert_null(str_nearest("x", NULL, 0));
}

static void test_equal_takes_null(void **state)
{
    (void)state;
    assert_true(str_equal(NULL, NULL));
    assert_true(str_equal("a", "a"));
    assert_false(str_equal("a", NULL));
    assert_false(str_equal(NULL, "a"));
    assert_false(str_equal("a", "b"));
}

static void test_hex_both_ways(void **state)
{
    const unsigned char bytes[] = {0x00, 0x9a, 0xff};
    unsigned char back[3];
    char hex[7];

    (void)state;
    str_hex(bytes, sizeof(bytes), hex);
    assert_string_equal(hex, "009aff");
    assert_true(str_unhex("009AfF", 6, back));
    assert_memory_equal(back, bytes, sizeof(bytes));
    assert_true(str_unhex("", 0, back));
    assert_false(str_unhex("0", 1, back));
    assert_false(str_unhex("0g", 2, back));
    assert_false(str_unhex("G0", 2, back));
    assert_false(str_unhex("/0", 2, back));
}

static void test_memory_helpers(void **state)
{
    char *text = xstrdup("text");
    unsigned char *zero = xcalloc(3, 2);
    void *nothing = xcalloc(0, 0);

    (void)state;
    assert_string_equal(text, "text");
    for (int i = 0; i < 6; i++)
        assert_int_equal(zero[i], 0);
    assert_non_null(nothing);
    free(text);
    free(zero);
    free(nothing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_valid_is_strict),
        cmocka_unit_test(test_utf8_boundary_leaves_cut_characters_out),
        cmocka_unit_test(test_utf8_clean_replaces_what_is_wrong),
        cmocka_unit_test(test_utf8_count_counts_code_points),
        cmocka_unit_test(test_integers_are_exact),
        cmocka_unit_test(test_visible_ascii),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_nearest_name),
        cmocka_unit_test(test_equal_takes_null),
        cmocka_unit_test(test_hex_both_ways),
        cmocka_unit_test(test_memory_helpers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
