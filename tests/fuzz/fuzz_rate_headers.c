/* SPDX-License-Identifier: Apache-2.0 */
/* No head of an answer can close an account for ever, or make a limit negative. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "worker/providers/rate_headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct rate_window *window)
{
    if (window->limit < -1 || window->remaining < -1 || window->reset_ms < -1 ||
        window->reset_ms > RATE_RESET_MAX_MS)
        __builtin_trap();
}

/* Lines of "name: value". */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rate_headers headers;
    struct rate_seen seen;
    char text[512], *line, *rest = text;

    size = size < sizeof(text) ? size : sizeof(text) - 1;
    memcpy(text, data, size);
    text[size] = '\0';
    rate_headers_init(&headers);
    while ((line = strsep(&rest, "\n"))) {
        char *value = strstr(line, ": ");

        if (!value)
            continue;
        *value = '\0';
        rate_headers_add(&headers, line, value + 2);
    }
    seen = rate_headers_finish(&headers, INT64_C(1785000000000000));
    check(&seen.requests);
    check(&seen.tokens);
    if (seen.closed_ms > RATE_RESET_MAX_MS)
        __builtin_trap();
    return 0;
}
