/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server's caps and clocks: what is slow, large or too many costs its sender, not us. */
#include "tests/unit/http_fixture.h"

#include <sys/resource.h>

/* --- the handlers -------------------------------------------------------------------------------
 */

static void on_done(struct http_request *request, const char *data, size_t len, void *arg)
{
    struct fixture *fixture = arg;

    (void)data;
    fixture->body_ends++;
    fixture->body_bytes = len;
    http_reply(request, 200, "text/plain", "read", 4);
}

static void on_chunk(struct http_request *request, const char *data, size_t len, void *arg)
{
    struct fixture *fixture = arg;

    (void)data;
    fixture->body_bytes += len;
    if (str_equal(http_path(request), "/paused")) {
        http_pause_body(request);
        fixture->held = request;
    }
}

static void on_end(struct http_request *request, bool ok, const char *code, void *arg)
{
    struct fixture *fixture = arg;

    fixture->body_ends++;
    snprintf(fixture->body_code, sizeof(fixture->body_code), "%s", ok ? "ok" : code);
    http_reply(request, ok ? 200 : 408, "text/plain", fixture->body_code,
               strlen(fixture->body_code));
}

static void on_close(struct http_request *request, void *arg)
{
    struct fixture *fixture = arg;

    fixture->closes++;
    fixture->held = NULL;
    http_end(request);
}

static void on_drain(struct http_request *request, void *arg)
{
    struct fixture *fixture = arg;

    assert_true(http_pending(request) <= 1000);
    fixture->drains++;
}

/* Writes until the server says stop. */
static void flood(struct fixture *fixture, struct http_request *request)
{
    static char block[10000];

    http_start(request, 200, "application/octet-stream");
    while (http_write(request, block, sizeof(block)))
        continue;
    fixture->held = request;
    http_on_close(request, on_close, fixture);
}

static void handle(struct http_request *request, void *arg)
{
    struct fixture *fixture = arg;
    const char *path = http_path(request);

    fixture->handled++;
    if (str_equal(path, "/read")) {
        http_read_body(request, 1 << 20, on_done, fixture);
    } else if (str_equal(path, "/stream") || str_equal(path, "/paused")) {
        http_stream_body(request, (size_t)1 << 30, 0, on_chunk, on_end, fixture);
    } else if (str_equal(path, "/idle")) {
        http_stream_body(request, 1 << 20, 50, on_chunk, on_end, fixture);
    } else if (str_equal(path, "/flood")) {
        flood(fixture, request);
    } else if (str_equal(path, "/hold")) {
        fixture->held = request;
    } else {
        http_reply(request, 200, "text/plain", "hello", 5);
    }
}

static struct http_server_stats stats_of(const struct fixture *fixture)
{
    struct http_server_stats stats;

    http_server_stats(fixture->server, &stats);
    return stats;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

/* --- sizes --------------------------------------------------------------------------------------
 */

static void test_head_floods_are_cut_off_at_the_limits(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);
    static char block[100000];

