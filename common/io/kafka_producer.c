/* SPDX-License-Identifier: Apache-2.0 */
/* The Kafka producer: every message ends in exactly one answer, whatever becomes of the handle. */
#include "common/io/kafka_conf.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"

#include <event2/event.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    TOPICS_MAX = 16,
    EXTRA_MAX = 64,
    FLUSH_SLICE_MS = 50,
    CLOSE_MS = 1000, /* how long free may wait for the handle itself */
    WARM_REQUEST_MS = 500,
    WARM_RETRY_MS = 50
};

#define REOPEN_MAX_US (10 * US_PER_S)

static const struct log_context kafka_log = {.component = "kafka"};

static const struct kafka_setting defaults[] = {
    {"linger.ms", "0"},
    {"message.timeout.ms", "5000"},
    {"request.timeout.ms", "4000"},
    {"queue.buffering.max.messages", "100000"},
    {"queue.buffering.max.kbytes", "65536"},
    {NULL, NULL},
};

static const struct kafka_setting fixed[] = {
    {"enable.idempotence", "true"}, /* brings acks=all and safe retries with it */
    {"partitioner", "random"},
    /* Otherwise all messages of a few milliseconds go to one partition, that is to one worker. */
    {"sticky.partitioning.linger.ms", "0"},
    {NULL, NULL},
};

/* A message on its way.  In the list until its answer was given, because a handle that is thrown
 * away gives none. */
struct delivery {
    struct delivery *prev, *next;
    kafka_delivered_fn *done;
    void *arg;
};

/* Asks for the topics' metadata in its own thread (librdkafka has no call for it that does not
 * block), so that the first real message need not wait a second for it. */
struct warmer {
    rd_kafka_t *handle;
    char *names[TOPICS_MAX];
    int count;
    atomic_bool is_done;
    pthread_t thread;
    pthread_mutex_t lock; /* over is_unwanted */
    pthread_cond_t unwanted;
    bool is_unwanted;
};

struct topic {
    char *name;
    rd_kafka_topic_t *handle; /* NULL while the producer has no handle */
};

struct kafka_producer {
    struct kafka_options options; /* own copies */
    rd_kafka_t *handle;           /* NULL after a fatal error, until reopened */
    rd_kafka_queue_t *queue;
    struct kafka_wake wake;
    struct delivery outstanding; /* the list's head */
    int outstanding_count;
    struct topic topics[TOPICS_MAX];
    int topic_count;
    struct warmer *warmer;
    bool is_warm;
    bool is_away; /* a message timed out and none has been delivered since */
    bool is_closing;
    int64_t reopen_at_us;
    int64_t reopen_delay_us;
};

/* --- deliveries ------------------------------------------------------------------------------- */

static struct delivery *delivery_new(struct kafka_producer *producer, kafka_delivered_fn *done,
                                     void *arg)
{
    struct delivery *delivery = calloc(1, sizeof(*delivery));
    struct delivery *head = &producer->outstanding;

    if (!delivery)
        return NULL;
    *delivery = (struct delivery){.prev = head->prev, .next = head, .done = done, .arg = arg};
    head->prev->next = delivery;
    head->prev = delivery;
    producer->outstanding_count++;
    return delivery;
}

static void delivery_free(struct kafka_producer *producer, struct delivery *delivery)
{
    delivery->prev->next = delivery->next;
    delivery->next->prev = delivery->prev;
    producer->outstanding_count--;
    free(delivery);
}

static void delivery_end(struct kafka_producer *producer, struct delivery *delivery, bool ok)
{
    kafka_delivered_fn *done = delivery->done;
    void *arg = delivery->arg;

    delivery_free(producer, delivery);
    if (done)
        done(ok, arg);
}

/* Only those that are there now: done may produce again, in vain while there is no handle. */
static void deliveries_fail(struct kafka_producer *producer)
{
    for (int left = producer->outstanding_count; left > 0; left--)
        delivery_end(producer, producer->outstanding.next, false);
}

/* --- warming up ------------------------------------------------------------------------------- */

