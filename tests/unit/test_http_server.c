/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server's protocol over real sockets: framing, pipelines, bodies, answers, ends. */
#include "tests/unit/http_fixture.h"

/* --- the handlers -------------------------------------------------------------------------------
 */

static void echo_done(struct http_request *request, const char *data, size_t len, void *arg)
{
    struct fixture *fixture = arg;

    fixture->body_ends++;
    assert_int_equal(data[len], '\0');
    http_reply(request, 200, "application/octet-stream", data, len);
}

static void count_chunk(struct http_request *request, const char *data, size_t len, void *arg)
{
    struct fixture *fixture = arg;

    (void)request;
    assert_non_null(data);
    fixture->body_bytes += len;
}

static void count_end(struct http_request *request, bool ok, const char *code, void *arg)
{
    struct fixture *fixture = arg;
    char text[96];

    fixture->body_ends++;
    snprintf(fixture->body_code, sizeof(fixture->body_code), "%s", ok ? "ok" : code);
    snprintf(text, sizeof(text), "%zu bytes: %s", fixture->body_bytes, fixture->body_code);
    http_reply(request, 200, "text/plain", text, strlen(text));
}

static void answer_info(struct http_request *request)
{
    const char *field = http_header(request, "x-a");
    struct buf text;

    buf_init(&text, 4096);
    buf_printf(&text, "method=%s path=%s query=%s x-a=%s peer=%s length=%d chunked=%d",
               http_method(request), http_path(request), http_raw_query(request),
               field ? field : "none", http_peer(request), (int)http_content_length(request),
               http_is_chunked(request));
    http_add_header(request, "x-evil", "a\r\nx-injected: 1");
    http_reply(request, 200, "text/plain", text.data, text.len);
    buf_release(&text);
}

static void answer_chunks(struct http_request *request)
{
    http_start(request, 200, "text/event-stream");
    assert_true(http_write(request, "one", 3));
    assert_true(http_write(request, "", 0));
    assert_true(http_write(request, "two", 3));
    http_end(request);
}

static void held_closed(struct http_request *request, void *arg)
{
    struct fixture *fixture = arg;

    assert_ptr_equal(request, fixture->held);
    assert_true(http_is_closed(request));
    fixture->closes++;
    if (fixture->ends_on_close) {
        fixture->held = NULL;
        http_end(request);
    }
}

static void held_half_closed(struct http_request *request, void *arg)
{
    struct fixture *fixture = arg;

    assert_ptr_equal(request, fixture->held);
    fixture->half_closes++;
}

static void hold(struct fixture *fixture, struct http_request *request)
{
    assert_null(fixture->held);
    fixture->held = request;
    http_on_close(request, held_closed, fixture);
    http_on_half_close(request, held_half_closed, fixture);
}

static void handle(struct http_request *request, void *arg)
{
    struct fixture *fixture = arg;
    const char *path = http_path(request);

    fixture->handled++;
    if (str_equal(path, "/echo")) {
        http_read_body(request, 1000, echo_done, fixture);
    } else if (str_equal(path, "/watched-echo")) {
        http_read_body(request, 1000, echo_done, fixture);
        hold(fixture, request);
    } else if (str_equal(path, "/count")) {
        http_stream_body(request, 100000, 0, count_chunk, count_end, fixture);
    } else if (str_equal(path, "/chunks")) {
        answer_chunks(request);
    } else if (str_equal(path, "/hold")) {
        hold(fixture, request);
    } else if (str_equal(path, "/nothing")) {
        http_reply(request, 204, NULL, NULL, 0);
    } else if (str_equal(path, "/forgot")) {
        http_end(request);
    } else if (str_equal(path, "/reset")) {
        http_start(request, 200, "text/plain");
        http_abort(request, true);
    } else if (str_equal(path, "/cut")) {
        http_start(request, 200, "text/plain");
        assert_true(http_write(request, "half", 4));
        http_abort(request, false);
    } else if (str_equal(path, "/raw")) {
        assert_true(http_write_raw(request, "not http\r\n", 10));
        http_end(request);
    } else {
        answer_info(request);
    }
}

/* --- framing ------------------------------------------------------------------------------------
 */

#define HEAD "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST /echo HTTP/1.1\r\nHost: a\r\n"

struct bad_case {
    const char *name;
    const char *bytes;
    int status;
    const char *code;
};

