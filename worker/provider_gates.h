/* SPDX-License-Identifier: Apache-2.0 */
/* Which providers this process may call now: pauses set by admins, and what the providers say. */
#ifndef WORKER_PROVIDER_GATES_H
#define WORKER_PROVIDER_GATES_H

#include <stddef.h>

#include "common/base/err.h"
#include "common/model/settings.h"
#include "worker/providers/rate_headers.h"

struct admission;
struct event_base;
struct provider_gates;
struct pg;

/* Looks at the pauses once a second.  What is learned of accounts is told to the fleet through
 * admission (NULL: to nobody).  NULL: out of memory. */
struct provider_gates *provider_gates_new(struct event_base *base, struct pg *pg,
                                          struct admission *admission);
/* After the last run, and after pg is freed (a look may be under way). */
void provider_gates_free(struct provider_gates *gates); /* NULL is fine */

bool provider_gates_is_paused(const struct provider_gates *gates, const struct provider *provider);
/* The monotonic time before which it said that nothing passes; 0: it did not. */
int64_t provider_gates_open_us(const struct provider_gates *gates, const struct provider *provider);
/* What the head of an answer told. */
void provider_gates_learn(struct provider_gates *gates, const struct provider *provider,
                          const struct rate_seen *seen);
/* A message on CHANNEL_CLOSED: what another worker was told.  One that is lost costs the calls
 * until the first answer says the same. */
void provider_gates_hear(struct provider_gates *gates, const char *data, size_t len);

#endif
