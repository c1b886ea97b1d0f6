/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a producer process: built in order, reloaded, freed. */
#include "producer/producer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/daemon.h"
#include "common/io/http_server.h"
#include "common/io/kafka.h"
#include "common/io/metrics.h"
#include "common/io/pg.h"
#include "common/io/redis.h"
#include "common/model/admission.h"
#include "common/model/api_error.h"
#include "common/model/api_key.h"
#include "common/model/end_store.h"
#include "common/model/job_store.h"
#include "common/model/key_store.h"
#include "common/model/limit_cache.h"
#include "common/model/schema_store.h"
#include "common/model/settings.h"
#include "common/model/store.h"
#include "common/model/submit_store.h"
#include "common/model/tenant_scope_store.h"
#include "common/model/topics.h"
#include "producer/admin.h"
#include "producer/auth.h"
#include "producer/meter_cache.h"
#include "producer/publish.h"
#include "producer/routes.h"
#include "producer/stream.h"
#include "producer/token.h"
#include "producer/watch.h"

enum {
    KEY_WAIT_MS = 1000, /* how long a submit waits for another with its idempotency key */
    /* A database that answers no more is noticed a little after these. */
    INTAKE_TIMEOUT_MS = 10000,
    API_TIMEOUT_MS = 5000,
    LIMIT_TIMEOUT_MS = 500,
    FLUSH_MS = 2000,
    WARM_UP_S = 10, /* so long Kafka may keep a new process unready */
};

static const struct log_context log_producer = {.component = "producer"};

/* --- start ------------------------------------------------------------------------------------ */

static bool connect_duties(struct producer *producer, const char *url, struct err *err)
{
    struct pg_options intake = {.url = url,
                                .duty = "intake",
                                .role = INTAKE_ROLE,
                                .statement_timeout_ms = INTAKE_TIMEOUT_MS,
                                .lock_timeout_ms = KEY_WAIT_MS,
                                .keeps_clock = true};
    struct pg_options read = {.url = url, .duty = "read", .role = TENANT_ROLE};
    struct pg_options cancel = {
        .url = url, .duty = "cancel", .role = TENANT_ROLE, .statement_timeout_ms = API_TIMEOUT_MS};
    struct pg_options api = {.url = url, .duty = "api", .statement_timeout_ms = API_TIMEOUT_MS};

    producer->intake_pg = pg_new(producer->base, &intake, err);
    producer->read_pg = producer->intake_pg ? pg_new(producer->base, &read, err) : NULL;
    producer->cancel_pg = producer->read_pg ? pg_new(producer->base, &cancel, err) : NULL;
    producer->api_pg = producer->cancel_pg ? pg_new(producer->base, &api, err) : NULL;
    return producer->api_pg != NULL;
}

static bool open_stores(struct producer *producer, struct err *err)
{
    producer->submits = submit_store_new(producer->intake_pg, producer->read_pg, producer->api_pg);
    producer->jobs = job_store_new(producer->read_pg);
    producer->ends = end_store_new(producer->cancel_pg);
    producer->keys = key_store_new(producer->api_pg);
    return (producer->submits && producer->jobs && producer->ends && producer->keys) ||
           err_set(err, "open the stores: out of memory");
}

static bool start_kafka(struct producer *producer, const struct daemon_settings *common,
                        struct err *err)
{
    struct kafka_options options = {
        .brokers = common->kafka_brokers,
        .profile = strcmp(common->broker_profile, "embedded") == 0 ? KAFKA_EMBEDDED : KAFKA_REAL,
        .client_id = "nightshift-producer",
    };

    producer->kafka = kafka_producer_new(producer->base, &options, err);
    if (!producer->kafka)
        return false;
    kafka_producer_warm(producer->kafka, topic_names, PRIORITY_COUNT);
    producer->publisher = publisher_new(producer->kafka, producer->submits);
    return producer->publisher || err_set(err, "start the publisher: out of memory");
}

