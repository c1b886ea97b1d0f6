/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of gates as the feeder needs them: what is closed, who was let through, who is put off.
 * They are closed by requeues (end_store.h) and opened by whoever changes limits (limit_store.h).
 */
#ifndef COMMON_MODEL_GATE_STORE_H
#define COMMON_MODEL_GATE_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/job.h"
#include "common/model/limits.h"

enum { GATES_MAX = 20000, GATE_DETAIL_SIZE = 256 };

/* Times are from now. */
struct gate {
    char tenant[JOB_LABEL_MAX + 1];
    enum limit_scope kind;
    char name[JOB_LABEL_MAX + 1];
    int64_t until_us;    /* closed for so long; negative: it may let through since then */
    int64_t interval_us; /* one job each */
    int64_t most;        /* of concurrency: at once; -1: another limit */
    int64_t in_flight;   /* with most: dealt or running */
    int64_t tail_us;     /* the last that was put off comes then; negative: nobody is ahead */
    char reason[32];
    char detail[GATE_DETAIL_SIZE];
};

/* All that are not open, the tenants' closed ones too; at most GATES_MAX. */
void gate_list(struct pg *pg, pg_done_fn *done, void *arg);
bool gate_read(const struct pg_result *result, int row, struct gate *out) MUST_CHECK;

/* What of a scope was let through in a pass. */
struct gate_use {
    const struct gate *gate;
    int64_t jobs;
};

/* A waiting row of a closed scope that is to be looked at again after a while. */
struct gate_delay {
    const struct gate *gate;
    struct id job;
    int dispatch_seq;
    int64_t after_us;
};

enum { GATE_DELAYS_MAX = 1000, GATE_USES_MAX = 1000 };

/* For a transaction of the leader, behind its deal: moves the gates' times on. */
void gate_note_uses(struct pg *pg, int64_t epoch, const struct gate_use *uses, size_t count,
                    pg_done_fn *done, void *arg);
/* Puts rows off, in the order given, and notes for each gate how far its tail reaches now. */
void gate_put_off(struct pg *pg, int64_t epoch, const struct gate_delay *delays, size_t count,
                  pg_done_fn *done, void *arg);

/* Deletes gates that stand open and that nobody waits at. */
void gate_sweep(struct pg *pg, int64_t epoch, pg_done_fn *done, void *arg);

#endif
