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

static void enough_chunk(struct http_request *request, const char *data, size_t len, void *arg)
{
    (void)data;
    (void)len;
    (void)arg;
    http_reply(request, 200, "text/plain", "enough", 6);
}

static bool collect(const char *name, const char *value, void *arg, struct err *err)
{
    struct buf *out = arg;

    if (str_equal(name, "stop"))
        return err_input(err, "unknown_field", name, "no");
    return buf_printf(out, "[%s=%s]", name, value);
}

static void answer_info(struct http_request *request)
{
    const char *field = http_header(request, "x-a");
    struct buf text;
    struct err err;

    buf_init(&text, 4096);
    buf_printf(&text, "method=%s path=%s query=", http_method(request), http_path(request));
    assert_true(http_query_each(request, collect, &text, &err));
    buf_printf(&text, " x-a=%s peer=%s length=%d chunked=%d", field ? field : "none",
               http_peer(request), (int)http_content_length(request), http_is_chunked(request));
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
    } else if (str_equal(path, "/enough")) {
        http_stream_body(request, 1000, 0, enough_chunk, count_end, fixture);
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

static void test_caller_s_request_id_is_kept_even_when_refused(void **state)
{
    static const char good[] = HEAD "X-Request-Id: my-id.1\r\n\r\n";
    static const char bad[] = "GET / HTTP/1.1\r\nX-Request-ID: my-id.2\r\n\r\n";
    static const char odd[] = HEAD "X-Request-Id: two words\r\n\r\n";
    struct fixture *fixture = fixture_new(NULL, handle);
    char *answer;

    (void)state;
    answer = exchange(fixture, good, strlen(good));
    assert_non_null(strstr(answer, "x-request-id: my-id.1\r\n"));
    free(answer);
    answer = exchange(fixture, bad, strlen(bad));
    assert_int_equal(status_of(answer), 400);
    assert_non_null(strstr(answer, "x-request-id: my-id.2\r\n"));
    free(answer);
    answer = exchange(fixture, odd, strlen(odd));
    assert_int_equal(status_of(answer), 200);
    assert_null(strstr(answer, "two words"));
    assert_int_equal(strspn(strstr(answer, "x-request-id: ") + 14, "0123456789abcdef"), 32);
    free(answer);
    fixture_free(fixture);
}

struct info_case {
    const char *request;
    const char *expected;
};

static const struct info_case info_cases[] = {
    {HEAD "\r\n", "method=GET path=/ query= x-a=none peer=127.0.0.1 length=-1 chunked=0"},
    {"\r\n" HEAD "\r\n", "method=GET path=/ "},
    {"GET /a%20b/%C3%A9?x=%2f&y HTTP/1.1\r\nHost: a\r\nX-A:  v \t\r\n\r\n",
     "path=/a b/\xc3\xa9 query=[x=/][y=] x-a=v "},
    {"GET /a%2fb%2Fc HTTP/1.1\r\nHost: a\r\n\r\n", "path=/a%2Fb%2Fc "},
    {"GET http://h:1/p?q HTTP/1.1\r\nHost: a\r\n\r\n", "path=/p query=[q=] "},
    {"GET http://h HTTP/1.1\r\nHost: a\r\n\r\n", "path=/ query= "},
    {"GET http://h?q HTTP/1.1\r\nHost: a\r\n\r\n", "path=/ query=[q=] "},
    {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "method=OPTIONS path=* "},
    {HEAD "x-a: 1\r\nX-B: 0\r\nX-A: 2\r\nx-a: 3\r\n\r\n", "x-a=1, 2, 3 "},
    {HEAD "Upgrade: h2c\r\nConnection: upgrade\r\n\r\n", "method=GET path=/ "},
    {HEAD "Content-Encoding: identity\r\n\r\n", "method=GET path=/ "},
    {"GET / HTTP/1.0\r\n\r\n", "method=GET path=/ "},
    {"PATCH /x HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n1234567", "length=7 chunked=0"},
    {"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
     "length=-1 chunked=1"},
};

static void test_handler_sees_the_request_decoded(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);

    (void)state;
    for (size_t i = 0; i < sizeof(info_cases) / sizeof(info_cases[0]); i++) {
        const struct info_case *c = &info_cases[i];
        char *answer = exchange(fixture, c->request, strlen(c->request));

        if (status_of(answer) != 200 || !strstr(answer, c->expected))
            fail_msg("case %zu: wanted %s, got %s", i, c->expected, answer);
        assert_null(strstr(answer, "\nx-injected"));
        free(answer);
    }
    fixture_free(fixture);
}