static bool warm_topic(rd_kafka_t *handle, const char *name)
{
    rd_kafka_topic_t *topic = rd_kafka_topic_new(handle, name, NULL);
    const struct rd_kafka_metadata *metadata = NULL;
    bool ok = false;

    if (topic && rd_kafka_metadata(handle, 0, topic, &metadata, WARM_REQUEST_MS) == 0) {
        ok = metadata->topic_cnt == 1 && metadata->topics[0].err == 0 &&
             metadata->topics[0].partition_cnt > 0;
        rd_kafka_metadata_destroy(metadata);
    }
    if (topic)
        rd_kafka_topic_destroy(topic);
    return ok;
}

static struct warmer *warmer_new(struct kafka_producer *producer)
{
    struct warmer *warmer = xcalloc(1, sizeof(*warmer));
    pthread_condattr_t attributes;

    warmer->handle = producer->handle;
    for (int i = 0; i < producer->topic_count; i++)
        warmer->names[warmer->count++] = xstrdup(producer->topics[i].name);
    pthread_mutex_init(&warmer->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&warmer->unwanted, &attributes);
    pthread_condattr_destroy(&attributes);
    return warmer;
}

/* Its thread is over, or never was. */
static void warmer_release(struct warmer *warmer)
{
    pthread_cond_destroy(&warmer->unwanted);
    pthread_mutex_destroy(&warmer->lock);
    for (int i = 0; i < warmer->count; i++)
        free(warmer->names[i]);
    free(warmer);
}

static void warmer_stop(struct warmer *warmer)
{
    pthread_mutex_lock(&warmer->lock);
    warmer->is_unwanted = true;
    pthread_cond_signal(&warmer->unwanted);
    pthread_mutex_unlock(&warmer->lock);
}

/* Waits up to wait_ms.  False: nobody wants the topics warm any more. */
static bool warmer_goes_on(struct warmer *warmer, int wait_ms)
{
    int64_t until_us = clock_monotonic_us() + wait_ms * US_PER_MS;
    struct timespec until = {.tv_sec = until_us / US_PER_S, .tv_nsec = until_us % US_PER_S * 1000};
    bool is_unwanted;
    int code = 0;

    pthread_mutex_lock(&warmer->lock);
    while (!warmer->is_unwanted && code == 0)
        code = pthread_cond_timedwait(&warmer->unwanted, &warmer->lock, &until);
    is_unwanted = warmer->is_unwanted;
    pthread_mutex_unlock(&warmer->lock);
    return !is_unwanted;
}

static void *warmer_run(void *arg)
{
    struct warmer *warmer = arg;

    for (int i = 0, wait_ms = 0; i < warmer->count && warmer_goes_on(warmer, wait_ms);) {
        bool ok = warm_topic(warmer->handle, warmer->names[i]);

        i += ok;
        wait_ms = ok ? 0 : WARM_RETRY_MS;
    }
    atomic_store(&warmer->is_done, true);
    return NULL;
}

static void warmer_free(void *arg)
{
    struct warmer *warmer = arg;

    if (!warmer)
        return;
    warmer_stop(warmer);
    pthread_join(warmer->thread, NULL);
    warmer_release(warmer);
}

/* All topics known so far.  Without a thread the first messages are slow, no more. */
static void producer_warm_start(struct kafka_producer *producer)
{
    struct warmer *warmer = warmer_new(producer);

    if (pthread_create(&warmer->thread, NULL, warmer_run, warmer) == 0) {
        producer->warmer = warmer;
        return;
    }
    kafka_report("warm", "topics", "no thread for it");
    warmer_release(warmer);
    producer->is_warm = true;
}

static void producer_warm_check(struct kafka_producer *producer)
{
    if (!producer->warmer || !atomic_load(&producer->warmer->is_done))
        return;
    warmer_free(producer->warmer);
    producer->warmer = NULL;
    producer->is_warm = true;
}

/* --- the handle ------------------------------------------------------------------------------- */

static bool producer_open(struct kafka_producer *producer, struct err *err)
{
    rd_kafka_conf_t *conf = kafka_conf_new(&producer->options, defaults, fixed, err);

    if (!conf)
        return false;
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    producer->handle = kafka_handle_new(RD_KAFKA_PRODUCER, conf, err);
    if (!producer->handle)
        return false;
    producer->queue = rd_kafka_queue_get_main(producer->handle);
    kafka_wake_watch(&producer->wake, producer->queue);
    return true;
}

