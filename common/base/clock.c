/* SPDX-License-Identifier: Apache-2.0 */
/* Time in microseconds since the epoch, its RFC 3339 and HTTP forms, and a monotonic clock. */
#include "common/base/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/str.h"

#define YEAR_10000_US (INT64_C(253402300800) * US_PER_S)

static _Atomic int64_t db_base_us; /* the database's clock less CLOCK_BOOTTIME; 0: not known */

static int64_t read_clock_us(clockid_t which)
{
    struct timespec now = {.tv_sec = 0};

    clock_gettime(which, &now);
    return (int64_t)now.tv_sec * US_PER_S + now.tv_nsec / 1000;
}

int64_t clock_now_us(void)
{
    return read_clock_us(CLOCK_REALTIME);
}

int64_t clock_monotonic_us(void)
{
    return read_clock_us(CLOCK_MONOTONIC);
}

int64_t clock_db_us(void)
{
    int64_t base_us = atomic_load_explicit(&db_base_us, memory_order_relaxed);

    return base_us ? read_clock_us(CLOCK_BOOTTIME) + base_us : clock_now_us();
}

void clock_set_db_us(int64_t now_us)
{
    int64_t base_us = now_us ? now_us - read_clock_us(CLOCK_BOOTTIME) : 0;

    atomic_store_explicit(&db_base_us, base_us, memory_order_relaxed);
}

void clock_format_rfc3339(int64_t us, char out[CLOCK_RFC3339_SIZE])
{
    int64_t rest = us % US_PER_S;
    time_t seconds = (time_t)(us / US_PER_S);
    struct tm tm;
    size_t len;

    if (rest < 0) { /* rounded down, also before 1970 */
        rest += US_PER_S;
        seconds--;
    }
    gmtime_r(&seconds, &tm);
    len = strftime(out, CLOCK_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + len, CLOCK_RFC3339_SIZE - len, ".%03dZ", (int)(rest / US_PER_MS));
}

/* ---- reading ---- */

/* A date and time as it was written. */
struct parts {
    int year, month, day, hour, minute, second;
    int micros;
    int offset_minutes;
};

struct cursor {
    const char *at;
    const char *end;
};

static bool take_char(struct cursor *in, char c)
{
    if (in->at == in->end || *in->at != c)
        return false;
    in->at++;
    return true;
}

static bool take_text(struct cursor *in, const char *text)
{
    size_t len = strlen(text);

    if ((size_t)(in->end - in->at) < len || memcmp(in->at, text, len) != 0)
        return false;
    in->at += len;
    return true;
}

/* Exactly `digits` digits. */
static bool take_number(struct cursor *in, int digits, int *out)
{
    int64_t value;

    if (in->end - in->at < digits || *in->at == '-' || !str_to_i64(in->at, (size_t)digits, &value))
        return false;
    in->at += digits;
    *out = (int)value;
    return true;
}

