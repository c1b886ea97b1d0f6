/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis clients against a private server that is frozen, killed and started again. */
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/redis.h"
#include "tests/unit/redis_fixture.h"

#include <event2/event.h>

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GIVE_UP_S = 20, MANY = 2000, LOG_SIZE = 65536 };

static struct redis_fixture *server;

struct world {
    struct event_base *base;
    struct redis *redis;
    struct redis_subscriber *subscriber;
    int done;
    int lost;
    int64_t last_number;
    enum redis_kind last_kind;
    char log[LOG_SIZE]; /* replies and messages as text */
};

static void note(struct world *world, const char *format, ...) PRINTF_LIKE(2, 3);
static void note(struct world *world, const char *format, ...)
{
    size_t len = strlen(world->log);
    va_list args;

    va_start(args, format);
    vsnprintf(world->log + len, sizeof(world->log) - len, format, args);
    va_end(args);
}

static void note_reply(struct world *world, const struct redis_reply *reply)
{
    static const char *const names[] = {"lost", "error:", "nil", "int:", "text:", "list("};

    note(world, "%s", names[reply->kind]);
    if (reply->kind == REDIS_INT)
        note(world, "%ld", (long)reply->number);
    if (reply->kind == REDIS_TEXT || reply->kind == REDIS_ERROR)
        note(world, "%.*s", (int)reply->len, reply->text);
    for (size_t i = 0; i < reply->count; i++)
        note_reply(world, &reply->items[i]);
    note(world, "%s", reply->kind == REDIS_LIST ? ")" : " ");
}

static void on_reply(const struct redis_reply *reply, void *arg)
{
    struct world *world = arg;

    world->done++;
    world->lost += reply->kind == REDIS_LOST;
    world->last_kind = reply->kind;
    world->last_number = reply->number;
    if (world->done < 50)
        note_reply(world, reply);
}

static void on_message(const char *channel, const char *data, size_t len, void *arg)
{
    note(arg, "[%s %.*s]", channel, (int)len, data);
}

static void on_subscribed(bool ready, void *arg)
{
    note(arg, ready ? "standing " : "away ");
}

static struct redis_options options_for(const char *url)
{
    return (struct redis_options){.url = url, .command_timeout_ms = 2000};
}

static struct world *world_new(const char *url)
{
    struct redis_options options = options_for(url ? url : redis_fixture_url(server));
    struct world *world = calloc(1, sizeof(*world));
    struct err err;

    world->base = event_base_new();
    world->redis = redis_new(world->base, &options, &err);
    world->subscriber = redis_subscriber_new(world->base, &options, on_message, world, &err);
    assert_non_null(world->redis);
    assert_non_null(world->subscriber);
    return world;
}

static void world_free(struct world *world)
{
    redis_free(world->redis);
    redis_subscriber_free(world->subscriber);
    event_base_free(world->base);
    free(world);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(arg);
}

