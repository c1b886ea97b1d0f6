/* SPDX-License-Identifier: Apache-2.0 */
/* The event reader takes what the specification allows, in any pieces, and no more than its cap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/sse.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct heard {
    struct buf text; /* "name=data|" for each event; NUL is written as "\0" */
    int stop_after;  /* events; 0: never */
    int count;
    struct err *err;
};

static bool on_event(const struct sse_event *event, void *arg)
{
    struct heard *heard = arg;

    assert_int_equal(event->data[event->data_len], '\0');
    buf_printf(&heard->text, "%s=", event->event);
    for (size_t i = 0; i < event->data_len; i++) {
        if (event->data[i])
            buf_putc(&heard->text, event->data[i]);
        else
            buf_puts(&heard->text, "\\0");
    }
    buf_putc(&heard->text, '|');
    heard->count++;
    return heard->count != heard->stop_after || err_set(heard->err, "heard enough");
}

/* Feeds text in pieces of `step` bytes and ends the stream. */
static bool read_all(const char *text, size_t len, size_t step, size_t max, struct heard *heard,
                     struct err *err)
{
    struct sse_reader *reader = sse_reader_new(max, on_event, heard);
    bool ok = true;

    heard->err = err;
    heard->count = 0;
    buf_init(&heard->text, 10000);
    for (size_t i = 0; ok && i < len; i += step)
        ok = sse_reader_feed(reader, text + i, len - i < step ? len - i : step, err);
    ok = ok && sse_reader_finish(reader, err);
    sse_reader_free(reader);
    if (!heard->text.data)
        buf_puts(&heard->text, "");
    return ok;
}

static void assert_events(const char *text, size_t len, const char *expected)
{
    for (size_t step = 1; step <= len + 1; step++) {
        struct heard heard = {.count = 0};
        struct err err;

        assert_true(read_all(text, len, step, 1000, &heard, &err));
        assert_string_equal(heard.text.data, expected);
        buf_release(&heard.text);
    }
}

