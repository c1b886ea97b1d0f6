/* SPDX-License-Identifier: Apache-2.0 */
/* Sends the tickets of jobs that got the fast lane. */
#ifndef PRODUCER_PUBLISH_H
#define PRODUCER_PUBLISH_H

#include "common/base/id.h"
#include "common/model/job.h"

struct kafka_producer;
struct publisher;
struct submit_store;

struct publisher *publisher_new(struct kafka_producer *kafka, struct submit_store *submits);
/* After kafka_producer_free, which ends what is outstanding. */
void publisher_free(struct publisher *publisher);

/* A ticket that does not reach the broker is taken back: the scheduler deals the job again. */
void publish_ticket(struct publisher *publisher, struct id job, const char *tenant,
                    enum priority priority, int dispatch_seq);

#endif
