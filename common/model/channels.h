/* SPDX-License-Identifier: Apache-2.0 */
/* Redis channels and the messages that travel in them: courtesy only, Postgres is the truth. */
#ifndef COMMON_MODEL_CHANNELS_H
#define COMMON_MODEL_CHANNELS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/id.h"

enum { CHANNEL_SIZE = 64 };

/* "ns:job:<hex>": everything that happens to one job, for those who watch it. */
void channel_of_job(struct id job, char out[CHANNEL_SIZE]);
/* "ns:worker:<hex>": "cancel <job hex>" and "watch <job hex>" for one worker process. */
void channel_of_worker(struct id worker, char out[CHANNEL_SIZE]);

/* Something empty: a call under a limit of concurrency has ended, and its place is free. */
#define CHANNEL_FREED "ns:freed"

/* "<microseconds> <provider>": it said that its account takes nothing more for so long. */
#define CHANNEL_CLOSED "ns:closed"

/* A message on a job's channel. */
enum live_kind {
    LIVE_CHANGED, /* something was committed: read Postgres again */
    LIVE_DELTA,   /* text not stored yet */
};

struct live_message {
    enum live_kind kind;
    int run, seq; /* LIVE_DELTA: of the events row that will hold the text */
    int attempt;
    int64_t offset;   /* of the first byte of text in the attempt's output */
    const char *text; /* borrowed */
    size_t len;
};

/* "c" or "d <run> <seq> <attempt> <offset>\n<text>". */
bool live_message_write(const struct live_message *message, struct buf *out) MUST_CHECK;
bool live_message_read(const char *data, size_t len, struct live_message *out) MUST_CHECK;

#endif