/* The same bytes one at a time: nothing may depend on how they arrive. */
static void test_requests_may_arrive_byte_by_byte(void **state)
{
    static const char bytes[] =
        POST "Transfer-Encoding: chunked\r\n\r\n"
             "5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nT: v\r\n\r\n" HEAD "Connection: close\r\n\r\n";
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    for (size_t i = 0; i + 1 < sizeof(bytes); i++) {
        assert_true(client_send(fixture, &client, bytes + i, 1));
        turn(fixture);
    }
    pump_until(fixture, &client, client.is_eof);
    assert_true(client_has(&client, "\r\n\r\nhello!HTTP/1.1 200 OK"));
    assert_true(client_has(&client, "method=GET"));
    client_close(&client);
    fixture_free(fixture);
}

/* --- connections --------------------------------------------------------------------------------
 */

static void test_pipelined_requests_are_answered_in_order_one_at_a_time(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client,
                "GET /hold HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n"
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nthird"
                "GET /fourth HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    pump_until(fixture, &client, fixture->held != NULL);
    for (int i = 0; i < 20; i++)
        turn(fixture);
    assert_int_equal(fixture->handled, 1);
    assert_int_equal(http_server_requests(fixture->server), 1);
    http_reply(fixture->held, 200, "text/plain", "first", 5);
    pump_until(fixture, &client, client.is_eof);
    assert_int_equal(fixture->handled, 4);
    assert_int_equal(client_count(&client, "HTTP/1.1 200 OK"), 4);
    assert_true(strstr(client.in.data, "first") < strstr(client.in.data, "/second"));
    assert_true(strstr(client.in.data, "/second") < strstr(client.in.data, "third"));
    assert_true(strstr(client.in.data, "third") < strstr(client.in.data, "/fourth"));
    assert_int_equal(client_count(&client, "connection: close"), 1);
    assert_int_equal(http_server_requests(fixture->server), 0);
    client_close(&client);
    fixture_free(fixture);
}

static void test_half_closed_client_still_gets_its_answer(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    shutdown(client.fd, SHUT_WR);
    pump_until(fixture, &client, fixture->half_closes == 1);
    assert_int_equal(fixture->closes, 0);
    http_reply(fixture->held, 200, "text/plain", "late", 4);
    pump_until(fixture, &client, client.is_eof);
    assert_true(client_has(&client, "connection: close\r\n\r\nlate"));
    client_close(&client);
    fixture_free(fixture);
}

static void test_client_that_resets_is_reported_once(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    pump_until(fixture, &client, fixture->held != NULL);
    client_reset(&client);
    pump_until(fixture, NULL, fixture->closes == 1);
    /* The request stays usable: what is written is thrown away. */
    assert_true(http_is_closed(fixture->held));
    assert_string_equal(http_path(fixture->held), "/hold");
    http_start(fixture->held, 200, "text/plain");
    assert_false(http_write(fixture->held, "x", 1));
    http_end(fixture->held);
    pump_until(fixture, NULL, fixture->answered == 1);
    assert_int_equal(fixture->closes, 1);
    assert_int_equal(fixture->last_status, 0);
    assert_int_equal(http_server_requests(fixture->server), 0);
    fixture_free(fixture);
}

