/* SPDX-License-Identifier: Apache-2.0 */
/* Words become commands, options and arguments; the table of commands is in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "producer/cli/cli.h"
#include "producer/cli/describe.h"
#include "producer/cli/profile.h"

#include <sys/stat.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { WORDS_MAX = 8 };

static struct cli cli;

static bool parse(const char *line, struct err *err)
{
    static char copy[512];
    char *words[WORDS_MAX], *rest = NULL;
    int count = 0, used;

    snprintf(copy, sizeof(copy), "%s", line);
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        words[count++] = word;
    memset(&cli, 0, sizeof(cli));
    cli.command = cli_find(count, words, &used);
    assert_non_null(cli.command);
    return cli_parse(&cli, count - used, words + used, err);
}

static void test_options_and_arguments_are_told_apart(void **state)
{
    struct err err;

    (void)state;
    assert_true(parse("submit -m fast --max-tokens=5 hello --stream", &err));
    assert_string_equal(cli.command->name, "submit");
    assert_string_equal(cli_option(&cli, "model"), "fast");
    assert_string_equal(cli_option(&cli, "max-tokens"), "5");
    assert_true(cli_flag(&cli, "stream"));
    assert_false(cli_flag(&cli, "wait"));
    assert_string_equal(cli.arguments[0], "hello");
    assert_true(parse("submit -mfast -- --stream", &err));
    assert_string_equal(cli.arguments[0], "--stream");
    assert_true(parse("submit --metadata a=1 --metadata b=2 -", &err));
    assert_string_equal(cli_option_at(&cli, "metadata", 1), "b=2");
    assert_null(cli_option_at(&cli, "metadata", 2));
    assert_string_equal(cli.arguments[0], "-");
}

static void test_two_words_win_over_one(void **state)
{
    struct err err;

    (void)state;
    assert_true(parse("deliveries --state failed", &err));
    assert_string_equal(cli.command->name, "deliveries");
    assert_true(parse("deliveries redeliver x", &err));
    assert_string_equal(cli.command->name, "deliveries redeliver");
}

static void test_wrong_words_are_named(void **state)
{
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"submit --modle x", "did you mean --model?"},
        {"submit --model", "--model: ROUTE is missing"},
        {"submit --stream=yes x", "--stream takes no value"},
        {"submit -p urgent x", "expected one of high|normal|low"},
        {"submit a b", "\"b\" is one word too many"},
        {"get", "expected ID"},
        {"get -z x", "unknown option -z"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = {0};

        assert_false(parse(cases[i].line, &err));
        assert_non_null(strstr(err.message, cases[i].why));
    }
}

/* Whatever is in the table is in the help, the man page and the completions. */
static void test_everything_is_written_from_the_table(void **state)
{
    char *pages[4] = {NULL};
    size_t sizes[4];
    static void (*const writers[4])(FILE *) = {describe_program, describe_man, describe_bash,
                                               describe_zsh};

    (void)state;
    for (int i = 0; i < 4; i++) {
        FILE *out = open_memstream(&pages[i], &sizes[i]);

        writers[i](out);
        fclose(out);
    }
    for (const struct cli_command *command = cli_commands; command->name; command++) {
        assert_non_null(command->run);
        assert_non_null(command->summary);
        assert_true(command->max_arguments >= command->min_arguments);
        for (int i = 0; i < 4; i++)
            assert_non_null(strstr(pages[i], command->name));
        for (const struct cli_option *o = command->options; o && o->name; o++) {
            char word[64];

            assert_non_null(o->help);
            snprintf(word, sizeof(word), "--%s", o->name);
            assert_non_null(strstr(pages[2], word));
            assert_non_null(strstr(pages[3], word));
            for (const struct cli_option *other = command->options; other != o; other++)
                assert_true(strcmp(other->name, o->name) != 0 &&
                            (!o->letter || other->letter != o->letter));
        }
    }
    for (int i = 0; i < 4; i++)
        free(pages[i]);
}

/* --- profiles --------------------------------------------------------------------------------- */

static char home[] = "/tmp/nightshift-profile-XXXXXX";

static void write_config(const char *text, mode_t mode)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/nightshift", home);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/nightshift/config.yaml", home);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
}

static int profile_setup(void **state)
{
    (void)state;
    strcpy(home, "/tmp/nightshift-profile-XXXXXX");
    if (!mkdtemp(home))
        return -1;
    setenv("XDG_CONFIG_HOME", home, 1);
    unsetenv("NIGHTSHIFT_URL");
    unsetenv("NIGHTSHIFT_API_KEY");
    unsetenv("NIGHTSHIFT_ADMIN_KEY");
    return 0;
}

