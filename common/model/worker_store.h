/* SPDX-License-Identifier: Apache-2.0 */
/* The row of a worker process: made at boot, beaten by its heartbeat thread, deleted at the end
 * or by rescue. */
#ifndef COMMON_MODEL_WORKER_STORE_H
#define COMMON_MODEL_WORKER_STORE_H

#include "common/io/pg.h"
#include "common/model/job.h"

/* All but the last of these block: they run in the heartbeat thread on a session of its own. */

struct worker_row {
    struct id id; /* of this boot; never reused */
    const char *name;
    int slots;
};

/* Opens the session as heartbeats want it: late commit, short timeouts. */
struct pg_session *worker_session_open(const char *url, struct err *err) MUST_CHECK;

/* Makes the row, and deletes the row `old` (zero: none) of the boot before: rescue then takes what
 * it still held. */
bool worker_register(struct pg_session *session, const struct worker_row *row, struct id old,
                     struct err *err) MUST_CHECK;

enum { WORKER_BEAT_CANCELS_MAX = 256 };

struct worker_beat {
    bool is_there; /* the row still stands */
    int cancel_count;
    struct id cancels[WORKER_BEAT_CANCELS_MAX]; /* my runs with a cancel flag; the rest next time */
};

bool worker_beat(struct pg_session *session, struct id id, const int used[PRIORITY_COUNT],
                 bool is_draining, struct worker_beat *out, struct err *err) MUST_CHECK;

bool worker_unregister(struct pg_session *session, struct id id, struct err *err) MUST_CHECK;

/* The one that does not block: how many workers beat.  Column 0. */
void worker_count(struct pg *pg, pg_done_fn *done, void *arg);

#endif
