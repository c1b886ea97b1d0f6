/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of rescue: workers that went silent, and the runs they or a hang left behind. */
#ifndef COMMON_MODEL_RESCUE_STORE_H
#define COMMON_MODEL_RESCUE_STORE_H

#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/job.h"

enum {
    RESCUE_STALE_S = 6,         /* without a beat */
    RESCUE_WORKERS_MAX = 64,    /* declared lost in one pass */
    RESCUE_CRASHES_COUNTED = 8, /* from here on the delay grows no more */
};

/* Workers whose beat is stale, up to RESCUE_WORKERS_MAX, the stalest first. */
struct rescue_look {
    int64_t workers; /* all rows */
    int64_t stale;
    int count; /* of those here */
    struct {
        struct id id;
        char name[64];
        int64_t silent_ms;
    } of[RESCUE_WORKERS_MAX];
};
void rescue_look(struct pg *pg, pg_done_fn *done, void *arg);
bool rescue_look_read(const struct pg_result *result, struct rescue_look *out) MUST_CHECK;

/* A job that lost its run for the n-th time (n from 1) waits between min and max, at random. */
struct rescue_delay {
    int64_t min_ms, max_ms;
};

/* One transaction of the leader: deletes the rows of the workers given (those whose beat is still
 * stale), so that their next beat finds nothing; then takes up to limit runs away from workers that
 * have no row (detector "heartbeat"), past their lease ("lease") and, when looks_for_silence, with
 * a call and no event for longer than the run allows ("silent").
 *
 * Of each such run: the row goes; calls still `sent` become `unknown`, at their whole reservation;
 * a cancelled job ends cancelled, one past its deadline expired, with the text that it has; any
 * other goes back to the queue with one crash more.  One row per run, for rescued_read. */
struct rescue_order {
    const struct id *workers;
    int worker_count;
    int limit;
    bool looks_for_silence;
    struct rescue_delay delays[RESCUE_CRASHES_COUNTED]; /* [0]: first crash */
};
void rescue_runs(struct pg *pg, int64_t epoch, const struct rescue_order *order, pg_done_fn *done,
                 void *arg);

struct rescued {
    struct id job;
    enum priority priority;
    enum job_state state; /* JOB_QUEUED, or how it ended */
    const char *detector; /* borrowed from the result */
    int crashes;          /* now */
};
bool rescued_read(const struct pg_result *result, int row, struct rescued *out) MUST_CHECK;

#endif
