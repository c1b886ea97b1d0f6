/* SPDX-License-Identifier: Apache-2.0 */
/* Which slices of the roll-ups of usage make up a range of time.  Pure. */
#include "common/model/usage_range.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"

/* The tenant's day d begins at most 14 hours before it does in UTC, and ends at most 12 after. */
#define AHEAD_US (14 * 3600 * US_PER_S)
#define BEHIND_US (12 * 3600 * US_PER_S)
#define US_PER_HOUR (3600 * US_PER_S)

/* --- days ------------------------------------------------------------------------------------- */

static int64_t floor_div(int64_t value, int64_t by)
{
    return value >= 0 ? value / by : -((-value + by - 1) / by);
}

static int64_t ceil_div(int64_t value, int64_t by)
{
    return -floor_div(-value, by);
}

static struct tm day_parts(int32_t day)
{
    time_t seconds = (time_t)day * 86400;
    struct tm parts;

    gmtime_r(&seconds, &parts);
    return parts;
}

static int32_t month_of(int32_t day)
{
    return day - (day_parts(day).tm_mday - 1);
}

static int32_t month_after(int32_t day)
{
    return month_of(month_of(day) + 31);
}

void usage_day_format(int32_t day, char out[USAGE_DAY_SIZE])
{
    struct tm parts = day_parts(day);

    strftime(out, USAGE_DAY_SIZE, "%Y-%m-%d", &parts);
}

bool usage_day_parse(const char *text, int32_t *day)
{
    char whole[CLOCK_RFC3339_SIZE];
    int64_t us;

    if (strlen(text) != strlen("2026-11-21"))
        return false;
    snprintf(whole, sizeof(whole), "%sT00:00:00Z", text);
    if (!clock_parse_rfc3339(whole, strlen(whole), &us))
        return false;
    *day = (int32_t)(us / US_PER_DAY);
    return true;
}

/* --- the range -------------------------------------------------------------------------------- */

struct bound {
    bool is_given, is_day;
    int64_t us; /* of a day: its begin in UTC */
};

static bool bound_parse(const char *name, const char *text, struct bound *out, struct err *err)
{
    int32_t day;

    *out = (struct bound){.is_given = text != NULL, .is_day = true};
    if (!text)
        return true;
    if (usage_day_parse(text, &day)) {
        out->us = day * US_PER_DAY;
        return true;
    }
    out->is_day = false;
    if (clock_parse_rfc3339(text, strlen(text), &out->us))
        return true;
    return err_input(err, "invalid_value", name,
                     "%s: expected a day like 2026-11-21 or an RFC 3339 time like "
                     "2026-11-21T03:00:00Z, from 1970 to 9999, got \"%.64s\"",
                     name, text);
}

static void range_of_days(const struct bound *from, const struct bound *to, struct usage_range *out)
{
    out->first_day = (int32_t)(from->us / US_PER_DAY);
    out->end_day = (int32_t)(to->us / US_PER_DAY);
    out->from_us = from->us - AHEAD_US;
    out->to_us = to->us + BEHIND_US;
}

static void range_of_hours(const struct bound *from, const struct bound *to,
                           struct usage_range *out)
{
    out->from_us = floor_div(from->us, US_PER_HOUR) * US_PER_HOUR;
    out->to_us = ceil_div(to->us, US_PER_HOUR) * US_PER_HOUR;
    out->first_day = (int32_t)floor_div(out->from_us, US_PER_DAY) - 1;
    out->end_day = (int32_t)floor_div(out->to_us - 1, US_PER_DAY) + 2;
}

/* Without an end: all there is; the tenant may be a day ahead of UTC. */
static void fill_bounds(struct bound *from, struct bound *to, int64_t now_us)
{
    bool is_day = from->is_given ? from->is_day : to->is_day;

    if (!to->is_given)
        *to = (struct bound){.is_day = is_day,
                             .us = is_day ? (now_us / US_PER_DAY + 2) * US_PER_DAY
                                          : now_us + US_PER_HOUR};
    if (!from->is_given)
        *from = (struct bound){.is_day = is_day, .us = to->us - USAGE_DEFAULT_DAYS * US_PER_DAY};
}

bool usage_range_parse(const char *from_text, const char *to_text, int64_t now_us,
                       struct usage_range *out, struct err *err)
{
    struct bound from, to;

    if (!bound_parse("from", from_text, &from, err) || !bound_parse("to", to_text, &to, err))
        return false;
    fill_bounds(&from, &to, now_us);
    if (from.is_day != to.is_day)
        return err_input(err, "invalid_value", "to",
                         "to: expected a %s, as `from` is one: days are the tenant's own, times "
                         "are not",
                         from.is_day ? "day like 2026-11-21" : "time like 2026-11-21T03:00:00Z");
    if (from.us >= to.us)
        return err_input(err, "invalid_value", "to",
                         "to: expected later than `from`; the range ends before `to`");
    if (to.us - from.us > USAGE_DAYS_MAX * US_PER_DAY)
        return err_input(err, "invalid_value", "from",
                         "from: the range is longer than %d days (five years)", USAGE_DAYS_MAX);
    *out = (struct usage_range){.is_days = from.is_day};
    if (from.is_day)
        range_of_days(&from, &to, out);
    else
        range_of_hours(&from, &to, out);
    return true;
}

/* --- slices ----------------------------------------------------------------------------------- */

static void put_days(int32_t *days, int *count, int32_t first, int32_t end)
{
    for (int32_t day = first; day < end; day++)
        days[(*count)++] = day;
}

/* The days that are in the range for certain, in whatever zone: *first .. *end - 1. */
static void find_whole_days(const struct usage_range *range, int32_t *first, int32_t *end)
{
    *first = range->first_day;
    *end = range->end_day;
    if (range->is_days)
        return;
    if (*first < ceil_div(range->from_us + AHEAD_US, US_PER_DAY))
        *first = (int32_t)ceil_div(range->from_us + AHEAD_US, US_PER_DAY);
    if (*end > floor_div(range->to_us - BEHIND_US, US_PER_DAY))
        *end = (int32_t)floor_div(range->to_us - BEHIND_US, US_PER_DAY);
    if (*end < *first)
        *first = *end = range->end_day;
}

static void put_whole_days(int32_t first, int32_t end, bool by_day, struct usage_slices *out)
{
    int32_t month = month_of(first) == first ? first : month_after(first);
    int32_t last = month_of(end);

    if (by_day || month >= last) {
        put_days(out->days, &out->day_count, first, end);
        return;
    }
    put_days(out->days, &out->day_count, first, month);
    for (; month < last; month = month_after(month))
        out->months[out->month_count++] = month;
    put_days(out->days, &out->day_count, last, end);
}

void usage_slices_of(const struct usage_range *range, bool by_day, bool by_hour,
                     struct usage_slices *out)
{
    int32_t first, end;

    *out = (struct usage_slices){.month_count = 0};
    for (int32_t month = month_of(range->first_day); month < range->end_day;
         month = month_after(month))
        out->covers[out->cover_count++] = month;
    if (by_hour) {
        put_days(out->edges, &out->edge_count, range->first_day, range->end_day);
        return;
    }
    find_whole_days(range, &first, &end);
    put_days(out->edges, &out->edge_count, range->first_day, first);
    put_whole_days(first, end, by_day, out);
    put_days(out->edges, &out->edge_count, end, range->end_day);
}
