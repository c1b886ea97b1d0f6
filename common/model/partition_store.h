/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of what time makes: partitions ahead, and what is old enough to go. */
#ifndef COMMON_MODEL_PARTITION_STORE_H
#define COMMON_MODEL_PARTITION_STORE_H

#include <stdint.h>

#include "common/io/pg.h"

enum { PARTITION_DAYS_AHEAD = 14, PARTITION_DAYS_MAX = 64 };

/* All are transactions of the leader.  Days are numbered from 1970-01-01, in UTC. */

/* Partitions from yesterday to PARTITION_DAYS_AHEAD days after today.  Column 0: how many were
 * made. */
void partition_ensure(struct pg *pg, int64_t epoch, pg_done_fn *done, void *arg);

/* Days that have partitions and ended over retention_days ago, oldest first, up to
 * PARTITION_DAYS_MAX.  Column 0: the day. */
void partition_old_days(struct pg *pg, int64_t epoch, int64_t retention_days, pg_done_fn *done,
                        void *arg);

/* Column 0: false when a job of that day still lives (or its webhook waits): nothing was done. */
void partition_drop(struct pg *pg, int64_t epoch, int64_t day, pg_done_fn *done, void *arg);

/* Deletes up to limit rows each of: idempotency keys over IDEMPOTENCY_DAYS old, unreadable tickets
 * and ended webhooks without a job over retention_days old.  Column 0: the most of one kind. */
void partition_sweep(struct pg *pg, int64_t epoch, int64_t retention_days, int limit,
                     pg_done_fn *done, void *arg);

#endif
