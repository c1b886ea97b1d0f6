/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the strict check of heads and chunk framing: no crash, and the pieces must not matter. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/io/http_chunk.h"
#include "common/io/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http_head_limits limits = {
    .max_bytes = 2048, .max_uri_bytes = 256, .max_fields = 16};

struct verdict {
    int status; /* 0: wants more; 200: taken */
    size_t used;
};

static struct verdict judge_head(const char *text, size_t len, size_t piece)
{
    struct http_head_scan scan = {0};
    struct http_refusal refusal = {0};
    struct http_head head = {0};
    struct verdict verdict = {0};
    enum http_head_state state = HTTP_HEAD_MORE;
    char *copy;

    while (state == HTTP_HEAD_MORE && verdict.used < len) {
        size_t size = len - verdict.used < piece ? len - verdict.used : piece;
        size_t used = 0;

        state = http_head_scan(&scan, &limits, text + verdict.used, size, &used, &refusal);
        verdict.used += used;
    }
    verdict.status = refusal.status;
    if (state != HTTP_HEAD_DONE)
        return verdict;
    copy = malloc(verdict.used);
    memcpy(copy, text, verdict.used);
    verdict.status = 200;
    if (http_head_parse(&head, copy, verdict.used, &limits, &refusal))
        http_head_seal(&head);
    else
        verdict.status = refusal.status;
    if (verdict.status == 200 && memchr(head.method, '\n', strlen(head.method)))
        abort();
    http_head_release(&head);
    free(copy);
    return verdict;
}

static struct verdict judge_chunks(const char *text, size_t len, size_t piece, uint64_t *sum)
{
    struct http_chunk chunk = {0};
    struct http_refusal refusal = {0};
    struct verdict verdict = {0};

    while (verdict.used < len && chunk.state != HTTP_CHUNK_DONE) {
        size_t size = len - verdict.used < piece ? len - verdict.used : piece;
        size_t used = 0;
        enum http_chunk_run run =
            http_chunk_next(&chunk, text + verdict.used, size, &used, &refusal);

        if (used == 0 || used > size)
            abort();
        for (size_t i = 0; run == HTTP_RUN_DATA && i < used; i++)
            *sum = *sum * 31 + (uint8_t)text[verdict.used + i];
        verdict.used += used;
        if (run == HTTP_RUN_REFUSED)
            break;
    }
    verdict.status = chunk.state == HTTP_CHUNK_DONE ? 200 : refusal.status;
    return verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    uint64_t whole_sum = 0;
    uint64_t byte_sum = 0;
    struct verdict whole = judge_head(text, size, SIZE_MAX);
    struct verdict bytes = judge_head(text, size, 1);

    if (whole.status != bytes.status || whole.used != bytes.used)
        abort();
    whole = judge_chunks(text, size, SIZE_MAX, &whole_sum);
    bytes = judge_chunks(text, size, 1, &byte_sum);
    if (whole.status != bytes.status || whole.used != bytes.used || whole_sum != byte_sum)
        abort();
    return 0;
}
