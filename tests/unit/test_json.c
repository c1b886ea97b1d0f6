/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: what is accepted, how refusals read, exact slices and splices, member readers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static json_t *parse(const char *text, int flags)
{
    struct err err = {0};
    json_t *root = json_parse(text, strlen(text), flags, &err);

    if (!root)
        fail_msg("%s: %s", text, err.message);
    return root;
}

static void test_strict_refusals_name_line_and_column(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "line 1"},
        {"{\"a\":1,\n \"a\":2}", "line 2, column 4: duplicate object key"},
        {"[\n\"x\\u0000\"]", "line 2, column 3: \\u0000 is not allowed"},
        {"[\"\xc3\xa9\\ud800\"]", "line 1, column 4: half of a surrogate pair"},
        {"[\"\\udc00\"]", "half of a surrogate pair"},
        {"[\"\\ud800\\ud800\"]", "half of a surrogate pair"},
        {"[\"\\ud800\\n\"]", "half of a surrogate pair"},
        {"[1] 2", "line 1, column 5"},
        {"[1,]", "line 1"},
        {"[01]", "line 1"},
        {"[1e]", "line 1"},
        {"[12345678901234567890x]", "line 1"},
        {"[012345678901234567890]", "line 1"},
        {"[1.2.3e99999]", "line 1"},
        {"\"abc", "line 1"},
        {"\"\\", "line 1"},
        {"\"\\u12", "line 1"},
        {"\xff", "line 1"},
        {"\"\xed\xa0\x80\"", "line 1"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = {0};

        assert_null(json_parse(cases[i].text, strlen(cases[i].text), JSON_READ_STRICT, &err));
        assert_string_equal(err.code, "invalid_json");
        if (!strstr(err.message, cases[i].message))
            fail_msg("%s: got '%s', expected '%s'", cases[i].text, err.message, cases[i].message);
    }
}

static void test_refusal_never_quotes_the_text(void **state)
{
    const char *text = "{\"prompt\": \"my secret\" \"other secret\"}";
    struct err err = {0};

    (void)state;
    assert_null(json_parse(text, strlen(text), JSON_READ_STRICT, &err));
    assert_null(strstr(err.message, "secret"));
}

static void test_raw_nul_is_refused(void **state)
{
    struct err err = {0};

    (void)state;
    assert_null(json_parse("[1]\0", 4, JSON_READ_LENIENT, &err));
    assert_string_equal(err.message, "line 1, column 4: NUL byte");
    assert_null(json_parse("\"a\0b\"", 5, JSON_READ_LENIENT, &err));
    assert_string_equal(err.message, "line 1, column 3: NUL byte in a string");
}