static bool start_redis(struct producer *producer, const struct daemon_settings *common,
                        struct err *err)
{
    struct redis_options options = {.url = common->redis_url};

    producer->redis = redis_new(producer->base, &options, err);
    producer->watches =
        producer->redis ? watches_new(producer->base, common->redis_url, err) : NULL;
    return producer->watches != NULL;
}

/* The Redis of limits is asked before anything is done: it may not make anybody wait long. */
static bool start_limits(struct producer *producer, const struct daemon_settings *common,
                         struct err *err)
{
    struct redis_options options = {.url = common->redis_url,
                                    .command_timeout_ms = LIMIT_TIMEOUT_MS};

    producer->limits = limit_cache_new(producer->base, producer->api_pg);
    producer->meters = meter_cache_new();
    if (!producer->limits || !producer->meters)
        return err_set(err, "start the limits: out of memory");
    producer->limit_redis = redis_new(producer->base, &options, err);
    if (!producer->limit_redis)
        return false;
    producer->admission = admission_new(producer->base, producer->limit_redis);
    if (!producer->admission)
        return err_set(err, "start the limits: out of memory");
    admission_set_workers(producer->admission, daemon_process_count(producer->daemon));
    return true;
}

static bool read_configuration(struct producer *producer, struct err *err)
{
    producer->settings = settings_load(daemon_config(producer->daemon), err);
    return producer->settings &&
           webhook_policy_read(&producer->options->webhooks, &producer->webhooks, err) &&
           api_key_pepper_parse(producer->options->pepper, producer->pepper, err);
}

static struct tokens *make_tokens(struct producer *producer, const struct config *config,
                                  struct err *err)
{
    const struct daemon_settings *common = daemon_common(producer->daemon);
    const char *const backends[] = {common->database_url, common->redis_url, common->kafka_brokers};

    return tokens_new(producer->base, config, backends, 3, err);
}

static bool start_auth(struct producer *producer, struct err *err)
{
    producer->auth = auth_new(producer->keys, producer->pepper);
    if (!producer->auth)
        return err_set(err, "start the check of keys: out of memory");
    producer->tokens = make_tokens(producer, daemon_config(producer->daemon), err);
    auth_set_tokens(producer->auth, producer->tokens);
    return producer->tokens != NULL;
}

static bool start_server(struct producer *producer, struct err *err)
{
    int listener = daemon_listener(producer->daemon, 0);
    struct http_server_options options = {
        .limits = {.max_connections = (int)producer->options->max_connections,
                   .max_connections_per_ip = (int)producer->options->max_connections_per_ip},
        .handler = routes_handle,
        .on_head = routes_head,
        .on_answered = routes_answered,
        .arg = producer,
        .refuse = api_error_write,
        .tls_certificate = producer->options->tls_certificate,
        .tls_key = producer->options->tls_key,
    };

    producer->streams = streams_new(producer, err);
    if (!producer->streams)
        return false;
    producer->server = http_server_new(producer->base, &options, &listener, 1, err);
    return producer->server != NULL;
}

struct producer *producer_start(struct daemon *daemon, struct err *err)
{
    const struct daemon_settings *common = daemon_common(daemon);
    struct producer *producer;