/* Turns the loop until the condition holds. */
#define wait_until(world, condition)                                                            \
    do {                                                                                        \
        int64_t until_us_ = clock_monotonic_us() + GIVE_UP_S * US_PER_S;                        \
        struct event *tick_ = event_new((world)->base, -1, EV_PERSIST, on_tick, (world)->base); \
        event_add(tick_, &(struct timeval){.tv_usec = 2000});                                   \
        while (!(condition) && clock_monotonic_us() < until_us_)                                \
            event_base_dispatch((world)->base);                                                 \
        event_free(tick_);                                                                      \
        if (!(condition))                                                                       \
            fail_msg("never came true: %s; log: %s", #condition, (world)->log);                 \
    } while (0)

static void wait_ready(struct world *world)
{
    wait_until(world, redis_is_ready(world->redis) && redis_subscriber_is_ready(world->subscriber));
}

static void command(struct world *world, const char *a, const char *b, const char *c)
{
    const char *const args[] = {a, b, c};

    redis_command(world->redis, args, NULL, c ? 3 : b ? 2 : 1, on_reply, world);
}

static void run(struct world *world, const char *a, const char *b, const char *c)
{
    int done = world->done;

    command(world, a, b, c);
    assert_int_equal(world->done, done); /* never from inside */
    wait_until(world, world->done == done + 1);
}

static void test_replies_of_every_kind_come_in_order(void **state)
{
    struct world *world = world_new(NULL);
    const char *const binary[] = {"SET", "bin", "a\0b\r\n"};
    const size_t lens[] = {3, 3, 5};
    (void)state;

    wait_ready(world);
    command(world, "SET", "k", "v");
    command(world, "GET", "k", NULL);
    command(world, "GET", "none", NULL);
    command(world, "INCR", "n", NULL);
    command(world, "INCR", "k", NULL);
    command(world, "NOSUCH", NULL, NULL);
    command(world, "EVAL", "return {1,{'x',false},'y',{}}", "0");
    redis_command(world->redis, binary, lens, 3, NULL, NULL);
    command(world, "STRLEN", "bin", NULL);
    assert_int_equal(world->done, 0);
    wait_until(world, world->done == 8);
    assert_non_null(strstr(world->log, "text:OK text:v nil int:1 error:ERR value is not an "
                                       "integer or out of range error:ERR unknown command"));
    assert_non_null(strstr(world->log, " list(int:1 list(text:x nil )text:y list())int:5 "));
    world_free(world);
}

static void test_many_commands_are_pipelined(void **state)
{
    struct world *world = world_new(NULL);
    (void)state;

    wait_ready(world);
    run(world, "DEL", "many", NULL);
    for (int i = 0; i < MANY; i++)
        command(world, "INCR", "many", NULL);
    wait_until(world, world->done == MANY + 1);
    assert_int_equal(world->last_number, MANY);
    assert_int_equal(world->lost, 0);
    world_free(world);
}

static void test_large_values_pass(void **state)
{
    enum { SIZE = 3 * 1024 * 1024 };
    struct world *world = world_new(NULL);
    char *value = malloc(SIZE + 1);
    (void)state;

    memset(value, 'v', SIZE);
    value[SIZE] = '\0';
    wait_ready(world);
    run(world, "SET", "large", value);
    run(world, "STRLEN", "large", NULL);
    assert_int_equal(world->last_number, SIZE);
    command(world, "GET", "large", NULL);
    world->log[0] = '\0';
    wait_until(world, world->done == 3);
    assert_int_equal(world->last_kind, REDIS_TEXT);
    free(value);
    world_free(world);
}

static void test_commands_without_a_connection_are_lost_next_turn(void **state)
{
    struct world *world = world_new("redis://127.0.0.1:1");
    (void)state;

    assert_false(redis_is_ready(world->redis));
    run(world, "PING", NULL, NULL);
    assert_string_equal(world->log, "lost ");
    assert_string_equal(redis_run_id(world->redis), "");
    world_free(world);
}

static void test_too_many_commands_are_lost(void **state)
{
    struct world *world = world_new(NULL);
    struct redis_options options = options_for(redis_fixture_url(server));
    struct err err;
    (void)state;

    redis_free(world->redis);
    options.max_outstanding = 10;
    world->redis = redis_new(world->base, &options, &err);
    assert_non_null(world->redis);
    wait_ready(world);
    for (int i = 0; i < 15; i++)
        command(world, "PING", NULL, NULL);
    wait_until(world, world->done == 15);
    assert_int_equal(world->lost, 5);
    world_free(world);
}

static void test_silent_server_loses_all_outstanding_and_comes_back(void **state)
{
    struct world *world = world_new(NULL);
    struct redis_options options = options_for(redis_fixture_url(server));
    struct err err;
    int64_t start_us;
    (void)state;

    redis_free(world->redis);
    options.command_timeout_ms = 200;
    world->redis = redis_new(world->base, &options, &err);
    assert_non_null(world->redis);
    wait_ready(world);
    redis_fixture_freeze(server, true);
    start_us = clock_monotonic_us();
    for (int i = 0; i < 5; i++)
        command(world, "PING", NULL, NULL);
    wait_until(world, world->done == 5);
    assert_int_equal(world->lost, 5);
    assert_true(clock_monotonic_us() - start_us >= 200 * US_PER_MS);
    assert_false(redis_is_ready(world->redis));
    redis_fixture_freeze(server, false);
    wait_ready(world);
    run(world, "PING", NULL, NULL);
    assert_int_equal(world->lost, 5);
    world_free(world);
}

static void test_idle_connections_to_a_silent_server_are_noticed(void **state)
{
    struct world *world = world_new(NULL);
    (void)state;

    wait_ready(world);
    redis_fixture_freeze(server, true);
    wait_until(world,
               !redis_is_ready(world->redis) && !redis_subscriber_is_ready(world->subscriber));
    redis_fixture_freeze(server, false);
    wait_ready(world);
    world_free(world);
}

static void test_crash_loses_what_is_outstanding_and_run_id_changes(void **state)
{
    struct world *world = world_new(NULL);
    char run_id[64];
    struct err err;
    (void)state;

    wait_ready(world);
    snprintf(run_id, sizeof(run_id), "%s", redis_run_id(world->redis));
    assert_int_equal(strlen(run_id), 40);
    command(world, "BLPOP", "nothing", "0");
    event_base_loop(world->base, EVLOOP_NONBLOCK); /* on its way */
    redis_fixture_crash(server);
    wait_until(world, world->done == 1);
    assert_string_equal(world->log, "lost ");
    assert_true(redis_fixture_restart(server, &err));
    wait_ready(world);
    assert_int_equal(strlen(redis_run_id(world->redis)), 40);
    assert_string_not_equal(redis_run_id(world->redis), run_id);
    run(world, "PING", NULL, NULL);
    assert_string_equal(world->log, "lost text:PONG ");
    world_free(world);
}

static void test_names_and_unix_sockets_are_connected_to(void **state)
{
    char url[64];
    (void)state;

    snprintf(url, sizeof(url), "redis://localhost:%d", redis_fixture_port(server));
    for (int i = 0; i < 2; i++) {
        struct world *world = world_new(i == 0 ? url : redis_fixture_unix_url(server));

        wait_ready(world);
        run(world, "PING", NULL, NULL);
        assert_string_equal(world->log, "text:PONG ");
        world_free(world);
    }
}

static void test_login_and_database_are_used(void **state)
{
    struct world *admin = world_new(NULL);
    const char *const add[] = {"ACL", "SETUSER", "bob",   "on",   ">p@ss",
                               "~*",  "&*",      "+@all", "-info"};
    char url[96];
    struct world *world;
    (void)state;

    wait_ready(admin);
    redis_command(admin->redis, add, NULL, 9, on_reply, admin);
    wait_until(admin, admin->done == 1);
    snprintf(url, sizeof(url), "redis://bob:p%%40ss@127.0.0.1:%d/3", redis_fixture_port(server));
    world = world_new(url);
    wait_ready(world);
    run(world, "ACL", "WHOAMI", NULL);
    run(world, "SET", "in3", "x");
    run(admin, "EXISTS", "in3", NULL);
    run(admin, "SELECT", "3", NULL);
    run(admin, "EXISTS", "in3", NULL);
    assert_string_equal(world->log, "text:bob text:OK ");
    assert_string_equal(admin->log, "text:OK int:0 text:OK int:1 ");
    assert_string_equal(redis_run_id(world->redis), ""); /* may not ask */
    world_free(world);
    snprintf(url, sizeof(url), "redis://bob:wrong@127.0.0.1:%d", redis_fixture_port(server));
    world = world_new(url);
    run(admin, "PING", NULL, NULL);
    run(world, "PING", NULL, NULL);
    assert_int_equal(world->lost, 1);
    world_free(world);
    world_free(admin);
}

struct freer {
    struct world *world;
    int called;
};

static void free_redis(const struct redis_reply *reply, void *arg)
{
    struct freer *freer = arg;

    (void)reply;
    freer->called++;
    redis_free(freer->world->redis);
    freer->world->redis = NULL;
}

static void test_free_inside_a_reply_loses_the_rest(void **state)
{
    (void)state;

    for (int is_away = 0; is_away < 2; is_away++) {
        struct world *world = world_new(is_away ? "redis://127.0.0.1:1" : NULL);
        struct freer freer = {.world = world};
        const char *const ping[] = {"PING"};

        if (!is_away)
            wait_ready(world);
        redis_command(world->redis, ping, NULL, 1, free_redis, &freer);
        for (int i = 0; i < 3; i++)
            command(world, "PING", NULL, NULL);
        wait_until(world, freer.called == 1);
        assert_int_equal(world->lost, 3);
        assert_string_equal(world->log, "lost lost lost ");
        world_free(world);
    }
}

static void again(const struct redis_reply *reply, void *arg)
{
    struct world *world = arg;
    const char *const ping[] = {"PING"};

    if (reply->kind == REDIS_LOST && ++world->lost < 100)
        redis_command(world->redis, ping, NULL, 1, again, world);
}

static void test_retry_inside_a_lost_reply_does_not_starve_the_loop(void **state)
{
    struct world *world = world_new("redis://127.0.0.1:1");
    const char *const ping[] = {"PING"};
    (void)state;

    redis_command(world->redis, ping, NULL, 1, again, world);
    event_base_loop(world->base, EVLOOP_ONCE);
    assert_true(world->lost < 100);
    wait_until(world, world->lost == 100);
    world_free(world);
}

static void publish(struct world *world, const char *channel, const char *text, int receivers)
{
    int done = world->done;

    redis_publish(world->redis, channel, text, strlen(text), on_reply, world);
    wait_until(world, world->done == done + 1);
    assert_int_equal(world->last_kind, REDIS_INT);
    assert_int_equal(world->last_number, receivers);
    world->log[0] = '\0';
}

static void test_messages_reach_subscribers_and_counts_hold(void **state)
{
    struct world *world = world_new(NULL);
    (void)state;

    wait_ready(world);
    redis_subscribe(world->subscriber, "a", on_subscribed, world);
    redis_subscribe(world->subscriber, "a", on_subscribed, world);
    redis_subscribe(world->subscriber, "b", NULL, NULL);
    assert_string_equal(world->log, "");
    wait_until(world, strcmp(world->log, "standing standing ") == 0);
    redis_subscribe(world->subscriber, "a", on_subscribed, world);
    wait_until(world, strcmp(world->log, "standing standing standing ") == 0);
    world->log[0] = '\0';
    redis_publish(world->redis, "a", "one", 3, NULL, NULL);
    redis_publish(world->redis, "b", "", 0, NULL, NULL);
    redis_publish(world->redis, "c", "no", 2, NULL, NULL);
    redis_publish(world->redis, "a", "two", 3, NULL, NULL);
    wait_until(world, strcmp(world->log, "[a one][b ][a two]") == 0);
    redis_unsubscribe(world->subscriber, "a");
    redis_unsubscribe(world->subscriber, "a");
    publish(world, "a", "still", 1);
    redis_unsubscribe(world->subscriber, "a");
    redis_unsubscribe(world->subscriber, "a"); /* one too many: nothing */
    redis_unsubscribe(world->subscriber, "never");
    redis_subscribe(world->subscriber, "c", on_subscribed, world);
    wait_until(world, strstr(world->log, "standing ") != NULL); /* in order after the others */
    publish(world, "a", "gone", 0);
    publish(world, "b", "here", 1);
    world_free(world);
}

static void test_subscribe_right_after_unsubscribe_stands(void **state)
{
    struct world *world = world_new(NULL);
    (void)state;

    wait_ready(world);
    redis_subscribe(world->subscriber, "x", on_subscribed, world);
    redis_unsubscribe(world->subscriber, "x");
    redis_subscribe(world->subscriber, "x", on_subscribed, world);
    wait_until(world, strcmp(world->log, "away standing ") == 0);
    publish(world, "x", "m", 1);
    world_free(world);
}

static void test_subscriptions_come_back_after_a_restart(void **state)
{
    struct world *world = world_new(NULL);
    struct err err;
    (void)state;

    wait_ready(world);
    redis_subscribe(world->subscriber, "kept", on_subscribed, world);
    redis_subscribe(world->subscriber, "dropped", on_subscribed, world);
    wait_until(world, strcmp(world->log, "standing standing ") == 0);
    redis_fixture_crash(server);
    wait_until(world, !redis_subscriber_is_ready(world->subscriber));
    world->log[0] = '\0';
    redis_unsubscribe(world->subscriber, "dropped");
    redis_subscribe(world->subscriber, "late", on_subscribed, world);
    wait_until(world, strcmp(world->log, "away ") == 0);
    assert_true(redis_fixture_restart(server, &err));
    wait_ready(world);
    redis_subscribe(world->subscriber, "last", on_subscribed, world);
    wait_until(world, strcmp(world->log, "away standing ") == 0);
    publish(world, "kept", "m", 1);
    publish(world, "late", "m", 1);
    publish(world, "dropped", "m", 0);
    world_free(world);
}

static void test_waiting_subscription_is_told_when_the_connection_dies(void **state)
{
    struct world *world = world_new(NULL);
    struct err err;
    (void)state;

    wait_ready(world);
    redis_fixture_freeze(server, true);
    redis_subscribe(world->subscriber, "w", on_subscribed, world);
    redis_fixture_crash(server);
    wait_until(world, strcmp(world->log, "away ") == 0);
    assert_true(redis_fixture_restart(server, &err));
    wait_ready(world);
    redis_subscribe(world->subscriber, "w", on_subscribed, world);
    wait_until(world, strcmp(world->log, "away standing ") == 0);
    world_free(world);
}

static void test_cancelled_subscription_is_never_told(void **state)
{
    struct world *world = world_new(NULL);
    struct world other = {.done = 0};
    (void)state;

    wait_ready(world);
    redis_subscribe(world->subscriber, "q", on_subscribed, &other);
    redis_subscribe_cancel(world->subscriber, "q", &other); /* was the only one */
    redis_subscribe(world->subscriber, "q", on_subscribed, &other);
    redis_subscribe(world->subscriber, "q", on_subscribed, world);
    redis_subscribe_cancel(world->subscriber, "q", &other);
    wait_until(world, strcmp(world->log, "standing ") == 0);
    redis_subscribe(world->subscriber, "q", on_subscribed, &other); /* stands: told next turn */
    redis_subscribe_cancel(world->subscriber, "q", &other);
    publish(world, "q", "m", 1);
    assert_string_equal(other.log, "");
    world_free(world);
}

static void free_subscriber(const char *channel, const char *data, size_t len, void *arg)
{
    struct freer *freer = arg;

    (void)channel;
    (void)data;
    (void)len;
    freer->called++;
    redis_subscriber_free(freer->world->subscriber);
    freer->world->subscriber = NULL;
}

static void free_subscriber_when_told(bool ready, void *arg)
{
    free_subscriber(ready ? "" : NULL, "", 0, arg);
}

static void test_subscriber_may_be_freed_from_its_callbacks(void **state)
{
    (void)state;

    for (int in_told = 0; in_told < 2; in_told++) {
        struct world *world = world_new(NULL);
        struct redis_options options = options_for(redis_fixture_url(server));
        struct freer freer = {.world = world};
        struct err err;

        redis_subscriber_free(world->subscriber);
        world->subscriber =
            redis_subscriber_new(world->base, &options, free_subscriber, &freer, &err);
        assert_non_null(world->subscriber);
        wait_ready(world);
        redis_subscribe(world->subscriber, "f", in_told ? free_subscriber_when_told : on_subscribed,
                        in_told ? (void *)&freer : (void *)world);
        redis_subscribe(world->subscriber, "g", on_subscribed, world);
        if (!in_told)
            wait_until(world, strcmp(world->log, "standing standing ") == 0);
        for (int i = 0; i < 3 && !in_told; i++)
            redis_publish(world->redis, "f", "m", 1, NULL, NULL);
        wait_until(world, freer.called == 1);
        if (in_told)
            assert_string_equal(world->log, "away ");
        world_free(world);
    }
}

static int start_server(void **state)
{
    struct err err;

    (void)state;
    server = redis_fixture_start(&err);
    if (!server)
        fprintf(stderr, "%s\n", err.message);
    return server ? 0 : -1;
}

static int stop_server(void **state)
{
    (void)state;
    redis_fixture_stop(server);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies_of_every_kind_come_in_order),
        cmocka_unit_test(test_many_commands_are_pipelined),
        cmocka_unit_test(test_large_values_pass),
        cmocka_unit_test(test_commands_without_a_connection_are_lost_next_turn),
        cmocka_unit_test(test_too_many_commands_are_lost),
        cmocka_unit_test(test_silent_server_loses_all_outstanding_and_comes_back),
        cmocka_unit_test(test_idle_connections_to_a_silent_server_are_noticed),
        cmocka_unit_test(test_crash_loses_what_is_outstanding_and_run_id_changes),
        cmocka_unit_test(test_names_and_unix_sockets_are_connected_to),
        cmocka_unit_test(test_login_and_database_are_used),
        cmocka_unit_test(test_free_inside_a_reply_loses_the_rest),
        cmocka_unit_test(test_retry_inside_a_lost_reply_does_not_starve_the_loop),
        cmocka_unit_test(test_messages_reach_subscribers_and_counts_hold),
        cmocka_unit_test(test_subscribe_right_after_unsubscribe_stands),
        cmocka_unit_test(test_subscriptions_come_back_after_a_restart),
        cmocka_unit_test(test_waiting_subscription_is_told_when_the_connection_dies),
        cmocka_unit_test(test_cancelled_subscription_is_never_told),
        cmocka_unit_test(test_subscriber_may_be_freed_from_its_callbacks),
    };

    signal(SIGPIPE, SIG_IGN);
    log_setup("test_redis_live", LOG_ERROR);
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
