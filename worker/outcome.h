/* SPDX-License-Identifier: Apache-2.0 */
/* From how a call went to its row in the ledger, and to the metrics. */
#ifndef WORKER_OUTCOME_H
#define WORKER_OUTCOME_H

#include "common/model/call_store.h"
#include "worker/call.h"
#include "worker/reservation.h"

/* cost_nano is what the job's ceiling has to count: spent, or the reservation of an unknown one. */
struct call_outcome outcome_of_call(const struct reservation *worst, int ordinal,
                                    const struct call_end *end);

/* Counts the call; outcome is "ok", "cancelled" or an error type. */
void outcome_count(const struct target *target, const struct call_outcome *outcome,
                   const struct call_end *end, const char *name);

#endif
