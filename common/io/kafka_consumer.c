/* SPDX-License-Identifier: Apache-2.0 */
/* The Kafka consumer: one topic, one member of a group, positions kept by ourselves.
 *
 * The partitions' messages are forwarded to a queue of our own and never to the consumer's, which
 * then holds nothing but the group's business (rebalances, errors, commit answers).  So a consumer
 * that wants no messages just does not serve the one queue and goes on serving the other: no
 * pause() and resume(), which throw away what was fetched, cost a round trip and go wrong around
 * rebalances in librdkafka 2.0.2. */
#include "common/io/kafka_conf.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"

#include <event2/event.h>

#include <stdlib.h>
#include <string.h>

enum { PARTITIONS_MAX = 4096 };

static const struct log_context kafka_log = {.component = "kafka"};

/* All partitions share our queue, and past queued.min.messages librdkafka 2.0.2 stops fetching for
 * a whole second.  So that is set to more than a shallow topic holds; tickets are small, and what
 * waits here could go to nobody else anyway. */
static const struct kafka_setting embedded_defaults[] = {
    /* The mock stops a group for session - 1 s at each join, and never assigns at 2000. */
    {"session.timeout.ms", "4000"},    {"heartbeat.interval.ms", "500"},
    {"fetch.wait.max.ms", "20"}, /* the mock always waits it out */
    {"fetch.error.backoff.ms", "50"},  {"fetch.message.max.bytes", "65536"},
    {"queued.min.messages", "10000"},  {"queued.max.messages.kbytes", "4096"},
    {"max.poll.interval.ms", "60000"}, {NULL, NULL},
};

static const struct kafka_setting kafka_defaults[] = {
    {"session.timeout.ms", "6000"}, /* the least that Kafka allows */
    {"heartbeat.interval.ms", "1000"},
    {"fetch.error.backoff.ms", "50"},
    {"fetch.message.max.bytes", "65536"},
    {"queued.min.messages", "10000"},
    {"queued.max.messages.kbytes", "4096"},
    {"max.poll.interval.ms", "60000"},
    {NULL, NULL},
};

static const struct kafka_setting fixed[] = {
    {"enable.auto.commit", "false"},
    {"enable.auto.offset.store", "false"},
    {"auto.offset.reset", "earliest"},
    {"partition.assignment.strategy", "range"},
    {NULL, NULL},
};

/* What was taken of a partition since the last commit: offsets first to next - 1. */
struct position {
    int64_t first; /* -1: nothing */
    int64_t next;
    bool is_assigned;
};

struct kafka_consumer {
    char *topic;
    rd_kafka_t *handle;
    rd_kafka_queue_t *control;
    rd_kafka_queue_t *messages;
    struct kafka_wake wake;
    struct kafka_closer *closer; /* set once it leaves */
    void (*on_ready)(void *arg);
    void *arg;
    rd_kafka_message_t *taken;
    struct position *positions; /* by partition number */
    int position_count;
    int assigned_count;
    int64_t idle_since_us;
    bool is_paused;
    bool is_closing; /* from now on the group's callbacks come from the closing thread */
    bool may_have_more;
};

/* --- positions -------------------------------------------------------------------------------- */

static struct position *position_of(struct kafka_consumer *consumer, int32_t partition)
{
    struct position *grown;
    int count = partition + 1;

    if (partition < 0 || partition >= PARTITIONS_MAX)
        return NULL;
    if (partition < consumer->position_count)
        return &consumer->positions[partition];
    grown = realloc(consumer->positions, (size_t)count * sizeof(*grown));
    if (!grown)
        return NULL;
    for (int i = consumer->position_count; i < count; i++)
        grown[i] = (struct position){.first = -1, .next = -1};
    consumer->positions = grown;
    consumer->position_count = count;
    return &grown[partition];
}

/* The partitions with something taken, at the offset to commit or at the one to go back to; all
 * count as settled after.  NULL when there are none. */
static rd_kafka_topic_partition_list_t *positions_settle(struct kafka_consumer *consumer,
                                                         bool is_commit)
{
    rd_kafka_topic_partition_list_t *list = NULL;

    for (int i = 0; i < consumer->position_count; i++) {
        struct position *position = &consumer->positions[i];

        if (position->first < 0)
            continue;
        if (!list)
            list = rd_kafka_topic_partition_list_new(consumer->assigned_count);
        rd_kafka_topic_partition_list_add(list, consumer->topic, i)->offset =
            is_commit ? position->next : position->first;
        position->first = -1;
    }
    return list;
}

