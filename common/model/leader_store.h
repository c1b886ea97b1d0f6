/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of leadership: who leads, taking over, beating, and the fence before each transaction. */
#ifndef COMMON_MODEL_LEADER_STORE_H
#define COMMON_MODEL_LEADER_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"

/* A leader without a beat for this long may be succeeded although its session lives. */
enum { LEADER_STALE_S = 5 };

/* What a leader's statement fails with when another one leads. */
#define LEADER_SQLSTATE "NS001"

/* leader_look: may we lead?  Takes the advisory lock when the last leader had it and is gone. */
struct leader_view {
    int64_t epoch;
    bool may_take;
};
void leader_look(struct pg *pg, pg_done_fn *done, void *arg);
bool leader_look_read(const struct pg_result *result, struct leader_view *out) MUST_CHECK;

/* The next epoch, unless the one we saw is over: then there is no row.  Column 0: our epoch. */
void leader_take(struct pg *pg, int64_t seen_epoch, const char *holder, pg_done_fn *done,
                 void *arg);

/* Says that we live, and takes the advisory lock if it could not be had at the start.  No row: the
 * epoch is over. */
void leader_beat(struct pg *pg, int64_t epoch, pg_done_fn *done, void *arg);

/* Gives up: the next look of any scheduler finds nobody. */
void leader_resign_epoch(struct pg *pg, int64_t epoch, pg_done_fn *done, void *arg);

/* Lets the advisory lock go, held or not. */
void leader_unlock(struct pg *pg, pg_done_fn *done, void *arg);

enum { LEADER_STEPS_MAX = 8 };

/* Runs the steps as one transaction that fails with LEADER_SQLSTATE, and does nothing, unless epoch
 * is the present one.  No other leader can begin before it ends. */
void leader_transaction(struct pg *pg, int64_t epoch, const struct pg_step *steps, size_t count,
                        pg_done_fn *done, void *arg);

/* The same with one statement. */
void leader_statement(struct pg *pg, int64_t epoch, const struct pg_statement *statement,
                      const struct pg_value *values, size_t count, pg_done_fn *done, void *arg);

#endif
