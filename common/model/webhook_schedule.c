/* SPDX-License-Identifier: Apache-2.0 */
/* Judges a webhook's try and says when the next one is. */
#include "common/model/webhook_schedule.h"

#include <string.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/str.h"

static bool is_delivered(const struct webhook_try *try)
{
    return try->status >= 200 && try->status < 300 &&
           (try->outcome == HTTP_DONE || try->outcome == HTTP_TOO_LARGE);
}

static const char *status_error(int status)
{
    if (status == 410)
        return "gone";
    return status >= 300 && status < 400 ? "redirect" : "bad_status";
}

static const char *error_of(const struct webhook_try *try)
{
    switch (try->outcome) {
    case HTTP_BLOCKED:
        return "blocked_address";
    case HTTP_NOT_SENT:
        return "connect_failed";
    case HTTP_CONNECT_TIMEOUT:
    case HTTP_FIRST_BYTE_TIMEOUT:
    case HTTP_IDLE_TIMEOUT:
    case HTTP_TOTAL_TIMEOUT:
        return "timeout";
    case HTTP_DONE:
    case HTTP_TOO_LARGE:
        return try->status >= 300 ? status_error(try->status) : "bad_answer";
    case HTTP_CUT:
    case HTTP_RESENT:
    case HTTP_STOPPED:
        return "connection_lost";
    case HTTP_BAD_ANSWER:
        break;
    }
    return "bad_answer";
}

static int64_t wait_after(const struct webhook_policy *policy, const struct webhook_try *try,
                          uint64_t random)
{
    int64_t wait_ms =
        backoff_spread_ms(policy->schedule_ms[try->attempt], WEBHOOK_JITTER_PERCENT, random);

    return try->retry_after_ms > wait_ms ? try->retry_after_ms : wait_ms;
}

struct webhook_choice webhook_choose(const struct webhook_policy *policy,
                                     const struct webhook_try *try, uint64_t random)
{
    struct webhook_choice choice = {.verdict = WEBHOOK_FAILED};

    if (is_delivered(try)) {
        choice.verdict = WEBHOOK_DELIVERED;
        return choice;
    }
    choice.error = error_of(try);
    if (try->status == 410)
        choice.verdict = WEBHOOK_DISABLE;
    else if (try->outcome != HTTP_BLOCKED && try->attempt < policy->schedule_count)
        choice.verdict = WEBHOOK_RETRY;
    if (choice.verdict == WEBHOOK_RETRY)
        choice.wait_ms = wait_after(policy, try, random);
    return choice;
}

int64_t webhook_retry_after_ms(const char *value, int64_t now_us)
{
    const int64_t max_ms = (int64_t)WEBHOOK_RETRY_AFTER_MAX_S * 1000;
    size_t digits = strspn(value, "0123456789");
    int64_t number;

    if (digits > 0 && value[digits] == '\0') {
        if (!str_to_i64(value, digits, &number) || number > WEBHOOK_RETRY_AFTER_MAX_S)
            return max_ms;
        return number * 1000;
    }
    if (!clock_parse_http_date(value, strlen(value), &number))
        return -1;
    if (number <= now_us)
        return 0;
    return number - now_us > max_ms * US_PER_MS ? max_ms : (number - now_us) / US_PER_MS;
}
