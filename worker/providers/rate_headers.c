/* SPDX-License-Identifier: Apache-2.0 */
/* Rate-limit headers: OpenAI and Azure, Anthropic, Mistral; durations, dates, unix seconds. */
#include "worker/providers/rate_headers.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"

enum { COUNT_DIGITS_MAX = 15, UNIX_SECONDS_LEAST = 100000000 };

/* The year 9999: what is later says nothing, and must not overflow. */
#define UNIX_SECONDS_MOST INT64_C(253402300799)

enum rate_kind { RATE_REQUESTS, RATE_TOKENS };

/* Families of three headers each: prefix + {limit, remaining, reset} + suffix. */
static const struct family {
    const char *prefix, *suffix;
    enum rate_kind kind;
} families[] = {
    {"x-ratelimit-", "-requests", RATE_REQUESTS},
    {"x-ratelimit-", "-tokens", RATE_TOKENS},
    {"x-ratelimit-", "-project-tokens", RATE_TOKENS},
    {"x-ratelimit-", "-project-requests", RATE_REQUESTS},
    {"anthropic-ratelimit-requests-", "", RATE_REQUESTS},
    {"anthropic-ratelimit-tokens-", "", RATE_TOKENS},
    {"anthropic-ratelimit-input-tokens-", "", RATE_TOKENS},
    {"anthropic-ratelimit-output-tokens-", "", RATE_TOKENS},
    {"x-ratelimit-", "-req-minute", RATE_REQUESTS},
    {"x-ratelimit-", "-tokens-minute", RATE_TOKENS},
};
enum { FAMILY_COUNT = sizeof(families) / sizeof(families[0]) };
_Static_assert(FAMILY_COUNT == sizeof(((struct rate_headers *)0)->seen) /
                                   sizeof(((struct rate_headers *)0)->seen[0]),
               "one scratch for each family");

static const struct rate_window unsaid = {.limit = -1, .remaining = -1, .reset_ms = -1};

void rate_headers_init(struct rate_headers *headers)
{
    headers->date_us = 0;
    headers->has_any = false;
    for (int i = 0; i < FAMILY_COUNT; i++)
        headers->seen[i] =
            (struct rate_scratch){.limit = -1, .remaining = -1, .reset_ms = -1, .reset_at_us = 0};
}

/* --- durations -------------------------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* `ms` before `m`: the first that fits is taken.  Microseconds come with either mu. */
static const struct unit {
    const char *name;
    int64_t ns;
} units[] = {
    {"ns", 1},
    {"us", 1000},
    {"\xc2\xb5s", 1000},
    {"\xce\xbcs", 1000},
    {"ms", 1000000},
    {"s", 1000000000},
    {"m", INT64_C(60) * 1000000000},
    {"h", INT64_C(3600) * 1000000000},
};

static const struct unit *take_unit(const char **text)
{
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strncmp(*text, units[i].name, strlen(units[i].name)) == 0) {
            *text += strlen(units[i].name);
            return &units[i];
        }
    return NULL;
}

struct decimal {
    int64_t whole;    /* capped */
    int64_t billions; /* of the fraction */
};

static bool take_decimal(const char **text, struct decimal *out)
{
    int64_t place = 1000000000;

    *out = (struct decimal){0};
    if (!is_digit(**text))
        return false;
    for (; is_digit(**text); (*text)++)
        if (out->whole <= RATE_RESET_MAX_MS * INT64_C(1000000))
            out->whole = out->whole * 10 + (**text - '0');
    if (**text != '.')
        return true;
    (*text)++;
    if (!is_digit(**text))
        return false;
    for (; is_digit(**text); (*text)++) {
        place /= 10;
        out->billions += place * (**text - '0');
    }
    return true;
}

/* Capped at a little over the most that is of interest. */
static int64_t scaled_ns(const struct decimal *decimal, int64_t unit_ns)
{
    const int64_t most_ns = (RATE_RESET_MAX_MS + INT64_C(1)) * 1000000;

    if (decimal->whole > most_ns / unit_ns)
        return most_ns;
    return decimal->whole * unit_ns + decimal->billions / 1000 * (unit_ns / 1000) / 1000 +
           (unit_ns < 1000 ? 0 : decimal->billions % 1000 * (unit_ns / 1000) / 1000000);
}

bool rate_duration_parse(const char *text, int64_t *out_ms)
{
    int64_t total_ns = 0;
    bool is_bare = true;

    do {
        const struct unit *unit;
        struct decimal decimal;

        if (!take_decimal(&text, &decimal))
            return false;
        unit = take_unit(&text);
        if (!unit && (!is_bare || *text))
            return false; /* only a number alone may go without */
        is_bare = false;
        total_ns += scaled_ns(&decimal, unit ? unit->ns : 1000000000);
        if (total_ns > RATE_RESET_MAX_MS * INT64_C(1000000))
            total_ns = RATE_RESET_MAX_MS * INT64_C(1000000);
    } while (*text);
    *out_ms = (total_ns + 999999) / 1000000;
    return true;
}

