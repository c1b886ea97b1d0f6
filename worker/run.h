/* SPDX-License-Identifier: Apache-2.0 */
/* One job's run, from claim to end: admit, route, call, stream, settle. */
#ifndef WORKER_RUN_H
#define WORKER_RUN_H

#include "common/model/claim_store.h"

struct run;
struct settings;
struct worker;

/* Retries and fallbacks are shown with their zero before the first of them; again after a reload.
 */
void run_declare_metrics(const struct settings *settings);

/* Begins a run; claimed is the run's from now on, unless NULL is returned (out of memory).  Never
 * ends the run from inside.  A run ends in exactly one worker_run_ended(): when its end or requeue
 * is confirmed or refused as stale, or when it forgets its job after run_cut(CUT_LOST).  Until then
 * it holds its slot. */
struct run *run_start(struct worker *worker, struct claimed_job *claimed) MUST_CHECK;

/* The job's cancel flag is set (it is in the database already): cut the call, book it, end as
 * cancelled.  May come more than once, and at any moment. */
void run_cancel(struct run *run);

enum cut_reason {
    CUT_LOST,  /* we may not own the job any more: cut the call, book it by its own key as unknown,
                  write nothing else, forget the run.  An end or requeue already sent is awaited. */
    CUT_DRAIN, /* the process stops: cut the call, store its text, hand the job back with reason
                  drain and without counting the attempt.  An end already sent is awaited. */
};

/* worker_run_ended may be called from inside. */
void run_cut(struct run *run, enum cut_reason reason);

/* Somebody watches the job: publish deltas as they come. */
void run_watch(struct run *run);

#endif
