/* SPDX-License-Identifier: Apache-2.0 */
/* Option tables: precedence, every type, refusals with their place, printing, reloading. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/config.h"
#include "common/base/option.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct settings {
    int64_t slots;
    bool is_fast;
    char *name;
    char *key;
    struct option_list numbers;
    struct option_list strings;
};

static const struct option table[] = {
    {.name = "worker.slots",
     .type = OPTION_INT,
     .offset = offsetof(struct settings, slots),
     .fallback = "5",
     .unit = "slots",
     .min = 1,
     .max = 10,
     .env = "OPTION_TEST_SLOTS",
     .is_reloadable = true,
     .help = "Jobs at once."},
    {.name = "fast",
     .type = OPTION_BOOL,
     .offset = offsetof(struct settings, is_fast),
     .fallback = "true",
     .help = "Faster."},
    {.name = "name",
     .type = OPTION_STRING,
     .offset = offsetof(struct settings, name),
     .help = "N."},
    {.name = "key",
     .type = OPTION_SECRET,
     .offset = offsetof(struct settings, key),
     .fallback = "default-secret",
     .help = "K."},
    {.name = "numbers",
     .type = OPTION_INT_LIST,
     .offset = offsetof(struct settings, numbers),
     .fallback = "0,5,300",
     .help = "Waits."},
    {.name = "strings",
     .type = OPTION_STRING_LIST,
     .offset = offsetof(struct settings, strings),
     .fallback = "a,b",
     .is_reloadable = true,
     .help = "Names."},
};

static void load(const char *yaml, struct settings *settings)
{
    struct err err = {0};
    struct config *config = config_parse("n.yaml", yaml, strlen(yaml), &err);

    assert_non_null(config);
    memset(settings, 0, sizeof(*settings));
    if (!options_load(table, COUNT(table), config, settings, &err))
        fail_msg("%s: %s", yaml, err.message);
    config_free(config);
}

static void release(struct settings *settings)
{
    options_release(table, COUNT(table), settings);
}

static void test_defaults_fill_every_type(void **state)
{
    struct settings settings;

    (void)state;
    unsetenv("OPTION_TEST_SLOTS");
    load("", &settings);
    assert_int_equal(settings.slots, 5);
    assert_true(settings.is_fast);
    assert_null(settings.name);
    assert_string_equal(settings.key, "default-secret");
    assert_int_equal(settings.numbers.count, 3);
    assert_int_equal(settings.numbers.numbers[2], 300);
    assert_int_equal(settings.strings.count, 2);
    assert_string_equal(settings.strings.strings[1], "b");
    release(&settings);
    assert_null(settings.key);
}

static void test_file_wins_over_environment_wins_over_default(void **state)
{
    struct settings settings;

    (void)state;
    setenv("OPTION_TEST_SLOTS", "7", 1);
    load("", &settings);
    assert_int_equal(settings.slots, 7);
    release(&settings);
    load("worker: {slots: 8}", &settings);
    assert_int_equal(settings.slots, 8);
    release(&settings);
    load("worker: {slots: null}", &settings);
    assert_int_equal(settings.slots, 7);
    release(&settings);
    unsetenv("OPTION_TEST_SLOTS");
}

static void test_file_sets_every_type(void **state)
{
    struct settings settings;

    (void)state;
    load("fast: false\nname: 0.10\nkey: abc\nnumbers: [1]\nstrings: []\n", &settings);
    assert_false(settings.is_fast);
    assert_string_equal(settings.name, "0.10");
    assert_string_equal(settings.key, "abc");
    assert_int_equal(settings.numbers.count, 1);
    assert_int_equal(settings.strings.count, 0);
    release(&settings);
}

static void test_refusals_say_where_what_and_what_was_got(void **state)
{
    static const struct {
        const char *yaml, *message;
    } cases[] = {
        {"worker:\n  slots: 11",
         "n.yaml:2: worker.slots: expected an integer from 1 to 10 slots, got 11"},
        {"worker: {slots: many}",
         "n.yaml:1: worker.slots: expected an integer from 1 to 10 slots, got \"many\""},
        {"worker: {slots: 1.5}",
         "n.yaml:1: worker.slots: expected an integer from 1 to 10 slots, got 1.5"},
        {"fast: yes", "n.yaml:1: fast: expected true or false, got \"yes\""},
        {"name: [a]", "n.yaml:1: name: expected a string, got an array"},
        {"key: {a: secret}", "n.yaml:1: key: expected a string or file:PATH, got an object"},
        {"key: file:/nonexistent/key", "n.yaml:1: key: open /nonexistent/key: "},
        {"numbers: 5", "n.yaml:1: numbers: expected a list of integers of at least 0, got 5"},
        {"numbers: [1, -1]",
         "n.yaml:1: numbers: expected a list of integers of at least 0, got an array"},
        {"strings: [a, 1]",
         "n.yaml:1: strings: expected a list of at most 64 strings, got an array"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = {0};
        struct settings settings = {0};
        struct config *config = config_parse("n.yaml", cases[i].yaml, strlen(cases[i].yaml), &err);

        assert_non_null(config);
        assert_false(options_load(table, COUNT(table), config, &settings, &err));
        if (strncmp(err.message, cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("got '%s', expected '%s'", err.message, cases[i].message);
        config_free(config);
    }
}

static void test_bad_environment_is_named(void **state)
{
    struct settings settings = {0};
    struct config *config = config_empty();
    struct err err = {0};

    (void)state;
    setenv("OPTION_TEST_SLOTS", "lots", 1);
    assert_false(options_load(table, COUNT(table), config, &settings, &err));
    assert_string_equal(err.message, "environment variable OPTION_TEST_SLOTS: expected an integer "
                                     "from 1 to 10 slots, got \"lots\"");
    unsetenv("OPTION_TEST_SLOTS");
    config_free(config);
}

static char *printed(void (*print)(FILE *out, const struct settings *settings),
                     const struct settings *settings)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    print(out, settings);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void print_values(FILE *out, const struct settings *settings)
{
    options_print(table, COUNT(table), settings, out);
}

static void print_help(FILE *out, const struct settings *settings)
{
    (void)settings;
    options_print_help(table, COUNT(table), out);
}

static void test_printing_hides_secrets(void **state)
{
    struct settings settings;
    char *text;

    (void)state;
    load("name: n", &settings);
    text = printed(print_values, &settings);
    assert_string_equal(text, "worker.slots=5\nfast=true\nname=n\nkey=***\nnumbers=0,5,300\n"
                              "strings=a,b\n");
    free(text);
    release(&settings);
}

static void test_help_tells_range_default_and_source(void **state)
{
    char *text = printed(print_help, NULL);

    (void)state;
    assert_non_null(strstr(text, "  worker.slots (integer 1..10 slots, default 5, or "
                                 "$OPTION_TEST_SLOTS, reloadable)\n      Jobs at once.\n"));
    assert_non_null(strstr(text, "  fast (true or false, default true)\n"));
    free(text);
}

static void on_changed(const struct option *option, const char *before, const char *after,
                       void *arg)
{
    char *seen = arg;
    size_t len = strlen(seen);

    snprintf(seen + len, 256 - len, "%s:%s>%s ", option->name, before, after);
}

static void test_reload_takes_only_what_is_reloadable(void **state)
{
    struct settings current, fresh;
    char seen[256] = "";

    (void)state;
    load("name: a\nkey: one", &current);
    load("name: b\nkey: two\nworker: {slots: 9}\nstrings: [c]", &fresh);
    options_reload(table, COUNT(table), &current, &fresh, on_changed, seen);
    assert_string_equal(seen, "worker.slots:5>9 name:a>b key:***>*** strings:a,b>c ");
    assert_int_equal(current.slots, 9);
    assert_string_equal(current.name, "a");
    assert_string_equal(current.key, "one");
    assert_string_equal(current.strings.strings[0], "c");
    assert_int_equal(fresh.strings.count, 2);
    release(&current);
    release(&fresh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_fill_every_type),
        cmocka_unit_test(test_file_wins_over_environment_wins_over_default),
        cmocka_unit_test(test_file_sets_every_type),
        cmocka_unit_test(test_refusals_say_where_what_and_what_was_got),
        cmocka_unit_test(test_bad_environment_is_named),
        cmocka_unit_test(test_printing_hides_secrets),
        cmocka_unit_test(test_help_tells_range_default_and_source),
        cmocka_unit_test(test_reload_takes_only_what_is_reloadable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
