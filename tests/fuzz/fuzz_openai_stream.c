/* SPDX-License-Identifier: Apache-2.0 */
/* A stream reads the same however it is cut, and with or without the fast scan. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/str.h"
#include "worker/providers/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(truth)          \
    do {                      \
        if (!(truth))         \
            __builtin_trap(); \
    } while (0)

struct reading {
    struct answer *answer;
    struct answer_result result;
    struct buf text, tools;
};

static void on_text(const char *text, size_t len, void *arg)
{
    CHECK(len > 0 && str_utf8_valid(text, len));
    buf_append(&((struct reading *)arg)->text, text, len);
}

static void on_tool(const struct tool_delta *delta, void *arg)
{
    struct reading *reading = arg;

    CHECK(delta->index >= 0);
    buf_printf(&reading->tools, "%d:%s:%s:", delta->index, delta->id ? delta->id : "",
               delta->name ? delta->name : "");
    buf_append(&reading->tools, delta->arguments ? delta->arguments : "", delta->arguments_len);
}

static void read_all(struct reading *reading, const char *data, size_t size, size_t piece,
                     bool is_slow)
{
    bool ok = true;

    buf_init(&reading->text, 1 << 24);
    buf_init(&reading->tools, 1 << 24);
    reading->answer = openai_format.answer_new(&(struct answer_spec){
        .sink = {.on_text = on_text, .on_tool = on_tool, .arg = reading},
        .model = "m",
        .id = "call_1",
        .max_bytes = 1 << 16,
        .is_scanning_slow = is_slow,
    });
    CHECK(reading->answer);
    for (size_t at = 0; ok && at < size; at += piece)
        ok = openai_format.answer_feed(reading->answer, data + at,
                                       piece < size - at ? piece : size - at);
    openai_format.answer_finish(reading->answer, &reading->result);
}

static bool is_same(const struct buf *a, const struct buf *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static void compare(const struct reading *a, const struct reading *b)
{
    CHECK(a->result.is_complete == b->result.is_complete);
    CHECK(a->result.has_usage == b->result.has_usage);
    CHECK(a->result.failure.type == b->result.failure.type);
    CHECK(a->result.output_bytes == b->result.output_bytes);
    CHECK(strcmp(a->result.finish_reason, b->result.finish_reason) == 0);
    CHECK(is_same(&a->text, &b->text));
    CHECK(is_same(&a->tools, &b->tools));
}

static void release(struct reading *reading)
{
    openai_format.answer_free(reading->answer);
    buf_release(&reading->text);
    buf_release(&reading->tools);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reading whole, other;
    const char *text = (const char *)data;

    read_all(&whole, text, size, size > 0 ? size : 1, false);
    for (size_t piece = 1; piece < 12; piece += 5) {
        read_all(&other, text, size, piece, piece == 6);
        compare(&whole, &other);
        release(&other);
    }
    if (whole.result.is_complete) {
        json_t *root =
            json_parse(whole.result.response, whole.result.response_len, JSON_READ_STRICT, NULL);

        CHECK(root);
        json_decref(root);
    }
    release(&whole);
    return 0;
}
