/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration: typing, layers, variables, positions, and refusals that say where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/config.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char folder[] = "/tmp/nightshift-config-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static struct config *parse(const char *text)
{
    struct err err = {0};
    struct config *config = config_parse("dir/n.yaml", text, strlen(text), &err);

    if (!config)
        fail_msg("%s: %s", text, err.message);
    return config;
}

static char *file_write(const char *name, const char *text)
{
    char *path;
    FILE *file;

    assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
    file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) >= 0, 1);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void file_remove(char *path)
{
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void test_scalars_are_typed_as_json_would(void **state)
{
    static const struct {
        const char *text;
        json_type type;
    } cases[] = {
        {"true", JSON_TRUE},
        {"false", JSON_FALSE},
        {"null", JSON_NULL},
        {"~", JSON_NULL},
        {"", JSON_NULL},
        {"12", JSON_INTEGER},
        {"-0.5e3", JSON_REAL},
        {"yes", JSON_STRING},
        {"no", JSON_STRING},
        {"'12'", JSON_STRING},
        {"\"true\"", JSON_STRING},
        {"0x10", JSON_STRING},
        {"007", JSON_STRING},
        {".5", JSON_STRING},
        {"1_000", JSON_STRING},
        {"2026-01-01", JSON_STRING},
        {"1 2", JSON_STRING},
        {"99999999999999999999", JSON_REAL},
        {"[1, a]", JSON_ARRAY},
        {"{a: 1}", JSON_OBJECT},
        {"|\n  a\n  b", JSON_STRING},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[64];
        struct config *config;

        snprintf(text, sizeof(text), "x: %s\n", cases[i].text);
        config = parse(text);
        assert_int_equal(json_typeof(json_object_get(config_root(config), "x")), cases[i].type);
        config_free(config);
    }
}

static void test_empty_texts_are_empty_mappings(void **state)
{
    static const char *const texts[] = {"", "# nothing\n", "---\n", "{}"};

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct config *config = parse(texts[i]);

        assert_int_equal(json_object_size(config_root(config)), 0);
        config_free(config);
    }
}

static void test_plain_json_is_read(void **state)
{
    struct config *config = parse("{\"a\": {\"b\": [1, 2.50, \"x\\/\\u00e9\"]},\n \"c\": null}");

    (void)state;
    assert_string_equal(config_number_text(config, "a.b[1]"), "2.50");
    assert_string_equal(json_string_value(json_array_get(config_get(config, "a.b"), 2)),
                        "x/\xc3\xa9");
    assert_string_equal(config_where(config, "c"), "dir/n.yaml:2");
    assert_null(config_get(config, "c"));
    config_free(config);
}

static void test_values_know_their_line_and_number_text(void **state)
{
    struct config *config = parse("prices:\n"
                                  "  main:\n"
                                  "    gpt-4.1: {input_per_mtok: 0.10, free: true}\n"
                                  "list:\n"
                                  "  - 1e-3\n"
                                  "  - {a: 123456789012345678901}\n");

    (void)state;
    assert_string_equal(config_where(config, "prices"), "dir/n.yaml:2");
    assert_string_equal(config_where(config, "prices.main.gpt-4.1.free"), "dir/n.yaml:3");
    assert_string_equal(config_number_text(config, "prices.main.gpt-4.1.input_per_mtok"), "0.10");
    assert_null(config_number_text(config, "prices.main.gpt-4.1.free"));
    assert_string_equal(config_number_text(config, "list[0]"), "1e-3");
    assert_string_equal(config_number_text(config, "list[1].a"), "123456789012345678901");
    assert_string_equal(config_where(config, "nowhere"), "?");
    assert_string_equal(config_folder(config, "list"), "dir");
    config_free(config);
}

