/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines have one shape, one line each, and cannot be forged. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/log.h"
#include "common/base/str.h"

static char captured[16384];

/* Runs one log call with standard error in a temporary file. */
static void capture_start(int *saved, FILE **file)
{
    *file = tmpfile();
    assert_non_null(*file);
    *saved = dup(STDERR_FILENO);
    assert_true(dup2(fileno(*file), STDERR_FILENO) >= 0);
}

static size_t capture_end(int saved, FILE *file)
{
    size_t len;

    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    len = fread(captured, 1, sizeof(captured) - 1, file);
    captured[len] = '\0';
    fclose(file);
    return len;
}

#define CAPTURE(call)                 \
    do {                              \
        int saved;                    \
        FILE *file;                   \
        capture_start(&saved, &file); \
        call;                         \
        capture_end(saved, file);     \
    } while (0)

static void test_line_has_the_promised_shape(void **state)
{
    const struct log_context context = {
        .component = "run", .job = "job_01", .tenant = "acme", .request = "r1"};
    char expected[128];

    (void)state;
    log_setup("worker", LOG_INFO);
    CAPTURE(log_warn(&context, "provider refused: status=%d", 503));
    snprintf(expected, sizeof(expected),
             " warn worker[%ld] run job=job_01 tenant=acme request=r1: "
             "provider refused: status=503\n",
             (long)getpid());
    assert_string_equal(captured + strlen("2026-11-21T03:04:05.678Z"), expected);
    assert_int_equal(captured[10], 'T');
    assert_int_equal(captured[23], 'Z');
}

static void test_line_without_context(void **state)
{
    const struct log_context empty = {.job = NULL};
    char expected[64];

    (void)state;
    log_setup("worker", LOG_INFO);
    snprintf(expected, sizeof(expected), " error worker[%ld]: x\n", (long)getpid());
    CAPTURE(log_error(NULL, "x"));
    assert_string_equal(captured + 24, expected);
    CAPTURE(log_error(&empty, "x"));
    assert_string_equal(captured + 24, expected);
}

static void test_levels_below_are_silent(void **state)
{
    (void)state;
    log_setup("worker", LOG_WARN);
    assert_false(log_is_on(LOG_INFO));
    assert_true(log_is_on(LOG_WARN));
    CAPTURE(log_info(NULL, "x"));
    assert_string_equal(captured, "");
    CAPTURE(log_debug(NULL, "x"));
    assert_string_equal(captured, "");
    log_set_level(LOG_DEBUG);
    CAPTURE(log_debug(NULL, "seen"));
    assert_non_null(strstr(captured, " debug worker["));
}

static void test_control_characters_are_escaped(void **state)
{
    const struct log_context context = {.tenant = "a\nb"};

    (void)state;
    log_setup("worker", LOG_INFO);
    CAPTURE(log_info(&context, "%s", "a\nb\r\tc\x1b[2J\x7f caf\xc3\xa9 \xc2\x9b \xc2\xa0\xc2x"));
    assert_non_null(strstr(captured, "tenant=a\\nb: "));
    assert_non_null(
        strstr(captured, ": a\\nb\\r\\tc\\x1b[2J\\x7f caf\xc3\xa9 \\xc2\\x9b \xc2\xa0\xc2x\n"));
}

static void test_long_line_is_cut_at_a_character(void **state)
{
    char text[6000];
    size_t len;

    (void)state;
    log_setup("worker", LOG_INFO);
    for (size_t shift = 0; shift < 3; shift++) {
        memset(text, 'x', sizeof(text));
        for (size_t i = shift; i + 3 < sizeof(text); i += 3)
            memcpy(text + i, "\xe2\x82\xac", 3);
        text[sizeof(text) - 1] = '\0';
        CAPTURE(log_info(NULL, "%s", text));
        len = strlen(captured);
        assert_true(len <= 4096 && len > 4090);
        assert_true(str_utf8_valid(captured, len));
        assert_string_equal(captured + len - 4, "...\n");
    }
}

static void test_nothing_follows_a_cut(void **state)
{
    char text[2500];

    (void)state;
    memset(text, '\n', sizeof(text)); /* doubles when escaped */
    text[sizeof(text) - 1] = '\0';
    log_setup("worker", LOG_INFO);
    CAPTURE(log_info(NULL, "%s", text));
    assert_true(strlen(captured) <= 4096);
    assert_ptr_equal(strchr(captured, '\n'), captured + strlen(captured) - 1);
    assert_string_equal(captured + strlen(captured) - 4, "...\n");
}

static void test_errno_survives(void **state)
{
    (void)state;
    log_setup("a-very-long-program-name-that-does-not-fit-anywhere", LOG_INFO);
    errno = ENOENT;
    CAPTURE(close(STDERR_FILENO); errno = ENOENT; log_info(NULL, "lost");
            assert_int_equal(errno, ENOENT));
}

static void test_level_names(void **state)
{
    enum log_level level = LOG_DEBUG;

    (void)state;
    assert_true(log_level_parse("error", &level));
    assert_int_equal(level, LOG_ERROR);
    assert_true(log_level_parse("debug", &level));
    assert_int_equal(level, LOG_DEBUG);
    assert_false(log_level_parse("loud", &level));
    assert_int_equal(level, LOG_DEBUG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_has_the_promised_shape),
        cmocka_unit_test(test_line_without_context),
        cmocka_unit_test(test_levels_below_are_silent),
        cmocka_unit_test(test_control_characters_are_escaped),
        cmocka_unit_test(test_long_line_is_cut_at_a_character),
        cmocka_unit_test(test_nothing_follows_a_cut),
        cmocka_unit_test(test_errno_survives),
        cmocka_unit_test(test_level_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
