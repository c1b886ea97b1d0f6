/* SPDX-License-Identifier: Apache-2.0 */
/* nightshift-scheduler: starts the parts in order, and ends them. */
#include <event2/event.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/daemon.h"
#include "common/io/kafka.h"
#include "common/io/pg.h"
#include "common/io/redis.h"
#include "common/model/admission.h"
#include "common/model/book_rebuild.h"
#include "common/model/channels.h"
#include "common/model/limit_cache.h"
#include "common/model/schema_store.h"
#include "common/model/store.h"
#include "common/model/webhook_sender.h"
#include "scheduler/audit.h"
#include "scheduler/counts.h"
#include "scheduler/feed.h"
#include "scheduler/leader.h"
#include "scheduler/prepare.h"
#include "scheduler/reconcile.h"
#include "scheduler/rescue.h"
#include "scheduler/scheduler.h"
#include "scheduler/tasks.h"

enum { FLUSH_MS = 2000, UPKEEP_TIMEOUT_MS = 60000, HOST_SIZE = 64, DRAIN_LOOK_MS = 20 };

static const struct option options[] = {
    {.name = "scheduler.retention_days",
     .type = OPTION_INT,
     .offset = offsetof(struct scheduler_settings, retention_days),
     .fallback = "60",
     .unit = "days",
     .min = 30,
     .max = 36500,
     .help = "How long ended jobs, their events and their calls are kept."},
    WEBHOOK_OPTIONS(struct scheduler_settings, webhooks),
};

/* A scheduler and what only its start and end need. */
struct program {
    struct scheduler scheduler;
    struct prepare *prepare;
    struct event *drain_tick; /* looks whether the last webhooks are out */
    int64_t drain_since_us;
};

/* A ticket that is lost costs two seconds: then the dealt row is taken directly. */
static void publish(struct scheduler *scheduler, const struct ticket *ticket,
                    enum priority priority)
{
    char text[TICKET_TEXT_MAX];
    size_t len = ticket_write(ticket, text);

    if (!kafka_produce(scheduler->producer, topic_name(priority), text, len, NULL, NULL))
        log_debug(NULL, "ticket not published: the broker is away");
}

static bool is_ready(char *why, size_t size, void *arg)
{
    struct program *program = arg;

    if (!leader_is_connected(program->scheduler.leader)) {
        snprintf(why, size, "no connection to the database");
        return false;
    }
    return prepare_is_ready(program->prepare, why, size);
}

static void on_leading(bool is_leading, void *arg)
{
    struct scheduler *scheduler = arg;

    if (!is_leading)
        counts_forget();
    else if (scheduler->tasks)
        tasks_wake(scheduler->tasks);
}

static void on_rescue_connected(struct pg *pg, void *arg)
{
    struct scheduler *scheduler = arg;

    (void)pg;
    scheduler->rescue_connected_us = clock_monotonic_us();
}

static bool connect_duties(struct scheduler *scheduler, const char *url, struct err *err)
{
    struct pg_options feed = {.url = url, .duty = "feed", .asynchronous_commit = true};
    struct pg_options rescue = {
        .url = url, .duty = "rescue", .on_connect = on_rescue_connected, .arg = scheduler};
    struct pg_options upkeep = {
        .url = url, .duty = "upkeep", .statement_timeout_ms = UPKEEP_TIMEOUT_MS};
    struct pg_options books = {
        .url = url, .duty = "books", .statement_timeout_ms = UPKEEP_TIMEOUT_MS};

    scheduler->feed_pg = pg_new(scheduler->base, &feed, err);
    scheduler->rescue_pg = scheduler->feed_pg ? pg_new(scheduler->base, &rescue, err) : NULL;
    scheduler->upkeep_pg = scheduler->rescue_pg ? pg_new(scheduler->base, &upkeep, err) : NULL;
    scheduler->books_pg = scheduler->upkeep_pg ? pg_new(scheduler->base, &books, err) : NULL;
    return scheduler->books_pg != NULL;
}

