/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client: connections that fail, are refused or reused; nothing is sent twice. */
#include "tests/unit/http_client_fixture.h"

#include "common/base/clock.h"

#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Name lookups of the process: slow.test blocks until let go, missing.test does not exist. */
static sem_t slow_lookup;
static atomic_int slow_waiting;
static atomic_int slow_left;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

    if (node && strcmp(node, "missing.test") == 0)
        return EAI_NONAME;
    if (node && strcmp(node, "slow.test") == 0) {
        atomic_fetch_add(&slow_waiting, 1);
        while (sem_wait(&slow_lookup) != 0)
            ;
        atomic_fetch_add(&slow_left, 1);
        return EAI_NONAME;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(node, service, hints, result);
}

static void test_refused_connection_was_not_sent(void **state)
{
    struct http_world *world = http_world_new(answer_hello, &plain_options);
    int port;
    int bound = bind_free_port(&port); /* bound but not listening: refuses */
    (void)state;

    snprintf(world->url, sizeof(world->url), "http://127.0.0.1:%d/", port);
    assert_http_outcome(http_world_run(world), HTTP_NOT_SENT);
    assert_string_equal(world->seen.answer.peer, "127.0.0.1");
    assert_int_equal(world->seen.answer.status, 0);
    close(bound);
    http_world_free(world);
}

static void test_unknown_name_was_not_sent(void **state)
{
    struct http_world *world = http_world_new(answer_hello, &plain_options);
    (void)state;

    snprintf(world->url, sizeof(world->url), "http://missing.test/");
    assert_http_outcome(http_world_run(world), HTTP_NOT_SENT);
    http_world_free(world);
}

static void be_no_tls(struct raw_server *server, int fd, int nth)
{
    char bytes[4096];
    (void)server;
    (void)nth;

    recv(fd, bytes, sizeof(bytes), 0);
    raw_say(fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
}

static void test_failed_tls_was_not_sent(void **state)
{
    struct http_world *world = http_world_new(be_no_tls, &plain_options);
    (void)state;

    snprintf(world->url, sizeof(world->url), "https://127.0.0.1:%d/", world->server->port);
    assert_http_outcome(http_world_run(world), HTTP_NOT_SENT);
    http_world_free(world);
}

static void be_silent_tls(struct raw_server *server, int fd, int nth)
{
    char bytes[4096];
    (void)nth;

    recv(fd, bytes, sizeof(bytes), 0);
    raw_wait_for_close(server, fd);
}

static void test_every_deadline_before_sending_is_a_connect_timeout(void **state)
{
    (void)state;

    for (int i = 0; i < 3; i++) {
        struct http_world *world = http_world_new(be_silent_tls, &plain_options);

        snprintf(world->url, sizeof(world->url), "https://127.0.0.1:%d/", world->server->port);
        world->spec.connect_timeout_ms = i == 0 ? 50 : 5000;
        world->spec.first_byte_timeout_ms = i == 1 ? 50 : 5000;
        world->spec.total_timeout_ms = i == 2 ? 50 : 5000;
        assert_http_outcome(http_world_run(world), HTTP_CONNECT_TIMEOUT);
        http_world_free(world);
    }
}

static void test_slow_lookup_times_out_without_blocking_the_loop(void **state)
{
    struct http_world *world = http_world_new(answer_hello, &plain_options);
    struct seen cancelled = {.done = 0};
    int waiting = atomic_load(&slow_waiting);
    int64_t start_us = clock_monotonic_us();
    (void)state;

    snprintf(world->url, sizeof(world->url), "http://slow.test/");
    world->spec.connect_timeout_ms = 50;
    http_world_begin(world, &cancelled);
    event_base_loop(world->base, EVLOOP_NONBLOCK);
    http_call_cancel(cancelled.call);
    assert_http_outcome(http_world_run(world), HTTP_CONNECT_TIMEOUT);
    assert_int_equal(cancelled.done, 0);
    await_atomic(&slow_waiting, waiting + 1);
    http_world_free(world);
    assert_true(clock_monotonic_us() - start_us < 5 * US_PER_S);
    for (int left = atomic_load(&slow_waiting) - atomic_load(&slow_left); left > 0; left--)
        sem_post(&slow_lookup);
    await_atomic(&slow_left, atomic_load(&slow_waiting));
}

static int asked_port;

static bool allow_none(const struct sockaddr *address, void *arg)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

    assert_ptr_equal(arg, &asked_port);
    assert_int_equal(address->sa_family, AF_INET);
    asked_port = ntohs(in->sin_port);
    return false;
}

