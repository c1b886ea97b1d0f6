/* SPDX-License-Identifier: Apache-2.0 */
/* The fast lane's last step: a committed job's ticket to its topic, or the job back to the deal. */
#include "producer/publish.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/io/kafka.h"
#include "common/io/metrics.h"
#include "common/model/submit_store.h"
#include "common/model/topics.h"

static const struct metric unpublished_total = {
    .name = "nightshift_tickets_unpublished_total",
    .type = METRIC_COUNTER,
    .help = "Fast-lane tickets that did not reach the broker; their jobs are dealt again.",
    .labels = {"priority"},
};

struct publisher {
    struct kafka_producer *kafka;
    struct submit_store *submits;
};

struct sent_ticket {
    struct publisher *publisher;
    struct id job;
    enum priority priority;
    int dispatch_seq;
};

struct publisher *publisher_new(struct kafka_producer *kafka, struct submit_store *submits)
{
    struct publisher *publisher = calloc(1, sizeof(*publisher));

    if (!publisher)
        return NULL;
    publisher->kafka = kafka;
    publisher->submits = submits;
    for (int i = 0; i < PRIORITY_COUNT; i++)
        metric_declare(&unpublished_total, METRIC_LABELS(priority_name((enum priority)i)));
    return publisher;
}

void publisher_free(struct publisher *publisher)
{
    free(publisher);
}

static void take_back(struct publisher *publisher, struct id job, enum priority priority,
                      int dispatch_seq)
{
    metric_add(&unpublished_total, METRIC_LABELS(priority_name(priority)), 1);
    submit_unpublish(publisher->submits, job, dispatch_seq);
}

static void on_delivered(bool ok, void *arg)
{
    struct sent_ticket sent = *(struct sent_ticket *)arg;

    free(arg);
    if (!ok)
        take_back(sent.publisher, sent.job, sent.priority, sent.dispatch_seq);
}

void publish_ticket(struct publisher *publisher, struct id job, const char *tenant,
                    enum priority priority, int dispatch_seq)
{
    struct ticket ticket = {.job = job, .dispatch_seq = dispatch_seq};
    char text[TICKET_TEXT_MAX];
    struct sent_ticket *sent = malloc(sizeof(*sent));
    size_t len;

    snprintf(ticket.tenant, sizeof(ticket.tenant), "%s", tenant);
    len = ticket_write(&ticket, text);
    if (sent)
        *sent = (struct sent_ticket){
            .publisher = publisher, .job = job, .priority = priority, .dispatch_seq = dispatch_seq};
    if (sent &&
        kafka_produce(publisher->kafka, topic_name(priority), text, len, on_delivered, sent))
        return;
    free(sent);
    take_back(publisher, job, priority, dispatch_seq);
}
