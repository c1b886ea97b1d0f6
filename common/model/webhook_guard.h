/* SPDX-License-Identifier: Apache-2.0 */
/* Judges the very addresses that webhooks connect to. */
#ifndef COMMON_MODEL_WEBHOOK_GUARD_H
#define COMMON_MODEL_WEBHOOK_GUARD_H

#include <stddef.h>
#include <sys/socket.h>

#include "common/base/address.h"
#include "common/base/err.h"

struct event_base;
struct webhook_guard;

enum { WEBHOOK_BACKEND_HOSTS_MAX = 32 };

/* allow is copied.  backends are URLs or HOST:PORT lists as configured (DATABASE_URL, REDIS_URL,
 * KAFKA_BROKERS; NULL entries are skipped), copied too. */
struct webhook_guard *webhook_guard_new(struct event_base *base, const struct network *allow,
                                        size_t allow_count, const char *const *backends,
                                        size_t backend_count) MUST_CHECK;
void webhook_guard_free(struct webhook_guard *guard);

/* Looks the backends' names up again when that was over a minute ago, and this machine's own
 * addresses.  Never calls back. */
void webhook_guard_refresh(struct webhook_guard *guard);

/* For http_client_options.address_allowed, with the guard as arg.  What the configuration allows is
 * allowed; else not what address_is_allowed refuses, nor an address of this machine or of a
 * backend, public or not. */
bool webhook_guard_allows(const struct sockaddr *address, void *guard);

/* The hosts (without ports and brackets) in a URL or list.  For tests. */
size_t webhook_guard_hosts(const char *text, char hosts[][256], size_t max);

#endif
