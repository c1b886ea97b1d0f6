/* SPDX-License-Identifier: Apache-2.0 */
/* nightshift-worker: what is started, in which order, and the lease it works under. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/io/daemon.h"
#include "common/io/http_client.h"
#include "common/io/kafka.h"
#include "common/io/pg.h"
#include "common/io/redis.h"
#include "common/model/call_store.h"
#include "common/model/channels.h"
#include "common/model/end_store.h"
#include "common/model/event_store.h"
#include "common/model/schema_store.h"
#include "common/model/settings.h"
#include "common/model/topics.h"
#include "common/model/webhook_sender.h"
#include "worker/admit.h"
#include "worker/drain.h"
#include "worker/freed.h"
#include "worker/heartbeat.h"
#include "worker/intake.h"
#include "worker/provider_gates.h"
#include "worker/run.h"
#include "worker/worker.h"

#include <event2/event.h>

enum {
    HEARTBEAT_STOP_MS = 1000,
    TOPICS_WAIT_MS = 5000,
    KNOWN_MAX = 16,
    JOIN_PATIENCE_MS = 5000, /* ready without partitions after this: more workers than partitions */
};

static const struct option options[] = {
    {.name = "worker.slots",
     .type = OPTION_INT,
     .offset = offsetof(struct worker_settings, slots),
     .fallback = "2000",
     .min = 1,
     .max = 100000,
     .help = "Jobs that one process runs at once; shared by the priorities 50, 35 and 15 percent."},
    {.name = "worker.max_request_bytes",
     .type = OPTION_INT,
     .offset = offsetof(struct worker_settings, max_request_bytes),
     .fallback = "536870912",
     .unit = "bytes",
     .min = 1,
     .max = INT64_C(1) << 40,
     .help = "No more jobs are claimed while the requests of those in work take so much memory."},
    {.name = "worker.max_response_bytes",
     .type = OPTION_INT,
     .offset = offsetof(struct worker_settings, max_response_bytes),
     .fallback = "8388608",
     .unit = "bytes",
     .min = 1024,
     .max = INT64_C(256) << 20,
     .help = "The longest answer of a provider that is taken."},
    WEBHOOK_OPTIONS(struct worker_settings, webhooks),
};

static const struct log_context log_worker = {.component = "worker"};

static bool check(const struct config *config, const void *own, FILE *out, struct err *err)
{
    const struct worker_settings *worker = own;
    struct settings *settings;

    if (!webhook_settings_check(&worker->webhooks, config, err))
        return false;
    settings = settings_load(config, err);
    if (!settings)
        return false;
    if (out)
        settings_print(settings, out);
    settings_unref(settings);
    return true;
}

/* --- the lease -------------------------------------------------------------------------------- */

static void on_up(struct id boot_id, void *arg)
{
    struct worker *worker = arg;
    char channel[CHANNEL_SIZE];

    if (worker->is_draining)
        return;
    worker->claims = claim_store_new(worker->intake_pg, boot_id);
    if (!worker->claims) {
        log_error(&log_worker, "cannot claim: out of memory");
        return;
    }
    worker->boot_id = boot_id;
    channel_of_worker(boot_id, channel);
    redis_subscribe(worker->subscriber, channel, NULL, NULL);
    log_info(&log_worker, "registered: slots=%d", worker->slots.total);
    intake_resume(worker->intake);
}

/* Nothing that runs here is surely ours any more: rescue has it, or will. */
static void on_lost(void *arg)
{
    struct worker *worker = arg;
    char channel[CHANNEL_SIZE];

    if (!worker->claims)
        return;
    channel_of_worker(worker->boot_id, channel);
    redis_unsubscribe(worker->subscriber, channel);
    memset(&worker->boot_id, 0, sizeof(worker->boot_id));
    intake_suspend(worker->intake);
    claim_store_free(worker->claims);
    worker->claims = NULL;
    worker_cut_runs(worker, CUT_LOST);
}

static void on_cancel(struct id job, void *arg)
{
    struct run *run = worker_find_run(arg, job);

    if (run)
        run_cancel(run);
}

static void on_message(const char *channel, const char *data, size_t len, void *arg)
{
    struct worker *worker = arg;

    if (strcmp(channel, CHANNEL_CLOSED) == 0)
        provider_gates_hear(worker->gates, data, len);
    else
        worker_hear(worker, data, len);
}

/* --- start ------------------------------------------------------------------------------------ */

