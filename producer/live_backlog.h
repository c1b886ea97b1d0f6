/* SPDX-License-Identifier: Apache-2.0 */
/* Live text that waits until what comes before it was read from Postgres: a bounded queue. */
#ifndef PRODUCER_LIVE_BACKLOG_H
#define PRODUCER_LIVE_BACKLOG_H

#include <stddef.h>

#include "common/model/channels.h"

enum { LIVE_BACKLOG_BYTES = 256 * 1024 };

struct live_entry;

struct live_backlog {
    struct live_entry *first, *last;
    size_t bytes; /* of memory */
};

/* Copies the message.  One that begins where the oldest of its chunk does, or before, replaces them
 * all: it is the chunk told again, as far as it came.  When it does not fit, everything is dropped,
 * this one too: Postgres will have it all. */
void live_backlog_add(struct live_backlog *backlog, const struct live_message *message);
/* The oldest; false when there is none.  Its text is borrowed until it is dropped. */
bool live_backlog_first(const struct live_backlog *backlog, struct live_message *out) MUST_CHECK;
void live_backlog_drop_first(struct live_backlog *backlog);
void live_backlog_clear(struct live_backlog *backlog);

#endif