static void seek_to(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *list)
{
    /* A timeout of 0: it starts the seeks and does not wait.  What was fetched before is void from
     * here on. */
    rd_kafka_error_t *error = rd_kafka_seek_partitions(consumer->handle, list, 0);

    if (!error)
        return;
    kafka_report("consume", "seek", rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
}

/* --- the group -------------------------------------------------------------------------------- */

static void assignment_forget(struct kafka_consumer *consumer)
{
    for (int i = 0; i < consumer->position_count; i++)
        consumer->positions[i] = (struct position){.first = -1, .next = -1};
    consumer->assigned_count = 0;
}

static void assignment_take(struct kafka_consumer *consumer,
                            const rd_kafka_topic_partition_list_t *partitions)
{
    for (int i = 0; i < partitions->cnt; i++) {
        const rd_kafka_topic_partition_t *partition = &partitions->elems[i];
        struct position *position = position_of(consumer, partition->partition);
        rd_kafka_queue_t *queue;

        if (!position) {
            kafka_report("consume", consumer->topic, "partition number too high, left alone");
            continue;
        }
        /* Before rd_kafka_assign(), which otherwise forwards them to the consumer's queue. */
        queue =
            rd_kafka_queue_get_partition(consumer->handle, partition->topic, partition->partition);
        if (queue) {
            rd_kafka_queue_forward(queue, consumer->messages);
            rd_kafka_queue_destroy(queue);
        }
        position->is_assigned = true;
        consumer->assigned_count++;
    }
}

/* Eager: a rebalance takes everything away and then gives anew.  Called from consumer_poll, or by
 * the closing thread when only leaving is left. */
static void on_rebalance(rd_kafka_t *handle, rd_kafka_resp_err_t code,
                         rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
    struct kafka_consumer *consumer = opaque;
    bool is_assign = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && !consumer->is_closing;

    if (!consumer->is_closing) {
        assignment_forget(consumer);
        if (is_assign)
            assignment_take(consumer, partitions);
        log_info(&kafka_log, "%s: %d partitions assigned", consumer->topic,
                 consumer->assigned_count);
    }
    rd_kafka_assign(handle, is_assign ? partitions : NULL);
}

static void on_commit(rd_kafka_t *handle, rd_kafka_resp_err_t code,
                      rd_kafka_topic_partition_list_t *offsets, void *opaque)
{
    const struct kafka_consumer *consumer = opaque;

    (void)handle, (void)offsets;
    /* Nothing is lost: it comes again, and the claim finds that it was claimed. */
    if (code && code != RD_KAFKA_RESP_ERR__NO_OFFSET && !consumer->is_closing)
        kafka_report("commit", consumer->topic, rd_kafka_err2str(code));
}

/* An error, or, against all expectation, a message: that one is to come again by the right way. */
static void control_handle(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
    rd_kafka_topic_partition_list_t *list;

    if (message->err) {
        kafka_report("consume", consumer->topic, rd_kafka_message_errstr(message));
        return;
    }
    list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, consumer->topic, message->partition)->offset =
        message->offset;
    seek_to(consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
}

/* Keeps the membership: rebalances happen in here. */
static void control_serve(struct kafka_consumer *consumer)
{
    rd_kafka_message_t *message;

    while ((message = rd_kafka_consumer_poll(consumer->handle, 0))) {
        control_handle(consumer, message);
        rd_kafka_message_destroy(message);
    }
}

static void ready_tell(struct kafka_consumer *consumer)
{
    if (consumer->may_have_more && !consumer->is_paused && consumer->on_ready)
        consumer->on_ready(consumer->arg);
}

static void on_wake(evutil_socket_t fd, short events, void *arg)
{
    struct kafka_consumer *consumer = arg;

    (void)fd, (void)events;
    kafka_wake_clear(&consumer->wake);
    control_serve(consumer);
    consumer->may_have_more = true;
    ready_tell(consumer);
}

static void on_tick(evutil_socket_t fd, short events, void *arg)
{
    struct kafka_consumer *consumer = arg;

    (void)fd, (void)events;
    control_serve(consumer);
    consumer->may_have_more = true; /* in case a wake was lost */
    ready_tell(consumer);
}

/* --- public ----------------------------------------------------------------------------------- */

static bool handle_open(struct kafka_consumer *consumer, const struct kafka_options *options,
                        const char *group, struct err *err)
{
    const struct kafka_setting *defaults =
        options->profile == KAFKA_EMBEDDED ? embedded_defaults : kafka_defaults;
    rd_kafka_conf_t *conf = kafka_conf_new(options, defaults, fixed, err);
    char why[256];

    if (!conf)
        return false;
    if (rd_kafka_conf_set(conf, "group.id", group, why, sizeof(why)) != RD_KAFKA_CONF_OK) {
        rd_kafka_conf_destroy(conf);
        return err_set(err, "join Kafka group %s: %s", group, why);
    }
    rd_kafka_conf_set_opaque(conf, consumer);
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    rd_kafka_conf_set_offset_commit_cb(conf, on_commit);
    consumer->handle = kafka_handle_new(RD_KAFKA_CONSUMER, conf, err);
    return consumer->handle != NULL;
}

static bool subscribe(struct kafka_consumer *consumer, struct err *err)
{
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_resp_err_t code;

    rd_kafka_poll_set_consumer(consumer->handle);
    consumer->control = rd_kafka_queue_get_consumer(consumer->handle);
    consumer->messages = rd_kafka_queue_new(consumer->handle);
    kafka_wake_watch(&consumer->wake, consumer->control);
    kafka_wake_watch(&consumer->wake, consumer->messages);
    rd_kafka_topic_partition_list_add(topics, consumer->topic, RD_KAFKA_PARTITION_UA);
    code = rd_kafka_subscribe(consumer->handle, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    return code == 0 ||
           err_set(err, "subscribe to topic %s: %s", consumer->topic, rd_kafka_err2str(code));
}

struct kafka_consumer *kafka_consumer_new(struct event_base *base,
                                          const struct kafka_options *options, const char *group,
                                          const char *topic, struct err *err)
{
    struct kafka_consumer *consumer = xcalloc(1, sizeof(*consumer));

    consumer->topic = xstrdup(topic);
    consumer->wake.fd = -1;
    if (kafka_wake_init(&consumer->wake, base, on_wake, on_tick, consumer, err) &&
        handle_open(consumer, options, group, err) && subscribe(consumer, err))
        return consumer;
    kafka_consumer_free(consumer, 0);
    return NULL;
}

/* The closing thread's callbacks read the consumer until the very end. */
static void consumer_destroy(void *arg)
{
    struct kafka_consumer *consumer = arg;

    free(consumer->positions);
    free(consumer->topic);
    free(consumer);
}

void kafka_consumer_leave(struct kafka_consumer *consumer)
{
    struct kafka_closing what = {
        .handle = consumer->handle,
        .queues = {consumer->messages, consumer->control},
        .after = consumer_destroy,
        .arg = consumer,
    };

    if (consumer->is_closing || !consumer->handle)
        return;
    consumer->is_closing = true;
    consumer->idle_since_us = 0;
    if (consumer->taken)
        rd_kafka_message_destroy(consumer->taken);
    consumer->taken = NULL;
    kafka_wake_unwatch(consumer->messages);
    kafka_wake_unwatch(consumer->control);
    kafka_wake_release(&consumer->wake);
    consumer->closer = kafka_close_start(&what);
}

void kafka_consumer_free(struct kafka_consumer *consumer, int timeout_ms)
{
    if (!consumer)
        return;
    if (!consumer->handle) {
        kafka_wake_release(&consumer->wake);
        consumer_destroy(consumer);
        return;
    }
    kafka_consumer_leave(consumer);
    if (!kafka_close_wait(consumer->closer, timeout_ms))
        kafka_report("close", "consumer", "still busy, left to itself");
}

void kafka_consumer_on_ready(struct kafka_consumer *consumer, void (*on_ready)(void *arg),
                             void *arg)
{
    consumer->on_ready = on_ready;
    consumer->arg = arg;
}

/* Notes a message as taken; false if its partition is not ours any more. */
static bool taken_note(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
    struct position *position = position_of(consumer, message->partition);

    if (!position || !position->is_assigned)
        return false;
    if (position->first < 0)
        position->first = message->offset;
    position->next = message->offset + 1;
    return true;
}

bool kafka_consumer_take(struct kafka_consumer *consumer, struct kafka_message *out)
{
    rd_kafka_message_t *message;

    if (consumer->taken)
        rd_kafka_message_destroy(consumer->taken);
    consumer->taken = NULL;
    if (consumer->is_paused || consumer->is_closing)
        return false;
    while ((message = rd_kafka_consume_queue(consumer->messages, 0))) {
        if (!message->err && taken_note(consumer, message))
            break;
        if (message->err)
            kafka_report("consume", consumer->topic, rd_kafka_message_errstr(message));
        rd_kafka_message_destroy(message);
    }
    consumer->taken = message;
    if (!message) {
        consumer->may_have_more = false;
        if (!consumer->idle_since_us)
            consumer->idle_since_us = clock_monotonic_us();
        return false;
    }
    consumer->idle_since_us = 0;
    *out = (struct kafka_message){.partition = message->partition,
                                  .offset = message->offset,
                                  .data = message->payload,
                                  .len = message->len};
    return true;
}

void kafka_consumer_pause(struct kafka_consumer *consumer)
{
    consumer->is_paused = true;
    consumer->idle_since_us = 0;
}

void kafka_consumer_resume(struct kafka_consumer *consumer)
{
    if (!consumer->is_paused || consumer->is_closing)
        return;
    consumer->is_paused = false;
    event_active(consumer->wake.event, EV_READ, 0); /* tells on_ready on the loop's next turn */
}

void kafka_consumer_commit(struct kafka_consumer *consumer)
{
    rd_kafka_topic_partition_list_t *list;
    rd_kafka_resp_err_t code;

    if (consumer->is_closing)
        return;
    list = positions_settle(consumer, true);
    if (!list)
        return;
    code = rd_kafka_commit(consumer->handle, list, 1);
    if (code)
        kafka_report("commit", consumer->topic, rd_kafka_err2str(code));
    rd_kafka_topic_partition_list_destroy(list);
}

void kafka_consumer_rewind(struct kafka_consumer *consumer)
{
    rd_kafka_topic_partition_list_t *list;

    if (consumer->is_closing)
        return;
    list = positions_settle(consumer, false);
    if (!list)
        return;
    seek_to(consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
}

int64_t kafka_consumer_idle_since_us(const struct kafka_consumer *consumer)
{
    return consumer->idle_since_us;
}

bool kafka_consumer_is_assigned(const struct kafka_consumer *consumer)
{
    return consumer->assigned_count > 0;
}