static void test_depth_64_passes_and_65_does_not(void **state)
{
    char text[2 * 65 + 1];
    struct err err = {0};

    (void)state;
    for (int depth = 64; depth <= 65; depth++) {
        json_t *root;

        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        root = json_parse(text, (size_t)depth * 2, JSON_READ_STRICT, &err);
        assert_int_equal(root != NULL, depth == 64);
        json_decref(root);
    }
    assert_string_equal(err.message, "line 1, column 65: nested deeper than 64 levels");
    json_decref(
        parse("[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"]", 0));
}

static void test_lenient_replaces_what_cannot_be_stored(void **state)
{
    static const struct {
        const char *text, *value;
    } cases[] = {
        {"\"a\\u0000b\"", "a\xef\xbf\xbd"
                          "b"},
        {"\"\\ud800\"", "\xef\xbf\xbd"},
        {"\"\\uDFFFx\"", "\xef\xbf\xbdx"},
        {"\"\\ud800\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80"},
        {"\"\\\\u0000\"", "\\u0000"},
        {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        json_t *root = parse(cases[i].text, JSON_READ_LENIENT);

        assert_string_equal(json_string_value(root), cases[i].value);
        json_decref(root);
    }
}

static void test_lenient_duplicates_last_wins(void **state)
{
    json_t *root = parse("{\"a\":1,\"a\":2}", JSON_READ_LENIENT);

    (void)state;
    assert_int_equal(json_integer_value(json_object_get(root, "a")), 2);
    json_decref(root);
}

static void test_numbers_of_any_size_are_accepted(void **state)
{
    static const struct {
        const char *text;
        bool is_integer;
        double value;
    } cases[] = {
        {"9223372036854775807", true, 9223372036854775807.0},
        {"-9223372036854775808", true, -9223372036854775808.0},
        {"9223372036854775808", false, 9223372036854775808.0},
        {"-9223372036854775809", false, -9223372036854775808.0},
        {"123456789012345678901234567890", false, 123456789012345678901234567890.0},
        {"1e400", false, 9e307},
        {"-1.5E+0400", false, -9e307},
        {"1e-400", false, 0.0},
        {"0.1", false, 0.1},
        {"-0", true, 0.0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        json_t *root = parse(cases[i].text, JSON_READ_STRICT);

        assert_int_equal(json_is_integer(root), cases[i].is_integer);
        assert_true(json_number_value(root) == cases[i].value);
        json_decref(root);
    }
}

static void test_integer_of_a_thousand_digits_is_accepted(void **state)
{
    char text[1001];
    json_t *root;

    (void)state;
    memset(text, '7', 1000);
    text[1000] = '\0';
    root = parse(text, JSON_READ_STRICT);
    assert_true(json_is_real(root));
    json_decref(root);
}

static void test_slices_of_strings_are_copied_decoded_or_not_at_all(void **state)
{
    static const struct {
        const char *text, *value; /* NULL: refused */
    } cases[] = {
        {"\"\"", ""},
        {"\"abcdefg\"", "abcdefg"},
        {"\"abcdefgh\"", NULL},
        {"\"\\u0061bc\\ud83d\\ude00\"", "abc\xf0\x9f\x98\x80"},
        {"\"\\u0061bcd\\ud83d\\ude00\"", NULL},
        {"\"\\u0061\\u0061\\u0061\\u0061\\u0061\\u0061\\u0061\"", "aaaaaaa"},
        {"\"\\u0061\\u0061\\u0061\\u0061\\u0061\\u0061\\u0061\\u0061\\u0061\\u0061\"", NULL},
        {"\"\\n\"", "\n"},
        {"12", NULL},
        {"null", NULL},
        {"", NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json_slice slice = {.text = cases[i].text, .len = strlen(cases[i].text)};
        char out[8] = "before";

        assert_int_equal(json_slice_copy(&slice, out, sizeof(out)), cases[i].value != NULL);
        assert_string_equal(out, cases[i].value ? cases[i].value : "");
    }
}

static void test_member_slice_is_the_source(void **state)
{
    static const struct {
        const char *text, *name, *slice; /* NULL: no such member */
    } cases[] = {
        {"{\"a\":1}", "a", "1"},
        {" {\"a\" : [1, \"]\\\"\", {\"b\":2}] \n, \"b\":1.50e+1 }", "a",
         "[1, \"]\\\"\", {\"b\":2}]"},
        {" {\"a\" : [1, {\"b\":2}] , \"b\":1.50e+1 }", "b", "1.50e+1"},
        {"{\"\\u0061\\\"\": true}", "a\"", "true"},
        {"{\"a\":\"x\\\\\",\"b\":{}}", "b", "{}"},
        {"{\"a\":1,\"a\":2}", "a", "2"},
        {"{}", "a", NULL},
        {"[\"a\",1]", "a", NULL},
        {"{\"b\":{\"a\":1}}", "a", NULL},
        {"{\"\":null}", "", "null"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json_slice out;
        bool found = json_member_slice(cases[i].text, strlen(cases[i].text), cases[i].name, &out);

        assert_int_equal(found, cases[i].slice != NULL);
        if (found) {
            assert_int_equal(out.len, strlen(cases[i].slice));
            assert_memory_equal(out.text, cases[i].slice, out.len);
        }
    }
}

static void test_splice_changes_only_what_it_must(void **state)
{
    static const struct json_edit edits[] = {{"model", "\"gpt\""}, {"stream", "true"}, {"n", NULL}};
    static const struct {
        const char *text, *result;
    } cases[] = {
        {"{\"model\" :\t\"fast\", \"x\": 1.10 }",
         "{\"model\" :\t\"gpt\", \"x\": 1.10 ,\"stream\":true}"},
        {" { \"n\":1 , \"stream\" : false,\n\"model\":\"a\"}\n",
         " { \"stream\" : true,\n\"model\":\"gpt\"}\n"},
        {"{\"a\":1,\"n\":2}", "{\"a\":1,\"model\":\"gpt\",\"stream\":true}"},
        {"{\"n\":2}", "{\"model\":\"gpt\",\"stream\":true}"},
        {"{ }", "{\"model\":\"gpt\",\"stream\":true }"},
        {"{\"b\":{\"model\":1,\"n\":[{}]},\"mod\\u0065l\":{}}",
         "{\"b\":{\"model\":1,\"n\":[{}]},\"mod\\u0065l\":\"gpt\",\"stream\":true}"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf out;
        struct err err = {0};

        buf_init(&out, 4096);
        assert_true(
            json_splice(cases[i].text, strlen(cases[i].text), edits, COUNT(edits), &out, &err));
        assert_string_equal(out.data, cases[i].result);
        buf_release(&out);
    }
}

static void test_splice_says_when_it_cannot(void **state)
{
    static const struct json_edit edits[] = {{"a", "\"0123456789\""}};
    struct buf out;
    struct err err = {0};

    (void)state;
    buf_init(&out, 12);
    assert_false(json_splice("[1]", 3, edits, 1, &out, &err));
    assert_string_equal(err.message, "expected an object");
    assert_false(json_splice("{\"a\":1}", 7, edits, 1, &out, &err));
    assert_non_null(strstr(err.message, "over 12 bytes"));
    buf_release(&out);
}

static void test_readers_accept_and_leave_absent_alone(void **state)
{
    json_t *root = parse("{\"s\":\"h\xc3\xa9\",\"i\":-3,\"b\":true,\"z\":null}", 0);
    struct err err = {0};
    const char *s = "untouched";
    int64_t i = 7;
    bool b = false;

    (void)state;
    assert_true(json_read_string(root, "", "none", 1, &s, &err));
    assert_true(json_read_string(root, "", "z", 1, &s, &err));
    assert_string_equal(s, "untouched");
    assert_true(json_read_string_required(root, "", "s", 2, &s, &err));
    assert_string_equal(s, "h\xc3\xa9");
    assert_true(json_read_i64(root, "", "none", 0, 1, &i, &err));
    assert_int_equal(i, 7);
    assert_true(json_read_i64_required(root, "", "i", -3, 1, &i, &err));
    assert_int_equal(i, -3);
    assert_true(json_read_bool(root, "", "b", &b, &err));
    assert_true(b);
    json_decref(root);
}

static void test_readers_name_field_rule_and_value(void **state)
{
    json_t *root = parse("{\"s\":\"abc\",\"i\":1.5,\"z\":null,\"big\":99999999999999999999}", 0);
    struct err err = {0};
    const char *s;
    int64_t i;
    bool b;

    (void)state;
    assert_false(json_read_string(root, "request", "s", 2, &s, &err));
    assert_string_equal(err.code, "invalid_value");
    assert_string_equal(err.param, "request.s");
    assert_string_equal(err.message,
                        "request.s: expected a string of at most 2 characters, got \"abc\"");
    assert_false(json_read_string(root, "", "i", 2, &s, &err));
    assert_string_equal(err.message, "i: expected a string, got 1.5");
    assert_false(json_read_i64(root, "", "i", 1, 20, &i, &err));
    assert_string_equal(err.message, "i: expected an integer from 1 to 20, got 1.5");
    json_object_set_new(root, "i", json_real(1e2));
    assert_false(json_read_i64(root, "", "i", 1, 20, &i, &err));
    assert_string_equal(err.message, "i: expected an integer from 1 to 20, got 100.0");
    assert_false(json_read_i64(root, "", "big", 1, 20, &i, &err));
    assert_false(json_read_bool(root, "", "s", &b, &err));
    assert_string_equal(err.message, "s: expected true or false, got \"abc\"");
    assert_false(json_read_string_required(root, "a", "z", 2, &s, &err));
    assert_string_equal(err.code, "missing_field");
    assert_string_equal(err.param, "a.z");
    assert_false(json_read_i64_required(root, "", "none", 0, 1, &i, &err));
    json_decref(root);
}

static void test_unknown_member_hints_at_the_nearest(void **state)
{
    static const char *const names[] = {"priority", "workflow"};
    json_t *root = parse("{\"workflow\":1,\"priorty\":2}", 0);
    struct err err = {0};

    (void)state;
    assert_false(json_known_members(root, "", names, 2, &err));
    assert_string_equal(err.code, "unknown_field");
    assert_string_equal(err.param, "priorty");
    assert_string_equal(err.message, "priorty: unknown field (did you mean priority?)");
    json_object_del(root, "priorty");
    assert_true(json_known_members(root, "", names, 2, &err));
    json_decref(root);
}

static void test_counts_of_careless_servers(void **state)
{
    static const struct {
        const char *text;
        int64_t count;
    } cases[] = {{"12", 12},   {"12.0", 12},   {"0.5", 1},    {"-1", -7},
                 {"-1.5", -7}, {"\"12\"", -7}, {"1e300", -7}, {"null", -7}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        json_t *value = parse(cases[i].text, 0);

        assert_int_equal(json_count_or(value, -7), cases[i].count);
        json_decref(value);
    }
    assert_int_equal(json_count_or(NULL, -7), -7);
}

static void test_paths_are_cut_to_fit(void **state)
{
    char out[8];

    (void)state;
    json_path(out, sizeof(out), "", "name");
    assert_string_equal(out, "name");
    json_path(out, sizeof(out), "ab", "cd");
    assert_string_equal(out, "ab.cd");
    json_path(out, sizeof(out), "abcd", "\xc3\xa9\xc3\xa9");
    assert_string_equal(out, "abcd.\xc3\xa9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strict_refusals_name_line_and_column),
        cmocka_unit_test(test_refusal_never_quotes_the_text),
        cmocka_unit_test(test_raw_nul_is_refused),
        cmocka_unit_test(test_depth_64_passes_and_65_does_not),
        cmocka_unit_test(test_lenient_replaces_what_cannot_be_stored),
        cmocka_unit_test(test_lenient_duplicates_last_wins),
        cmocka_unit_test(test_numbers_of_any_size_are_accepted),
        cmocka_unit_test(test_integer_of_a_thousand_digits_is_accepted),
        cmocka_unit_test(test_slices_of_strings_are_copied_decoded_or_not_at_all),
        cmocka_unit_test(test_member_slice_is_the_source),
        cmocka_unit_test(test_splice_changes_only_what_it_must),
        cmocka_unit_test(test_splice_says_when_it_cannot),
        cmocka_unit_test(test_readers_accept_and_leave_absent_alone),
        cmocka_unit_test(test_readers_name_field_rule_and_value),
        cmocka_unit_test(test_unknown_member_hints_at_the_nearest),
        cmocka_unit_test(test_counts_of_careless_servers),
        cmocka_unit_test(test_paths_are_cut_to_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