static void test_streams_read_the_same_in_any_pieces(void **state)
{
    static const struct {
        const char *text;
        const char *events;
    } cases[] = {
        {"", ""},
        {"data: a\n\n", "=a|"},
        {"data: a\n\ndata: b\n\n", "=a|=b|"},
        {"data: a\r\n\r\ndata: b\r\n\r\n", "=a|=b|"},
        {"data: a\r\rdata: b\r\r", "=a|=b|"},
        {"data: a\r\n\ndata: b\n\r\n", "=a|=b|"},
        {"data: a\n\r", "=a|"},
        {"event: delta\ndata: a\n\ndata: b\n\n", "delta=a|=b|"},
        {"event: one\nevent: two\ndata: a\n\n", "two=a|"},
        {"event: one\nevent\ndata: a\n\n", "=a|"},
        {"data: a\ndata: b\ndata:\ndata: c\n\n", "=a\nb\n\nc|"},
        {"data:a\n\ndata:  a \n\n", "=a|= a |"},
        {"data:\n\ndata\n\n", "=|=|"},
        {"data: a:b: c\n\n", "=a:b: c|"},
        {": hello\n\n:\n\ndata: a\n: in between\n\n", "=a|"},
        {"id: 7\nretry: 10\ndata: a\nunknown: x\nnocolon\n\n", "=a|"},
        {"event: ping\n\ndata: a\n\n", "=a|"},
        {"\n\n\r\n\r\ndata: a\n\n\n\n", "=a|"},
        {"\xef\xbb\xbf"
         "data: a\n\n",
         "=a|"},
        {"\xef\xbb\xbf\xef\xbb\xbf"
         "data: a\n\n",
         ""},
        {"\xef\xbb"
         "data: a\n\ndata: b\n\n",
         "=b|"},
        {"\xef\xbb\n"
         "data: a\n\n",
         "=a|"},
        {"\xef\xbb", ""},
        {"\xef\xbb\xbf", ""},
        {"data: \xef\xbb\xbf"
         "caf\xc3\xa9\n\n",
         "=\xef\xbb\xbf"
         "caf\xc3\xa9|"},
        {"Data: a\n\nDATA: b\n\n data: c\n\ndatax: d\n\ndat: e\n\n", ""},
        {"data: no blank line\n", "=no blank line|"},
        {"data: no line end", "=no line end|"},
        {"data: a\n\nevent: lonely\n", "=a|"},
        {"data: a\ndata: cut\r", "=a\ncut|"},
        {"{\"error\":1}", ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_events(cases[i].text, strlen(cases[i].text), cases[i].events);
    assert_events("data: a\0b\n\n", 11, "=a\\0b|");
}

static void test_over_the_cap_is_an_error_in_any_pieces(void **state)
{
    static const struct {
        const char *text;
        const char *events; /* before the error */
        bool ok;
    } cases[] = {
        {"data: 67890\n\n", "=67890|", true},
        {"data: 678901\n\n", "", false},
        {"data: 678901", "", false},
        {"data: a\n\n: a long comment\n\n", "=a|", false},
        {"data:12345\ndata:1234\n\n", "=12345\n1234|", true},
        {"data:12345\ndata:12345\n\n", "=12345\n12345|", true},
        {"data:12345\ndata:123456\n\n", "", false},
        {"data:12345\ndata:12345\ndata\n\n", "", false},
        {"data:123456\ndata:12345", "", false},
        {"event:123\ndata:123456\n\n", "123=123456|", true},
        {"event:12345\ndata:12345\ndata:\n\n", "12345=12345\n|", true},
        {"event:12345\ndata:12345\ndata:\ndata:\n\n", "", false},
        {"data:123456\ndata:1\nevent:123\n\n", "123=123456\n1|", true},
        {"data:123456\ndata:12\nevent:1234\n\n", "", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t len = strlen(cases[i].text);

        for (size_t step = 1; step <= len; step++) {
            struct heard heard = {.count = 0};
            struct err err = {.message = ""};
            bool ok = read_all(cases[i].text, len, step, 11, &heard, &err);

            if (ok != cases[i].ok || strcmp(cases[i].events, heard.text.data) != 0)
                fail_msg("%s by %zu: %d %s", cases[i].text, step, ok, heard.text.data);
            if (!ok)
                assert_non_null(strstr(err.message, "over 11 bytes"));
            buf_release(&heard.text);
        }
    }
}

static void test_half_a_byte_order_mark_counts_as_a_line(void **state)
{
    struct heard heard = {.count = 0};
    struct err err;

    (void)state;
    for (size_t step = 1; step <= 3; step++) {
        assert_false(read_all("\xef\xbb\n", 3, step, 1, &heard, &err));
        buf_release(&heard.text);
        assert_true(read_all("\xef\xbb\xbf\n", 4, step, 1, &heard, &err));
        buf_release(&heard.text);
    }
}

static void test_callback_stops_the_reader(void **state)
{
    const char *text = "data: a\n\ndata: b\n\ndata: c\n\n";
    struct heard heard = {.stop_after = 2};
    struct err err;
    struct sse_reader *reader = sse_reader_new(100, on_event, &heard);

    (void)state;
    heard.err = &err;
    buf_init(&heard.text, 100);
    assert_false(sse_reader_feed(reader, text, strlen(text), &err));
    assert_string_equal(err.message, "heard enough");
    assert_string_equal(heard.text.data, "=a|=b|");
    assert_false(sse_reader_feed(reader, text, strlen(text), &err));
    assert_non_null(strstr(err.message, "stopped"));
    assert_false(sse_reader_finish(reader, &err));
    assert_string_equal(heard.text.data, "=a|=b|");
    sse_reader_free(reader);
    buf_release(&heard.text);
}

static void test_callback_may_refuse_the_last_event(void **state)
{
    struct heard heard = {.stop_after = 1};
    struct err err;

    (void)state;
    assert_false(read_all("data: a", 7, 7, 100, &heard, &err));
    assert_string_equal(err.message, "heard enough");
    buf_release(&heard.text);
}

static void test_nothing_follows_the_end(void **state)
{
    struct heard heard = {.count = 0};
    struct err err;
    struct sse_reader *reader = sse_reader_new(100, on_event, &heard);

    (void)state;
    buf_init(&heard.text, 100);
    assert_true(sse_reader_feed(reader, NULL, 0, &err));
    assert_true(sse_reader_finish(reader, &err));
    assert_false(sse_reader_feed(reader, "x", 1, &err));
    assert_false(sse_reader_finish(reader, &err));
    sse_reader_free(reader);
    sse_reader_free(NULL);
}

static void test_written_form(void **state)
{
    static const struct {
        const char *id, *event, *data, *text;
    } cases[] = {
        {NULL, NULL, NULL, "data: \n\n"},
        {NULL, NULL, "a", "data: a\n\n"},
        {"7", "delta", "{}", "id: 7\nevent: delta\ndata: {}\n\n"},
        {NULL, NULL, "a\nb\r\nc\rd", "data: a\ndata: b\ndata: c\ndata: d\n\n"},
        {NULL, NULL, "\n", "data: \ndata: \n\n"},
        {NULL, NULL, "a\r", "data: a\ndata: \n\n"},
        {NULL, NULL, " a", "data:  a\n\n"},
    };
    struct buf out;

    (void)state;
    buf_init(&out, 1000);
    for (size_t i = 0; i < COUNT(cases); i++) {
        buf_clear(&out);
        assert_true(sse_write(&out, cases[i].id, cases[i].event, cases[i].data,
                              cases[i].data ? strlen(cases[i].data) : 0));
        assert_string_equal(out.data, cases[i].text);
    }
    buf_clear(&out);
    assert_true(sse_write_comment(&out, "awake"));
    assert_string_equal(out.data, ": awake\n\n");
    buf_release(&out);
}

static void test_what_does_not_fit_is_not_begun(void **state)
{
    const char *whole = "old\nid: 7\nevent: e\ndata: a\ndata: b\n\n";

    (void)state;
    for (size_t max = 4; max < strlen(whole); max++) {
        struct buf out;

        buf_init(&out, max);
        assert_true(buf_puts(&out, "old\n"));
        assert_false(sse_write(&out, "7", "e", "a\nb", 3));
        assert_string_equal(out.data, "old\n");
        assert_true(out.is_broken);
        buf_release(&out);
    }
}

static void test_written_events_read_back(void **state)
{
    struct heard heard = {.count = 0};
    struct err err;
    struct buf out;

    (void)state;
    buf_init(&out, 1000);
    assert_true(sse_write(&out, "1", "one", " x\n\ny ", 6));
    assert_true(sse_write_comment(&out, ""));
    assert_true(sse_write(&out, "2", NULL, "z", 1));
    assert_true(read_all(out.data, out.len, 3, 100, &heard, &err));
    assert_string_equal(heard.text.data, "one= x\n\ny |=z|");
    buf_release(&heard.text);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_read_the_same_in_any_pieces),
        cmocka_unit_test(test_over_the_cap_is_an_error_in_any_pieces),
        cmocka_unit_test(test_half_a_byte_order_mark_counts_as_a_line),
        cmocka_unit_test(test_callback_stops_the_reader),
        cmocka_unit_test(test_callback_may_refuse_the_last_event),
        cmocka_unit_test(test_nothing_follows_the_end),
        cmocka_unit_test(test_written_form),
        cmocka_unit_test(test_what_does_not_fit_is_not_begun),
        cmocka_unit_test(test_written_events_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
