/* SPDX-License-Identifier: Apache-2.0 */
/* Redis URLs: what they say and which are refused. */
#include "common/base/str.h"
#include "common/io/redis_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_good_urls_are_split(void **state)
{
    static const struct {
        const char *url;
        struct {
            const char *path, *host;
            int port;
            const char *user, *password;
            int db;
        } want;
    } cases[] = {
        {"redis://localhost", {.host = "localhost", .port = 6379}},
        {"redis://10.0.0.1:7000/", {.host = "10.0.0.1", .port = 7000}},
        {"redis://h:1/15", {.host = "h", .port = 1, .db = 15}},
        {"redis://[::1]:65535/2", {.host = "::1", .port = 65535, .db = 2}},
        {"redis://[fd00::2]", {.host = "fd00::2", .port = 6379}},
        {"redis://:pw@h", {.host = "h", .port = 6379, .password = "pw"}},
        {"redis://u:p%40%3aq@h:9", {.host = "h", .port = 9, .user = "u", .password = "p@:q"}},
        {"redis://u:p@q@h", {.host = "h", .port = 6379, .user = "u", .password = "p@q"}},
        {"unix:///run/redis.sock", {.path = "/run/redis.sock"}},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct redis_url url;
        struct err err;

        assert_true(redis_url_parse(cases[i].url, &url, &err));
        assert_true(str_equal(url.path, cases[i].want.path));
        assert_true(str_equal(url.host, cases[i].want.host));
        assert_true(str_equal(url.user, cases[i].want.user));
        assert_true(str_equal(url.password, cases[i].want.password));
        assert_int_equal(url.port, cases[i].want.port);
        assert_int_equal(url.db, cases[i].want.db);
        redis_url_release(&url);
    }
}

/* One byte more than a socket's name may have. */
static const char long_path[] =
    "unix:///012345678901234567890123456789012345678901234567890123456789"
    "0123456789012345678901234567890123456789ABCDEFG";

static void test_bad_urls_are_refused_without_their_password(void **state)
{
    static const char *const cases[] = {
        "",
        "localhost:6379",
        "http://h",
        "rediss://u:secret@h",
        "redis://",
        "redis://:secret@",
        "redis://u:secret@:6379",
        "redis://secret@h",
        "redis://u:secret%4@h",
        "redis://u:secret%00@h",
        "redis://u:secret%@h",
        "redis://h:",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:6379x",
        "redis://u:secret@h:x",
        "redis://[::1",
        "redis://[]",
        "redis://[::1]x",
        "redis://h/x",
        "redis://h/-1",
        "redis://h/1/2",
        "redis://h?db=1",
        "unix://",
        "unix://relative",
        long_path,
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct redis_url url;
        struct err err = {.message = ""};

        if (redis_url_parse(cases[i], &url, &err))
            fail_msg("accepted %s", cases[i]);
        assert_true(err.message[0] != '\0');
        assert_null(strstr(err.message, "secret"));
        assert_null(url.password);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_urls_are_split),
        cmocka_unit_test(test_bad_urls_are_refused_without_their_password),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
