/* SPDX-License-Identifier: Apache-2.0 */
/* Seals the audit: verifies what was added since the last checkpoint, and signs the next one. */
#ifndef SCHEDULER_AUDIT_H
#define SCHEDULER_AUDIT_H

#include "scheduler/tasks.h"

/* A task.  The checkpoint goes into the database and, as text, into the log: keep that elsewhere
 * and the audit can be held to it even when the database was rewritten.  An audit that is broken
 * gets no more checkpoints: it is an error in the log and nightshift_audit_broken is 1. */
void audit_run(struct task *task);

void audit_declare_metrics(void);

#endif
