/* SPDX-License-Identifier: Apache-2.0 */
/* Every provider's way to tell of its limits, and nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "worker/providers/rate_headers.h"

/* 2026-11-21T03:00:00Z */
#define NOW_US (INT64_C(1795230000) * US_PER_S)

static const struct {
    const char *text;
    int64_t ms; /* -1: nonsense */
} durations[] = {
    {"12ms", 12},
    {"1s", 1000},
    {"6m0s", 360000},
    {"8m59.5s", 539500},
    {"1h2m3.5s", 600000},
    {"0.5s", 500},
    {"1.5ms", 2},
    {"250us", 1},
    {"250\xc2\xb5s", 1},
    {"250\xce\xbcs", 1},
    {"1ns", 1},
    {"1000000ns", 1},
    {"0s", 0},
    {"7", 7000},
    {"0.25", 250},
    {"1m30s500ms", 90500},
    {"99999999999999999999999h", 600000},
    {"9999999h9999999h", 600000},
    {"0.0000000000000001s", 0},
    {"", -1},
    {"s", -1},
    {"-1s", -1},
    {"+1s", -1},
    {"1.s", -1},
    {".5s", -1},
    {"1 s", -1},
    {"1s 2ms", -1},
    {"1d", -1},
    {"1s5", -1},
    {"5 ", -1},
    {"nan", -1},
    {"inf", -1},
    {"1e3s", -1},
};

static void test_durations_are_understood_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
        int64_t ms = -1;

        if (!rate_duration_parse(durations[i].text, &ms))
            ms = -1;
        if (ms != durations[i].ms)
            fail_msg("%s: expected %lld, got %lld", durations[i].text, (long long)durations[i].ms,
                     (long long)ms);
    }
}

struct told {
    const char *name, *value;
};

