/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the events that webhooks tell of, and lists of them in requests. */
#ifndef COMMON_MODEL_WEBHOOK_EVENTS_H
#define COMMON_MODEL_WEBHOOK_EVENTS_H

#include <jansson.h>

#include "common/base/err.h"

/* Reads an `events` member: absent or null leaves *out NULL (all), else a comma-separated list that
 * the caller frees.  An empty list, another type or an unknown name fails as bad input of param
 * ("webhook.events"). */
bool webhook_events_read(const json_t *value, const char *param, char **out,
                         struct err *err) MUST_CHECK;

#endif