static void test_variables_come_from_the_environment(void **state)
{
    struct config *config;

    (void)state;
    setenv("CONFIG_TEST_A", "12", 1);
    setenv("CONFIG_TEST_EMPTY", "", 1);
    setenv("CONFIG_TEST_NULL", "null", 1);
    config = parse("number: ${CONFIG_TEST_A}\n"
                   "text: a${CONFIG_TEST_A}b${CONFIG_TEST_EMPTY}\n"
                   "quoted: \"${CONFIG_TEST_A}\"\n"
                   "empty: ${CONFIG_TEST_EMPTY}\n"
                   "null_text: ${CONFIG_TEST_NULL}\n"
                   "escaped: $${CONFIG_TEST_A} $5\n");
    assert_int_equal(json_integer_value(config_get(config, "number")), 12);
    assert_string_equal(json_string_value(config_get(config, "text")), "a12b");
    assert_string_equal(json_string_value(config_get(config, "quoted")), "12");
    assert_string_equal(json_string_value(config_get(config, "empty")), "");
    assert_string_equal(json_string_value(config_get(config, "null_text")), "null");
    assert_string_equal(json_string_value(config_get(config, "escaped")), "${CONFIG_TEST_A} $5");
    config_free(config);
}

static void test_refusals_name_file_line_and_path(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a: 1\nb: {c: \"${CONFIG_TEST_UNSET}\"}",
         "n.yaml:2: b.c: ${CONFIG_TEST_UNSET} is not set in the environment"},
        {"a: ${}", "n.yaml:1: a: expected ${NAME} (write $${ for a plain ${)"},
        {"a: ${X", "n.yaml:1: a: expected ${NAME}"},
        {"a: &x 1", "n.yaml:1: a: anchors and tags are not supported"},
        {"a: &x {}", "n.yaml:1: a: anchors and tags are not supported"},
        {"a: !!str 1", "n.yaml:1: a: anchors and tags are not supported"},
        {"a: !b [1]", "n.yaml:1: a: anchors and tags are not supported"},
        {"a: *x", "n.yaml:1: a: aliases are not supported"},
        {"a: 1\nb: 2\na: 3", "n.yaml:3: a is given twice"},
        {"a: {b: 1, b: 2}", "n.yaml:1: a: b is given twice"},
        {"? [a]\n: 1", "n.yaml:1: expected a name"},
        {"'': 1", "n.yaml:1: expected a name"},
        {"- 1", "n.yaml:1: expected `name: value` lines"},
        {"text", "n.yaml:1: expected `name: value` lines"},
        {"a: 1\n---\nb: 2", "n.yaml:2: expected one document only"},
        {"a: [1", "n.yaml:2: a: column"},
        {"a: 'x", "n.yaml:1: "},
        {"a: \"\\0\"", "n.yaml:1: a: NUL is not allowed"},
        {"a: \xff", "n.yaml:1: "},
    };

    (void)state;
    unsetenv("CONFIG_TEST_UNSET");
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = {0};

        if (config_parse("n.yaml", cases[i].text, strlen(cases[i].text), &err))
            fail_msg("%s was accepted", cases[i].text);
        if (strncmp(err.message, cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("%s: got '%s', expected '%s'", cases[i].text, err.message, cases[i].message);
    }
}

static void test_nesting_over_64_is_refused(void **state)
{
    char text[256] = "a: ";
    struct err err = {0};

    (void)state;
    memset(text + 3, '[', 100);
    assert_null(config_parse("n.yaml", text, strlen(text), &err));
    assert_non_null(strstr(err.message, "nested deeper than 64 levels"));
}

static void test_later_files_lie_over_earlier_ones(void **state)
{
    char *paths[] = {file_write("one.yaml", "a: {x: 1, y: 0.5, l: [1, 2]}\nb: {c: {d: 0.1}}\n"),
                     file_write("two.yaml", "\na: {y: 0.25, z: 3, l: [9]}\nb: text\n")};
    struct err err = {0};
    struct config *config = config_load((const char *const *)paths, 2, &err);
    char where[128];

    (void)state;
    assert_non_null(config);
    assert_int_equal(json_integer_value(config_get(config, "a.x")), 1);
    assert_int_equal(json_integer_value(config_get(config, "a.z")), 3);
    assert_string_equal(config_number_text(config, "a.y"), "0.25");
    assert_int_equal(json_array_size(config_get(config, "a.l")), 1);
    assert_string_equal(json_string_value(config_get(config, "b")), "text");
    assert_null(config_number_text(config, "b.c.d"));
    assert_string_equal(config_where(config, "a.l[1]"), "?");
    snprintf(where, sizeof(where), "%s:2", paths[1]);
    assert_string_equal(config_where(config, "a.y"), where);
    snprintf(where, sizeof(where), "%s:1", paths[0]);
    assert_string_equal(config_where(config, "a.x"), where);
    assert_string_equal(config_folder(config, "a.x"), folder);
    config_free(config);
    file_remove(paths[0]);
    file_remove(paths[1]);
}