static void test_client_that_left_is_noticed_when_written_to(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    fixture->ends_on_close = true;
    client_puts(fixture, &client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    pump_until(fixture, &client, fixture->held != NULL);
    client_close(&client);
    pump_until(fixture, NULL, fixture->half_closes == 1);
    http_start(fixture->held, 200, "text/event-stream");
    pump_until(fixture, NULL, !fixture->held || !http_write(fixture->held, ":\n\n", 3));
    pump_until(fixture, NULL, fixture->answered == 1);
    assert_int_equal(fixture->closes, 1);
    fixture_free(fixture);
}

static void test_connection_goes_on_after_an_error_of_the_handler(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    /* /info does not read its body; it is small, so it is thrown away. */
    client_puts(fixture, &client,
                "POST /info HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nGET / HTTP/" HEAD
                "\r\n");
    pump_until(fixture, &client, client_count(&client, "HTTP/1.1 200 OK") == 2);
    assert_int_equal(client_count(&client, "connection: close"), 0);
    client_close(&client);
    fixture_free(fixture);
}

static void test_large_unread_body_closes_the_connection_after_the_answer(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);
    size_t size = 4 * 1024 * 1024;
    char *body = calloc(1, size);

    (void)state;
    client_puts(fixture, &client,
                "POST /info HTTP/1.1\r\nHost: a\r\nContent-Length: 4194304\r\n\r\n");
    /* The client reads only after sending all: the answer must not be lost to a reset. */
    client_send(fixture, &client, body, size);
    free(body);
    pump_until(fixture, &client, client_is_over(&client));
    assert_true(client.is_eof);
    assert_true(client_has(&client, "HTTP/1.1 200 OK"));
    assert_true(client_has(&client, "connection: close"));
    client_close(&client);
    fixture_free(fixture);
}

