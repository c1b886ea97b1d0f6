/* SPDX-License-Identifier: Apache-2.0 */
/* What kafka_*.c share: settings, logs, waking the event loop, and an end that cannot hang. */
#include "common/io/kafka_conf.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/metrics.h"

#include <event2/event.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static const struct log_context kafka_log = {.component = "kafka"};

static const struct metric errors_total = {
    .name = "nightshift_kafka_errors_total",
    .type = METRIC_COUNTER,
    .help = "Errors met in talking to Kafka, by what was going on.",
    .labels = {"kind"},
};

/* --- logs ------------------------------------------------------------------------------------- */

enum { WARN_EVERY_S = 5, SYSLOG_WARNING = 4, THREAD_SLACK_NS = 2000000 };

/* At most one warning every few seconds from this process, whatever thread it comes from. */
static bool warn_is_due(void)
{
    static _Atomic int64_t last_us;
    int64_t now = clock_monotonic_us();
    int64_t last = atomic_load(&last_us);

    if (last && now - last < WARN_EVERY_S * US_PER_S)
        return false;
    return atomic_compare_exchange_strong(&last_us, &last, now);
}

/* Runs in librdkafka's threads. */
static void on_log(const rd_kafka_t *handle, int level, const char *facility, const char *text)
{
    bool is_loud = level <= SYSLOG_WARNING && strcmp(facility, "CONFWARN") != 0;

    (void)handle;
    if (is_loud && warn_is_due())
        log_warn(&kafka_log, "librdkafka: %s: %s", facility, text);
    else
        log_debug(&kafka_log, "librdkafka: %s: %s", facility, text);
}

void kafka_report(const char *kind, const char *what, const char *why)
{
    metric_add(&errors_total, METRIC_LABELS(kind), 1);
    if (warn_is_due())
        log_warn(&kafka_log, "%s %s: %s", kind, what, why);
    else
        log_debug(&kafka_log, "%s %s: %s", kind, what, why);
}

/* --- settings --------------------------------------------------------------------------------- */

static const struct kafka_setting common_settings[] = {
    {"log.connection.close", "false"},
    {"socket.keepalive.enable", "true"},
    {"socket.nagle.disable", "true"},
    /* Back soon after an outage: the defaults wait up to 10 s. */
    {"reconnect.backoff.ms", "50"},
    {"reconnect.backoff.max.ms", "1000"},
    /* A topic that was missing is found again within this time, not after five minutes. */
    {"topic.metadata.refresh.interval.ms", "5000"},
    {NULL, NULL},
};

static bool conf_set(rd_kafka_conf_t *conf, const char *name, const char *value, struct err *err)
{
    char why[256];

    if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK)
        return err_set(err, "set Kafka property %s: %s", name, why);
    return true;
}

static bool conf_set_all(rd_kafka_conf_t *conf, const struct kafka_setting *settings,
                         struct err *err)
{
    for (; settings && settings->name; settings++)
        if (!conf_set(conf, settings->name, settings->value, err))
            return false;
    return true;
}

static bool conf_set_extra(rd_kafka_conf_t *conf, const char *const *extra, struct err *err)
{
    char name[128];

    for (; extra && *extra; extra++) {
        const char *equals = strchr(*extra, '=');

        if (!equals || (size_t)(equals - *extra) >= sizeof(name))
            return err_set(err, "set Kafka property: expected name=value");
        memcpy(name, *extra, (size_t)(equals - *extra));
        name[equals - *extra] = '\0';
        if (!conf_set(conf, name, equals + 1, err))
            return false;
    }
    return true;
}

rd_kafka_conf_t *kafka_conf_new(const struct kafka_options *options,
                                const struct kafka_setting *defaults,
                                const struct kafka_setting *fixed, struct err *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    rd_kafka_conf_set_log_cb(conf, on_log);
    if (conf_set(conf, "bootstrap.servers", options->brokers, err) &&
        (!options->client_id || conf_set(conf, "client.id", options->client_id, err)) &&
        conf_set_all(conf, common_settings, err) && conf_set_all(conf, defaults, err) &&
        conf_set_extra(conf, options->extra, err) && conf_set_all(conf, fixed, err))
        return conf;
    rd_kafka_conf_destroy(conf);
    return NULL;
}

/* The library's main thread waits whole milliseconds, rounded down, and burns the rest of the last
 * one in a loop, with each of its timers; its threads inherit a slack that lets them wake after it.
 */
rd_kafka_t *kafka_handle_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct err *err)
{
    char why[256];
    int own_slack_ns = prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL);
    rd_kafka_t *handle = NULL;

    prctl(PR_SET_TIMERSLACK, (unsigned long)THREAD_SLACK_NS, 0UL, 0UL, 0UL);
    handle = rd_kafka_new(type, conf, why, sizeof(why));
    if (own_slack_ns > 0)
        prctl(PR_SET_TIMERSLACK, (unsigned long)own_slack_ns, 0UL, 0UL, 0UL);
    if (!handle) {
        rd_kafka_conf_destroy(conf);
        err_set(err, "start a Kafka client: %s", why);
    }
    return handle;
}