static void test_missing_file_says_which(void **state)
{
    static const char *const paths[] = {"/nonexistent/x.yaml"};
    struct err err = {0};

    (void)state;
    assert_null(config_load(paths, 1, &err));
    assert_string_equal(err.message, "open /nonexistent/x.yaml: No such file or directory");
}

static void test_unknown_options_are_named_with_a_hint(void **state)
{
    static const char *const known[] = {"worker.slots", "providers.*", "log_level"};
    static const struct {
        const char *text, *message; /* NULL: fine */
    } cases[] = {
        {"worker: {slots: 1}\nproviders: {main: {x: [1]}}\nlog_level: info", NULL},
        {"worker:\nproviders:\n", NULL},
        {"worker: {}", NULL},
        {"a: 1", "dir/n.yaml:1: a: unknown option"},
        {"\nworker: {slts: 1}",
         "dir/n.yaml:2: worker.slts: unknown option (did you mean worker.slots?)"},
        {"provider: {main: {format: openai}}",
         "dir/n.yaml:1: provider.main.format: unknown option (did you mean providers.*?)"},
        {"worker: 5", "dir/n.yaml:1: worker: unknown option"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct config *config = parse(cases[i].text);
        struct err err = {0};

        assert_int_equal(config_check_unknown(config, known, COUNT(known), &err),
                         cases[i].message == NULL);
        if (cases[i].message && strncmp(err.message, cases[i].message, strlen(cases[i].message)))
            fail_msg("got '%s', expected '%s'", err.message, cases[i].message);
        config_free(config);
    }
}

static void test_secrets_are_texts_or_files(void **state)
{
    char *path = file_write("key", "s3cret\r\n");
    char *empty = file_write("empty", "\n");
    struct err err = {0};
    char *secret = config_secret("plain", folder, &err);

    (void)state;
    assert_string_equal(secret, "plain");
    free(secret);
    secret = config_secret("file:key", folder, &err);
    assert_string_equal(secret, "s3cret");
    free(secret);
    assert_null(config_secret("file:empty", folder, &err));
    assert_non_null(strstr(err.message, "it is empty"));
    assert_null(config_secret("file:none", folder, &err));
    assert_non_null(strstr(err.message, "No such file"));
    file_remove(path);
    file_remove(empty);
}

static void test_paths_start_at_their_folder(void **state)
{
    static const struct {
        const char *path, *folder, *full;
    } cases[] = {{"a", "b", "b/a"}, {"/a", "b", "/a"}, {"a", ".", "a"}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *full = config_resolve(cases[i].path, cases[i].folder);

        assert_string_equal(full, cases[i].full);
        free(full);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars_are_typed_as_json_would),
        cmocka_unit_test(test_empty_texts_are_empty_mappings),
        cmocka_unit_test(test_plain_json_is_read),
        cmocka_unit_test(test_values_know_their_line_and_number_text),
        cmocka_unit_test(test_variables_come_from_the_environment),
        cmocka_unit_test(test_refusals_name_file_line_and_path),
        cmocka_unit_test(test_nesting_over_64_is_refused),
        cmocka_unit_test(test_later_files_lie_over_earlier_ones),
        cmocka_unit_test(test_missing_file_says_which),
        cmocka_unit_test(test_unknown_options_are_named_with_a_hint),
        cmocka_unit_test(test_secrets_are_texts_or_files),
        cmocka_unit_test(test_paths_start_at_their_folder),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
