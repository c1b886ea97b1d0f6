/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client: what it puts on the wire, and which answers are whole, cut or none. */
#include "tests/unit/http_client_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_whole_answer_is_delivered(void **state)
{
    struct http_world *world = http_world_new(answer_hello, &plain_options);
    const char *const headers[] = {"Authorization: Bearer k", "X-Empty:", NULL};
    const struct seen *seen;
    (void)state;

    world->spec.headers = headers;
    seen = http_world_run(world);
    assert_http_outcome(seen, HTTP_DONE);
    assert_int_equal(seen->answer.status, 200);
    assert_int_equal(seen->status_at_data, 200);
    assert_string_equal(seen->headers, "x-one=a b|content-length=5|");
    assert_memory_equal(seen->body, "hello", 5);
    assert_int_equal(seen->body_len, 5);
    assert_string_equal(seen->answer.peer, "127.0.0.1");
    assert_true(seen->answer.first_byte_us > 0);
    assert_true(seen->answer.duration_us >= seen->answer.first_byte_us);
    assert_int_equal(http_client_calls(world->client), 0);
    http_world_free(world);
}

static void test_request_has_only_what_was_asked_for(void **state)
{
    struct http_world *world = http_world_new(answer_hello, &plain_options);
    const char *const headers[] = {"Authorization: Bearer k", "X-Empty:", NULL};
    const char *request = world->server->first_request;
    size_t body_len = 2 * 1024 * 1024; /* over it libcurl would say Expect: 100-continue */
    char *body = malloc(body_len);
    (void)state;

    memset(body, 'x', body_len);
    world->spec.headers = headers;
    world->spec.body = body;
    world->spec.body_len = body_len;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    assert_http_outcome(http_world_run(world), HTTP_DONE);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
    assert_memory_equal(request, "POST /v1/x HTTP/1.1\r\n", 21);
    assert_non_null(strstr(request, "\r\nAuthorization: Bearer k\r\n"));
    assert_non_null(strstr(request, "\r\nX-Empty:\r\n"));
    assert_non_null(strstr(request, "\r\nContent-Length: 2097152\r\n"));
    assert_null(strcasestr(request, "expect"));
    assert_null(strcasestr(request, "content-type"));
    assert_null(strcasestr(request, "accept-encoding"));
    assert_null(strcasestr(request, "transfer-encoding"));
    free(body);
    http_world_free(world);
}

static void test_methods_reach_the_wire(void **state)
{
    static const char *const methods[] = {"GET", "DELETE", "PUT", "PATCH", "HEAD"};
    (void)state;

    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        struct http_world *world = http_world_new(answer_hello, &plain_options);
        bool has_body = strcmp(methods[i], "PUT") == 0 || strcmp(methods[i], "PATCH") == 0;
        bool is_head = strcmp(methods[i], "HEAD") == 0;
        const struct seen *seen;

        world->spec.method = methods[i];
        if (!has_body)
            world->spec.body_len = 0;
        seen = http_world_run(world);
        assert_http_outcome(seen, HTTP_DONE);
        assert_int_equal(seen->body_len, is_head ? 0 : 5);
        assert_memory_equal(world->server->first_request, methods[i], strlen(methods[i]));
        assert_int_equal(strstr(world->server->first_request, "{\"a\":1}") != NULL, has_body);
        http_world_free(world);
    }
}

static void answer_chunked(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    while (raw_read_request(server, fd))
        raw_say(fd, "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
                    "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: late\r\n\r\n");
}

static void test_chunked_answer_is_put_together_and_trailers_dropped(void **state)
{
    struct http_world *world = http_world_new(answer_chunked, &plain_options);
    const struct seen *seen = http_world_run(world);
    (void)state;

    assert_http_outcome(seen, HTTP_DONE);
    assert_int_equal(seen->answer.status, 201);
    assert_memory_equal(seen->body, "abcde", 5);
    assert_string_equal(seen->headers, "transfer-encoding=chunked|trailer=X-T|");
    http_world_free(world);
}

