/* SPDX-License-Identifier: Apache-2.0 */
/* The headers that say how much of a limit is left. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/io/http_server.h"
#include "producer/intake.h"

enum { MINUTE_S = 60, POLICY_SIZE = 160 };

void intake_format_reset(int64_t us, char out[RESET_TEXT_SIZE])
{
    int64_t ms = us > 0 ? (us + US_PER_MS - 1) / US_PER_MS : 0, minutes = ms / 60000;
    char prefix[24] = "";

    if (ms < 1000 && ms > 0) {
        snprintf(out, RESET_TEXT_SIZE, "%" PRId64 "ms", ms);
        return;
    }
    if (minutes > 0)
        snprintf(prefix, sizeof(prefix), "%" PRId64 "m", minutes);
    ms %= 60000;
    if (ms % 1000 == 0)
        snprintf(out, RESET_TEXT_SIZE, "%s%ds", prefix, (int)(ms / 1000));
    else
        snprintf(out, RESET_TEXT_SIZE, "%s%d.%03ds", prefix, (int)(ms / 1000), (int)(ms % 1000));
}

static void add_number(struct http_request *http, const char *what, const char *unit, int64_t value)
{
    char name[48], text[24];

    snprintf(name, sizeof(name), "x-ratelimit-%s-%s", what, unit);
    snprintf(text, sizeof(text), "%" PRId64, value > 0 ? value : 0);
    http_add_header(http, name, text);
}

static void add_meter(struct http_request *http, const char *unit, const struct intake_meter *meter)
{
    char name[48], text[RESET_TEXT_SIZE];

    if (meter->limit < 0)
        return;
    add_number(http, "limit", unit, meter->limit);
    add_number(http, "remaining", unit, meter->remaining);
    snprintf(name, sizeof(name), "x-ratelimit-reset-%s", unit);
    intake_format_reset(meter->reset_us, text);
    http_add_header(http, name, text);
}

static void put_policy(char *policy, char *state, const char *unit,
                       const struct intake_meter *meter)
{
    const char *comma = *policy ? ", " : "";
    size_t policy_len = strlen(policy), state_len = strlen(state);

    if (meter->limit < 0)
        return;
    snprintf(policy + policy_len, POLICY_SIZE - policy_len, "%s\"%s\";q=%" PRId64 ";w=%d", comma,
             unit, meter->limit, MINUTE_S);
    snprintf(state + state_len, POLICY_SIZE - state_len, "%s\"%s\";r=%" PRId64 ";t=%" PRId64, comma,
             unit, meter->remaining > 0 ? meter->remaining : 0,
             (meter->reset_us + US_PER_S - 1) / US_PER_S);
}

void intake_add_headers(struct http_request *http, const struct intake_meters *meters)
{
    char policy[POLICY_SIZE] = "", state[POLICY_SIZE] = "";

    if (!meters->is_known)
        return;
    add_meter(http, "requests", &meters->submits);
    add_meter(http, "tokens", &meters->tokens);
    put_policy(policy, state, "requests", &meters->submits);
    put_policy(policy, state, "tokens", &meters->tokens);
    if (!*policy)
        return;
    http_add_header(http, "ratelimit-policy", policy);
    http_add_header(http, "ratelimit", state);
}