static bool start_database(struct worker *worker, const char *url, struct err *err)
{
    struct pg_options intake = {.url = url, .duty = "intake"};
    struct pg_options completion = {.url = url, .duty = "completion"};
    /* On time, not late: text that a crash of Postgres took back after it was confirmed would leave
     * a hole that no reader could fill. */
    struct pg_options partials = {.url = url, .duty = "partials"};

    worker->intake_pg = pg_new(worker->base, &intake, err);
    worker->completion_pg = worker->intake_pg ? pg_new(worker->base, &completion, err) : NULL;
    worker->partials_pg = worker->completion_pg ? pg_new(worker->base, &partials, err) : NULL;
    if (!worker->partials_pg)
        return false;
    worker->calls = call_store_new(worker->completion_pg);
    worker->ends = end_store_new(worker->completion_pg);
    worker->events = event_store_new(worker->partials_pg);
    return (worker->calls && worker->ends && worker->events) ||
           err_set(err, "make the stores: out of memory");
}

static bool start_redis(struct worker *worker, const char *url, struct err *err)
{
    struct redis_options redis = {.url = url};

    worker->redis = redis_new(worker->base, &redis, err);
    if (!worker->redis)
        return false;
    worker->freed = freed_new(worker->base, worker->redis);
    if (!worker->freed)
        return err_set(err, "tell the feeder of free places: out of memory");
    worker->subscriber = redis_subscriber_new(worker->base, &redis, on_message, worker, err);
    return worker->subscriber != NULL;
}

static bool start_http(struct worker *worker, struct err *err)
{
    struct http_client_options http = {
        .max_calls = worker->slots.total,
        .max_idle_connections = worker->slots.total,
    };

    worker->http = http_client_new(worker->base, &http, err);
    return worker->http != NULL;
}

static bool start_webhooks(struct worker *worker, struct err *err)
{
    webhook_sender_declare_metrics();
    worker->webhooks = webhook_sender_start(worker->daemon, &worker->options->webhooks, err);
    return worker->webhooks != NULL;
}

/* Limits and accounts, and which providers are paused. */
static bool start_gates(struct worker *worker, const struct daemon_settings *common,
                        struct err *err)
{
    worker->admit = admit_start(worker->base, common->database_url, common->redis_url, err);
    if (!worker->admit)
        return false;
    worker->gates =
        provider_gates_new(worker->base, worker->intake_pg, admit_admission(worker->admit));
    if (!worker->gates)
        return err_set(err, "watch the providers' gates: out of memory");
    redis_subscribe(worker->subscriber, CHANNEL_CLOSED, NULL, NULL);
    return true;
}

static bool start_intake(struct worker *worker, const struct daemon_settings *common,
                         struct err *err)
{
    bool is_embedded = strcmp(common->broker_profile, "embedded") == 0;
    struct kafka_options kafka = {
        .brokers = common->kafka_brokers,
        .profile = is_embedded ? KAFKA_EMBEDDED : KAFKA_REAL,
        .client_id = "nightshift-worker",
    };
    struct err why = {0};

    /* A broker that is away keeps nobody from starting: dealt rows are claimed without it. */
    if (!kafka_topics_ensure(&kafka, topic_names, PRIORITY_COUNT, TOPIC_PARTITIONS, TOPICS_WAIT_MS,
                             &why))
        log_warn(&log_worker, "topics not ensured: %s", why.message);
    worker->intake = intake_start(worker, &kafka, err);
    return worker->intake != NULL;
}

static int64_t last_turn_us(const void *daemon)
{
    return daemon_last_tick_us(daemon);
}

static bool start_heartbeat(struct worker *worker, const char *url, struct err *err)
{
    char host[128] = "", name[192];
    struct heartbeat_options heartbeat = {
        .database_url = url,
        .name = name,
        .slots = worker->slots.total,
        .last_turn_us = last_turn_us,
        .last_turn_arg = worker->daemon,
        .on_up = on_up,
        .on_lost = on_lost,
        .on_cancel = on_cancel,
        .arg = worker,
    };

    gethostname(host, sizeof(host) - 1);
    snprintf(name, sizeof(name), "%s/%d", host, (int)getpid());
    worker->heartbeat = heartbeat_start(worker->base, &heartbeat, err);
    return worker->heartbeat != NULL;
}

