/* SPDX-License-Identifier: Apache-2.0 */
/* One scheduler process: what its tasks share. */
#ifndef SCHEDULER_SCHEDULER_H
#define SCHEDULER_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/model/audit_verify.h"
#include "common/model/topics.h"
#include "common/model/webhook_options.h"
#include "scheduler/books.h"
#include "scheduler/rescue_rules.h"

struct admission;
struct book_rebuild;
struct daemon;
struct event_base;
struct kafka_producer;
struct leader;
struct limit_cache;
struct pg;
struct reconcile;
struct redis;
struct redis_subscriber;
struct tasks;
struct webhook_sender;

struct scheduler_settings {
    int64_t retention_days;
    struct webhook_settings webhooks;
};

struct scheduler {
    struct daemon *daemon; /* NULL in tests */
    struct event_base *base;
    const struct scheduler_settings *options;

    struct leader *leader;
    /* One connection per duty, so that a slow one delays no other.  What the feeder writes may be
     * lost in a crash of the server and is then done again, so it need not wait for the disk. */
    struct pg *feed_pg;   /* feed, lanes, recall, gates, republish */
    struct pg *rescue_pg; /* rescue, deadlines */
    struct pg *upkeep_pg; /* counts, usage, partitions, retention, audit */
    struct pg *books_pg;  /* sums of the ledger for budgets; alerts */
    struct tasks *tasks;

    /* Budgets; all NULL in tests that have no Redis. */
    struct limit_cache *limits; /* asks over feed_pg */
    struct redis *budget_redis;
    struct admission *admission;
    struct book_rebuild *books;
    struct reconcile *reconcile;
    struct books_pass books_pass;

    /* Sends a ticket; whether it arrives is no concern of the feeder's: a dealt row whose ticket is
     * lost is taken directly by a worker, or published again. */
    void (*publish)(struct scheduler *scheduler, const struct ticket *ticket,
                    enum priority priority);
    struct kafka_producer *producer;
    struct redis_subscriber *subscriber; /* hears of calls that ended; NULL in tests */
    struct webhook_sender *webhooks;     /* on a connection of its own; NULL in tests */

    bool has_tenants_at_rest; /* as the feeder saw it last */
    bool has_gates;
    bool is_full; /* somebody waits at a limit of concurrency until a call ends */
    struct rescue_memory rescue_memory;
    int64_t rescue_connected_us;          /* since when rescue_pg is */
    int64_t silence_looked_us;            /* when rescue last looked for silent runs */
    struct audit_checkpoint audit_sealed; /* the newest of this process's own; seq 0: none */
};

#endif
