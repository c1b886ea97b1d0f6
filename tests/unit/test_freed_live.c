/* SPDX-License-Identifier: Apache-2.0 */
/* What the feeder hears of calls that end, over a private Redis. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/base/clock.h"
#include "common/io/redis.h"
#include "common/model/channels.h"
#include "tests/unit/redis_fixture.h"
#include "worker/freed.h"

enum { GIVE_UP_S = 20, MANY = 1000 };

static struct redis_fixture *server;
static struct event_base *base;
static struct redis *redis;
static struct redis_subscriber *subscriber;
static struct freed *freed;
static int heard;
static bool is_subscribed;

static void on_message(const char *channel, const char *data, size_t len, void *arg)
{
    (void)data, (void)len, (void)arg;
    assert_string_equal(channel, CHANNEL_FREED);
    heard++;
}

static void on_subscribed(bool ready, void *arg)
{
    (void)arg;
    is_subscribed = ready;
}

static bool is_connected(void)
{
    return redis_is_ready(redis) && redis_subscriber_is_ready(subscriber);
}

static bool has_subscribed(void)
{
    return is_subscribed;
}

static bool has_heard_one(void)
{
    return heard >= 1;
}

static bool has_heard_two(void)
{
    return heard >= 2;
}

static void turn_until(bool (*is_so)(void))
{
    int64_t deadline_us = clock_monotonic_us() + GIVE_UP_S * US_PER_S;

    while (!is_so()) {
        assert_true(clock_monotonic_us() < deadline_us);
        event_base_loop(base, EVLOOP_ONCE);
    }
}

static int start(void **state)
{
    struct err err = {0};
    struct redis_options options;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    server = redis_fixture_start(&err);
    if (!server)
        fail_msg("%s", err.message);
    options = (struct redis_options){.url = redis_fixture_url(server)};
    base = event_base_new();
    redis = redis_new(base, &options, &err);
    subscriber = redis_subscriber_new(base, &options, on_message, NULL, &err);
    freed = freed_new(base, redis);
    assert_true(redis && subscriber && freed);
    turn_until(is_connected);
    redis_subscribe(subscriber, CHANNEL_FREED, on_subscribed, NULL);
    turn_until(has_subscribed);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    redis_subscriber_free(subscriber);
    freed_free(freed);
    redis_free(redis);
    event_base_free(base);
    redis_fixture_stop(server);
    return 0;
}

static void test_calls_that_end_together_are_told_at_once_and_as_few(void **state)
{
    (void)state;
    for (int i = 0; i < MANY; i++)
        freed_note(freed);
    turn_until(has_heard_one);
    turn_until(has_heard_two); /* whoever ended behind the first message has one, too */
    event_base_loop(base, EVLOOP_NONBLOCK);
    assert_true(heard <= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_that_end_together_are_told_at_once_and_as_few),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
