/* SPDX-License-Identifier: Apache-2.0 */
/* Sends the webhooks that are due: claims them, signs, posts, records. */
#ifndef COMMON_MODEL_WEBHOOK_SENDER_H
#define COMMON_MODEL_WEBHOOK_SENDER_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/model/webhook_options.h"

struct daemon;
struct event_base;
struct pg;
struct webhook_sender;

struct webhook_sender_options {
    const struct webhook_policy *policy; /* copied */
    /* DATABASE_URL, REDIS_URL, KAFKA_BROKERS: their addresses are no targets.  Copied. */
    const char *const *backends;
    size_t backend_count;
    int max_in_flight;   /* 0: 256 */
    int per_endpoint;    /* in flight to one endpoint or job URL; 0: 4 */
    int per_tenant;      /* 0: 16 */
    int64_t lease_ms;    /* how long a claimed row is nobody else's; 0: 60000 */
    const char *ca_file; /* NULL: the system's */
};

/* Has an HTTP client and pool of its own, whose every connection is judged by the very address it
 * goes to.  Several processes may send at the same time; each delivery is in one's hands for the
 * lease.  A try is recorded after it ended, so a crash in between means another try with the same
 * webhook-id.  When half of max_in_flight is taken no tenant gets more than two more at a time, so
 * that receivers that hang cannot fill the rest. */
struct webhook_sender *webhook_sender_new(struct event_base *base, struct pg *pg,
                                          const struct webhook_sender_options *options,
                                          struct err *err) MUST_CHECK;

/* The same for a daemon, with a connection of its own and the daemon's backends. */
struct webhook_sender *webhook_sender_start(struct daemon *daemon,
                                            const struct webhook_settings *settings,
                                            struct err *err) MUST_CHECK;

/* Something may be due: looks, sends, and goes on until nothing more is due.  Cheap, may be called
 * at any time; nothing happens by itself without it, so retries need somebody to call it now and
 * then. */
void webhook_sender_sweep(struct webhook_sender *sender);

/* At SIGHUP: takes over the key that opens secrets; the rest stays until a restart. */
void webhook_sender_reload(struct webhook_sender *sender, const struct webhook_settings *settings);

/* Takes nothing more; what is in flight goes on. */
void webhook_sender_drain(struct webhook_sender *sender);
/* Deliveries and claims in work. */
int webhook_sender_outstanding(const struct webhook_sender *sender);

/* Before its pg.  Tries in flight are cut; their leases run out and they are sent again. */
void webhook_sender_free(struct webhook_sender *sender);

/* Shows the counters at zero before anything happened. */
void webhook_sender_declare_metrics(void);

#endif
