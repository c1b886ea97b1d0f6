/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client: answers that take too long or are too large. */
#include "tests/unit/http_client_fixture.h"

#include "common/base/clock.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static void test_silence_ends_at_the_first_byte_timeout(void **state)
{
    struct http_world *world = http_world_new(stay_silent, &plain_options);
    const struct seen *seen;
    (void)state;

    world->spec.first_byte_timeout_ms = 200;
    world->spec.idle_timeout_ms = 10;
    seen = http_world_run(world);
    assert_http_outcome(seen, HTTP_FIRST_BYTE_TIMEOUT);
    assert_true(seen->answer.duration_us >= 200 * US_PER_MS);
    assert_int_equal(seen->answer.first_byte_us, 0);
    http_world_free(world);
}

static void drip_provisional(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    raw_read_request(server, fd);
    while (raw_say(fd, "HTTP/1.1 102 Processing\r\n\r\n"))
        poll(NULL, 0, 10);
}

static void test_provisional_heads_do_not_count_as_the_first_byte(void **state)
{
    struct http_world *world = http_world_new(drip_provisional, &plain_options);
    (void)state;

    world->spec.first_byte_timeout_ms = 200;
    assert_http_outcome(http_world_run(world), HTTP_FIRST_BYTE_TIMEOUT);
    http_world_free(world);
}

static void drip_then_stop(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    raw_read_request(server, fd);
    raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    for (int i = 0; i < 15; i++) {
        raw_say(fd, ":\n\n");
        poll(NULL, 0, 50);
    }
    raw_wait_for_close(server, fd);
}

static void test_drip_lives_and_its_silence_ends_at_the_idle_timeout(void **state)
{
    struct http_world *world = http_world_new(drip_then_stop, &plain_options);
    const struct seen *seen;
    (void)state;

    world->spec.first_byte_timeout_ms = 5000;
    world->spec.idle_timeout_ms = 500;
    seen = http_world_run(world);
    assert_http_outcome(seen, HTTP_IDLE_TIMEOUT);
    assert_int_equal(seen->body_len, 45);
    assert_true(seen->answer.duration_us >= 1200 * US_PER_MS);
    http_world_free(world);
}

static void drip_forever(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    raw_read_request(server, fd);
    raw_say(fd, "HTTP/1.1 200 OK\r\n\r\n");
    while (raw_say(fd, "x"))
        poll(NULL, 0, 5);
}

static void test_endless_drip_ends_at_the_total_timeout(void **state)
{
    struct http_world *world = http_world_new(drip_forever, &plain_options);
    (void)state;

    world->spec.idle_timeout_ms = 5000;
    world->spec.total_timeout_ms = 300;
    assert_http_outcome(http_world_run(world), HTTP_TOTAL_TIMEOUT);
    assert_int_equal(world->seen.answer.status, 200);
    http_world_free(world);
}

#define FILLER "0123456789012345678901234567890123456789"

/* Begins to answer, and then says the same without an end. */
static void say_forever(struct raw_server *server, int fd, const char *begin, const char *again)
{
    raw_read_request(server, fd);
    raw_say(fd, begin);
    while (raw_say(fd, again))
        ;
}

static void flood(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    say_forever(server, fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", FILLER);
}

static void announce_much(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    raw_read_request(server, fd);
    raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 32769\r\n\r\nabc");
    raw_wait_for_close(server, fd);
}

static void flood_head(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    say_forever(server, fd, "HTTP/1.1 200 OK\r\n", "X-Filler: " FILLER "\r\n");
}

static void flood_head_line(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    say_forever(server, fd, "HTTP/1.1 200 OK\r\nX-Filler: ", FILLER);
}

static void flood_provisional(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    say_forever(server, fd, "", "HTTP/1.1 100 Continue\r\n\r\n");
}

static void test_too_large_answers_are_refused(void **state)
{
    script_fn *const scripts[] = {flood, announce_much, flood_head, flood_head_line,
                                  flood_provisional};
    (void)state;

    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        struct http_world *world = http_world_new(scripts[i], &plain_options);

        assert_http_outcome(http_world_run(world), HTTP_TOO_LARGE);
        assert_true(world->seen.body_len <= 32768);
        http_world_free(world);
    }
}

static void answer_exactly_the_limit(struct raw_server *server, int fd, int nth)
{
    static char filler[32769];
    (void)nth;

    raw_read_request(server, fd);
    memset(filler, 'x', sizeof(filler) - 1);
    raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 32768\r\n\r\n");
    raw_say(fd, filler);
    raw_wait_for_close(server, fd);
}

static void test_answer_of_exactly_the_limit_passes(void **state)
{
    struct http_world *world = http_world_new(answer_exactly_the_limit, &plain_options);
    (void)state;

    assert_http_outcome(http_world_run(world), HTTP_DONE);
    assert_int_equal(world->seen.body_len, 32768);
    http_world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silence_ends_at_the_first_byte_timeout),
        cmocka_unit_test(test_provisional_heads_do_not_count_as_the_first_byte),
        cmocka_unit_test(test_drip_lives_and_its_silence_ends_at_the_idle_timeout),
        cmocka_unit_test(test_endless_drip_ends_at_the_total_timeout),
        cmocka_unit_test(test_too_large_answers_are_refused),
        cmocka_unit_test(test_answer_of_exactly_the_limit_passes),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