/* Lets go of the handle; what it still had is answered by the caller. */
static struct kafka_closer *producer_close(struct kafka_producer *producer)
{
    struct kafka_closing what = {
        .handle = producer->handle,
        .queues = {producer->queue},
        .before = warmer_free,
        .arg = producer->warmer,
    };

    if (!producer->handle)
        return NULL;
    kafka_wake_unwatch(producer->queue);
    for (int i = 0; i < producer->topic_count; i++) {
        if (producer->topics[i].handle)
            rd_kafka_topic_destroy(producer->topics[i].handle);
        producer->topics[i].handle = NULL;
    }
    if (producer->warmer)
        warmer_stop(producer->warmer);
    producer->handle = NULL;
    producer->queue = NULL;
    producer->warmer = NULL;
    return kafka_close_start(&what);
}

/* After a fatal error librdkafka refuses everything for ever: throw the handle away. */
static void producer_drop(struct kafka_producer *producer, const char *why)
{
    kafka_report("produce", "failed for good, starting afresh", why);
    (void)kafka_close_wait(producer_close(producer), 0);
    producer->reopen_at_us = clock_monotonic_us() + producer->reopen_delay_us;
    producer->reopen_delay_us =
        producer->reopen_delay_us ? 2 * producer->reopen_delay_us : US_PER_S;
    if (producer->reopen_delay_us > REOPEN_MAX_US)
        producer->reopen_delay_us = REOPEN_MAX_US;
    deliveries_fail(producer);
}

static void producer_reopen(struct kafka_producer *producer)
{
    struct err err;

    if (producer->handle || clock_monotonic_us() < producer->reopen_at_us)
        return;
    if (!producer_open(producer, &err)) {
        kafka_report("produce", "start afresh", err.message);
        producer->reopen_at_us = clock_monotonic_us() + US_PER_S;
        return;
    }
    producer_warm_start(producer);
}

/* --- events ----------------------------------------------------------------------------------- */

static void delivered(struct kafka_producer *producer, const rd_kafka_message_t *message)
{
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        if (producer->is_away)
            log_info(&kafka_log, "messages are delivered again");
        producer->is_away = false;
        producer->reopen_delay_us = 0;
    } else {
        kafka_report("produce", "message", rd_kafka_err2str(message->err));
        if (message->err == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT)
            producer->is_away = true;
    }
    delivery_end(producer, message->_private, message->err == RD_KAFKA_RESP_ERR_NO_ERROR);
}

static void event_handle(struct kafka_producer *producer, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *message;

    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_DR:
        while ((message = rd_kafka_event_message_next(event)))
            delivered(producer, message);
        break;
    case RD_KAFKA_EVENT_ERROR:
        kafka_report("produce", "client", rd_kafka_event_error_string(event));
        break;
    default:
        break;
    }
}

/* Serves the queue until it is empty, waiting up to wait_ms for its first event. */
static void producer_serve(struct kafka_producer *producer, int wait_ms)
{
    rd_kafka_event_t *event;
    char why[256];

    while (producer->handle && (event = rd_kafka_queue_poll(producer->queue, wait_ms))) {
        event_handle(producer, event);
        rd_kafka_event_destroy(event);
        wait_ms = 0;
    }
    if (producer->handle && rd_kafka_fatal_error(producer->handle, why, sizeof(why)))
        producer_drop(producer, why);
}

static void on_wake(evutil_socket_t fd, short events, void *arg)
{
    struct kafka_producer *producer = arg;

    (void)fd, (void)events;
    kafka_wake_clear(&producer->wake);
    producer_serve(producer, 0);
}

static void on_tick(evutil_socket_t fd, short events, void *arg)
{
    struct kafka_producer *producer = arg;

    (void)fd, (void)events;
    producer_serve(producer, 0);
    producer_reopen(producer);
    producer_warm_check(producer);
}

/* --- public ----------------------------------------------------------------------------------- */

static bool options_copy(struct kafka_options *to, const struct kafka_options *from,
                         struct err *err)
{
    const char **extra = xcalloc(EXTRA_MAX + 1, sizeof(*extra));
    int count = 0;

    *to = (struct kafka_options){
        .brokers = xstrdup(from->brokers),
        .profile = from->profile,
        .client_id = from->client_id ? xstrdup(from->client_id) : NULL,
        .extra = extra,
    };
    for (; from->extra && from->extra[count]; count++) {
        if (count == EXTRA_MAX)
            return err_set(err, "set Kafka properties: more than %d", EXTRA_MAX);
        extra[count] = xstrdup(from->extra[count]);
    }
    return true;
}

