/* SPDX-License-Identifier: Apache-2.0 */
/* Retry-After in all its forms: milliseconds, seconds with a fraction, dates. */
#include "worker/providers/retry_after.h"

#include <string.h>
#include <strings.h>

#include "common/base/clock.h"

void retry_headers_init(struct retry_headers *headers)
{
    *headers = (struct retry_headers){.retry_after_ms_ms = -1, .retry_after_ms = -1};
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A non-negative decimal with an optional fraction, times scale, rounded up; capped, so that no
 * number of digits overflows.  Signs, exponents, NaN and infinity are nonsense. */
static bool parse_decimal(const char *text, int64_t scale, int64_t cap, int64_t *out)
{
    int64_t value = 0, place = scale;
    bool is_inexact = false;

    if (!is_digit(*text))
        return false;
    for (; is_digit(*text); text++)
        value = value > cap ? value : value * 10 + (*text - '0');
    value = value > cap / scale ? cap : value * scale;
    if (*text == '.') {
        if (!is_digit(*++text))
            return false;
        for (; is_digit(*text); text++) {
            is_inexact = is_inexact || (place < 10 && *text != '0');
            place /= 10;
            value += place * (*text - '0');
        }
    }
    if (*text)
        return false;
    value += is_inexact;
    *out = value < cap ? value : cap;
    return true;
}

void retry_headers_add(struct retry_headers *headers, const char *name, const char *value)
{
    int64_t number;

    if (strcmp(name, "x-should-retry") == 0) {
        if (strcasecmp(value, "true") == 0)
            headers->should_retry = SHOULD_RETRY_YES;
        else if (strcasecmp(value, "false") == 0)
            headers->should_retry = SHOULD_RETRY_NO;
    } else if (strcmp(name, "retry-after-ms") == 0) {
        if (parse_decimal(value, 1, RETRY_AFTER_MAX_MS, &number))
            headers->retry_after_ms_ms = number;
    } else if (strcmp(name, "retry-after") == 0) {
        if (parse_decimal(value, 1000, RETRY_AFTER_MAX_MS, &number))
            headers->retry_after_ms = number;
        else if (clock_parse_http_date(value, strlen(value), &number))
            headers->retry_at_us = number;
    } else if (strcmp(name, "date") == 0) {
        if (clock_parse_http_date(value, strlen(value), &number))
            headers->date_us = number;
    }
}

int64_t retry_headers_wait_ms(const struct retry_headers *headers, int64_t now_us)
{
    int64_t from = headers->date_us > 0 ? headers->date_us : now_us, wait;

    if (headers->retry_after_ms_ms >= 0)
        return headers->retry_after_ms_ms;
    if (headers->retry_after_ms >= 0)
        return headers->retry_after_ms;
    if (headers->retry_at_us <= 0)
        return -1;
    wait = (headers->retry_at_us - from) / US_PER_MS;
    if (wait < 0)
        return 0;
    return wait < RETRY_AFTER_MAX_MS ? wait : RETRY_AFTER_MAX_MS;
}