/* --- waking the loop -------------------------------------------------------------------------- */

bool kafka_wake_init(struct kafka_wake *wake, struct event_base *base, kafka_wake_fn *on_wake,
                     kafka_wake_fn *on_tick, void *arg, struct err *err)
{
    const struct timeval every = {.tv_usec = KAFKA_TICK_MS * US_PER_MS};

    wake->event = NULL;
    wake->tick = NULL;
    wake->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake->fd < 0)
        return err_set(err, "make an eventfd for Kafka: %s", strerror(errno));
    wake->event = event_new(base, wake->fd, EV_READ | EV_PERSIST, on_wake, arg);
    wake->tick = event_new(base, -1, EV_PERSIST, on_tick, arg);
    if (wake->event && wake->tick && event_add(wake->event, NULL) == 0 &&
        event_add(wake->tick, &every) == 0)
        return true;
    kafka_wake_release(wake);
    return err_set(err, "watch Kafka on the event loop: out of memory");
}

void kafka_wake_watch(const struct kafka_wake *wake, rd_kafka_queue_t *queue)
{
    static const uint64_t one = 1;

    rd_kafka_queue_io_event_enable(queue, wake->fd, &one, sizeof(one));
}

void kafka_wake_unwatch(rd_kafka_queue_t *queue)
{
    rd_kafka_queue_io_event_enable(queue, -1, NULL, 0);
}

void kafka_wake_clear(const struct kafka_wake *wake)
{
    uint64_t count;

    /* Nothing to read is fine: the loop was woken by hand. */
    if (read(wake->fd, &count, sizeof(count)) < 0)
        return;
}

void kafka_wake_release(struct kafka_wake *wake)
{
    if (wake->event)
        event_free(wake->event);
    if (wake->tick)
        event_free(wake->tick);
    if (wake->fd >= 0)
        close(wake->fd);
    *wake = (struct kafka_wake){.fd = -1};
}

/* --- ending ----------------------------------------------------------------------------------- */

/* Held by the thread that closes and by the one that waits; the last one frees it. */
struct kafka_closer {
    struct kafka_closing what;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_done;
    int holders;
};

static void closer_unref(struct kafka_closer *closer)
{
    bool is_last;

    pthread_mutex_lock(&closer->lock);
    is_last = --closer->holders == 0;
    pthread_mutex_unlock(&closer->lock);
    if (!is_last)
        return;
    pthread_cond_destroy(&closer->changed);
    pthread_mutex_destroy(&closer->lock);
    if (closer->what.after)
        closer->what.after(closer->what.arg);
    free(closer);
}

static void *closer_run(void *arg)
{
    struct kafka_closer *closer = arg;
    struct kafka_closing *what = &closer->what;

    if (what->before)
        what->before(what->arg);
    if (rd_kafka_type(what->handle) == RD_KAFKA_CONSUMER)
        rd_kafka_consumer_close(what->handle);
    for (int i = 0; i < KAFKA_CLOSING_QUEUES; i++)
        if (what->queues[i])
            rd_kafka_queue_destroy(what->queues[i]);
    rd_kafka_destroy(what->handle);
    pthread_mutex_lock(&closer->lock);
    closer->is_done = true;
    pthread_cond_signal(&closer->changed);
    pthread_mutex_unlock(&closer->lock);
    closer_unref(closer);
    return NULL;
}

static struct kafka_closer *closer_new(const struct kafka_closing *what)
{
    struct kafka_closer *closer = calloc(1, sizeof(*closer));
    pthread_condattr_t attributes;

    if (!closer)
        return NULL;
    closer->what = *what;
    closer->holders = 2;
    pthread_mutex_init(&closer->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&closer->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return closer;
}

struct kafka_closer *kafka_close_start(const struct kafka_closing *what)
{
    struct kafka_closer *closer = closer_new(what);
    pthread_t thread;

    if (!closer || pthread_create(&thread, NULL, closer_run, closer) != 0) {
        kafka_report("close", "client", "no thread for it, left open");
        free(closer);
        return NULL;
    }
    pthread_detach(thread);
    return closer;
}

bool kafka_close_wait(struct kafka_closer *closer, int timeout_ms)
{
    struct timespec deadline;
    bool is_done;
    int code = 0;

    if (!closer)
        return false;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += timeout_ms / 1000;
    deadline.tv_nsec += (timeout_ms % 1000) * 1000000L;
    if (deadline.tv_nsec >= 1000000000L) {
        deadline.tv_nsec -= 1000000000L;
        deadline.tv_sec++;
    }
    pthread_mutex_lock(&closer->lock);
    while (!closer->is_done && code == 0)
        code = pthread_cond_timedwait(&closer->changed, &closer->lock, &deadline);
    is_done = closer->is_done;
    pthread_mutex_unlock(&closer->lock);
    closer_unref(closer);
    return is_done;
}
