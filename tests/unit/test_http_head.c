/* SPDX-License-Identifier: Apache-2.0 */
/* The strict front of the HTTP server: hostile heads and chunk framing, as tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io/http_chunk.h"
#include "common/io/http_head.h"

static const struct http_head_limits small = {
    .max_bytes = 200, .max_uri_bytes = 20, .max_fields = 4};

/* Scans and parses text in pieces of at most `piece` bytes; the status refused with, or 200. */
static int judge(const char *text, size_t len, size_t piece, size_t *head_len,
                 struct http_head *head, char *copy)
{
    struct http_head_scan scan = {0};
    struct http_refusal refusal = {0};
    enum http_head_state state = HTTP_HEAD_MORE;
    size_t at = 0;

    *head = (struct http_head){0};
    while (state == HTTP_HEAD_MORE && at < len) {
        size_t used = 0;

        state = http_head_scan(&scan, &small, text + at, len - at < piece ? len - at : piece, &used,
                               &refusal);
        at += used;
    }
    *head_len = at;
    if (state == HTTP_HEAD_MORE)
        return 0;
    memcpy(copy, text, at);
    if (state == HTTP_HEAD_DONE && http_head_parse(head, copy, at, &small, &refusal))
        return 200;
    assert_non_null(refusal.code);
    assert_true(refusal.message[0] != '\0');
    return refusal.status;
}

struct head_case {
    const char *name;
    const char *text;
    int status;   /* 0: the head is not complete */
    size_t extra; /* bytes of text past the head */
};

#define GET "GET / HTTP/1.1\r\n"
#define OK_HEAD GET "Host: a\r\n"

