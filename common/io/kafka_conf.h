/* SPDX-License-Identifier: Apache-2.0 */
/* What kafka_*.c share: settings, logs, waking the event loop, and an end that cannot hang. */
#ifndef COMMON_IO_KAFKA_CONF_H
#define COMMON_IO_KAFKA_CONF_H

#include "common/base/err.h"
#include "common/io/kafka.h"

#include <event2/util.h>
#include <librdkafka/rdkafka.h>

struct event;

enum { KAFKA_TICK_MS = 250 };

struct kafka_setting {
    const char *name; /* NULL ends a table */
    const char *value;
};

/* A configuration with the brokers, our logs and the settings of every handle, then `defaults`,
 * then the options' extra ones, then `fixed`, which nobody may change.  NULL: err says which. */
rd_kafka_conf_t *kafka_conf_new(const struct kafka_options *options,
                                const struct kafka_setting *defaults,
                                const struct kafka_setting *fixed, struct err *err) MUST_CHECK;

/* Takes conf, also on failure. */
rd_kafka_t *kafka_handle_new(rd_kafka_type_t type, rd_kafka_conf_t *conf,
                             struct err *err) MUST_CHECK;

/* Counts an error and logs it as a warning, but not more often than every few seconds (a broker
 * that is away says the same thing many times); the others are debug lines. */
void kafka_report(const char *kind, const char *what, const char *why);

/* --- waking the loop -------------------------------------------------------------------------- */

/* librdkafka writes to fd when an empty queue gets its first element, and not again until the queue
 * is served: so a reader drains its queues on every wake, and looks by timer as well. */
struct kafka_wake {
    int fd;
    struct event *event;
    struct event *tick; /* every KAFKA_TICK_MS */
};

typedef void kafka_wake_fn(evutil_socket_t fd, short events, void *arg);

bool kafka_wake_init(struct kafka_wake *wake, struct event_base *base, kafka_wake_fn *on_wake,
                     kafka_wake_fn *on_tick, void *arg, struct err *err) MUST_CHECK;
void kafka_wake_watch(const struct kafka_wake *wake, rd_kafka_queue_t *queue);
void kafka_wake_unwatch(rd_kafka_queue_t *queue); /* before kafka_wake_release */
void kafka_wake_clear(const struct kafka_wake *wake);
void kafka_wake_release(struct kafka_wake *wake);

/* --- ending ----------------------------------------------------------------------------------- */

enum { KAFKA_CLOSING_QUEUES = 2 };

/* What to end.  The thread that does it runs before(arg), leaves the group (a consumer), and lets
 * go of the queues and the handle.  after(arg) runs when nobody needs arg any more: in
 * kafka_close_wait, or in the thread if that gave up waiting.  Both may be NULL. */
struct kafka_closing {
    rd_kafka_t *handle;
    rd_kafka_queue_t *queues[KAFKA_CLOSING_QUEUES];
    void (*before)(void *arg);
    void (*after)(void *arg);
    void *arg;
};

struct kafka_closer;

/* Ends a handle in a thread of its own, because librdkafka's close may block for ever.  NULL: no
 * thread could be made; the handle is abandoned and arg with it. */
struct kafka_closer *kafka_close_start(const struct kafka_closing *what);
/* Waits for it; on false the thread is left to itself.  Takes closer, which may be NULL. */
bool kafka_close_wait(struct kafka_closer *closer, int timeout_ms);

#endif
