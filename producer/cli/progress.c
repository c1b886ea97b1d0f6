/* SPDX-License-Identifier: Apache-2.0 */
/* The line that shows how far a batch is.  Pure. */
#include "producer/cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/money.h"

enum { BAR_MAX = 30, BAR_MIN = 5, PARTS = 5, PART_SIZE = 64, CENT_NANO = 10000000 };

void progress_time(int64_t seconds, char out[PROGRESS_TIME_SIZE])
{
    if (seconds < 60)
        snprintf(out, PROGRESS_TIME_SIZE, "%" PRId64 " s", seconds);
    else if (seconds < 3600)
        snprintf(out, PROGRESS_TIME_SIZE, "%" PRId64 "m %02" PRId64 "s", seconds / 60,
                 seconds % 60);
    else
        snprintf(out, PROGRESS_TIME_SIZE, "%" PRId64 "h %02" PRId64 "m", seconds / 3600,
                 seconds / 60 % 60);
}

void progress_cost(int64_t nano, char out[PROGRESS_COST_SIZE])
{
    char money[MONEY_TEXT_SIZE];

    /* Nine places; of small sums more of them matter. */
    money_format(nano, money);
    snprintf(out, PROGRESS_COST_SIZE, "$%.*s", (int)strlen(money) - (nano < CENT_NANO ? 3 : 5),
             money);
}

static void put_left(const struct progress *progress, char out[PART_SIZE])
{
    int64_t left = progress->total - progress->done;
    char time[PROGRESS_TIME_SIZE];

    out[0] = '\0';
    if (!progress->is_total_known || left <= 0 || progress->rate <= 0)
        return;
    progress_time((int64_t)((double)left / progress->rate + 0.999), time);
    snprintf(out, PART_SIZE, "%s left", time);
}

/* "1,2/s" with a place after the point while it is slow. */
static void put_rate(const struct progress *progress, char out[PART_SIZE])
{
    out[0] = '\0';
    if (progress->rate > 0)
        snprintf(out, PART_SIZE, progress->rate < 10 ? "%.1f/s" : "%.0f/s", progress->rate);
}

static bool put_bar(const struct progress *progress, int columns, bool is_utf8, struct buf *out)
{
    int64_t full = progress->total > 0 ? progress->done * columns / progress->total : 0;
    bool ok = true;

    for (int i = 0; i < columns && ok; i++)
        ok = i < full ? buf_puts(out, is_utf8 ? "\xe2\x96\x88" : "#")
                      : buf_puts(out, is_utf8 ? "\xe2\x96\x91" : "-");
    return ok && buf_putc(out, ' ');
}

bool progress_line(const struct progress *progress, int width, bool is_utf8, struct buf *out)
{
    char parts[PARTS][PART_SIZE];
    /* The order in which they are kept when it gets narrow. */
    static const int rank[PARTS] = {0, 1, 3, 4, 2};
    bool is_kept[PARTS] = {false};
    int used = 0, bar;
    bool ok = true, is_first = true;

    snprintf(parts[0], PART_SIZE, "%" PRId64 "/%" PRId64 "%s", progress->done, progress->total,
             progress->is_total_known ? "" : "+");
    parts[1][0] = '\0';
    if (progress->failed > 0)
        snprintf(parts[1], PART_SIZE, "%" PRId64 " failed", progress->failed);
    put_rate(progress, parts[2]);
    progress_cost(progress->cost_nano, parts[3]);
    put_left(progress, parts[4]);
    for (int i = 0; i < PARTS; i++) {
        int len = (int)strlen(parts[rank[i]]);

        is_kept[rank[i]] = len > 0 && used + len + (used ? 2 : 0) <= width;
        used += is_kept[rank[i]] ? len + (used ? 2 : 0) : 0;
    }
    bar = width - used - 1 < BAR_MAX ? width - used - 1 : BAR_MAX;
    if (bar >= BAR_MIN)
        ok = put_bar(progress, bar, is_utf8, out);
    for (int i = 0; i < PARTS && ok; i++) {
        if (!is_kept[i])
            continue;
        ok = buf_puts(out, is_first ? "" : "  ") && buf_puts(out, parts[i]);
        is_first = false;
    }
    return ok;
}

/* --- the rate --------------------------------------------------------------------------------- */

void rate_note(struct rate *rate, int64_t now_us, int64_t done)
{
    int last = (rate->next + RATE_SLOTS - 1) % RATE_SLOTS;

    if (rate->count > 0 && now_us - rate->at_us[last] < US_PER_S)
        return;
    rate->at_us[rate->next] = now_us;
    rate->done[rate->next] = done;
    rate->next = (rate->next + 1) % RATE_SLOTS;
    if (rate->count < RATE_SLOTS)
        rate->count++;
}

double rate_now(const struct rate *rate, int64_t now_us, int64_t done)
{
    int oldest = rate->count < RATE_SLOTS ? 0 : rate->next;
    int64_t span_us;

    if (rate->count == 0)
        return 0;
    span_us = now_us - rate->at_us[oldest];
    if (span_us < US_PER_S / 2)
        return 0;
    return (double)(done - rate->done[oldest]) * (double)US_PER_S / (double)span_us;
}