/* One of the names; *out is its index. */
static bool take_name(struct cursor *in, const char *const *names, int count, int *out)
{
    for (int i = 0; i < count; i++) {
        if (take_text(in, names[i])) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool take_time(struct cursor *in, struct parts *parts)
{
    return take_number(in, 2, &parts->hour) && take_char(in, ':') &&
           take_number(in, 2, &parts->minute) && take_char(in, ':') &&
           take_number(in, 2, &parts->second);
}

/* An optional fraction of any length; what is finer than microseconds is dropped. */
static bool take_fraction(struct cursor *in, int *micros)
{
    int unit = 100000;
    int digit;

    *micros = 0;
    if (!take_char(in, '.'))
        return true;
    if (!take_number(in, 1, &digit))
        return false;
    do {
        *micros += digit * unit;
        unit /= 10;
    } while (take_number(in, 1, &digit));
    return true;
}

static bool take_offset(struct cursor *in, int *minutes)
{
    int sign = 1;
    int hour, minute;

    *minutes = 0;
    if (take_char(in, 'Z') || take_char(in, 'z'))
        return true;
    if (take_char(in, '-'))
        sign = -1;
    else if (!take_char(in, '+'))
        return false;
    if (!take_number(in, 2, &hour) || !take_char(in, ':') || !take_number(in, 2, &minute))
        return false;
    *minutes = sign * (hour * 60 + minute);
    return hour <= 23 && minute <= 59;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return month == 2 && is_leap ? 29 : days[month - 1];
}

static bool parts_in_range(const struct parts *parts)
{
    return parts->month >= 1 && parts->month <= 12 && parts->day >= 1 &&
           parts->day <= days_in_month(parts->year, parts->month) && parts->hour <= 23 &&
           parts->minute <= 59 && parts->second <= 60;
}

/* Second 60 is only right as the last of a UTC day; it counts as the first of the next one. */
static bool parts_to_us(const struct parts *parts, int64_t *us)
{
    struct tm tm = {.tm_year = parts->year - 1900,
                    .tm_mon = parts->month - 1,
                    .tm_mday = parts->day,
                    .tm_hour = parts->hour,
                    .tm_min = parts->minute,
                    .tm_sec = parts->second};
    int64_t seconds, result;

    if (!parts_in_range(parts))
        return false;
    seconds = (int64_t)timegm(&tm) - (int64_t)parts->offset_minutes * 60;
    if (parts->second == 60 && seconds % 86400 != 0)
        return false;
    result = seconds * US_PER_S + parts->micros;
    if (result < 0 || result >= YEAR_10000_US)
        return false;
    *us = result;
    return true;
}

bool clock_parse_rfc3339(const char *text, size_t len, int64_t *us)
{
    struct cursor in = {.at = text, .end = text + len};
    struct parts parts = {.year = 0};

    if (!take_number(&in, 4, &parts.year) || !take_char(&in, '-') ||
        !take_number(&in, 2, &parts.month) || !take_char(&in, '-') ||
        !take_number(&in, 2, &parts.day))
        return false;
    if (!take_char(&in, 'T') && !take_char(&in, 't'))
        return false;
    if (!take_time(&in, &parts) || !take_fraction(&in, &parts.micros) ||
        !take_offset(&in, &parts.offset_minutes))
        return false;
    return in.at == in.end && parts_to_us(&parts, us);
}

static const char *const month_names[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char *const day_names[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
static const char *const long_day_names[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                             "Friday", "Saturday", "Sunday"};

static bool take_month(struct cursor *in, int *month)
{
    if (!take_name(in, month_names, 12, month))
        return false;
    ++*month;
    return true;
}

/* Sun, 06 Nov 1994 08:49:37 GMT */
static bool take_imf_fixdate(struct cursor in, struct parts *parts)
{
    int weekday;

    return take_name(&in, day_names, 7, &weekday) && take_text(&in, ", ") &&
           take_number(&in, 2, &parts->day) && take_char(&in, ' ') &&
           take_month(&in, &parts->month) && take_char(&in, ' ') &&
           take_number(&in, 4, &parts->year) && take_char(&in, ' ') && take_time(&in, parts) &&
           take_text(&in, " GMT") && in.at == in.end;
}

/* RFC 9110: two digits that seem over 50 years ahead mean the past. */
static int full_year(int two_digits)
{
    time_t now = (time_t)(clock_now_us() / US_PER_S);
    struct tm tm;
    int this_year, year;

    gmtime_r(&now, &tm);
    this_year = tm.tm_year + 1900;
    year = this_year - this_year % 100 + two_digits;
    return year > this_year + 50 ? year - 100 : year;
}

/* Sunday, 06-Nov-94 08:49:37 GMT */
static bool take_rfc850(struct cursor in, struct parts *parts)
{
    int weekday;

    if (!take_name(&in, long_day_names, 7, &weekday) || !take_text(&in, ", ") ||
        !take_number(&in, 2, &parts->day) || !take_char(&in, '-') ||
        !take_month(&in, &parts->month) || !take_char(&in, '-') ||
        !take_number(&in, 2, &parts->year))
        return false;
    parts->year = full_year(parts->year);
    return take_char(&in, ' ') && take_time(&in, parts) && take_text(&in, " GMT") &&
           in.at == in.end;
}

/* Sun Nov  6 08:49:37 1994 */
static bool take_asctime(struct cursor in, struct parts *parts)
{
    int weekday;

    if (!take_name(&in, day_names, 7, &weekday) || !take_char(&in, ' ') ||
        !take_month(&in, &parts->month) || !take_char(&in, ' '))
        return false;
    if (!take_number(&in, take_char(&in, ' ') ? 1 : 2, &parts->day))
        return false;
    return take_char(&in, ' ') && take_time(&in, parts) && take_char(&in, ' ') &&
           take_number(&in, 4, &parts->year) && in.at == in.end;
}

/* The weekday must be one, but not the right one: it adds nothing and some senders get it wrong. */
bool clock_parse_http_date(const char *text, size_t len, int64_t *us)
{
    struct cursor in = {.at = text, .end = text + len};
    struct parts parts = {.year = 0};

    if (!take_imf_fixdate(in, &parts) && !take_rfc850(in, &parts) && !take_asctime(in, &parts))
        return false;
    return parts_to_us(&parts, us);
}
