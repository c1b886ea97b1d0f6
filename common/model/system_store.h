/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the system as admins see it: queues and workers. */
#ifndef COMMON_MODEL_SYSTEM_STORE_H
#define COMMON_MODEL_SYSTEM_STORE_H

#include "common/base/id.h"
#include "common/model/admin_query.h"
#include "common/model/job.h"

/* One priority's queue. */
struct queue_info {
    enum priority priority;
    int64_t queued; /* by the counts: not the big table */
    int64_t running;
    int64_t oldest_waiting_us; /* how long; 0: none waits that may run */
    bool is_paused;
};

void queue_info_read(const struct admin_reply *reply, int row, struct queue_info *out);
bool queue_list(struct pg *pg, admin_done_fn *done, void *arg) MUST_CHECK; /* one per priority */

struct worker_info {
    struct id id;
    const char *name;
    int slots;
    int used[PRIORITY_COUNT];
    bool is_draining;
    bool is_alive; /* beat within 6 s */
    int64_t started_at_us;
    int64_t beat_at_us;
};

void worker_info_read(const struct admin_reply *reply, int row, struct worker_info *out);
bool worker_list(struct pg *pg, admin_done_fn *done, void *arg) MUST_CHECK;

#endif
