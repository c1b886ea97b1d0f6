/* SPDX-License-Identifier: Apache-2.0 */
/* What Redis holds for a call, from its admission until it was told how the call ended. */
#ifndef WORKER_HOLD_H
#define WORKER_HOLD_H

#include "common/base/id.h"
#include "common/model/call_store.h"

struct admission;

/* Strings are borrowed. */
struct hold {
    unsigned parts; /* ADMISSION_HOLDS_...; 0: nothing is held */
    struct admission *admission;
    const char *tenant;
    const char *provider;
    struct id job;
    int run;
    int call;
};

/* The call was never tried, and the ledger has no row of it: gives everything back. */
void hold_undo(struct hold *hold);

/* The ledger has the outcome, or surely no row: tells Redis.  Never before that, or a rebuild in
 * between would book the call twice, or not at all. */
void hold_settle(struct hold *hold, const struct call_outcome *outcome);

/* Takes the hold over for an outcome that is on its way to the ledger while the run goes: give
 * hold_on_booked and what is returned to call_settle.  NULL: out of memory, or nothing is held;
 * then whoever reconciles finds it.  free() it when it is not given away after all. */
struct hold_late;
struct hold_late *hold_detach(struct hold *hold, const struct call_outcome *outcome);
void hold_on_booked(enum store_outcome outcome, void *late); /* late may be NULL */

#endif