static bool is_ready(char *why, size_t size, void *arg)
{
    const struct worker *worker = arg;
    bool is_patient = clock_monotonic_us() - worker->started_us < JOIN_PATIENCE_MS * US_PER_MS;

    if (worker->is_draining)
        snprintf(why, size, "draining");
    else if (id_is_zero(worker->boot_id))
        snprintf(why, size, "not registered in Postgres");
    else if (!pg_is_ready(worker->intake_pg) || !pg_is_ready(worker->completion_pg) ||
             !pg_is_ready(worker->partials_pg))
        snprintf(why, size, "Postgres away");
    else if (is_patient && !intake_has_joined(worker->intake))
        snprintf(why, size, "joining the Kafka group");
    else
        return true;
    return false;
}

static bool start(struct daemon *daemon, struct err *err)
{
    const struct daemon_settings *common = daemon_common(daemon);
    struct worker *worker;

    /* A database that is away keeps nobody from starting: the parts wait for it. */
    if (schema_check(common->database_url, err) == SCHEMA_OLD)
        return false;
    worker = xcalloc(1, sizeof(*worker));
    daemon_set_data(daemon, worker);
    worker->daemon = daemon;
    worker->base = daemon_base(daemon);
    worker->options = daemon_settings(daemon);
    worker->started_us = clock_monotonic_us();
    worker->runs = map_new((size_t)worker->options->slots);
    worker->runs_by_job = map_new((size_t)worker->options->slots);
    slots_init(&worker->slots, (int)worker->options->slots);
    store_declare_metrics();
    worker->settings = settings_load(daemon_config(daemon), err);
    if (worker->settings)
        run_declare_metrics(worker->settings);
    if (!worker->settings || !start_database(worker, common->database_url, err) ||
        !start_redis(worker, common->redis_url, err) || !start_http(worker, err) ||
        !start_gates(worker, common, err) || !start_webhooks(worker, err) ||
        !start_intake(worker, common, err) ||
        !start_heartbeat(worker, common->database_url, err)) /* on_up opens the intake */
        return false;
    daemon_set_ready_check(daemon, is_ready, worker);
    return true;
}

/* --- the rest of a life ----------------------------------------------------------------------- */

static void drain(struct daemon *daemon)
{
    drain_start(daemon_data(daemon));
}

static void reload(struct daemon *daemon, const struct config *config, const void *own)
{
    struct worker *worker = daemon_data(daemon);
    struct err err = {0};
    struct settings *settings = settings_load(config, &err);

    worker->options = own; /* the old ones are gone */
    webhook_sender_reload(worker->webhooks, &worker->options->webhooks);
    if (!settings) {
        log_error(&log_worker, "providers and routes not reloaded: %s", err.message);
        return;
    }
    settings_unref(worker->settings);
    worker->settings = settings;
    run_declare_metrics(settings);
}

/* In the order in which nothing is used after it is gone. */
static void stop(struct daemon *daemon)
{
    struct worker *worker = daemon_data(daemon);

    if (worker->drain_tick)
        event_free(worker->drain_tick);
    heartbeat_stop(worker->heartbeat, HEARTBEAT_STOP_MS);
    if (map_count(worker->runs) > 0)
        return; /* a run that was left would be called back into what is gone: all ends with us */
    webhook_sender_free(worker->webhooks);
    claim_store_free(worker->claims);
    event_store_free(worker->events);
    end_store_free(worker->ends);
    call_store_free(worker->calls);
    pg_free(worker->partials_pg);
    pg_free(worker->completion_pg);
    pg_free(worker->intake_pg);
    provider_gates_free(worker->gates);
    admit_free(worker->admit);
    intake_free(worker->intake);
    http_client_free(worker->http);
    redis_subscriber_free(worker->subscriber);
    freed_free(worker->freed);
    redis_free(worker->redis);
    settings_unref(worker->settings);
    map_free(worker->runs_by_job);
    map_free(worker->runs);
    free(worker);
}

/* What it reads besides its options, and its neighbours' option in a section of its own. */
static size_t known_paths(const char **out)
{
    size_t count = 0;

    for (; count < settings_known_count; count++)
        out[count] = settings_known[count];
    out[count++] = "secrets.pepper";
    return count;
}

int main(int argc, char **argv)
{
    const char *known[KNOWN_MAX];
    const struct daemon_spec spec = {
        .name = "nightshift-worker",
        .summary = "claims jobs and calls model providers",
        .options = options,
        .option_count = sizeof(options) / sizeof(options[0]),
        .settings_size = sizeof(struct worker_settings),
        .known = known,
        .known_count = known_paths(known),
        .check = check,
        .start = start,
        .drain = drain,
        .reload = reload,
        .stop = stop,
    };

    return daemon_main(&spec, argc, argv);
}
