/* SPDX-License-Identifier: Apache-2.0 */
/* When rescue may act, and how long a job waits after a crash.  Pure. */
#ifndef SCHEDULER_RESCUE_RULES_H
#define SCHEDULER_RESCUE_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/model/rescue_store.h"

/* What earlier passes leave to the next one.  Zero at the start. */
struct rescue_memory {
    int64_t last_us;       /* when the last pass began (monotonic); 0: never */
    int64_t suspected_us;  /* since when most workers look lost together; 0: they do not */
    bool skipped_an_error; /* the last pass did */
};

struct rescue_facts {
    int64_t now_us;        /* monotonic, as the others */
    int64_t last_error_us; /* of a statement of ours; 0: never */
    int64_t connected_us;  /* since when the database has been there */
};

/* May this pass rescue at all?  Not when nobody looked for over 3 s (this process was frozen, or
 * has just begun to lead), nor in the first 3 s after the database was away, nor when a statement
 * of ours failed since the last pass: then the workers' beats may have failed just as well, and a
 * moment's patience saves a fleet's work.  Of statements that go on failing only every second pass
 * is skipped: what is wrong with them may have nothing to do with the beats.  Remembers this pass.
 */
bool rescue_may_pass(struct rescue_memory *memory, const struct rescue_facts *facts);

/* May those workers be declared lost whose beat is stale?  When most of two or more went silent
 * together, only if a pass at least 2 s ago saw the same: a beat comes every second. */
bool rescue_may_declare(struct rescue_memory *memory, int64_t now_us, int64_t workers,
                        int64_t stale);

/* After the crashes-th crash (from 1): within a second at first, then 2 s * 4^(crashes-1), up to
 * ten minutes, of which at least half. */
struct rescue_delay rescue_delay(int crashes);

#endif