/* Each of these is a way in which two parties could read different requests, or is plain wrong.
 * A second request follows in the same bytes and must never be seen. */
static const struct bad_case bad_cases[] = {
    {"bare LF", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "invalid_value"},
    {"bare LF ends the head", HEAD "\n", 400, "invalid_value"},
    {"bare CR", "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", 400, "invalid_value"},
    {"obs-fold", HEAD "X: a\r\n b\r\n\r\n", 400, "invalid_value"},
    {"space before colon", POST "Content-Length : 5\r\n\r\nhello", 400, "invalid_value"},
    {"no host", "GET / HTTP/1.1\r\n\r\n", 400, "invalid_value"},
    {"two hosts", HEAD "Host: b\r\n\r\n", 400, "invalid_value"},
    {"length and coding", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400, "invalid_value"},
    {"coding and length", POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
     400, "invalid_value"},
    {"two lengths", POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400,
     "invalid_value"},
    {"a list of lengths", POST "Content-Length: 5, 5\r\n\r\nhello", 400, "invalid_value"},
    {"signed length", POST "Content-Length: +5\r\n\r\nhello", 400, "invalid_value"},
    {"hex length", POST "Content-Length: 0x5\r\n\r\nhello", 400, "invalid_value"},
    {"huge length", POST "Content-Length: 99999999999999999999\r\n\r\n", 413, "too_large"},
    {"two codings", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
     "invalid_value"},
    {"unknown coding", POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "not_implemented"},
    {"odd coding", POST "Transfer-Encoding: xchunked\r\n\r\n", 501, "not_implemented"},
    {"coding in 1.0", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
     "invalid_value"},
    {"version 1.9", "GET / HTTP/1.9\r\nHost: a\r\n\r\n", 505, "http_version"},
    {"version 2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version"},
    {"no version", "GET /\r\n\r\n", 400, "invalid_value"},
    {"unknown method", "FROB / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "not_implemented"},
    {"connect", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501, "not_implemented"},
    {"compressed", POST "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab", 415,
     "unsupported_media_type"},
    {"bad percent", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid_value"},
    {"percent NUL", "GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid_value"},
    {"not UTF-8", "GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400, "invalid_value"},
    {"TLS on a plain port", "\x16\x03\x01\x02\x01", 400, "invalid_value"},
    {"chunk size with 0x", POST "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400,
     "invalid_value"},
    {"chunk size with blank", POST "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
     400, "invalid_value"},
    {"chunk line in LF", POST "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", 400,
     "invalid_value"},
    {"LF in extension", POST "Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n", 400,
     "invalid_value"},
    {"chunk too long", POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n", 400,
     "invalid_value"},
    {"chunk size too long", POST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400,
     "invalid_value"},
    {"head cut short", HEAD "X: y", 400, "invalid_value"},
    {"body cut short", POST "Content-Length: 10\r\n\r\nhello", 400, "invalid_value"},
    {"chunks cut short", POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", 400, "invalid_value"},
    {"body over the limit", POST "Content-Length: 1001\r\n\r\n", 413, "too_large"},
};

static void check_refused(struct fixture *fixture, const struct bad_case *bad)
{
    bool is_cut = strstr(bad->name, "cut short") != NULL;
    char *answer;
    char bytes[1024];

    snprintf(bytes, sizeof(bytes), "%s%s", bad->bytes,
             is_cut ? "" : "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    answer = exchange(fixture, bytes, strlen(bytes));
    if (status_of(answer) != bad->status)
        fail_msg("%s: got %s", bad->name, answer);
    assert_non_null(strstr(answer, "x-request-id: "));
    assert_non_null(strstr(answer, "connection: close\r\n"));
    assert_non_null(strstr(answer, "content-type: application/json\r\n"));
    assert_non_null(strstr(answer, "{\"error\":{\"message\":"));
    assert_non_null(strstr(answer, bad->code));
    assert_null(strstr(answer + 1, "HTTP/1.1 "));
    assert_null(strstr(answer, "smuggled"));
    free(answer);
}

static void test_ambiguous_requests_are_refused_and_the_connection_closed(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);

    (void)state;
    for (size_t i = 0; i < sizeof(bad_cases) / sizeof(bad_cases[0]); i++)
        check_refused(fixture, &bad_cases[i]);
    assert_null(fixture->held);
    fixture_free(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ambiguous_requests_are_refused_and_the_connection_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
