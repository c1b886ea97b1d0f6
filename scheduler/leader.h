/* SPDX-License-Identifier: Apache-2.0 */
/* Which scheduler leads: by epoch, quickly by advisory lock, surely by heartbeat.
 *
 * The epoch in the row `leadership` is the truth.  Whoever leads bumped it, and starts each of its
 * transactions with a check of it (leader_transaction), so an old leader that does not know of its
 * end can change nothing.  Two things tell that a leader is gone: its advisory lock is free (its
 * session ended: found within a second), or it has not beaten for LEADER_STALE_S (it is frozen, or
 * cut off with the session half open).  In the second case the new one leads without the lock and
 * takes it as soon as it is let go. */
#ifndef SCHEDULER_LEADER_H
#define SCHEDULER_LEADER_H

#include <stdint.h>

#include "common/base/err.h"

struct event_base;
struct leader;

struct leader_options {
    const char *url;    /* DATABASE_URL */
    const char *holder; /* this process, for people: "host/pid" */
    /* From the loop, whenever we begin or cease to lead. */
    void (*on_change)(bool is_leading, void *arg);
    void *arg;
};

/* Has a connection of its own, which nothing else may delay.  Tries each second. */
struct leader *leader_new(struct event_base *base, const struct leader_options *options,
                          struct err *err) MUST_CHECK;
void leader_free(struct leader *leader);

/* Our epoch; 0 while we do not lead, which includes that our own beat was not confirmed for
 * LEADER_STALE_S.  Ask before each piece of work. */
int64_t leader_epoch(const struct leader *leader);
bool leader_is_connected(const struct leader *leader);

/* A transaction of this epoch failed with LEADER_SQLSTATE. */
void leader_lost(struct leader *leader, int64_t epoch, const char *why);

/* Gives up, if we lead, so that another takes over at its next look; and never tries again.  done
 * is called once, from the loop. */
void leader_resign(struct leader *leader, void (*done)(void *arg), void *arg);

#endif
