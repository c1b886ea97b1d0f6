/* SPDX-License-Identifier: Apache-2.0 */
/* Makes topics and waits until the cluster knows them. */
#include "common/io/kafka_conf.h"

#include "common/base/clock.h"

#include <string.h>

enum { REQUEST_MS = 1000, TOPICS_MAX = 64, RETRY_MS = 50 };

/* It may be called while the broker is starting: try again soon. */
static const struct kafka_setting defaults[] = {
    {"reconnect.backoff.ms", "20"},
    {"reconnect.backoff.max.ms", "100"},
    {NULL, NULL},
};

static int remaining_ms(int64_t deadline_us)
{
    int64_t left = (deadline_us - clock_monotonic_us()) / US_PER_MS;

    return left < 0 ? 0 : left > REQUEST_MS ? REQUEST_MS : (int)left;
}

static bool results_check(rd_kafka_event_t *event, struct err *err)
{
    const rd_kafka_topic_result_t **results;
    size_t count = 0;

    if (rd_kafka_event_error(event))
        return err_set(err, "create topics: %s", rd_kafka_event_error_string(event));
    results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    for (size_t i = 0; i < count; i++) {
        rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[i]);

        if (code && code != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
            return err_set(err, "create topic %s: %s", rd_kafka_topic_result_name(results[i]),
                           rd_kafka_topic_result_error_string(results[i]));
    }
    return true;
}

static bool request_send(rd_kafka_t *handle, rd_kafka_NewTopic_t **topics, int count,
                         int timeout_ms, struct err *err)
{
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(handle, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
    rd_kafka_event_t *event;
    char why[128];
    bool ok;

    rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, why, sizeof(why));
    rd_kafka_CreateTopics(handle, topics, (size_t)count, options, queue);
    event = rd_kafka_queue_poll(queue, timeout_ms + REQUEST_MS);
    ok = event ? results_check(event, err) : err_set(err, "create topics: no answer");
    if (event)
        rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    return ok;
}

static bool topics_create(rd_kafka_t *handle, const char *const *names, int count, int partitions,
                          int timeout_ms, struct err *err)
{
    rd_kafka_NewTopic_t *topics[TOPICS_MAX];
    char why[128];
    bool ok = true;
    int made = 0;

    for (; made < count && ok; made++) {
        /* -1: as many replicas as the cluster thinks right. */
        topics[made] = rd_kafka_NewTopic_new(names[made], partitions, -1, why, sizeof(why));
        if (!topics[made]) {
            ok = err_set(err, "create topic %s: %s", names[made], why);
            break;
        }
    }
    ok = ok && request_send(handle, topics, count, timeout_ms, err);
    for (int i = 0; i < made; i++)
        rd_kafka_NewTopic_destroy(topics[i]);
    return ok;
}

static bool topic_is_usable(const rd_kafka_metadata_topic_t *topic)
{
    if (topic->err || topic->partition_cnt == 0)
        return false;
    for (int i = 0; i < topic->partition_cnt; i++)
        if (topic->partitions[i].err || topic->partitions[i].leader < 0)
            return false;
    return true;
}

static bool topics_list_has(const struct rd_kafka_metadata *metadata, const char *name)
{
    for (int i = 0; i < metadata->topic_cnt; i++)
        if (strcmp(metadata->topics[i].topic, name) == 0)
            return topic_is_usable(&metadata->topics[i]);
    return false;
}

/* True when the cluster serves all topics; else *missing is one that it does not, as far as known.
 * All topics are listed, because asking for one by name may make it, with the wrong number of
 * partitions. */
static bool topics_are_there(rd_kafka_t *handle, const char *const *names, int count,
                             int timeout_ms, const char **missing)
{
    const struct rd_kafka_metadata *metadata = NULL;
    int found = 0;

    if (rd_kafka_metadata(handle, 1, NULL, &metadata, timeout_ms) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return false;
    while (found < count && topics_list_has(metadata, names[found]))
        found++;
    if (found < count)
        *missing = names[found];
    rd_kafka_metadata_destroy(metadata);
    return found == count;
}

static bool topics_await(rd_kafka_t *handle, const char *const *names, int count,
                         int64_t deadline_us, struct err *err)
{
    const char *missing = names[0];

    while (!topics_are_there(handle, names, count, remaining_ms(deadline_us), &missing)) {
        if (remaining_ms(deadline_us) == 0)
            return err_set(err, "wait for Kafka topic %s: not there in time", missing);
        rd_kafka_poll(handle, RETRY_MS);
    }
    return true;
}

/* Asks until the cluster agrees: just after its start it may have no controller yet. */
static bool topics_make(rd_kafka_t *handle, const char *const *names, int count, int partitions,
                        int64_t deadline_us, struct err *err)
{
    const char *missing;

    /* All there already is the usual case, and then no right to create is needed. */
    if (topics_are_there(handle, names, count, remaining_ms(deadline_us), &missing))
        return true;
    while (!topics_create(handle, names, count, partitions, REQUEST_MS, err)) {
        if (remaining_ms(deadline_us) == 0)
            return false;
        rd_kafka_poll(handle, RETRY_MS);
    }
    return true;
}

bool kafka_topics_ensure(const struct kafka_options *options, const char *const *topics, int count,
                         int partitions, int timeout_ms, struct err *err)
{
    int64_t deadline_us = clock_monotonic_us() + timeout_ms * US_PER_MS;
    rd_kafka_conf_t *conf;
    rd_kafka_t *handle;
    bool ok;

    if (count < 1 || count > TOPICS_MAX)
        return err_set(err, "create topics: expected 1 to %d names, got %d", TOPICS_MAX, count);
    conf = kafka_conf_new(options, defaults, NULL, err);
    handle = conf ? kafka_handle_new(RD_KAFKA_PRODUCER, conf, err) : NULL;
    if (!handle)
        return false;
    ok = (options->profile == KAFKA_EMBEDDED ||
          topics_make(handle, topics, count, partitions, deadline_us, err)) &&
         topics_await(handle, topics, count, deadline_us, err);
    (void)kafka_close_wait(kafka_close_start(&(struct kafka_closing){.handle = handle}),
                           REQUEST_MS);
    return ok;
}