static int profile_teardown(void **state)
{
    char path[256];

    (void)state;
    snprintf(path, sizeof(path), "%s/nightshift/config.yaml", home);
    unlink(path);
    snprintf(path, sizeof(path), "%s/nightshift", home);
    rmdir(path);
    return rmdir(home);
}

static const char two_profiles[] =
    "profile: one\n"
    "profiles:\n"
    "  one: {url: \"http://one:1/\", api_key: key-one}\n"
    "  two: {url: \"http://two:2\", api_key: key-two, admin_key: adm}\n";

static void test_profile_of_the_file_is_used(void **state)
{
    struct profile profile;
    struct err err = {0};

    (void)state;
    write_config(two_profiles, 0600);
    assert_true(profile_load(&profile, NULL, NULL, &err));
    assert_string_equal(profile.url, "http://one:1");
    assert_string_equal(profile.api_key, "key-one");
    assert_null(profile.admin_key);
    profile_release(&profile);
    assert_true(profile_load(&profile, "two", NULL, &err));
    assert_string_equal(profile.admin_key, "adm");
    profile_release(&profile);
}

/* A key goes to the server it was given with, and to no other. */
static void test_keys_never_follow_another_url(void **state)
{
    struct profile profile;
    struct err err = {0};

    (void)state;
    write_config(two_profiles, 0600);
    setenv("NIGHTSHIFT_URL", "http://env:3", 1);
    assert_true(profile_load(&profile, NULL, NULL, &err));
    assert_string_equal(profile.url, "http://env:3");
    assert_null(profile.api_key);
    profile_release(&profile);
    setenv("NIGHTSHIFT_API_KEY", "key-env", 1);
    assert_true(profile_load(&profile, "two", NULL, &err));
    assert_string_equal(profile.url, "http://two:2");
    assert_string_equal(profile.api_key, "key-two");
    profile_release(&profile);
    unsetenv("NIGHTSHIFT_URL");
    assert_true(profile_load(&profile, NULL, "http://flag:4", &err));
    assert_string_equal(profile.url, "http://flag:4");
    assert_string_equal(profile.api_key, "key-env");
    profile_release(&profile);
}

static void test_a_file_with_keys_must_be_private(void **state)
{
    struct profile profile;
    struct err err = {0};

    (void)state;
    write_config(two_profiles, 0644);
    assert_false(profile_load(&profile, NULL, NULL, &err));
    assert_non_null(strstr(err.message, "chmod 600"));
    write_config("profiles:\n  x: {url: \"http://x\"}\nprofile: x\n", 0644);
    assert_true(profile_load(&profile, NULL, NULL, &err));
    profile_release(&profile);
}

static void test_broken_profiles_are_named(void **state)
{
    static const struct {
        const char *text, *name, *why;
    } cases[] = {
        {two_profiles, "three", "there is no profile three"},
        {"profile: x\nprofiles: {x: {api_key: k}}\n", NULL, "url is missing"},
        {"profile: x\nprofiles: {x: {url: u, key: k}}\n", NULL, "key"},
        {"profil: x\n", NULL, "profil"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct profile profile;
        struct err err = {0};

        write_config(cases[i].text, 0600);
        assert_false(profile_load(&profile, cases[i].name, NULL, &err));
        assert_non_null(strstr(err.message, cases[i].why));
    }
}

static void test_words_that_are_no_utf8_are_refused_but_names_of_files(void **state)
{
    static const char *const refused[] = {"keys create acme --expires-at \xff",
                                          "limits set acme --workflow \xff",
                                          "tenants create \xc0\x80", "submit -m fast \xff"};
    static const char *const taken[] = {"batch \xff.csv -o \xff.out -m fast",
                                        "submit -m fast -f \xff", "tenants create \xc3\xbc"};
    struct err err;

    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        assert_false(parse(refused[i], &err));
        assert_non_null(strstr(err.message, "not UTF-8"));
    }
    for (size_t i = 0; i < COUNT(taken); i++)
        assert_true(parse(taken[i], &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_and_arguments_are_told_apart),
        cmocka_unit_test(test_words_that_are_no_utf8_are_refused_but_names_of_files),
        cmocka_unit_test(test_two_words_win_over_one),
        cmocka_unit_test(test_wrong_words_are_named),
        cmocka_unit_test(test_everything_is_written_from_the_table),
        cmocka_unit_test_setup_teardown(test_profile_of_the_file_is_used, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(test_keys_never_follow_another_url, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(test_a_file_with_keys_must_be_private, profile_setup,
                                        profile_teardown),
        cmocka_unit_test_setup_teardown(test_broken_profiles_are_named, profile_setup,
                                        profile_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
