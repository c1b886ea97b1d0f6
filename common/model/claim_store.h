/* SPDX-License-Identifier: Apache-2.0 */
/* Claims: from a ticket, or a dealt row, to a run with its token. */
#ifndef COMMON_MODEL_CLAIM_STORE_H
#define COMMON_MODEL_CLAIM_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/job.h"
#include "common/model/topics.h"

/* Everything a run needs of its job.  One block of memory: the strings live behind the struct. */
struct claimed_job {
    struct id job;
    enum priority priority;
    int run;           /* 1 for the first claim */
    int64_t run_token; /* the fence: in every write of this run */
    const char *tenant;
    const char *key_id;
    const char *workflow; /* or NULL */
    const char *end_user; /* or NULL */
    const char *model;    /* the route's name */
    const char *request;  /* the bytes as received, NUL-terminated */
    size_t request_len;
    int calls;     /* provider calls so far, over the job's life: the next is calls + 1 */
    int attempts;  /* used of max_attempts */
    int deferrals; /* counters that travel, see struct call_outcome */
    int crashes;
    int max_attempts;
    int timeout_s;
    int64_t deadline_us;   /* database clock: compare with clock_db_us() */
    int64_t started_at_us; /* the first claim of all */
    int64_t max_cost_nano; /* -1: none */
    int64_t spent_nano;    /* cost of its calls so far, unknown ones at their reservation */
    int64_t est_tokens;
    int64_t queue_wait_us; /* from the moment it was ready to this claim */
};

void claimed_job_free(struct claimed_job *job); /* NULL is fine */

struct claim_store;

/* Claims of one worker process under one boot id.  Tickets that arrive together share a statement.
 */
struct claim_store *claim_store_new(struct pg *pg, struct id worker);
/* Claims outstanding are answered first (as failed). */
void claim_store_free(struct claim_store *store);

enum claim_outcome {
    CLAIM_MINE, /* job is set and belongs to the callee */
    CLAIM_NOT,  /* no such row, another seq, not ready, paused, expired, or we are not registered */
    CLAIM_FAILED,  /* nothing was claimed; try again */
    CLAIM_UNKNOWN, /* may have been claimed: claim_list_runs will tell */
    CLAIM_BAD,     /* the server refuses this very row, again and again */
};

typedef void claim_ticket_fn(enum claim_outcome outcome, struct claimed_job *job, void *arg);

/* Never calls back from inside, except with false (done is then not called: too much is out). */
bool claim_ticket(struct claim_store *store, const struct ticket *ticket, claim_ticket_fn *done,
                  void *arg) MUST_CHECK;

/* jobs (count of them) belong to the callee.  outcome is CLAIM_MINE also for none, CLAIM_UNKNOWN
 * when some may be missing. */
typedef void claim_dealt_fn(enum claim_outcome outcome, struct claimed_job **jobs, size_t count,
                            void *arg);

/* Claims up to limit rows that were dealt over 2 s ago, oldest first, without waiting for locks. */
enum { CLAIM_DEALT_MAX = 64 };
bool claim_dealt(struct claim_store *store, enum priority priority, int limit, claim_dealt_fn *done,
                 void *arg) MUST_CHECK;

/* The runs of this worker as the database knows them: what is not in the worker's own map was
 * claimed by a statement whose answer was lost.  Goes down the claims' own connection, so a claim
 * sent before has been answered before. */
typedef void claim_run_fn(struct id job, int64_t run_token, void *arg);
bool claim_list_runs(struct claim_store *store, claim_run_fn *visit, void (*done)(void *arg),
                     void *arg) MUST_CHECK;

/* Lets a run of this worker be rescued now (its lease ends): nobody here works on it. */
void claim_disown(struct claim_store *store, struct id job, int64_t run_token);

/* Keeps what was in a topic and is no ticket (its first 1 KiB; a thousand of them), for people to
 * look at. */
void claim_keep_unreadable(struct claim_store *store, const char *topic, int partition,
                           int64_t offset, const void *data, size_t len);

#endif
