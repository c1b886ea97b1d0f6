/* SPDX-License-Identifier: Apache-2.0 */
/* What a process makes of the news that a provider's account is closed; nothing is connected. */
#include "worker/provider_gates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/base/clock.h"
#include "common/io/pg.h"

static struct event_base *base;
static struct pg *pg;
static struct provider_gates *gates;

static int start(void **state)
{
    const struct pg_options options = {.url = "postgresql://127.0.0.1:1/nobody", .duty = "gates"};
    struct err err = {0};
    (void)state;

    base = event_base_new();
    pg = pg_new(base, &options, &err);
    gates = pg ? provider_gates_new(base, pg, NULL) : NULL;
    return gates ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    pg_free(pg);
    provider_gates_free(gates);
    event_base_free(base);
    return 0;
}

static void hear(const char *message)
{
    provider_gates_hear(gates, message, strlen(message));
}

/* In seconds from now, rounded up; 0: it is open. */
static int64_t closed_s(const char *name)
{
    char text[64];
    struct provider provider = {.name = strcpy(text, name)};
    int64_t open_us = provider_gates_open_us(gates, &provider);

    return open_us == 0 ? 0 : (open_us - clock_monotonic_us() + US_PER_S - 1) / US_PER_S;
}

static void test_news_close_the_named_provider_alone(void **state)
{
    (void)state;
    hear("20000000 main");
    assert_int_equal(closed_s("main"), 20);
    assert_int_equal(closed_s("mai"), 0);
    assert_int_equal(closed_s("other"), 0);
    hear("20000000 with a blank");
    assert_int_equal(closed_s("with a blank"), 20);
}

static void test_news_never_open_what_is_closed_for_longer(void **state)
{
    const struct rate_seen seen = {
        .requests = {.limit = -1, .remaining = 0, .reset_ms = 50000},
        .tokens = {.limit = -1, .remaining = -1, .reset_ms = -1},
        .closed_ms = 50000,
    };
    char name[] = "main";
    const struct provider provider = {.name = name};
    (void)state;

    provider_gates_learn(gates, &provider, &seen);
    hear("20000000 main");
    assert_int_equal(closed_s("main"), 50);
    hear("60000000 main");
    assert_int_equal(closed_s("main"), 60);
}

static void test_what_is_no_news_changes_nothing(void **state)
{
    static const char *const messages[] = {
        "",
        " ",
        " main",
        "main",
        "20000000",
        "20000000main",
        "x main",
        "-1 main",
        "0 main",
        "1.5 main",
        "600000001 main",
        "9223372036854775807 main",
        "99999999999999999999 main",
    };
    (void)state;

    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++)
        hear(messages[i]);
    assert_int_equal(closed_s("main"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_news_close_the_named_provider_alone, start, stop),
        cmocka_unit_test_setup_teardown(test_news_never_open_what_is_closed_for_longer, start,
                                        stop),
        cmocka_unit_test_setup_teardown(test_what_is_no_news_changes_nothing, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
