/* SPDX-License-Identifier: Apache-2.0 */
/* One worker process: what its parts share. */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/id.h"
#include "common/model/claim_store.h"
#include "common/model/webhook_options.h"
#include "worker/run.h"
#include "worker/slots.h"

struct admit;
struct call_store;
struct daemon;
struct end_store;
struct event;
struct event_base;
struct event_store;
struct freed;
struct provider_gates;
struct heartbeat;
struct http_client;
struct intake;
struct map;
struct pg;
struct redis;
struct redis_subscriber;
struct run;
struct settings;
struct webhook_sender;

struct worker_settings {
    int64_t slots;
    int64_t max_request_bytes;  /* of all requests in work */
    int64_t max_response_bytes; /* of the text of one answer; 0: 8 MiB */
    struct webhook_settings webhooks;
};

struct worker {
    struct daemon *daemon;
    struct event_base *base;
    const struct worker_settings *options;
    struct settings *settings; /* the newest; a run takes a reference of its own */
    struct id boot_id;         /* zero while not registered; a new one after each lost lease */
    bool is_draining;

    /* One connection per duty, so that a slow batch delays no other duty. */
    struct pg *intake_pg;       /* claims */
    struct pg *completion_pg;   /* intent, settle, end, requeue */
    struct pg *partials_pg;     /* events */
    struct claim_store *claims; /* NULL while not registered */
    struct call_store *calls;
    struct event_store *events;
    struct end_store *ends;

    struct redis *redis;
    struct redis_subscriber *subscriber; /* hears "cancel" and "watch", and of closed accounts */
    struct http_client *http;
    struct admit *admit;          /* NULL: no limit is known (tests) */
    struct provider_gates *gates; /* NULL: all providers may be called */
    struct freed *freed;          /* NULL: the feeder finds out by itself (tests) */
    struct heartbeat *heartbeat;
    struct intake *intake;

    struct slots slots;
    int64_t request_bytes;   /* of the runs in work */
    struct map *runs;        /* by run_token */
    struct map *runs_by_job; /* by job id; the newest run of a job */
    struct event *drain_tick;
    int64_t drain_since_us;
    bool is_cut;           /* draining, and the grace is over */
    int64_t idle_since_us; /* draining, and the last run has ended */
    int64_t started_us;

    struct webhook_sender *webhooks; /* the first tries; the scheduler sees to the later ones */
};

/* Starts a run for a claimed job (takes it over) in a slot that was taken for it.  While draining,
 * or without memory for it, hands the job back to the queue and frees the slot. */
void worker_start_run(struct worker *worker, struct claimed_job *claimed);

/* A run is over: its end is committed, refused as stale, or forgotten after a cut.  Frees the slot
 * and forgets the run; run and claimed stay the caller's to free. */
void worker_run_ended(struct worker *worker, struct run *run, const struct claimed_job *claimed);

/* The run of a job in this process, or NULL. */
struct run *worker_find_run(const struct worker *worker, struct id job);

/* Cuts every run. */
void worker_cut_runs(struct worker *worker, enum cut_reason reason);

/* A message on the worker's channel: "cancel <hex>" or "watch <hex>"; anything else is ignored. */
void worker_hear(struct worker *worker, const char *data, size_t len);

/* Webhook rows were committed: something may be due. */
void worker_deliveries_due(struct worker *worker);

#endif
