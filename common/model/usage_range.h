/* SPDX-License-Identifier: Apache-2.0 */
/* Which slices of the roll-ups of usage make up a range of time.  Pure. */
#ifndef COMMON_MODEL_USAGE_RANGE_H
#define COMMON_MODEL_USAGE_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"

enum { USAGE_DAYS_MAX = 1830, USAGE_DEFAULT_DAYS = 30, USAGE_MONTHS_MAX = 64 };

/* From a moment or day on, up to another one that is not in it any more.  What counts is in both:
 * in the tenant's own days first_day .. end_day - 1 (days since 1970) and in the hours from_us ..
 * to_us.  Days leave the hours wide open, times the days. */
struct usage_range {
    bool is_days;
    int32_t first_day, end_day;
    int64_t from_us, to_us; /* whole hours */
};

/* Both may be NULL: the last USAGE_DEFAULT_DAYS days.  "2026-11-21" is a day of the tenant, an RFC
 * 3339 time counts from (up to) the begin (end) of its hour.  Refused with `param` set: anything
 * else, a mixture, a range that is empty, backwards, or longer than USAGE_DAYS_MAX. */
bool usage_range_parse(const char *from, const char *to, int64_t now_us, struct usage_range *out,
                       struct err *err) MUST_CHECK;

/* A day as "2026-11-21"; false when it is none. */
enum { USAGE_DAY_SIZE = 16 };
void usage_day_format(int32_t day, char out[USAGE_DAY_SIZE]);
bool usage_day_parse(const char *text, int32_t *day) MUST_CHECK;

/* The fewest slices that are the range, apart: whole months and whole days of the tenant, and days
 * of which only those hours count that are in the range.  Months only if days need not be told
 * apart, hours only if hours must be.  With first_day and end_day of a part of the range: its
 * slices. */
struct usage_slices {
    int month_count, day_count, edge_count;
    int32_t months[USAGE_MONTHS_MAX]; /* their first days */
    int32_t days[USAGE_DAYS_MAX + 8];
    int32_t edges[USAGE_DAYS_MAX + 8];
    int cover_count;
    int32_t covers[USAGE_MONTHS_MAX]; /* every month that the range touches */
};
void usage_slices_of(const struct usage_range *range, bool by_day, bool by_hour,
                     struct usage_slices *out);

#endif
