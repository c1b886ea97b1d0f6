/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL that folds the deltas of usage into its roll-ups. */
#ifndef COMMON_MODEL_USAGE_STORE_H
#define COMMON_MODEL_USAGE_STORE_H

#include <stdint.h>

#include "common/io/pg.h"

/* A transaction of the leader: up to limit delta rows become part of the roll-ups.  Whoever sums
 * both sees the same before, meanwhile and after.  One row: how many were folded (int8). */
void usage_fold(struct pg *pg, int64_t epoch, int limit, pg_done_fn *done, void *arg);

#endif