/* --- fields ----------------------------------------------------------------------------------- */

/* The field's own name between the family's prefix and suffix, or false. */
static bool matches(const struct family *family, const char *name, const char *field)
{
    size_t prefix = strlen(family->prefix), len = strlen(field);

    return strncmp(name, family->prefix, prefix) == 0 && strncmp(name + prefix, field, len) == 0 &&
           strcmp(name + prefix + len, family->suffix) == 0;
}

static void read_count(const char *value, int64_t least, int64_t *out)
{
    int64_t number;

    if (strlen(value) <= COUNT_DIGITS_MAX && str_to_i64(value, strlen(value), &number) &&
        number >= least)
        *out = number;
}

/* A date, unix seconds, or a duration.  0 of a bare number means that nobody knows. */
static void read_reset(const char *value, struct rate_scratch *seen)
{
    int64_t number;

    if (clock_parse_rfc3339(value, strlen(value), &number)) {
        seen->reset_at_us = number;
    } else if (strlen(value) <= COUNT_DIGITS_MAX && str_to_i64(value, strlen(value), &number)) {
        if (number > UNIX_SECONDS_MOST)
            seen->reset_ms = RATE_RESET_MAX_MS;
        else if (number >= UNIX_SECONDS_LEAST)
            seen->reset_at_us = number * US_PER_S;
        else if (number > 0)
            seen->reset_ms =
                number < RATE_RESET_MAX_MS / 1000 ? number * 1000 : (int64_t)RATE_RESET_MAX_MS;
    } else if (rate_duration_parse(value, &number)) {
        seen->reset_ms = number;
    }
}

void rate_headers_add(struct rate_headers *headers, const char *name, const char *value)
{
    if (strcmp(name, "date") == 0 &&
        !clock_parse_http_date(value, strlen(value), &headers->date_us))
        headers->date_us = 0;
    if (strcmp(name, "x-rate-limit-reset-tokens") == 0)
        name = "x-ratelimit-reset-tokens"; /* Azure has both */
    if (strncmp(name, "x-ratelimit-", 12) != 0 && strncmp(name, "anthropic-ratelimit-", 20) != 0)
        return;
    headers->has_any = true;
    for (int i = 0; i < FAMILY_COUNT; i++) {
        struct rate_scratch *seen = &headers->seen[i];

        if (matches(&families[i], name, "limit"))
            read_count(value, 1, &seen->limit);
        else if (matches(&families[i], name, "remaining"))
            read_count(value, 0, &seen->remaining);
        else if (matches(&families[i], name, "reset"))
            read_reset(value, seen);
    }
}

/* --- together --------------------------------------------------------------------------------- */

static int64_t reset_of(const struct rate_scratch *seen, int64_t now_us)
{
    int64_t wait;

    if (seen->reset_at_us <= 0)
        return seen->reset_ms;
    wait = (seen->reset_at_us - now_us + US_PER_MS - 1) / US_PER_MS;
    if (wait < 0)
        return 0;
    return wait < RATE_RESET_MAX_MS ? wait : RATE_RESET_MAX_MS;
}

/* Is what is seen narrower than what is known?  Less remains; or as little, for longer. */
static bool is_narrower(const struct rate_scratch *seen, int64_t reset_ms,
                        const struct rate_window *known)
{
    if (known->remaining < 0 || seen->remaining < 0)
        return known->remaining < 0 && (seen->remaining >= 0 || known->limit < 0);
    if (seen->remaining != known->remaining)
        return seen->remaining < known->remaining;
    return reset_ms > known->reset_ms;
}

static int64_t closed_ms(const struct rate_seen *seen)
{
    int64_t closed = -1;

    if (seen->requests.remaining == 0 && seen->requests.reset_ms > 0)
        closed = seen->requests.reset_ms;
    if (seen->tokens.remaining == 0 && seen->tokens.reset_ms > closed)
        closed = seen->tokens.reset_ms;
    return closed > 0 ? closed : -1;
}

struct rate_seen rate_headers_finish(const struct rate_headers *headers, int64_t now_us)
{
    struct rate_seen out = {.requests = unsaid, .tokens = unsaid, .closed_ms = -1};
    int64_t from = headers->date_us > 0 ? headers->date_us : now_us;

    for (int i = 0; headers->has_any && i < FAMILY_COUNT; i++) {
        const struct rate_scratch *seen = &headers->seen[i];
        struct rate_window *known = families[i].kind == RATE_REQUESTS ? &out.requests : &out.tokens;
        int64_t reset_ms = reset_of(seen, from);

        if (seen->limit < 0 && seen->remaining < 0)
            continue;
        if (is_narrower(seen, reset_ms, known))
            *known = (struct rate_window){
                .limit = seen->limit, .remaining = seen->remaining, .reset_ms = reset_ms};
    }
    out.closed_ms = closed_ms(&out);
    return out;
}