    if (schema_check(common->database_url, err) == SCHEMA_OLD)
        return NULL;
    producer = calloc(1, sizeof(*producer));
    if (!producer) {
        err_set(err, "start: out of memory");
        return NULL;
    }
    producer->daemon = daemon;
    producer->base = daemon_base(daemon);
    producer->options = daemon_settings(daemon);
    producer->started_us = clock_monotonic_us();
    store_declare_metrics();
    if (read_configuration(producer, err) && connect_duties(producer, common->database_url, err) &&
        open_stores(producer, err) && start_kafka(producer, common, err) &&
        start_redis(producer, common, err) && start_limits(producer, common, err) &&
        start_auth(producer, err) && start_server(producer, err))
        return producer;
    producer_free(producer);
    return NULL;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* What is asked is told that Redis is away, and sees by the NULLs that there is nobody to ask. */
static void limits_stop(struct producer *producer)
{
    struct admission *admission = producer->admission;
    struct redis *redis = producer->limit_redis;
    struct limit_cache *limits = producer->limits;

    producer->admission = NULL;
    producer->limit_redis = NULL;
    if (admission)
        admission_free(admission);
    if (redis)
        redis_free(redis);
    producer->limits = NULL;
    limit_cache_free(limits);
    meter_cache_free(producer->meters);
    producer->meters = NULL;
}

/* The server first: nothing new comes.  Then Kafka, whose last answers may take tickets back; then
 * the stores, which answer who still waits, and what those answers still need. */
void producer_free(struct producer *producer)
{
    if (!producer)
        return;
    http_server_free(producer->server);
    streams_free(producer->streams);
    if (producer->kafka)
        kafka_producer_free(producer->kafka, FLUSH_MS);
    limits_stop(producer);
    submit_store_free(producer->submits);
    job_store_free(producer->jobs);
    end_store_free(producer->ends);
    key_store_free(producer->keys);
    if (producer->intake_pg)
        pg_free(producer->intake_pg);
    if (producer->read_pg)
        pg_free(producer->read_pg);
    if (producer->cancel_pg)
        pg_free(producer->cancel_pg);
    if (producer->api_pg)
        pg_free(producer->api_pg);
    tokens_free(producer->tokens);
    limits_wakings_free(producer);
    auth_free(producer->auth);
    if (producer->redis)
        redis_free(producer->redis);
    watches_free(producer->watches);
    publisher_free(producer->publisher);
    settings_unref(producer->settings);
    crypto_wipe(producer->pepper, sizeof(producer->pepper));
    crypto_wipe(&producer->webhooks, sizeof(producer->webhooks));
    free(producer);
}

void producer_drain(struct producer *producer)
{
    http_server_drain(producer->server);
    streams_drain(producer->streams);
}

/* --- in between ------------------------------------------------------------------------------- */

/* The tokens that this configuration wants: the same ones where nothing changed, so that keys
 * which were fetched go on serving. */
static struct tokens *reload_tokens(struct producer *producer, const struct config *config,
                                    struct err *err)
{
    if (!tokens_fit(producer->tokens, config))
        return make_tokens(producer, config, err);
    tokens_refresh(producer->tokens);
    return producer->tokens;
}

void producer_reload(struct producer *producer, const struct config *config,
                     const struct producer_settings *options)
{
    struct err err = {{0}, {0}, {0}};
    struct settings *fresh = settings_load(config, &err);
    struct webhook_policy policy = {.timeout_ms = 0};
    struct tokens *tokens = NULL;

    if (fresh && webhook_policy_read(&options->webhooks, &policy, &err) &&
        (tokens = reload_tokens(producer, config, &err))) {
        settings_unref(producer->settings);
        producer->settings = fresh;
        producer->webhooks = policy;
        crypto_wipe(&policy, sizeof(policy));
        auth_set_tokens(producer->auth, tokens);
        if (tokens != producer->tokens)
            tokens_free(producer->tokens);
        producer->tokens = tokens;
        return;
    }
    log_error(&log_producer, "configuration not taken over: %s", err.message);
    settings_unref(fresh);
    crypto_wipe(&policy, sizeof(policy));
}

bool producer_is_ready(char *why, size_t size, void *arg)
{
    const struct producer *producer = arg;
    int64_t age_us = clock_monotonic_us() - producer->started_us;

    if (!pg_is_ready(producer->intake_pg) || !pg_is_ready(producer->read_pg) ||
        !pg_is_ready(producer->cancel_pg) || !pg_is_ready(producer->api_pg))
        snprintf(why, size, "no connection to the database");
    else if (!limit_cache_is_ready(producer->limits))
        snprintf(why, size, "the limits are not known yet");
    else if (!kafka_producer_is_ready(producer->kafka) && age_us < WARM_UP_S * US_PER_S)
        snprintf(why, size, "the topics are not known yet");
    else
        return true;
    return false;
}