static void test_http_1_0_keeps_alive_only_when_asked(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    pump_until(fixture, &client, client_has(&client, "connection: keep-alive"));
    client_puts(fixture, &client, "GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    pump_until(fixture, &client, client.is_eof);
    assert_true(client_has(&client, "connection: close\r\n\r\nonetwo"));
    assert_false(client_has(&client, "transfer-encoding"));
    client_close(&client);
    fixture_free(fixture);
}

/* --- bodies -------------------------------------------------------------------------------------
 */

static void test_100_continue_is_sent_when_the_body_is_wanted(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client, POST "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    pump_until(fixture, &client, client.in.len > 0);
    assert_string_equal(client.in.data, "HTTP/1.1 100 Continue\r\n\r\n");
    client_puts(fixture, &client, "hello");
    pump_until(fixture, &client, client_has(&client, "\r\n\r\nhello"));
    /* Not wanted: the answer comes at once, and the body is not waited for. */
    client_puts(fixture, &client,
                "POST /info HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                "Content-Length: 5\r\n\r\n");
    pump_until(fixture, &client, client.is_eof);
    assert_int_equal(client_count(&client, "100 Continue"), 1);
    assert_int_equal(client_count(&client, "connection: close"), 1);
    client_close(&client);
    fixture_free(fixture);
}

static void test_expectation_of_a_body_too_large_is_refused_at_once(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client, POST "Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n");
    pump_until(fixture, &client, client.is_eof);
    assert_int_equal(status_of(client.in.data), 413);
    client_close(&client);
    fixture_free(fixture);
}

static void test_body_over_the_limit_closes_a_watched_request(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    fixture->ends_on_close = true;
    client_puts(fixture, &client,
                "POST /watched-echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                "3e8\r\n");
    for (int i = 0; i < 1000; i++)
        client_puts(fixture, &client, "x");
    client_puts(fixture, &client, "\r\n1\r\ny\r\n0\r\n\r\n");
    pump_until(fixture, &client, client.is_eof);
    assert_int_equal(status_of(client.in.data), 413);
    assert_int_equal(fixture->closes, 1);
    assert_int_equal(fixture->body_ends, 0);
    assert_int_equal(fixture->last_status, 413);
    client_close(&client);
    fixture_free(fixture);
}

static void test_streamed_body_is_counted_and_bounded(void **state)
{
    static const char small[] =
        "POST /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    static const char cut[] = "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
    static const char broken[] = "POST /count HTTP/1.1\r\nHost: a\r\n"
                                 "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd";
    static const char large[] = "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n";
    static const struct {
        const char *bytes;
        const char *expected;
    } cases[] = {
        {small, "5 bytes: ok"},
        {cut, "3 bytes: incomplete"},
        {broken, "3 bytes: invalid_value"},
        {large, "0 bytes: too_large"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture *fixture = fixture_new(NULL, handle);
        char *answer = exchange(fixture, cases[i].bytes, strlen(cases[i].bytes));

        if (!strstr(answer, cases[i].expected))
            fail_msg("wanted %s, got %s", cases[i].expected, answer);
        assert_non_null(strstr(answer, "connection: close"));
        assert_int_equal(fixture->body_ends, 1);
        free(answer);
        fixture_free(fixture);
    }
}

static void test_stream_asked_for_too_late_ends_at_once(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client, "POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    pump_until(fixture, &client, fixture->held != NULL);
    client_reset(&client);
    pump_until(fixture, NULL, fixture->closes == 1);
    http_stream_body(fixture->held, 100, 0, count_chunk, count_end, fixture);
    assert_int_equal(fixture->body_ends, 0); /* never from inside the call */
    pump_until(fixture, NULL, fixture->answered == 1);
    assert_int_equal(fixture->body_ends, 1);
    assert_string_equal(fixture->body_code, "incomplete");
    fixture_free(fixture);
}

static void test_stream_may_be_answered_before_it_has_ended(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client,
                "POST /enough HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    pump_until(fixture, &client, client_has(&client, "enough"));
    client_puts(fixture, &client, "defghi" HEAD "Connection: close\r\n\r\n");
    pump_until(fixture, &client, client.is_eof);
    assert_int_equal(client_count(&client, "HTTP/1.1 200 OK"), 2);
    assert_int_equal(fixture->body_ends, 0);
    client_close(&client);
    fixture_free(fixture);
}

static void test_server_may_be_freed_while_a_body_is_thrown_away(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client,
                "POST /enough HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    pump_until(fixture, &client, client_has(&client, "enough"));
    client_close(&client);
    fixture_free(fixture);
}

static void test_client_gone_while_its_body_is_read_ends_the_request(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client, POST "Content-Length: 50\r\n\r\nhalf");
    pump_until(fixture, &client, fixture->handled == 1);
    client_reset(&client);
    pump_until(fixture, NULL, fixture->answered == 1);
    assert_int_equal(fixture->body_ends, 0);
    assert_int_equal(fixture->last_status, 0);
    fixture_free(fixture);
}

/* --- answers ------------------------------------------------------------------------------------
 */

static void test_streamed_answer_is_chunked(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client, "GET /chunks HTTP/1.1\r\nHost: a\r\n\r\n" HEAD "\r\n");
    pump_until(fixture, &client, client_has(&client, "method=GET"));
    assert_true(client_has(&client, "content-type: text/event-stream\r\ntransfer-encoding: chunked"
                                    "\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\nHTTP/1.1 200"));
    client_close(&client);
    fixture_free(fixture);
}

static void test_head_gets_the_head_only(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client,
                "HEAD /chunks HTTP/1.1\r\nHost: a\r\n\r\nHEAD /info HTTP/1.1\r\nHost: a\r\n\r\n"
                "GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    pump_until(fixture, &client, client.is_eof);
    assert_int_equal(client_count(&client, "\r\n\r\nHTTP/1.1 2"), 2);
    assert_true(client_has(&client, "HTTP/1.1 204 No Content"));
    assert_int_equal(client_count(&client, "content-length: "), 1);
    assert_int_equal(client_count(&client, "method=HEAD"), 0);
    client_close(&client);
    fixture_free(fixture);
}

static void test_abort_resets_or_cuts(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);

    (void)state;
    client_puts(fixture, &client, "GET /reset HTTP/1.1\r\nHost: a\r\n\r\n");
    pump_until(fixture, &client, client_is_over(&client));
    assert_true(client.is_reset);
    assert_true(client_has(&client, "HTTP/1.1 200 OK"));
    client_close(&client);
    client = client_open(fixture);
    client_puts(fixture, &client, "GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    pump_until(fixture, &client, client_is_over(&client));
    assert_true(client.is_eof);
    assert_true(client_has(&client, "4\r\nhalf\r\n"));
    assert_false(client_has(&client, "\r\n0\r\n"));
    client_close(&client);
    fixture_free(fixture);
}

static void test_request_without_an_answer_becomes_a_500(void **state)
{
    static const char bytes[] = "GET /forgot HTTP/1.1\r\nHost: a\r\n\r\n";
    struct fixture *fixture = fixture_new(NULL, handle);
    char *answer = exchange(fixture, bytes, strlen(bytes));

    (void)state;
    assert_int_equal(status_of(answer), 500);
    assert_int_equal(fixture->last_status, 500);
    free(answer);
    fixture_free(fixture);
}

static void test_request_outlives_its_server(void **state)
{
    struct fixture *fixture = fixture_new(NULL, handle);
    struct client client = client_open(fixture);
    struct http_request *held;

    (void)state;
    client_puts(fixture, &client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    pump_until(fixture, &client, fixture->held != NULL);
    held = fixture->held;
    http_server_free(fixture->server);
    fixture->server = NULL;
    assert_int_equal(fixture->closes, 1);
    client_close(&client);
    fixture_free(fixture);
    assert_true(http_is_closed(held));
    http_reply(held, 200, "text/plain", "x", 1);
}

/* --- the query ----------------------------------------------------------------------------------
 */

static void handle_query(struct http_request *request, void *arg)
{
    struct buf out;
    struct err err = {{0}, {0}, {0}};

    (void)arg;
    buf_init(&out, 4096);
    if (!http_query_each(request, collect, &out, &err))
        buf_printf(&out, "error %s %s", err.code, err.param);
    http_reply(request, 200, "text/plain", out.data ? out.data : "", out.len);
    buf_release(&out);
}

static void test_query_is_decoded_pair_by_pair(void **state)
{
    static const struct {
        const char *query;
        const char *expected;
    } cases[] = {
        {"?a=1&b=2", "\r\n\r\n[a=1][b=2]"},
        {"?metadata%5Bk%5D=a+b%2Bc&&d", "\r\n\r\n[metadata[k]=a b+c][d=]"},
        {"?a=b=c", "\r\n\r\n[a=b=c]"},
        {"", "content-length: 0\r\n\r\n"},
        {"?a=%f", "error invalid_value a"},
        {"?a=%00", "error invalid_value a"},
        {"?a=%ff", "error invalid_value a"},
        {"?%zz=1", "error invalid_value "},
        {"?a=1&b=2&a=3", "[a=1][b=2]error invalid_value a"},
        {"?a&%61", "[a=]error invalid_value a"},
        {"?m%5Bx%5D=1&m%5By%5D=1", "[m[x]=1][m[y]=1]"},
        {"?a=1&stop&b=2", "[a=1]error unknown_field stop"},
    };
    struct fixture *fixture = fixture_new(NULL, handle_query);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char bytes[256];
        char *answer;

        snprintf(bytes, sizeof(bytes), "GET /%s HTTP/1.1\r\nHost: a\r\n\r\n", cases[i].query);
        answer = exchange(fixture, bytes, strlen(bytes));
        if (!strstr(answer, cases[i].expected))
            fail_msg("%s: got %s", cases[i].query, answer);
        free(answer);
    }
    fixture_free(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ambiguous_requests_are_refused_and_the_connection_closed),
        cmocka_unit_test(test_caller_s_request_id_is_kept_even_when_refused),
        cmocka_unit_test(test_handler_sees_the_request_decoded),
        cmocka_unit_test(test_requests_may_arrive_byte_by_byte),
        cmocka_unit_test(test_pipelined_requests_are_answered_in_order_one_at_a_time),
        cmocka_unit_test(test_half_closed_client_still_gets_its_answer),
        cmocka_unit_test(test_client_that_resets_is_reported_once),
        cmocka_unit_test(test_client_that_left_is_noticed_when_written_to),
        cmocka_unit_test(test_connection_goes_on_after_an_error_of_the_handler),
        cmocka_unit_test(test_large_unread_body_closes_the_connection_after_the_answer),
        cmocka_unit_test(test_http_1_0_keeps_alive_only_when_asked),
        cmocka_unit_test(test_100_continue_is_sent_when_the_body_is_wanted),
        cmocka_unit_test(test_expectation_of_a_body_too_large_is_refused_at_once),
        cmocka_unit_test(test_body_over_the_limit_closes_a_watched_request),
        cmocka_unit_test(test_streamed_body_is_counted_and_bounded),
        cmocka_unit_test(test_stream_asked_for_too_late_ends_at_once),
        cmocka_unit_test(test_stream_may_be_answered_before_it_has_ended),
        cmocka_unit_test(test_server_may_be_freed_while_a_body_is_thrown_away),
        cmocka_unit_test(test_client_gone_while_its_body_is_read_ends_the_request),
        cmocka_unit_test(test_streamed_answer_is_chunked),
        cmocka_unit_test(test_head_gets_the_head_only),
        cmocka_unit_test(test_abort_resets_or_cuts),
        cmocka_unit_test(test_request_without_an_answer_becomes_a_500),
        cmocka_unit_test(test_request_outlives_its_server),
        cmocka_unit_test(test_query_is_decoded_pair_by_pair),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
