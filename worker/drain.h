/* SPDX-License-Identifier: Apache-2.0 */
/* How a worker process stops without losing or repeating anything. */
#ifndef WORKER_DRAIN_H
#define WORKER_DRAIN_H

struct worker;

/* Takes nothing more; lets what runs finish until drain_ms, cuts and hands back the rest, deletes
 * the worker's row and calls daemon_finish, at most a few seconds later. */
void drain_start(struct worker *worker);

#endif
