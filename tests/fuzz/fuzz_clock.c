/* SPDX-License-Identifier: Apache-2.0 */
/* Times that are read are in range, and reading what was written gives the same millisecond. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LAST_US (INT64_C(253402300800) * US_PER_S)

static void check_time(int64_t us)
{
    char text[CLOCK_RFC3339_SIZE];
    int64_t back = -1;

    if (us < 0 || us >= LAST_US)
        __builtin_trap();
    clock_format_rfc3339(us, text);
    if (!clock_parse_rfc3339(text, strlen(text), &back) || back != us - us % US_PER_MS)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size); /* exactly as long: reading past it is seen */
    char any[CLOCK_RFC3339_SIZE];
    int64_t us;

    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    if (clock_parse_rfc3339(copy, size, &us))
        check_time(us);
    if (clock_parse_http_date(copy, size, &us))
        check_time(us);
    if (size >= sizeof(us)) {
        memcpy(&us, copy, sizeof(us));
        clock_format_rfc3339(us, any);
    }
    free(copy);
    return 0;
}
