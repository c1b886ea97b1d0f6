/* SPDX-License-Identifier: Apache-2.0 */
/* Intake: tickets to claimed jobs, no more than there are free slots for. */
#ifndef WORKER_INTAKE_H
#define WORKER_INTAKE_H

#include "common/base/err.h"

struct intake;
struct kafka_options;
struct worker;

/* One consumer per priority.  Takes nothing before intake_resume. */
struct intake *intake_start(struct worker *worker, const struct kafka_options *kafka,
                            struct err *err) MUST_CHECK;
/* The worker is registered (again), or a slot came free. */
void intake_resume(struct intake *intake);
void intake_kick(struct intake *intake);
/* Not registered: takes nothing. */
void intake_suspend(struct intake *intake);
/* Drain: leaves the group for good; claims under way are still answered. */
void intake_stop(struct intake *intake);
/* No claim is under way any more. */
bool intake_is_quiet(const struct intake *intake);
/* Waits for the group to be left, a moment for each consumer. */
void intake_free(struct intake *intake);
/* Has every consumer got its assignment at least once? */
bool intake_has_joined(const struct intake *intake);

#endif
