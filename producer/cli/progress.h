/* SPDX-License-Identifier: Apache-2.0 */
/* The line that shows how far a batch is.  Pure. */
#ifndef PRODUCER_CLI_PROGRESS_H
#define PRODUCER_CLI_PROGRESS_H

#include <stdint.h>

#include "common/base/err.h"

struct buf;

struct progress {
    int64_t done, total;
    bool is_total_known; /* the input has been read to its end */
    int64_t failed;
    int64_t cost_nano;
    double rate;      /* jobs a second, 0: not known yet */
    int64_t waited_s; /* since the beginning */
};

/* At most width columns, and never broken into two lines: what matters less goes first. */
bool progress_line(const struct progress *progress, int width, bool is_utf8, struct buf *out);

/* "1h 02m", "3m 04s", "5 s". */
enum { PROGRESS_TIME_SIZE = 32 };
void progress_time(int64_t seconds, char out[PROGRESS_TIME_SIZE]);

/* "$1.0123", and "$0.000123" under a cent. */
enum { PROGRESS_COST_SIZE = 32 };
void progress_cost(int64_t nano, char out[PROGRESS_COST_SIZE]);

/* Jobs a second over the last ten seconds, from what was done at each moment. */
enum { RATE_SLOTS = 11 };
struct rate {
    int64_t at_us[RATE_SLOTS], done[RATE_SLOTS];
    int count, next;
};
void rate_note(struct rate *rate, int64_t now_us, int64_t done);
double rate_now(const struct rate *rate, int64_t now_us, int64_t done);

#endif
