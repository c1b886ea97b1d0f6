/* SPDX-License-Identifier: Apache-2.0 */
/* The Kafka topics and the ticket that travels in them. */
#ifndef COMMON_MODEL_TOPICS_H
#define COMMON_MODEL_TOPICS_H

#include <stddef.h>

#include "common/base/id.h"
#include "common/model/job.h"

enum { TOPIC_PARTITIONS = 32, TICKET_TEXT_MAX = 256 };

#define WORKER_GROUP "nightshift-workers"

const char *topic_name(enum priority priority); /* "nightshift.high" */
extern const char *const topic_names[PRIORITY_COUNT];

/* A ticket names a job, its tenant and a dispatch number; nothing else ever enters the broker.
 * Text: "1 <32 hex> <dispatch_seq> <tenant>". */
struct ticket {
    struct id job;
    int dispatch_seq;
    char tenant[JOB_LABEL_MAX + 1];
};

size_t ticket_write(const struct ticket *ticket, char out[TICKET_TEXT_MAX]); /* length */
bool ticket_read(const void *data, size_t len, struct ticket *out) MUST_CHECK;

#endif
