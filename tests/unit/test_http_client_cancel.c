/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client: calls that are cancelled, stopped or freed, and many of them at once. */
#include "tests/unit/http_client_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_cancel_closes_the_connection_silently(void **state)
{
    struct http_world *world = http_world_new(stay_silent, &plain_options);
    struct seen seen = {.done = 0};
    (void)state;

    http_world_begin(world, &seen);
    http_world_turn_until(world, &world->server->requests, 1);
    assert_true(http_call_was_sent(seen.call));
    assert_int_equal(http_client_calls(world->client), 1);
    http_call_cancel(seen.call);
    assert_int_equal(http_client_calls(world->client), 0);
    http_world_turn_until(world, &world->server->closed, 1);
    assert_int_equal(seen.done, 0);
    http_world_free(world);
}

static void test_cancel_of_a_call_not_yet_begun_sends_nothing(void **state)
{
    struct http_world *world = http_world_new(answer_hello, &plain_options);
    struct seen seen = {.done = 0};
    (void)state;

    http_call_cancel(http_world_begin(world, &seen));
    http_world_run(world);
    assert_int_equal(seen.done, 0);
    assert_int_equal(atomic_load(&world->server->requests), 1);
    http_world_free(world);
}

static void say_some_and_wait(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    raw_read_request(server, fd);
    raw_say(fd, "HTTP/1.1 200 OK\r\nX-A: 1\r\nX-B: 2\r\nContent-Length: 50\r\n\r\nhel");
    raw_wait_for_close(server, fd);
}

static void test_cancel_from_inside_a_callback(void **state)
{
    (void)state;

    for (int at_header = 0; at_header < 2; at_header++) {
        struct http_world *world = http_world_new(say_some_and_wait, &plain_options);
        struct seen seen = {.cancel_at_header = at_header, .cancel_at_data = !at_header};

        http_world_begin(world, &seen);
        http_world_turn(world);
        http_world_turn_until(world, &world->server->closed, 1);
        assert_int_equal(seen.done, 0);
        assert_int_equal(seen.body_len, at_header ? 0 : 3);
        if (at_header)
            assert_string_equal(seen.headers, "x-a=1|");
        http_world_free(world);
    }
}

static void test_reader_stops_the_call(void **state)
{
    struct http_world *world = http_world_new(say_some_and_wait, &plain_options);
    (void)state;

    world->seen.stop_at_data = true;
    http_world_begin(world, &world->seen);
    http_world_turn(world);
    assert_http_outcome(&world->seen, HTTP_STOPPED);
    http_world_turn_until(world, &world->server->closed, 1);
    http_world_free(world);
}

static void test_client_may_be_freed_from_a_callback(void **state)
{
    struct http_world *world = http_world_new(answer_hello, &plain_options);
    struct seen other = {.done = 0};
    (void)state;

    world->seen.free_at_done = world->client;
    http_world_begin(world, &world->seen);
    http_world_begin(world, &other);
    other.free_at_done = world->client;
    http_world_turn(world);
    assert_int_equal(world->seen.done + other.done, 1); /* the other was cancelled silently */
    world->client = NULL;
    http_world_free(world);
}

static void test_client_freed_with_calls_in_flight(void **state)
{
    struct http_world *world = http_world_new(stay_silent, &plain_options);
    struct seen seen[3] = {{.done = 0}};
    (void)state;

    for (int i = 0; i < 3; i++)
        http_world_begin(world, &seen[i]);
    http_world_turn_until(world, &world->server->requests, 3);
    http_client_free(world->client);
    world->client = NULL;
    await_atomic(&world->server->closed, 3);
    http_world_free(world);
}

static void answer_all_together(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    if (!raw_read_request(server, fd))
        return;
    pthread_barrier_wait(&server->barrier); /* passes only when all are here at once */
    raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    raw_wait_for_close(server, fd);
}

static void test_two_hundred_calls_run_at_once(void **state)
{
    static const struct http_client_options few = {.max_calls = PARALLEL};
    struct http_world *world = http_world_new(answer_all_together, &few);
    struct seen *all = calloc(1, sizeof(*all));
    struct err err;
    (void)state;

    all->base = world->base;
    all->waiting_for = PARALLEL;
    for (int i = 0; i < PARALLEL; i++)
        assert_non_null(http_call_start(world->client, &world->spec, &seen_callbacks, all, &err));
    assert_null(http_call_start(world->client, &world->spec, &seen_callbacks, all, &err));
    http_world_turn(world);
    assert_int_equal(all->done, PARALLEL);
    assert_int_equal(all->answer.outcome, HTTP_DONE);
    assert_int_equal(all->body_len, 5 * PARALLEL);
    assert_int_equal(atomic_load(&world->server->requests), PARALLEL);
    assert_int_equal(http_client_calls(world->client), 0);
    free(all);
    http_world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancel_closes_the_connection_silently),
        cmocka_unit_test(test_cancel_of_a_call_not_yet_begun_sends_nothing),
        cmocka_unit_test(test_cancel_from_inside_a_callback),
        cmocka_unit_test(test_reader_stops_the_call),
        cmocka_unit_test(test_client_may_be_freed_from_a_callback),
        cmocka_unit_test(test_client_freed_with_calls_in_flight),
        cmocka_unit_test(test_two_hundred_calls_run_at_once),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