static const struct head_case head_cases[] = {
    {"plain", OK_HEAD "\r\n", 200, 0},
    {"bytes after it are not looked at", OK_HEAD "\r\n\n\x01", 200, 2},
    {"one empty line before", "\r\n" OK_HEAD "\r\n", 200, 0},
    {"two empty lines before", "\r\n\r\n" OK_HEAD "\r\n", 400, 0},
    {"not complete", OK_HEAD "\r", 0, 0},
    {"not complete at all", "", 0, 0},
    {"value blanks are trimmed", OK_HEAD "X:\t a b \t\r\n\r\n", 200, 0},
    {"empty value", OK_HEAD "X:\r\n\r\n", 200, 0},
    {"high bytes in a value", OK_HEAD "X: \xc3\xa9\r\n\r\n", 200, 0},
    {"tab in a value", OK_HEAD "X: a\tb\r\n\r\n", 200, 0},
    {"all token characters", OK_HEAD "!#$%&'*+-.^_`|~09azAZ: 1\r\n\r\n", 200, 0},

    {"LF for CR LF", "GET / HTTP/1.1\nHost: a\n\n", 400, 0},
    {"LF in the last line", OK_HEAD "\n", 400, 0},
    {"CR alone", OK_HEAD "X: a\rb\r\n\r\n", 400, 0},
    {"CR CR LF", OK_HEAD "X: a\r\r\n\r\n", 400, 0},
    {"LF first", "\n" OK_HEAD "\r\n", 400, 0},
    {"control in a value", OK_HEAD "X: a\x01\r\n\r\n", 400, 0},
    {"DEL in a value", OK_HEAD "X: a\x7f\r\n\r\n", 400, 0},
    {"escape in the target", "GET /\x1b HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
    {"fold with a blank", OK_HEAD "X: a\r\n b\r\n\r\n", 400, 0},
    {"fold with a tab", OK_HEAD "X: a\r\n\tb\r\n\r\n", 400, 0},
    {"fold of nothing", GET " Host: a\r\n\r\n", 400, 0},
    {"blank before the colon", OK_HEAD "X : a\r\n\r\n", 400, 0},
    {"tab before the colon", OK_HEAD "X\t: a\r\n\r\n", 400, 0},
    {"no colon", OK_HEAD "X\r\n\r\n", 400, 0},
    {"no name", OK_HEAD ": a\r\n\r\n", 400, 0},
    {"blank in a name", OK_HEAD "X Y: a\r\n\r\n", 400, 0},
    {"high byte in a name", OK_HEAD "X\xe9: a\r\n\r\n", 400, 0},
    {"parenthesis in a name", OK_HEAD "X(: a\r\n\r\n", 400, 0},

    {"no version", "GET /\r\nHost: a\r\n\r\n", 400, 0},
    {"no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
    {"empty target", "GET  HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
    {"two blanks", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
    {"blank in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
    {"blank at the end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, 0},
    {"tabs for blanks", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
    {"fragment", "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
    {"raw UTF-8 in the target", "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
    {"no method", " / HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
    {"method not a token", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
    {"small letters in the version", "GET / http/1.1\r\nHost: a\r\n\r\n", 400, 0},
    {"two digits", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400, 0},
    {"no minor", "GET / HTTP/1\r\nHost: a\r\n\r\n", 400, 0},
    {"another protocol", "GET / ICAP/1.1\r\nHost: a\r\n\r\n", 400, 0},
    {"1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, 0},
    {"1.9", "GET / HTTP/1.9\r\nHost: a\r\n\r\n", 505, 0},
    {"0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, 0},
    {"2.0 without a host", "GET / HTTP/2.0\r\n\r\n", 505, 0},
    {"1.0 without a host", "GET / HTTP/1.0\r\n\r\n", 200, 0},
    {"1.0 with two hosts", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400, 0},
    {"1.1 without a host", GET "X: y\r\n\r\n", 400, 0},
    {"the same host twice", OK_HEAD "hOsT: a\r\n\r\n", 400, 0},
    {"a list of hosts", GET "Host: a, b\r\n\r\n", 400, 0},
    {"host with a path", GET "Host: a/b\r\n\r\n", 400, 0},
    {"host with a user", GET "Host: u@a\r\n\r\n", 400, 0},
    {"host with a port", GET "Host: a.b-c:80\r\n\r\n", 200, 0},
    {"IPv6 host", GET "Host: [::1]:80\r\n\r\n", 200, 0},

    {"length", OK_HEAD "Content-Length: 10\r\n\r\n", 200, 0},
    {"largest length", OK_HEAD "Content-Length: 900000000000000000\r\n\r\n", 200, 0},
    {"length past 63 bits", OK_HEAD "Content-Length: 9223372036854775808\r\n\r\n", 413, 0},
    {"length past 64 bits", OK_HEAD "Content-Length: 18446744073709551617\r\n\r\n", 413, 0},
    {"empty length", OK_HEAD "Content-Length:\r\n\r\n", 400, 0},
    {"negative length", OK_HEAD "Content-Length: -1\r\n\r\n", 400, 0},
    {"plus length", OK_HEAD "Content-Length: +1\r\n\r\n", 400, 0},
    {"length with a blank", OK_HEAD "Content-Length: 1 0\r\n\r\n", 400, 0},
    {"length as a list", OK_HEAD "Content-Length: 1,1\r\n\r\n", 400, 0},
    {"length in hex", OK_HEAD "Content-Length: 0xa\r\n\r\n", 400, 0},
    {"length as a real", OK_HEAD "Content-Length: 1.0\r\n\r\n", 400, 0},
    {"two equal lengths", OK_HEAD "Content-Length: 1\r\nContent-length: 1\r\n\r\n", 400, 0},
    {"chunked", OK_HEAD "Transfer-Encoding: CHUNKED\r\n\r\n", 200, 0},
    {"chunked and length", OK_HEAD "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400,
     0},
    {"unknown coding and length", OK_HEAD "Transfer-Encoding: x\r\nContent-Length: 1\r\n\r\n", 400,
     0},
    {"two codings", OK_HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", 400, 0},
    {"identity", OK_HEAD "Transfer-Encoding: identity\r\n\r\n", 501, 0},
    {"empty coding", OK_HEAD "Transfer-Encoding:\r\n\r\n", 501, 0},
    {"gzip, chunked", OK_HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, 0},
    {"chunked, chunked", OK_HEAD "Transfer-Encoding: chunked, chunked\r\n\r\n", 501, 0},
    {"chunked;q=1", OK_HEAD "Transfer-Encoding: chunked;q=1\r\n\r\n", 501, 0},
    {"quoted", OK_HEAD "Transfer-Encoding: \"chunked\"\r\n\r\n", 501, 0},
    {"coding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 0},
    {"identity content", OK_HEAD "Content-Encoding: Identity\r\n\r\n", 200, 0},
    {"gzip content", OK_HEAD "Content-Encoding: gzip\r\n\r\n", 415, 0},
    {"second content coding", OK_HEAD "Content-Encoding: identity\r\nContent-Encoding: br\r\n\r\n",
     415, 0},

    {"longest URI", "GET /1234567890123456789 HTTP/1.1\r\nHost: a\r\n\r\n", 200, 0},
    {"URI one too long", "GET /12345678901234567890 HTTP/1.1\r\nHost: a\r\n\r\n", 431, 0},
    {"most fields", OK_HEAD "b: 1\r\nc: 1\r\nd: 1\r\n\r\n", 200, 0},
    {"a field too many", OK_HEAD "b: 1\r\nc: 1\r\nd: 1\r\ne", 431, 0},
};

static void test_hostile_heads_are_judged_the_same_in_any_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(head_cases) / sizeof(head_cases[0]); i++) {
        const struct head_case *c = &head_cases[i];

        for (size_t piece = 1; piece < 300; piece = piece * 3 + 1) {
            struct http_head head;
            char copy[1024];
            size_t used;
            int status = judge(c->text, strlen(c->text), piece, &used, &head, copy);

            if (status != c->status)
                fail_msg("%s: wanted %d, got %d", c->name, c->status, status);
            if (status == 200)
                assert_int_equal(strlen(c->text) - used, c->extra);
            http_head_release(&head);
        }
    }
}

static void test_nul_anywhere_in_a_head_is_refused(void **state)
{
    static const char text[] = OK_HEAD "X: y\r\n\r\n";

    (void)state;
    for (size_t i = 0; i + 1 < sizeof(text); i++) {
        char with_nul[sizeof(text)];
        struct http_head head;
        char copy[sizeof(text)];
        size_t used;

        memcpy(with_nul, text, sizeof(text));
        with_nul[i] = '\0';
        assert_int_equal(judge(with_nul, sizeof(text) - 1, 1000, &used, &head, copy), 400);
        http_head_release(&head);
    }
}

static void test_oversized_head_is_refused_before_it_ends(void **state)
{
    struct http_head head;
    char text[1000];
    char copy[1000];
    size_t used;

    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text, OK_HEAD "X: ", strlen(OK_HEAD "X: "));
    assert_int_equal(judge(text, sizeof(text), 7, &used, &head, copy), 431);
    assert_int_equal(used, small.max_bytes + 1);
    http_head_release(&head);
}

static void test_parsed_head_tells_what_was_sent(void **state)
{
    static const char text[] = "POST /a?b HTTP/1.0\r\nX-Y:  v 1 \r\nCONTENT-length: 042\r\n\r\n";
    struct http_head head;
    char copy[sizeof(text)];
    size_t used;

    (void)state;
    assert_int_equal(judge(text, sizeof(text) - 1, 1000, &used, &head, copy), 200);
    http_head_seal(&head);
    assert_string_equal(head.method, "POST");
    assert_string_equal(head.target, "/a?b");
    assert_int_equal(head.minor, 0);
    assert_int_equal(head.content_length, 42);
    assert_false(head.is_chunked);
    assert_int_equal(head.field_count, 2);
    assert_string_equal(http_head_find(&head, "x-y")->name, "x-y");
    assert_string_equal(http_head_find(&head, "x-y")->value, "v 1");
    assert_null(http_head_find(&head, "x"));
    http_head_release(&head);
}

/* --- chunks -------------------------------------------------------------------------------------
 */

/* Decodes text in pieces; the data in out, and the status refused with, 200, or 0 for not complete.
 */
static int decode(const char *text, size_t len, size_t piece, char *out, size_t *used)
{
    struct http_chunk chunk = {0};
    struct http_refusal refusal = {0};
    size_t at = 0;

    while (at < len && chunk.state != HTTP_CHUNK_DONE) {
        size_t size = len - at < piece ? len - at : piece;
        size_t n = 0;
        enum http_chunk_run run = http_chunk_next(&chunk, text + at, size, &n, &refusal);

        if (run == HTTP_RUN_REFUSED)
            return refusal.status;
        assert_true(n > 0 && n <= size);
        if (run == HTTP_RUN_DATA) {
            memcpy(out, text + at, n);
            out += n;
        }
        at += n;
    }
    *out = '\0';
    *used = at;
    return chunk.state == HTTP_CHUNK_DONE ? 200 : 0;
}

struct chunk_case {
    const char *text;
    int status;
    const char *data; /* when 200 */
};

static const struct chunk_case chunk_cases[] = {
    {"0\r\n\r\n", 200, ""},
    {"5\r\nhello\r\n0\r\n\r\n", 200, "hello"},
    {"5\r\nhello\r\n0\r\n\r\nGET", 200, "hello"},
    {"A\r\n0123456789\r\n1;x=\"y\"\r\n!\r\n000\r\n\r\n", 200, "0123456789!"},
    {"0\r\nX-Sum: 1\r\nY: 2\r\n\r\n", 200, ""},
    {"1\r\na\r\n0\r\nX:\r\n\r\n", 200, "a"},
    {"5\r\nhel", 0, NULL},
    {"0\r\n", 0, NULL},
    {"\r\n", 400, NULL},
    {"5\nhello\r\n0\r\n\r\n", 400, NULL},
    {"5\r\nhello\n0\r\n\r\n", 400, NULL},
    {"5\r\nhello0\r\n\r\n", 400, NULL},
    {"5\r\nhello\rX0\r\n\r\n", 400, NULL},
    {"5 \r\nhello\r\n0\r\n\r\n", 400, NULL},
    {" 5\r\nhello\r\n0\r\n\r\n", 400, NULL},
    {"+5\r\nhello\r\n0\r\n\r\n", 400, NULL},
    {"-5\r\nhello\r\n0\r\n\r\n", 400, NULL},
    {"0x5\r\nhello\r\n0\r\n\r\n", 400, NULL},
    {"g\r\n", 400, NULL},
    {";x\r\n", 400, NULL},
    {"5;a\nb\r\nhello\r\n0\r\n\r\n", 400, NULL},
    {"5;a\rb\r\nhello\r\n0\r\n\r\n", 400, NULL},
    {"5;\x01\r\nhello\r\n0\r\n\r\n", 400, NULL},
    {"10000000000000005\r\nhello\r\n0\r\n\r\n", 400, NULL},
    {"0\r\nX : 1\r\n\r\n", 400, NULL},
    {"0\r\n X: 1\r\n\r\n", 400, NULL},
    {"0\r\n: 1\r\n\r\n", 400, NULL},
    {"0\r\nX\r\n\r\n", 400, NULL},
    {"0\r\nX: 1\n\r\n", 400, NULL},
    {"0\r\n\n", 400, NULL},
    {"0\n\n", 400, NULL},
};

static void test_chunk_framing_is_judged_the_same_in_any_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(chunk_cases) / sizeof(chunk_cases[0]); i++) {
        const struct chunk_case *c = &chunk_cases[i];

        for (size_t piece = 1; piece < 100; piece = piece * 2 + 1) {
            char out[256];
            size_t used = 0;
            int status = decode(c->text, strlen(c->text), piece, out, &used);

            if (status != c->status)
                fail_msg("%s: wanted %d, got %d", c->text, c->status, status);
            if (c->data)
                assert_string_equal(out, c->data);
        }
    }
}

static char *repeat(const char *unit, int times, const char *end)
{
    char *text = calloc(strlen(unit) * (size_t)times + strlen(end) + 1, 1);
    char *at = text;

    for (int i = 0; i < times; i++)
        at = stpcpy(at, unit);
    strcpy(at, end);
    return text;
}

static void check_chunks(char *text, int wanted)
{
    char *out = calloc(strlen(text) + 1, 1);
    size_t used;

    assert_int_equal(decode(text, strlen(text), 1000, out, &used), wanted);
    free(out);
    free(text);
}

static void test_bytes_that_are_not_data_are_bounded(void **state)
{
    (void)state;
    /* One line's extension, all extensions together, and the trailer. */
    check_chunks(repeat("x", 0, "1;a\r\nx\r\n0\r\n\r\n"), 200);
    {
        char *extension = repeat("e", HTTP_CHUNK_EXTENSION_MAX, "\r\nx\r\n0\r\n\r\n");
        char *longer = repeat("e", HTTP_CHUNK_EXTENSION_MAX + 1, "\r\nx\r\n0\r\n\r\n");

        check_chunks(repeat("1;", 1, extension), 200);
        check_chunks(repeat("1;", 1, longer), 400);
        free(extension);
        free(longer);
    }
    check_chunks(repeat("1;12345678\r\nx\r\n", HTTP_CHUNK_EXTENSIONS_MAX / 8, "0\r\n\r\n"), 200);
    check_chunks(repeat("1;12345678\r\nx\r\n", HTTP_CHUNK_EXTENSIONS_MAX / 8 + 1, "0\r\n\r\n"),
                 400);
    {
        char *trailer = repeat("T: 12345\r\n", HTTP_CHUNK_TRAILER_MAX / 9 + 1, "\r\n");

        check_chunks(repeat("0\r\n", 1, trailer), 431);
        free(trailer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_heads_are_judged_the_same_in_any_pieces),
        cmocka_unit_test(test_nul_anywhere_in_a_head_is_refused),
        cmocka_unit_test(test_oversized_head_is_refused_before_it_ends),
        cmocka_unit_test(test_parsed_head_tells_what_was_sent),
        cmocka_unit_test(test_chunk_framing_is_judged_the_same_in_any_pieces),
        cmocka_unit_test(test_bytes_that_are_not_data_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
