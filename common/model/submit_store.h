/* SPDX-License-Identifier: Apache-2.0 */
/* Storing submitted jobs: the row that makes a 202 true, its idempotency key, the fast lane. */
#ifndef COMMON_MODEL_SUBMIT_STORE_H
#define COMMON_MODEL_SUBMIT_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/job.h"
#include "common/model/limits.h"

struct submit_store;

/* The role of the intake connection (pg_options.role): it has no right to any table, but may call
 * what migrations/0010_intake_role.sql defines. */
#define INTAKE_ROLE "nightshift_intake"

/* intake must wait no longer for a lock than a submit may wait for another with its key.  read acts
 * as TENANT_ROLE. */
struct submit_store *submit_store_new(struct pg *intake, struct pg *read, struct pg *api);
void submit_store_free(struct submit_store *store);

enum submit_result {
    SUBMIT_STORED,
    SUBMIT_KEY_KNOWN,  /* the idempotency key was there: ask submit_find_key */
    SUBMIT_KEY_BUSY,   /* its first submit is still committing, or somebody else who holds up a
                          limited queue, after the whole wait */
    SUBMIT_QUEUE_FULL, /* nothing was stored, its key is not known either */
    SUBMIT_AWAY,       /* Postgres was not there: nothing was stored */
    SUBMIT_UNSURE,     /* the connection died on the way: ask submit_find_job */
    SUBMIT_BROKEN,     /* the server refused the row */
};

struct submit_reply {
    enum submit_result result;
    bool is_fast;          /* SUBMIT_STORED: dealt already, its ticket is ours to publish */
    enum limit_scope full; /* SUBMIT_QUEUE_FULL: whose queue */
    const char *message;
};
typedef void submit_stored_fn(const struct submit_reply *reply, void *arg);

/* One statement for all that come together: idempotency keys, jobs, queue, events, counts.  The job
 * is borrowed until this returns.  most_queued (by enum limit_scope, -1: no limit; NULL: none at
 * all) is kept exactly, whoever else submits: what is limited goes one at a time per tenant.  done
 * is called exactly once, never from inside.  False: too much is waiting. */
bool submit_store(struct submit_store *store, const struct job_new *job,
                  const int64_t most_queued[LIMIT_SCOPE_COUNT], submit_stored_fn *done,
                  void *arg) MUST_CHECK;

/* Who has this tenant's idempotency key, and with which body?  is_found false: nobody any more. */
struct submit_key_reply {
    enum pg_status status;
    bool is_found;
    struct id job;
    uint8_t body_hash[32];
    int64_t worst_case_nano; /* as it was then; -1: unknown */
};
typedef void submit_key_fn(const struct submit_key_reply *reply, void *arg);
bool submit_find_key(struct submit_store *store, const char *tenant, const char *key,
                     submit_key_fn *done, void *arg) MUST_CHECK;

/* Is this job there after all? */
typedef void submit_job_fn(enum pg_status status, bool is_found, void *arg);
bool submit_find_job(struct submit_store *store, struct id job, submit_job_fn *done,
                     void *arg) MUST_CHECK;

/* Tickets that did not reach the broker: the job goes back to those that the scheduler deals,
 * unless its queue row is another by now.  Nobody waits for it: what fails here a worker claims
 * without a ticket. */
void submit_unpublish(struct submit_store *store, struct id job, int dispatch_seq);

/* A job as it was submitted, for a replay of it: without id, run_at, deadline and idempotency key,
 * and replay_of set to it.  job is the receiver's to job_new_free; NULL: no such job. */
struct submit_copy_reply {
    enum pg_status status;
    struct job_new *job;
    bool has_ended;
};
typedef void submit_copy_fn(const struct submit_copy_reply *reply, void *arg);
bool submit_copy(struct submit_store *store, struct id job, const char *tenant,
                 submit_copy_fn *done, void *arg) MUST_CHECK;

#endif