static bool start_budgets(struct scheduler *scheduler, const char *redis_url, struct err *err)
{
    struct redis_options redis = {.url = redis_url};

    scheduler->budget_redis = redis_new(scheduler->base, &redis, err);
    if (!scheduler->budget_redis)
        return false;
    scheduler->limits = limit_cache_new(scheduler->base, scheduler->feed_pg);
    scheduler->admission = admission_new(scheduler->base, scheduler->budget_redis);
    scheduler->reconcile = reconcile_new();
    if (scheduler->limits)
        scheduler->books = book_rebuild_new(scheduler->base, scheduler->books_pg,
                                            scheduler->budget_redis, scheduler->limits);
    return (scheduler->books && scheduler->admission && scheduler->reconcile) ||
           err_set(err, "start the books of budgets: out of memory");
}

static void on_freed(const char *channel, const char *data, size_t len, void *arg)
{
    (void)channel, (void)data, (void)len;
    feed_place_free(arg);
}

static bool start_ears(struct scheduler *scheduler, const char *redis_url, struct err *err)
{
    struct redis_options redis = {.url = redis_url};

    scheduler->subscriber = redis_subscriber_new(scheduler->base, &redis, on_freed, scheduler, err);
    if (!scheduler->subscriber)
        return false;
    redis_subscribe(scheduler->subscriber, CHANNEL_FREED, NULL, NULL);
    return true;
}

static bool start_leader(struct scheduler *scheduler, const char *url, struct err *err)
{
    char host[HOST_SIZE] = "", holder[HOST_SIZE + 16];
    struct leader_options leader = {
        .url = url, .holder = holder, .on_change = on_leading, .arg = scheduler};

    gethostname(host, sizeof(host) - 1);
    snprintf(holder, sizeof(holder), "%s/%d", host, (int)getpid());
    scheduler->leader = leader_new(scheduler->base, &leader, err);
    return scheduler->leader != NULL;
}

static bool start_kafka(struct program *program, const struct daemon_settings *common,
                        struct err *err)
{
    struct scheduler *scheduler = &program->scheduler;
    struct kafka_options kafka = {
        .brokers = common->kafka_brokers,
        .profile = strcmp(common->broker_profile, "embedded") == 0 ? KAFKA_EMBEDDED : KAFKA_REAL,
        .client_id = "nightshift-scheduler",
    };

    scheduler->producer = kafka_producer_new(scheduler->base, &kafka, err);
    if (!scheduler->producer)
        return false;
    kafka_producer_warm(scheduler->producer, topic_names, PRIORITY_COUNT);
    program->prepare = prepare_start(common->database_url, &kafka, err);
    return program->prepare != NULL;
}

/* Connections first: what still waits on them is answered now, to tasks that are still there. */
static void release(struct program *program)
{
    struct scheduler *scheduler = &program->scheduler;

    prepare_free(program->prepare);
    if (program->drain_tick)
        event_free(program->drain_tick);
    webhook_sender_free(scheduler->webhooks);
    if (scheduler->books)
        book_rebuild_free(scheduler->books);
    admission_free(scheduler->admission);
    redis_free(scheduler->budget_redis);
    redis_subscriber_free(scheduler->subscriber);
    limit_cache_free(scheduler->limits);
    if (scheduler->feed_pg)
        pg_free(scheduler->feed_pg);
    if (scheduler->rescue_pg)
        pg_free(scheduler->rescue_pg);
    if (scheduler->upkeep_pg)
        pg_free(scheduler->upkeep_pg);
    if (scheduler->books_pg)
        pg_free(scheduler->books_pg);
    leader_free(scheduler->leader);
    tasks_free(scheduler->tasks);
    reconcile_free(scheduler->reconcile);
    if (scheduler->producer)
        kafka_producer_free(scheduler->producer, FLUSH_MS);
    free(program);
}

static bool start_webhooks(struct scheduler *scheduler, struct err *err)
{
    webhook_sender_declare_metrics();
    scheduler->webhooks =
        webhook_sender_start(scheduler->daemon, &scheduler->options->webhooks, err);
    return scheduler->webhooks != NULL;
}

