/* SPDX-License-Identifier: Apache-2.0 */
/* No header can ask for a negative or an endless wait. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "worker/providers/retry_after.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Two values, divided by a newline: of the header that the first byte names, and of Date. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"retry-after", "retry-after-ms", "x-should-retry"};
    struct retry_headers headers;
    char text[128];
    char *date;
    int64_t wait;

    if (size == 0)
        return 0;
    size = size < sizeof(text) ? size : sizeof(text);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    date = strchr(text, '\n');
    if (date)
        *date++ = '\0';
    retry_headers_init(&headers);
    retry_headers_add(&headers, names[data[0] % 3], text);
    if (date)
        retry_headers_add(&headers, "date", date);
    wait = retry_headers_wait_ms(&headers, INT64_C(1785000000000000));
    if (wait < -1 || wait > RETRY_AFTER_MAX_MS)
        __builtin_trap();
    return 0;
}
