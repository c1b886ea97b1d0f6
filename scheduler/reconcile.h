/* SPDX-License-Identifier: Apache-2.0 */
/* Holds the books of budgets in Redis to the ledger in Postgres. */
#ifndef SCHEDULER_RECONCILE_H
#define SCHEDULER_RECONCILE_H

#include "common/base/err.h"
#include "scheduler/tasks.h"

struct reconcile;

/* What the task remembers between passes. */
struct reconcile *reconcile_new(void) MUST_CHECK;
/* After the connections that passes wait for. */
void reconcile_free(struct reconcile *reconcile);

/* A round over all tenants with a budget, a batch of them each pass.  Of those whose book changed
 * since, and of some others in turn:
 * - reservations older than RECONCILE_OLD_MS, and calls booked as unknown, become what the ledger
 *   says of them; what the ledger does not know, and whose run is gone, is released;
 * - where nothing is out, each account is compared with the ledger; one that differs is counted
 *   (nightshift_budget_drift_nano_total), and the book made anew;
 * - accounts over a threshold are told of (alerts.h). */
void reconcile_run(struct task *task);

enum { RECONCILE_OLD_MS = 10000 };

void reconcile_declare_metrics(void);

#endif
