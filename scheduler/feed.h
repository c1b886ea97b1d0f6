/* SPDX-License-Identifier: Apache-2.0 */
/* The feeder: deals waiting jobs into the topics, as many as the fleet can take. */
#ifndef SCHEDULER_FEED_H
#define SCHEDULER_FEED_H

#include "scheduler/tasks.h"

/* Deals who is next: marks the rows in a transaction of the leader, then publishes their tickets.
 */
void feed_run(struct task *task);

/* A call under a limit of concurrency has ended: looks soon, if somebody waits for its place. */
void feed_place_free(struct scheduler *scheduler);

/* Grants the fast lane its credits. */
void feed_lanes_run(struct task *task);

/* Takes back what was dealt of tenants that must wait. */
void feed_recall_run(struct task *task);

/* Forgets gates that stand open. */
void feed_gates_run(struct task *task);

/* Sends tickets again that nobody claimed within a minute. */
void feed_republish_run(struct task *task);

#endif