/* The copies are ours: only the type says const. */
static void text_free(const char *text)
{
    union {
        const char *borrowed;
        char *owned;
    } view = {.borrowed = text};

    free(view.owned);
}

static void options_release(struct kafka_options *options)
{
    union {
        const char *const *borrowed;
        const char **owned;
    } view = {.borrowed = options->extra};

    for (const char *const *extra = options->extra; extra && *extra; extra++)
        text_free(*extra);
    free(view.owned);
    text_free(options->client_id);
    text_free(options->brokers);
}

/* NULL when there are too many or the producer has no handle. */
static struct topic *producer_topic(struct kafka_producer *producer, const char *name)
{
    struct topic *topic = NULL;

    for (int i = 0; i < producer->topic_count && !topic; i++)
        if (strcmp(producer->topics[i].name, name) == 0)
            topic = &producer->topics[i];
    if (!topic) {
        if (producer->topic_count == TOPICS_MAX)
            return NULL;
        topic = &producer->topics[producer->topic_count++];
        topic->name = xstrdup(name);
    }
    if (!topic->handle && producer->handle)
        topic->handle = rd_kafka_topic_new(producer->handle, name, NULL);
    return topic->handle ? topic : NULL;
}

struct kafka_producer *kafka_producer_new(struct event_base *base,
                                          const struct kafka_options *options, struct err *err)
{
    struct kafka_producer *producer = xcalloc(1, sizeof(*producer));

    producer->wake.fd = -1;
    producer->outstanding.next = producer->outstanding.prev = &producer->outstanding;
    if (options_copy(&producer->options, options, err) &&
        kafka_wake_init(&producer->wake, base, on_wake, on_tick, producer, err) &&
        producer_open(producer, err))
        return producer;
    kafka_producer_free(producer, 0);
    return NULL;
}

void kafka_producer_free(struct kafka_producer *producer, int flush_ms)
{
    int64_t deadline_us = clock_monotonic_us() + flush_ms * US_PER_MS;

    if (!producer)
        return;
    producer->is_closing = true;
    while (producer->handle && producer->outstanding_count && clock_monotonic_us() < deadline_us)
        producer_serve(producer, FLUSH_SLICE_MS);
    if (producer->handle && !kafka_close_wait(producer_close(producer), CLOSE_MS))
        kafka_report("close", "producer", "still busy, left to itself");
    deliveries_fail(producer);
    kafka_wake_release(&producer->wake);
    for (int i = 0; i < producer->topic_count; i++)
        free(producer->topics[i].name);
    options_release(&producer->options);
    free(producer);
}

bool kafka_produce(struct kafka_producer *producer, const char *topic, const void *data, size_t len,
                   kafka_delivered_fn *done, void *arg)
{
    union {
        const void *borrowed;
        void *copied; /* by librdkafka, F_COPY */
    } payload = {.borrowed = data};
    struct topic *to = producer_topic(producer, topic);
    struct delivery *delivery;

    /* While the broker is away one message at a time finds out whether it is back. */
    if (!to || producer->is_closing || (producer->is_away && producer->outstanding_count))
        return false;
    delivery = delivery_new(producer, done, arg);
    if (!delivery)
        return false;
    if (rd_kafka_produce(to->handle, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, payload.copied,
                         len, NULL, 0, delivery) == 0)
        return true;
    delivery_free(producer, delivery);
    kafka_report("produce", topic, rd_kafka_err2str(rd_kafka_last_error()));
    return false;
}

bool kafka_producer_is_ready(const struct kafka_producer *producer)
{
    return producer->is_warm;
}

void kafka_producer_warm(struct kafka_producer *producer, const char *const *topics, int count)
{
    for (int i = 0; i < count; i++)
        if (!producer_topic(producer, topics[i]))
            kafka_report("warm", topics[i], "no such topic can be used");
    if (producer->handle && !producer->warmer)
        producer_warm_start(producer);
}

void kafka_producer_test_fatal(struct kafka_producer *producer)
{
    if (producer->handle)
        rd_kafka_test_fatal_error(producer->handle, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
                                  "on purpose");
}