static void answer_until_close(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    raw_read_request(server, fd);
    raw_say(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it");
}

static void test_answer_without_length_ends_at_close(void **state)
{
    struct http_world *world = http_world_new(answer_until_close, &plain_options);
    const struct seen *seen = http_world_run(world);
    (void)state;

    assert_http_outcome(seen, HTTP_DONE);
    assert_int_equal(seen->body_len, 9);
    http_world_free(world);
}

static void answer_redirect(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    while (raw_read_request(server, fd))
        raw_say(fd, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nSet-Cookie: a=b\r\n"
                    "Content-Length: 0\r\n\r\n");
}

static void test_redirects_are_not_followed_and_cookies_not_kept(void **state)
{
    struct http_world *world = http_world_new(answer_redirect, &plain_options);
    (void)state;

    assert_http_outcome(http_world_run(world), HTTP_DONE);
    assert_int_equal(world->seen.answer.status, 302);
    http_world_run(world);
    assert_int_equal(atomic_load(&world->server->requests), 2);
    assert_int_equal(world->server->accepted, 1); /* the connection was reused */
    http_world_free(world);
}

static void answer_continue_first(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    while (raw_read_request(server, fd))
        raw_say(fd, "HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n"
                    "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
                    "HTTP/1.1 200 OK\r\nX-Final: 1\r\nContent-Length: 2\r\n\r\nok");
}

static void test_provisional_heads_are_left_out(void **state)
{
    struct http_world *world = http_world_new(answer_continue_first, &plain_options);
    const struct seen *seen = http_world_run(world);
    (void)state;

    assert_http_outcome(seen, HTTP_DONE);
    assert_int_equal(seen->answer.status, 200);
    assert_string_equal(seen->headers, "x-final=1|content-length=2|");
    http_world_free(world);
}

/* One text per case, then the connection closes (or is reset). */
static const char *cut_text;
static bool cut_resets;

static void answer_cut(struct raw_server *server, int fd, int nth)
{
    (void)nth;
    raw_read_request(server, fd);
    raw_say(fd, cut_text);
    if (cut_resets)
        raw_reset(fd);
}

static void test_answer_that_breaks_off_is_cut(void **state)
{
    static const struct {
        const char *text;
        bool resets;
        int status;
    } cases[] = {
        {"", false, 0},
        {"", true, 0},
        {"HTTP/1.1 20", false, 0},
        {"HTTP/1.1 200 OK\r\nContent-Le", false, 200},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", false, 200},
        {"HTTP/1.1 100 Continue\r\n\r\n", false, 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhel", false, 200},
        {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", false, 200},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false, 200},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", false, 200},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", false, 200},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, 200},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false, 200},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct http_world *world = http_world_new(answer_cut, &plain_options);

        cut_text = cases[i].text;
        cut_resets = cases[i].resets;
        assert_http_outcome(http_world_run(world), HTTP_CUT);
        assert_int_equal(world->seen.answer.status, cases[i].status);
        assert_true(world->seen.message[0] != '\0');
        assert_int_equal(atomic_load(&world->server->requests), 1);
        http_world_free(world);
    }
}

static void test_answer_that_is_not_http_is_told_apart(void **state)
{
    static const char *const cases[] = {
        "SSH-2.0-OpenSSH_9.2\r\n",
        "<html>hello</html>",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct http_world *world = http_world_new(answer_cut, &plain_options);

        cut_text = cases[i];
        cut_resets = false;
        assert_http_outcome(http_world_run(world), HTTP_BAD_ANSWER);
        http_world_free(world);
    }
}

static void test_bad_requests_are_refused(void **state)
{
    static const struct {
        const char *method;
        const char *url;
        const char *header;
    } cases[] = {
        {"POST", "ftp://a/", "A: b"},
        {"POST", "file:///etc/passwd", "A: b"},
        {"POST", "", "A: b"},
        {"POST", "http://", "A: b"},
        {"POST", "http://user:pw@a/", "A: b"},
        {"POST", "http://a b/", "A: b"},
        {"POST", "http://[fe80::1%25eth0]/", "A: b"},
        {"POST", "http://a:99999/", "A: b"},
        {"PO ST", "http://a/", "A: b"},
        {"POST", "http://a/", "A: b\r\nC: d"},
        {"POST", "http://a/", "no colon"},
        {"POST", "http://a/", ": b"},
        {"POST", "http://a/", "Content-Length: 3"},
        {"POST", "http://a/", "transfer-encoding: chunked"},
        {"POST", "http://a/", "Expect: 100-continue"},
    };
    struct http_world *world = http_world_new(answer_hello, &plain_options);
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *const headers[] = {cases[i].header, NULL};
        struct err err = {.message = ""};

        world->spec.method = cases[i].method;
        world->spec.url = cases[i].url;
        world->spec.headers = headers;
        assert_null(http_call_start(world->client, &world->spec, &seen_callbacks, NULL, &err));
        assert_true(err.message[0] != '\0');
    }
    assert_int_equal(http_client_calls(world->client), 0);
    http_world_free(world);
}

static void test_url_is_split(void **state)
{
    static const struct {
        const char *url;
        const char *scheme;
        const char *host;
        int port;
        bool has_userinfo;
    } cases[] = {
        {"https://Example.COM/x", "https", "example.com", 443, false},
        {"http://example.com:8080", "http", "example.com", 8080, false},
        {"http://u@example.com/", "http", "example.com", 80, true},
        {"http://[::1]:81/", "http", "::1", 81, false},
        {"http://0x7f.1/", "http", "127.0.0.1", 80, false},
        {"http://2130706433/", "http", "127.0.0.1", 80, false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct http_url url;
        struct err err;

        assert_true(http_url_parse(cases[i].url, &url, &err));
        assert_string_equal(url.scheme, cases[i].scheme);
        assert_string_equal(url.host, cases[i].host);
        assert_int_equal(url.port, cases[i].port);
        assert_int_equal(url.has_userinfo, cases[i].has_userinfo);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_answer_is_delivered),
        cmocka_unit_test(test_request_has_only_what_was_asked_for),
        cmocka_unit_test(test_methods_reach_the_wire),
        cmocka_unit_test(test_chunked_answer_is_put_together_and_trailers_dropped),
        cmocka_unit_test(test_answer_without_length_ends_at_close),
        cmocka_unit_test(test_redirects_are_not_followed_and_cookies_not_kept),
        cmocka_unit_test(test_provisional_heads_are_left_out),
        cmocka_unit_test(test_answer_that_breaks_off_is_cut),
        cmocka_unit_test(test_answer_that_is_not_http_is_told_apart),
        cmocka_unit_test(test_bad_requests_are_refused),
        cmocka_unit_test(test_url_is_split),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