    (void)state;
    memset(block, 'a', sizeof(block));
    client_puts(fixture, &client, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    /* Ten megabytes, sent to the end before anything is read: the answer must still arrive. */
    for (int i = 0; i < 100; i++)
        client_send(fixture, &client, block, sizeof(block));
    pump_until(fixture, &client, client_is_over(&client) || client_has(&client, "\r\n\r\n{"));
    assert_int_equal(status_of(client.in.data), 431);
    assert_true(client_has(&client, "headers_too_large"));
    client_close(&client);
    fixture_free(fixture);
}

static void test_long_uri_and_many_fields_are_refused(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct buf bytes;
    char *answer;

    (void)state;
    for (int fields = 99; fields <= 101; fields++) { /* with Host: one more */
        buf_init(&bytes, 100000);
        buf_puts(&bytes, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (int i = 0; i < fields; i++)
            buf_printf(&bytes, "x%d: y\r\n", i);
        buf_puts(&bytes, "\r\n");
        answer = exchange(fixture, bytes.data, bytes.len);
        assert_int_equal(status_of(answer), fields + 1 <= 100 ? 200 : 431);
        free(answer);
        buf_release(&bytes);
    }
    for (int length = 8192; length <= 8193; length++) {
        buf_init(&bytes, 100000);
        buf_puts(&bytes, "GET /");
        for (int i = 1; i < length; i++)
            buf_putc(&bytes, 'a');
        buf_puts(&bytes, " HTTP/1.1\r\nHost: a\r\n\r\n");
        answer = exchange(fixture, bytes.data, bytes.len);
        assert_int_equal(status_of(answer), length <= 8192 ? 200 : 431);
        free(answer);
        buf_release(&bytes);
    }
    fixture_free(fixture);
}

/* --- clocks -------------------------------------------------------------------------------------
 */

static void test_slow_head_gets_408_however_it_drips(void **state)
{
    struct http_limits limits = {.head_timeout_ms = 100};
    struct fixture *fixture = fixture_new(&limits, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    /* A byte at every turn must not buy time. */
    pump_until(fixture, &client, client.in.len > 0 || !client_puts(fixture, &client, "x"));
    pump_until(fixture, &client, client_is_over(&client));
    assert_int_equal(status_of(client.in.data), 408);
    assert_true(client_has(&client, "\"timeout\""));
    assert_true(stats_of(fixture).timeouts == 1);
    client_close(&client);
    fixture_free(fixture);
}

static void test_silent_and_idle_connections_are_closed_without_a_word(void **state)
{
    struct http_limits limits = {.head_timeout_ms = 50, .idle_timeout_ms = 50};
    struct fixture *fixture = fixture_new(&limits, handle);
    struct client silent = client_open(fixture);
    struct client idle = client_open(fixture);

    (void)state;
    client_puts(fixture, &idle, GET("/"));
    pump_until(fixture, &idle, idle.is_eof);
    pump_until(fixture, &silent, silent.is_eof);
    assert_int_equal(silent.in.len, 0);
    assert_int_equal(client_count(&idle, "HTTP/1.1"), 1);
    client_close(&silent);
    client_close(&idle);
    pump_until(fixture, NULL, stats_of(fixture).connections == 0);
    fixture_free(fixture);
}

static void test_slow_body_gets_408(void **state)
{
    static const char *const paths[] = {"/read", "/stream", "/idle"};
    struct http_limits limits = {.body_grace_ms = 50, .body_min_rate = 1000000};

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct fixture *fixture = fixture_new(&limits, handle);
        struct client client = client_open(fixture);
        char head[128];

        snprintf(head, sizeof(head),
                 "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\nab", paths[i]);
        client_puts(fixture, &client, head);
        pump_until(fixture, &client, client_is_over(&client));
        assert_int_equal(status_of(client.in.data), 408);
        assert_true(client_has(&client, "timeout"));
        client_close(&client);
        fixture_free(fixture);
    }
}

/* Twice the grace, but never below the rate. */
static void test_steady_body_may_take_longer_than_the_grace(void **state)
{
    struct http_limits limits = {.body_grace_ms = 600, .body_min_rate = 2};
    struct fixture *fixture = fixture_new(&limits, handle);
    struct client client = client_open(fixture);
    int64_t start = clock_monotonic_us();
    size_t sent = 0;
    char head[128];

    (void)state;
    snprintf(head, sizeof(head),
             "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n");
    client_puts(fixture, &client, head);
    pump_until(fixture, &client,
               clock_monotonic_us() - start > 1300 * US_PER_MS ||
                   !client_puts(fixture, &client, ++sent ? "x" : ""));
    while (sent < 500000) {
        assert_true(client_puts(fixture, &client, "x"));
        sent++;
    }
    pump_until(fixture, &client, client_has(&client, "read"));
    assert_int_equal(fixture->body_bytes, 500000);
    client_close(&client);
    fixture_free(fixture);
}

/* The answer does not need the body; what is left of it is awaited, but not for ever. */
static void test_unread_body_that_never_comes_ends_the_connection(void **state)
{
    struct http_limits limits = {.body_grace_ms = 50};
    struct fixture *fixture = fixture_new(&limits, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
    pump_until(fixture, &client, client.is_eof);
    assert_true(client_has(&client, "\r\n\r\nhello"));
    assert_int_equal(client_count(&client, "HTTP/1.1"), 1);
    assert_int_equal(fixture->answered, 1);
    client_close(&client);
    fixture_free(fixture);
}

static void test_reader_that_never_reads_is_dropped(void **state)
{
    struct http_limits limits = {.write_timeout_ms = 50, .max_pending_bytes = 8 << 20};
    struct fixture *fixture = fixture_new(&limits, handle);
    struct client client = client_open_buffered(fixture, 4096);

    (void)state;
    client_puts(fixture, &client, GET("/flood"));
    pump_until(fixture, NULL, fixture->closes == 1);
    pump_until(fixture, NULL, stats_of(fixture).connections == 0);
    assert_true(stats_of(fixture).timeouts == 1);
    client_close(&client);
    fixture_free(fixture);
}

/* --- back-pressure ------------------------------------------------------------------------------
 */

static void test_unsent_bytes_are_capped_and_drain_is_told(void **state)
{
    struct http_limits limits = {.max_pending_bytes = 1 << 20};
    struct fixture *fixture = fixture_new(&limits, handle);
    struct client client = client_open_buffered(fixture, 4096);

    (void)state;
    client_puts(fixture, &client, GET("/flood"));
    pump_until(fixture, NULL, fixture->held != NULL);
    assert_true(http_pending(fixture->held) <= (1 << 20) + 20000);
    http_on_drain(fixture->held, 1000, on_drain, fixture);
    for (int i = 0; i < 10; i++)
        turn(fixture);
    assert_int_equal(fixture->drains, 0);
    pump_until(fixture, &client, fixture->drains == 1);
    assert_true(http_write(fixture->held, "more", 4));
    http_end(fixture->held);
    pump_until(fixture, &client, client_has(&client, "4\r\nmore\r\n0\r\n\r\n"));
    assert_int_equal(fixture->drains, 1);
    client_close(&client);
    fixture_free(fixture);
}

/* Sends until the socket has stayed full for some turns of the loop; returns what was taken. */
static size_t send_until_stuck(struct fixture *fixture, struct client *client)
{
    static char block[65536];
    size_t sent = 0;

    for (int full = 0; full < 50;) {
        ssize_t n = send(client->fd, block, sizeof(block), MSG_NOSIGNAL);

        turn(fixture);
        full = n > 0 ? 0 : full + 1;
        sent += n > 0 ? (size_t)n : 0;
        assert_true(sent < (64u << 20));
    }
    return sent;
}

static void test_paused_body_stops_the_socket(void **state)
{
    struct http_limits limits = {.body_grace_ms = 50};
    struct fixture *fixture = fixture_new(&limits, handle);
    struct client client = client_open(fixture);
    size_t sent;

    (void)state;
    client_puts(fixture, &client,
                "POST /paused HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    sent = send_until_stuck(fixture, &client);
    assert_true(fixture->held != NULL);
    assert_true(fixture->body_bytes <= 16 * 1024);
    assert_true(sent > fixture->body_bytes);
    /* The clock of the body stands still meanwhile, and each resume brings one run more. */
    for (int i = 0; i < 20; i++) {
        size_t before = fixture->body_bytes;

        http_resume_body(fixture->held);
        pump_until(fixture, NULL, fixture->body_bytes > before);
        assert_true(fixture->body_bytes - before <= 16 * 1024);
    }
    assert_int_equal(fixture->body_ends, 0);
    http_resume_body(fixture->held);
    client_close(&client);
    /* Its end comes when all that was sent has been taken. */
    pump_until(fixture, NULL, fixture->body_ends == 1 || (http_resume_body(fixture->held), false));
    assert_string_equal(fixture->body_code, "incomplete");
    fixture_free(fixture);
}

static void test_pipeline_waits_for_a_reader_that_does_not_read(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open_buffered(fixture, 4096);
    size_t sent = 0;
    const char *request = GET("/");
    int before;

    (void)state;
    for (int full = 0; full < 50;) {
        ssize_t n = send(client.fd, request + sent % strlen(request),
                         strlen(request) - sent % strlen(request), MSG_NOSIGNAL);

        turn(fixture);
        full = n > 0 ? 0 : full + 1;
        sent += n > 0 ? (size_t)n : 0;
    }
    before = fixture->handled;
    for (int i = 0; i < 50; i++)
        turn(fixture);
    assert_int_equal(fixture->handled, before);
    pump_until(fixture, &client, fixture->handled == (int)(sent / strlen(request)));
    client_close(&client);
    fixture_free(fixture);
}

/* --- counts -------------------------------------------------------------------------------------
 */

static void test_connections_over_the_cap_get_503(void **state)
{
    struct http_limits total = {.max_connections = 2};
    struct http_limits per_ip = {.max_connections_per_ip = 2};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fixture *fixture = fixture_new(i == 0 ? &total : &per_ip, handle);
        struct client first = client_open(fixture);
        struct client second = client_open(fixture);
        struct client third = client_open(fixture);

        pump_until(fixture, &third, third.is_eof);
        assert_int_equal(status_of(third.in.data), 503);
        assert_true(client_has(&third, "\"overloaded\""));
        assert_true(client_has(&third, "retry-after: "));
        assert_true(client_has(&third, "x-request-id: "));
        client_close(&third);
        assert_int_equal(stats_of(fixture).connections, 2);
        /* One leaves, one may come. */
        client_close(&first);
        pump_until(fixture, NULL, stats_of(fixture).connections == 1);
        first = client_open(fixture);
        client_puts(fixture, &first, GET("/"));
        client_puts(fixture, &second, GET("/"));
        pump_until(fixture, &first, client_has(&first, "hello"));
        pump_until(fixture, &second, client_has(&second, "hello"));
        client_close(&first);
        client_close(&second);
        fixture_free(fixture);
    }
}

static void test_drain_finishes_what_runs_and_refuses_the_rest(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client idle = client_open(fixture);
    struct client busy = client_open(fixture);
    struct client half = client_open(fixture);
    struct client late;

    (void)state;
    client_puts(fixture, &busy, GET("/hold"));
    client_puts(fixture, &half, "GET / HTTP/1.1\r\n");
    pump_until(fixture, &busy, fixture->held && stats_of(fixture).connections == 3);
    for (int i = 0; i < 5; i++)
        turn(fixture);
    http_server_drain(fixture->server);
    pump_until(fixture, &idle, idle.is_eof);
    assert_int_equal(idle.in.len, 0);
    client_puts(fixture, &half, "Host: a\r\nx-request-id: half\r\n\r\n");
    pump_until(fixture, &half, half.is_eof);
    assert_int_equal(status_of(half.in.data), 503);
    assert_true(client_has(&half, "\"unavailable\""));
    assert_true(client_has(&half, "x-request-id: half\r\n"));
    late = client_open(fixture);
    pump_until(fixture, &late, late.is_eof);
    assert_int_equal(status_of(late.in.data), 503);
    assert_int_equal(http_server_requests(fixture->server), 1);
    http_reply(fixture->held, 200, "text/plain", "done", 4);
    pump_until(fixture, &busy, busy.is_eof);
    assert_true(client_has(&busy, "connection: close\r\n\r\ndone"));
    assert_int_equal(http_server_requests(fixture->server), 0);
    client_close(&idle);
    client_close(&busy);
    client_close(&half);
    client_close(&late);
    fixture_free(fixture);
}

static void test_accepting_rests_when_descriptors_run_out(void **state)
{
    struct fixture *fixture;
    struct client client;
    struct rlimit old, none;

    (void)state;
    if (is_under_valgrind())
        skip(); /* its limit of descriptors is not the kernel's: it accepts, and closes */
    fixture = fixture_new(NULL, handle);
    client = client_open(fixture);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (int i = 0; i < 100; i++)
        turn(fixture);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_true(stats_of(fixture).accept_errors == 1); /* it rests, it does not spin */
    client_puts(fixture, &client, GET("/"));
    pump_until(fixture, &client, client_has(&client, "hello"));
    client_close(&client);
    fixture_free(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_floods_are_cut_off_at_the_limits),
        cmocka_unit_test(test_long_uri_and_many_fields_are_refused),
        cmocka_unit_test(test_slow_head_gets_408_however_it_drips),
        cmocka_unit_test(test_silent_and_idle_connections_are_closed_without_a_word),
        cmocka_unit_test(test_slow_body_gets_408),
        cmocka_unit_test(test_steady_body_may_take_longer_than_the_grace),
        cmocka_unit_test(test_unread_body_that_never_comes_ends_the_connection),
        cmocka_unit_test(test_reader_that_never_reads_is_dropped),
        cmocka_unit_test(test_unsent_bytes_are_capped_and_drain_is_told),
        cmocka_unit_test(test_paused_body_stops_the_socket),
        cmocka_unit_test(test_pipeline_waits_for_a_reader_that_does_not_read),
        cmocka_unit_test(test_connections_over_the_cap_get_503),
        cmocka_unit_test(test_drain_finishes_what_runs_and_refuses_the_rest),
        cmocka_unit_test(test_accepting_rests_when_descriptors_run_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
