/* SPDX-License-Identifier: Apache-2.0 */
/* Which providers this process may call now: pauses set by admins, and calls in flight. */
#ifndef WORKER_PROVIDER_GATES_H
#define WORKER_PROVIDER_GATES_H

#include "common/base/err.h"
#include "common/model/settings.h"

struct event_base;
struct provider_gates;
struct pg;

/* Looks at the pauses once a second.  processes: of this daemon; each gets an equal share of a
 * provider's max_concurrency, at least one.  NULL: out of memory. */
struct provider_gates *provider_gates_new(struct event_base *base, struct pg *pg, int processes);
/* After the last run, and after pg is freed (a look may be under way). */
void provider_gates_free(struct provider_gates *gates); /* NULL is fine */

bool provider_gates_is_paused(const struct provider_gates *gates, const struct provider *provider);
bool provider_gates_is_full(const struct provider_gates *gates, const struct provider *provider);
/* A call begins, a call is over. */
void provider_gates_enter(struct provider_gates *gates, const struct provider *provider);
void provider_gates_leave(struct provider_gates *gates, const struct provider *provider);

#endif