static const struct {
    const char *what;
    struct told head[9];
    struct rate_window requests, tokens;
    int64_t closed_ms;
} heads[] = {
    {"nothing", {{0}}, {-1, -1, -1}, {-1, -1, -1}, -1},
    {"openai",
     {{"x-ratelimit-limit-requests", "500"},
      {"x-ratelimit-remaining-requests", "499"},
      {"x-ratelimit-reset-requests", "120ms"},
      {"x-ratelimit-limit-tokens", "30000"},
      {"x-ratelimit-remaining-tokens", "0"},
      {"x-ratelimit-reset-tokens", "6m0s"}},
     {500, 499, 120},
     {30000, 0, 360000},
     360000},
    {"openai, the project is narrower",
     {{"x-ratelimit-limit-tokens", "30000"},
      {"x-ratelimit-remaining-tokens", "20000"},
      {"x-ratelimit-limit-project-tokens", "1000"},
      {"x-ratelimit-remaining-project-tokens", "0"},
      {"x-ratelimit-reset-project-tokens", "2s"}},
     {-1, -1, -1},
     {1000, 0, 2000},
     2000},
    {"azure, unknown resets",
     {{"x-ratelimit-remaining-requests", "0"},
      {"x-ratelimit-reset-requests", "0"},
      {"x-ratelimit-limit-requests", "-1"},
      {"x-ratelimit-remaining-tokens", "0"},
      {"x-ratelimit-reset-tokens", "-1"}},
     {-1, 0, -1},
     {-1, 0, -1},
     -1},
    {"azure, seconds",
     {{"x-ratelimit-limit-requests", "60"},
      {"x-ratelimit-remaining-requests", "0"},
      {"x-ratelimit-reset-requests", "17"},
      {"x-ratelimit-remaining-tokens", "5"},
      {"x-rate-limit-reset-tokens", "3"}},
     {60, 0, 17000},
     {-1, 5, 3000},
     17000},
    {"anthropic, a date with Z and one with an offset",
     {{"anthropic-ratelimit-requests-limit", "50"},
      {"anthropic-ratelimit-requests-remaining", "0"},
      {"anthropic-ratelimit-requests-reset", "2026-11-21T03:00:12Z"},
      {"anthropic-ratelimit-input-tokens-limit", "20000"},
      {"anthropic-ratelimit-input-tokens-remaining", "9000"},
      {"anthropic-ratelimit-output-tokens-limit", "8000"},
      {"anthropic-ratelimit-output-tokens-remaining", "0"},
      {"anthropic-ratelimit-output-tokens-reset", "2026-11-21T04:00:20+01:00"}},
     {50, 0, 12000},
     {8000, 0, 20000},
     20000},
    {"anthropic, unix seconds",
     {{"anthropic-ratelimit-requests-limit", "50"},
      {"anthropic-ratelimit-requests-remaining", "0"},
      {"anthropic-ratelimit-requests-reset", "1795230003"}},
     {50, 0, 3000},
     {-1, -1, -1},
     3000},
    {"anthropic, seconds that no clock will see",
     {{"anthropic-ratelimit-requests-remaining", "0"},
      {"anthropic-ratelimit-requests-reset", "22111112111112"}},
     {-1, 0, 600000},
     {-1, -1, -1},
     600000},
    {"a date that has passed closes nothing",
     {{"anthropic-ratelimit-requests-remaining", "0"},
      {"anthropic-ratelimit-requests-reset", "2026-11-21T02:00:12Z"}},
     {-1, 0, 0},
     {-1, -1, -1},
     -1},
    {"the priority tier closes nothing",
     {{"anthropic-priority-input-tokens-limit", "50"},
      {"anthropic-priority-input-tokens-remaining", "0"},
      {"anthropic-priority-input-tokens-reset", "2026-11-21T03:00:12Z"}},
     {-1, -1, -1},
     {-1, -1, -1},
     -1},
    {"dates count from the provider's own clock",
     {{"date", "Sat, 21 Nov 2026 03:00:10 GMT"},
      {"anthropic-ratelimit-tokens-remaining", "0"},
      {"anthropic-ratelimit-tokens-reset", "2026-11-21T03:00:12Z"}},
     {-1, -1, -1},
     {-1, 0, 2000},
     2000},
    {"mistral, which tells no reset",
     {{"x-ratelimit-limit-req-minute", "60"},
      {"x-ratelimit-remaining-req-minute", "3"},
      {"x-ratelimit-limit-tokens-minute", "50000"},
      {"x-ratelimit-remaining-tokens-minute", "0"},
      {"x-ratelimit-tokens-query-cost", "77"}},
     {60, 3, -1},
     {50000, 0, -1},
     -1},
    {"nonsense",
     {{"x-ratelimit-limit-requests", "many"},
      {"x-ratelimit-remaining-requests", "1e3"},
      {"x-ratelimit-reset-requests", "soon"},
      {"x-ratelimit-limit-tokens", "99999999999999999999"},
      {"x-ratelimit-remaining-tokens", "-5"},
      {"x-ratelimit-remaining", "0"},
      {"x-ratelimit-", "0"}},
     {-1, -1, -1},
     {-1, -1, -1},
     -1},
};

static void assert_window(const char *what, const struct rate_window *got,
                          const struct rate_window *wanted)
{
    if (memcmp(got, wanted, sizeof(*got)) != 0)
        fail_msg("%s: got %lld %lld %lld", what, (long long)got->limit, (long long)got->remaining,
                 (long long)got->reset_ms);
}

static void test_each_dialect_is_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        struct rate_headers headers;
        struct rate_seen seen;

        rate_headers_init(&headers);
        for (size_t h = 0; h < 9 && heads[i].head[h].name; h++)
            rate_headers_add(&headers, heads[i].head[h].name, heads[i].head[h].value);
        seen = rate_headers_finish(&headers, NOW_US);
        assert_window(heads[i].what, &seen.requests, &heads[i].requests);
        assert_window(heads[i].what, &seen.tokens, &heads[i].tokens);
        if (seen.closed_ms != heads[i].closed_ms)
            fail_msg("%s: closed for %lld", heads[i].what, (long long)seen.closed_ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations_are_understood_or_refused),
        cmocka_unit_test(test_each_dialect_is_understood),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
