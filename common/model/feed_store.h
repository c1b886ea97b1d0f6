/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of the feeder: how much room there is, who waits, dealing, credits of the fast lane. */
#ifndef COMMON_MODEL_FEED_STORE_H
#define COMMON_MODEL_FEED_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/job.h"
#include "common/model/topics.h"

enum {
    FEED_BATCH_MAX = 2000,
    FEED_GATED_ROWS = 300, /* of a tenant with gates, that are looked at in a pass */
    FEED_WALK_MAX = 20000, /* of all tenants, while any has gates */
    LANE_SHARDS = 8,
};

/* What the fleet can take and what it has been given. */
struct feed_look {
    int64_t slots; /* of workers that beat and do not drain */
    struct {
        int64_t dealt;    /* not claimed yet, paused tenants' left out; counted up to 2 x slots */
        int64_t credits;  /* granted to the fast lane and not used yet */
        bool has_backlog; /* somebody is ready and not dealt */
    } of[PRIORITY_COUNT];
    bool has_tenants_at_rest; /* paused or disabled */
    bool has_gates;
};
void feed_look(struct pg *pg, pg_done_fn *done, void *arg);
bool feed_look_read(const struct pg_result *result, struct feed_look *out) MUST_CHECK;

/* A job that is ready and not dealt. */
struct feed_candidate {
    struct id job;
    char tenant[JOB_LABEL_MAX + 1];
    enum priority priority;
    int dispatch_seq;
    int64_t ready_at_us;
    int64_t deadline_us;
    int64_t est_tokens;
    char key_id[JOB_LABEL_MAX + 1]; /* what gates are matched with; "" where there is none */
    char workflow[JOB_LABEL_MAX + 1];
    char end_user[JOB_LABEL_MAX + 1];
    char model[JOB_LABEL_MAX + 1];
};

/* Up to limits[p] of each priority, nothing paused, longest ready first.  One row each.  While
 * there are gates: tenant by tenant, none of those whose own gate is closed, and more than
 * limits[p] in all, for who picks among them (at most FEED_WALK_MAX). */
void feed_candidates(struct pg *pg, const int limits[PRIORITY_COUNT], bool has_gates,
                     pg_done_fn *done, void *arg);
void feed_candidate_read(const struct pg_result *result, int row, struct feed_candidate *out);

/* --- transactions of the leader --------------------------------------------------------------- */

/* Marks those of jobs that still wait as dealt, in the order given (workers that take dealt rows
 * directly keep to it).  One row each, in that order, for feed_ticket_read. */
void feed_deal(struct pg *pg, int64_t epoch, const struct feed_candidate *const *jobs, size_t count,
               pg_done_fn *done, void *arg);

/* Those dealt whose ticket went out over a minute ago and that nobody claimed: their tickets, with
 * the same number, may go out again.  Rows as of feed_deal. */
void feed_republish(struct pg *pg, int64_t epoch, int limit, pg_done_fn *done, void *arg);
void feed_ticket_read(const struct pg_result *result, int row, struct ticket *out,
                      enum priority *priority);

/* Takes back what was dealt of tenants that are at rest now, and what was dealt before a gate of
 * theirs closed: it would take room from the others. */
void feed_recall(struct pg *pg, int64_t epoch, int limit, pg_done_fn *done, void *arg);

/* Sets the credits of each priority, spread over its shards; shards that are near it, or taken by a
 * submit at this moment, are left alone.  They expire after five minutes. */
void feed_grant(struct pg *pg, int64_t epoch, const int64_t credits[PRIORITY_COUNT],
                pg_done_fn *done, void *arg);

#endif