static void test_refused_address_is_never_connected_to(void **state)
{
    static const struct http_client_options guarded = {.address_allowed = allow_none,
                                                       .arg = &asked_port};
    struct http_world *world = http_world_new(answer_hello, &guarded);
    (void)state;

    assert_http_outcome(http_world_run(world), HTTP_BLOCKED);
    assert_int_equal(asked_port, world->server->port);
    assert_string_equal(world->seen.answer.peer, "127.0.0.1");
    assert_int_equal(world->server->accepted, 0);
    http_world_free(world);
}

/* Answers the first request of the first connection; swallows the next and hangs up. */
static void hang_up_on_second(struct raw_server *server, int fd, int nth)
{
    if (nth > 0 || !raw_read_request(server, fd)) {
        answer_hello(server, fd, nth);
        return;
    }
    raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    raw_read_request(server, fd);
}

static void test_request_is_not_put_on_the_wire_twice(void **state)
{
    struct http_world *world = http_world_new(hang_up_on_second, &plain_options);
    (void)state;

    assert_http_outcome(http_world_run(world), HTTP_DONE);
    assert_http_outcome(http_world_run(world), HTTP_RESENT);
    assert_int_equal(atomic_load(&world->server->requests), 2); /* one of each call */
    assert_int_equal(world->server->accepted, 1);
    assert_http_outcome(http_world_run(world), HTTP_DONE);
    assert_int_equal(atomic_load(&world->server->requests), 3);
    http_world_free(world);
}

/* As above, but resets with the second request unread. */
static void reset_at_second(struct raw_server *server, int fd, int nth)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    if (nth > 0 || !raw_read_request(server, fd)) {
        answer_hello(server, fd, nth);
        return;
    }
    raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    poll(&wait, 1, -1);
    raw_reset(fd);
}

static void test_reset_of_a_reused_connection_does_not_send_twice(void **state)
{
    struct http_world *world = http_world_new(reset_at_second, &plain_options);
    (void)state;

    assert_http_outcome(http_world_run(world), HTTP_DONE);
    http_world_run(world);
    assert_true(world->seen.answer.outcome == HTTP_RESENT ||
                world->seen.answer.outcome == HTTP_CUT);
    assert_int_equal(world->server->accepted, 1);
    assert_int_equal(atomic_load(&world->server->requests), 1);
    http_world_free(world);
}

/* Two connections are in the pool; either hangs up on its second request. */
static void hang_up_everywhere(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    if (!raw_read_request(server, fd))
        return;
    while (atomic_load(&server->requests) < 2)
        poll(NULL, 0, 1);
    raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    raw_read_request(server, fd);
}

static void test_request_is_not_moved_to_another_pooled_connection(void **state)
{
    struct http_world *world = http_world_new(hang_up_everywhere, &plain_options);
    struct seen other = {.done = 0};
    (void)state;

    http_world_begin(world, &other);
    assert_http_outcome(http_world_run(world), HTTP_DONE);
    if (!other.done)
        http_world_turn(world);
    assert_int_equal(other.done, 1);
    assert_int_equal(world->server->accepted, 2);
    assert_http_outcome(http_world_run(world), HTTP_RESENT);
    assert_int_equal(atomic_load(&world->server->requests), 3);
    assert_int_equal(world->server->accepted, 2);
    http_world_free(world);
}

static void answer_once_and_close(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    if (!raw_read_request(server, fd))
        return;
    raw_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    shutdown(fd, SHUT_RDWR);
    atomic_fetch_add(&server->closed, 1);
}

static void test_connection_closed_while_idle_is_replaced(void **state)
{
    struct http_world *world = http_world_new(answer_once_and_close, &plain_options);
    (void)state;

    assert_http_outcome(http_world_run(world), HTTP_DONE);
    await_atomic(&world->server->closed, 1);
    assert_http_outcome(http_world_run(world), HTTP_DONE);
    assert_int_equal(atomic_load(&world->server->requests), 2);
    assert_int_equal(world->server->accepted, 2);
    http_world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_connection_was_not_sent),
        cmocka_unit_test(test_unknown_name_was_not_sent),
        cmocka_unit_test(test_failed_tls_was_not_sent),
        cmocka_unit_test(test_every_deadline_before_sending_is_a_connect_timeout),
        cmocka_unit_test(test_slow_lookup_times_out_without_blocking_the_loop),
        cmocka_unit_test(test_refused_address_is_never_connected_to),
        cmocka_unit_test(test_request_is_not_put_on_the_wire_twice),
        cmocka_unit_test(test_reset_of_a_reused_connection_does_not_send_twice),
        cmocka_unit_test(test_request_is_not_moved_to_another_pooled_connection),
        cmocka_unit_test(test_connection_closed_while_idle_is_replaced),
    };

    signal(SIGPIPE, SIG_IGN);
    sem_init(&slow_lookup, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
