/* SPDX-License-Identifier: Apache-2.0 */
/* One producer process: what its parts share. */
#ifndef PRODUCER_PRODUCER_H
#define PRODUCER_PRODUCER_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/crypto.h"
#include "common/model/webhook_options.h"

struct admission;
struct auth;
struct daemon;
struct end_store;
struct event;
struct event_base;
struct http_server;
struct job_store;
struct kafka_producer;
struct key_store;
struct limit_cache;
struct meter_cache;
struct pg;
struct publisher;
struct redis;
struct settings;
struct streams;
struct waking;
struct submit_store;
struct tokens;
struct watches;

struct producer_settings {
    char *listen;
    int64_t max_body_bytes;
    int64_t max_inflight_bytes; /* of all bodies read into memory */
    int64_t max_connections;
    int64_t max_connections_per_ip;
    char *tls_certificate;
    char *tls_key;
    char *pepper; /* secrets.pepper */
    struct webhook_settings webhooks;
};

struct producer {
    struct daemon *daemon;
    struct event_base *base;
    const struct producer_settings *options;
    struct settings *settings; /* routes and prices; the newest */
    uint8_t pepper[CRYPTO_KEY_SIZE];
    struct webhook_policy webhooks; /* networks that are allowed, the data key */

    /* One connection per duty, so that a slow batch delays no other duty. */
    struct pg *intake_pg; /* submits, as the intake's role; waits one second for a lock,
                             keeps the clock */
    struct pg *read_pg;   /* job reads, lists, events; as the tenants' role */
    struct pg *cancel_pg; /* as the tenants' role */
    struct pg *api_pg;    /* keys, administration */
    struct submit_store *submits;
    struct job_store *jobs; /* on read_pg */
    struct end_store *ends; /* on cancel_pg: queue_cancel */
    struct key_store *keys; /* on api_pg */

    struct kafka_producer *kafka;

    struct limit_cache *limits; /* on api_pg */

    struct waking *wakings; /* jobs made ready after their limits changed (admin_limits.c) */
    int waking_count;       /* of them; at most WAKINGS_MAX */

    struct redis *redis;
    struct redis *limit_redis; /* its own: a deadline drops its connection */
    struct admission *admission;
    struct meter_cache *meters; /* what limit_redis said for headers */
    struct watches *watches;
    struct publisher *publisher;
    struct streams *streams;
    struct auth *auth;
    struct tokens *tokens; /* of identity providers */
    struct http_server *server;
    int64_t body_bytes; /* read, or being read, into memory */
    int64_t started_us; /* monotonic */
};

/* Builds everything on the daemon's loop. */
struct producer *producer_start(struct daemon *daemon, struct err *err) MUST_CHECK;
/* Takes no more requests; streams end, and who waits is answered within a second. */
void producer_drain(struct producer *producer);
void producer_free(struct producer *producer); /* NULL is fine */

/* Takes over routes, networks and secrets of a configuration that was checked. */
struct config;
void producer_reload(struct producer *producer, const struct config *config,
                     const struct producer_settings *options);

/* Is every part there that a request needs?  Kafka only for the first seconds: submits do without
 * it. */
bool producer_is_ready(char *why, size_t size, void *producer);

#endif
