/* SPDX-License-Identifier: Apache-2.0 */
/* Kafka on the event loop: a producer of tickets, a consumer per topic, topic creation. */
#ifndef COMMON_IO_KAFKA_H
#define COMMON_IO_KAFKA_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct event_base;
struct kafka_producer;
struct kafka_consumer;

enum kafka_profile { KAFKA_EMBEDDED, KAFKA_REAL };

struct kafka_options {
    const char *brokers;
    enum kafka_profile profile; /* session and heartbeat times; see kafka_consumer.c */
    const char *client_id;
    const char *const *extra; /* "name=value" librdkafka properties, NULL-terminated; may be NULL */
};

/* --- producer --------------------------------------------------------------------------------- */

/* ok: the broker has it.  false: it may or may not have it (publish again is harmless). */
typedef void kafka_delivered_fn(bool ok, void *arg);

/* Idempotent, acks=all, linger 0, message.timeout a few seconds.  A fatal error destroys the handle
 * and makes a new one; what was outstanding ends with false. */
struct kafka_producer *kafka_producer_new(struct event_base *base,
                                          const struct kafka_options *options,
                                          struct err *err) MUST_CHECK;
/* Waits up to flush_ms for what is outstanding, answering it, and answers the rest with false; then
 * at most a second for the client itself.  Not from inside a done. */
void kafka_producer_free(struct kafka_producer *producer, int flush_ms);
/* The partition is chosen at random; data is copied.  done (may be NULL) is called exactly once,
 * from the loop, never from inside this call.  False (done not called): the queue is full or the
 * broker has been away for long (a message timed out and none has been delivered since; then one
 * at a time is let through to find out). */
bool kafka_produce(struct kafka_producer *producer, const char *topic, const void *data, size_t len,
                   kafka_delivered_fn *done, void *arg) MUST_CHECK;
/* Learns the topics' metadata in the background, so that the first message is not a second late.
 * Once, after new; at most 16 topics are used in all. */
void kafka_producer_warm(struct kafka_producer *producer, const char *const *topics, int count);
/* They are known, that is, the brokers have been reached once.  It stays true in an outage. */
bool kafka_producer_is_ready(const struct kafka_producer *producer);
/* For tests: the producer meets the kind of fatal error that follows some disconnects. */
void kafka_producer_test_fatal(struct kafka_producer *producer);

/* --- consumer --------------------------------------------------------------------------------- */

struct kafka_message {
    int32_t partition;
    int64_t offset;
    const void *data;
    size_t len;
};

/* One consumer group member on one topic: eager (range) assignment, one consumer_poll at a time,
 * offsets committed only by kafka_consumer_commit. */
struct kafka_consumer *kafka_consumer_new(struct event_base *base,
                                          const struct kafka_options *options, const char *group,
                                          const char *topic, struct err *err) MUST_CHECK;
/* Starts to leave the group in the background: the partitions go to others at once.  Nothing is
 * delivered, committed or called back from here on; only free is left. */
void kafka_consumer_leave(struct kafka_consumer *consumer);
/* Leaves the group, if that was not begun, and waits for it up to timeout_ms, never longer. */
void kafka_consumer_free(struct kafka_consumer *consumer, int timeout_ms);

/* Called when messages may be there, from the loop; call kafka_consumer_take until it returns false
 * or enough is taken (then it is called again every 250 ms; better pause, or take when ready). */
void kafka_consumer_on_ready(struct kafka_consumer *consumer, void (*on_ready)(void *arg),
                             void *arg);
/* The next message; it lives until the next take.  Not more than are wanted: what is not taken
 * stays in the (small) local queue or at the broker. */
bool kafka_consumer_take(struct kafka_consumer *consumer, struct kafka_message *out);
/* Nothing is wanted: take returns false until resumed, which calls on_ready on the loop's next
 * turn. The membership is kept alive all the same, and rebalances change nothing. */
void kafka_consumer_pause(struct kafka_consumer *consumer);
void kafka_consumer_resume(struct kafka_consumer *consumer);
/* All messages taken so far are claimed or dropped: commits positions asynchronously.  A commit
 * that fails, or a partition that was taken away meanwhile, means that they come again, to someone.
 */
void kafka_consumer_commit(struct kafka_consumer *consumer);
/* Goes back to before what was taken since the last commit: it comes again. */
void kafka_consumer_rewind(struct kafka_consumer *consumer);
/* Monotonic time since which take found nothing, whether because the partitions are empty or
 * because none is assigned (a rebalance, an outage); 0: there was something, or it is paused. */
int64_t kafka_consumer_idle_since_us(const struct kafka_consumer *consumer);
bool kafka_consumer_is_assigned(const struct kafka_consumer *consumer);

/* --- topics ----------------------------------------------------------------------------------- */

/* Blocking; for start-up and `nightshift doctor`.  Existing topics are fine, whatever their number
 * of partitions.  The embedded broker makes its own: with KAFKA_EMBEDDED this only waits until they
 * are there. */
bool kafka_topics_ensure(const struct kafka_options *options, const char *const *topics, int count,
                         int partitions, int timeout_ms, struct err *err) MUST_CHECK;

#endif
