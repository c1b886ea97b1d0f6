/* SPDX-License-Identifier: Apache-2.0 */
/* The outbox of webhooks: claiming what is due, recording each try. */
#ifndef COMMON_MODEL_DELIVERY_STORE_H
#define COMMON_MODEL_DELIVERY_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/store.h"
#include "common/model/webhook_body.h"

struct delivery_store;

struct delivery_store *delivery_store_new(struct pg *pg); /* NULL: out of memory */
/* Before its pg.  Waiting callbacks run (STORE_AWAY) before this returns, or a moment later. */
void delivery_store_free(struct delivery_store *store);

/* What a delivery in work keeps busy. */
struct delivery_lane {
    const char *tenant;
    const char *endpoint; /* NULL: a job's own URL */
    const char *url;
};

struct delivery_claim {
    const struct delivery_lane *busy; /* one entry for each delivery the caller has in work */
    size_t busy_count;
    int per_url;    /* of an endpoint or a job; with what is in work already */
    int per_tenant; /* the same */
    int limit;      /* rows of this claim */
    int64_t lease_ms;
    int64_t first_wait_ms; /* after the row was made */
};

/* A claimed row; pointers are borrowed from the reply. */
struct delivery {
    struct id id;
    const char *tenant;
    const char *endpoint; /* NULL: the job's own URL */
    const char *url;
    const char *type;
    int attempt;      /* this try, from 1 */
    const char *body; /* as it was sent before, or NULL: write it from job */
    size_t body_len;
    bool is_closed;         /* the endpoint is disabled or deleted, the job is gone: do not send */
    struct webhook_job job; /* where body is NULL */
    const char *secret;     /* sealed, of the endpoint or else of the tenant */
    size_t secret_len;
    const char *old_secret; /* NULL: none signs along */
    size_t old_secret_len;
};

/* Takes rows that are due: the tenants with the least in work first, then the longest
 * due.  They are the caller's for lease_ms; then somebody else may try again with the same id.
 * done gets the reply, whose rows delivery_read reads. */
void delivery_claim(struct delivery_store *store, const struct delivery_claim *claim,
                    pg_done_fn *done, void *arg);
void delivery_read(const struct pg_result *result, int row, struct delivery *out);

enum delivery_state { DELIVERY_WAITING, DELIVERY_DELIVERED, DELIVERY_FAILED };

struct delivery_try {
    struct id id;
    int attempt; /* as claimed: a later claim's row is left alone, unless this one delivered */
    enum delivery_state state;
    int64_t wait_ms;   /* where still waiting */
    int64_t at_us;     /* when the try began */
    int status;        /* 0: none came */
    const char *error; /* NULL: delivered */
    int64_t duration_ms;
    const char *body; /* kept for the tries to come; NULL: need not */
    size_t body_len;
    const char *disable; /* an endpoint that is to get nothing more, or NULL */
};

typedef void delivery_recorded_fn(enum store_outcome outcome, void *arg);

/* Appends to the list of tries (the newest 100 are kept) and moves the row.  A repeat changes
 * nothing.  False (done will not be called): the queue is full. */
bool delivery_record(struct delivery_store *store, const struct delivery_try *try,
                     delivery_recorded_fn *done, void *arg) MUST_CHECK;

#endif