static bool start(struct daemon *daemon, struct err *err)
{
    const struct daemon_settings *common = daemon_common(daemon);
    struct program *program;
    struct scheduler *scheduler;

    if (schema_check(common->database_url, err) == SCHEMA_OLD)
        return false;
    program = calloc(1, sizeof(*program));
    if (!program)
        return err_set(err, "start: out of memory");
    scheduler = &program->scheduler;
    scheduler->daemon = daemon;
    scheduler->base = daemon_base(daemon);
    scheduler->options = daemon_settings(daemon);
    scheduler->publish = publish;
    store_declare_metrics();
    rescue_declare_metrics();
    audit_declare_metrics();
    counts_forget();
    reconcile_declare_metrics();
    book_rebuild_declare_metrics();
    if (connect_duties(scheduler, common->database_url, err) &&
        start_budgets(scheduler, common->redis_url, err) &&
        start_ears(scheduler, common->redis_url, err) &&
        start_leader(scheduler, common->database_url, err) && start_kafka(program, common, err) &&
        start_webhooks(scheduler, err)) {
        scheduler->tasks = tasks_new(scheduler, task_table, task_table_count);
        daemon_set_data(daemon, program);
        daemon_set_ready_check(daemon, is_ready, program);
        if (scheduler->tasks)
            return true;
        err_set(err, "start the tasks: out of memory");
    }
    release(program);
    return false;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* What is in flight may end until the grace is over; the rest is sent again by somebody else. */
static void on_drain_tick(evutil_socket_t fd, short what, void *arg)
{
    struct program *program = arg;
    struct daemon *daemon = program->scheduler.daemon;
    int64_t grace_us = daemon_common(daemon)->drain_ms * US_PER_MS;

    (void)fd, (void)what;
    if (webhook_sender_outstanding(program->scheduler.webhooks) > 0 &&
        clock_monotonic_us() - program->drain_since_us < grace_us)
        return;
    event_del(program->drain_tick);
    daemon_finish(daemon);
}

static void on_resigned(void *arg)
{
    struct scheduler *scheduler = arg;
    struct program *program = daemon_data(scheduler->daemon);
    const struct timeval period = {.tv_usec = DRAIN_LOOK_MS * 1000};

    program->drain_tick = event_new(scheduler->base, -1, EV_PERSIST, on_drain_tick, program);
    if (!program->drain_tick || event_add(program->drain_tick, &period) != 0)
        daemon_finish(scheduler->daemon);
}

static void on_idle(void *arg)
{
    struct scheduler *scheduler = arg;

    leader_resign(scheduler->leader, on_resigned, scheduler);
}

static void drain(struct daemon *daemon)
{
    struct program *program = daemon_data(daemon);

    program->drain_since_us = clock_monotonic_us();
    webhook_sender_drain(program->scheduler.webhooks);
    tasks_stop(program->scheduler.tasks, on_idle, &program->scheduler);
}

static void reload(struct daemon *daemon, const struct config *config, const void *settings)
{
    struct program *program = daemon_data(daemon);
    const struct scheduler_settings *fresh = settings;

    (void)config;
    webhook_sender_reload(program->scheduler.webhooks, &fresh->webhooks);
}

static bool check(const struct config *config, const void *settings, FILE *out, struct err *err)
{
    const struct scheduler_settings *fresh = settings;

    (void)out;
    return webhook_settings_check(&fresh->webhooks, config, err);
}

static void stop(struct daemon *daemon)
{
    release(daemon_data(daemon));
}

int main(int argc, char **argv)
{
    static const char *const known[] = {"secrets.*"}; /* the other daemons' ones */
    static const struct daemon_spec spec = {
        .name = "nightshift-scheduler",
        .summary = "feeds waiting jobs to the workers, rescues, expires and tidies up",
        .options = options,
        .option_count = sizeof(options) / sizeof(options[0]),
        .settings_size = sizeof(struct scheduler_settings),
        .known = known,
        .known_count = sizeof(known) / sizeof(known[0]),
        .check = check,
        .start = start,
        .drain = drain,
        .reload = reload,
        .stop = stop,
    };

    return daemon_main(&spec, argc, argv);
}
