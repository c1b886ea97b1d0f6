/* SPDX-License-Identifier: Apache-2.0 */
/* The heartbeat: a thread with its own connection that keeps this process's row alive. */
#ifndef WORKER_HEARTBEAT_H
#define WORKER_HEARTBEAT_H

#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/model/job.h"

struct event_base;
struct heartbeat;

struct heartbeat_options {
    const char *database_url;
    const char *name; /* of the worker, for people */
    int slots;
    /* When the loop last turned (monotonic): a loop that does not turn gets no beat.  Called in
     * the thread. */
    int64_t (*last_turn_us)(const void *arg);
    const void *last_turn_arg;
    /* All of these run in the loop.  on_up: the row stands under this boot id, claims may begin.
     * on_lost: the row is gone, or no beat was confirmed for 5 s: nothing this process runs is
     * surely its own; on_up with a new id follows when the database answers again.  on_cancel: a
     * run of ours has its cancel flag set (told again with each beat until the run is gone). */
    void (*on_up)(struct id boot_id, void *arg);
    void (*on_lost)(void *arg);
    void (*on_cancel)(struct id job, void *arg);
    void *arg;
};

struct heartbeat *heartbeat_start(struct event_base *base, const struct heartbeat_options *options,
                                  struct err *err) MUST_CHECK;
/* What the next beats say. */
void heartbeat_report(struct heartbeat *heartbeat, const int used[PRIORITY_COUNT],
                      bool is_draining);
/* Deletes the row and ends the thread; waits for at most wait_ms. */
void heartbeat_stop(struct heartbeat *heartbeat, int wait_ms);

#endif
