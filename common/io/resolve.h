/* SPDX-License-Identifier: Apache-2.0 */
/* Host names to addresses without blocking the loop. */
#ifndef COMMON_IO_RESOLVE_H
#define COMMON_IO_RESOLVE_H

#include <stddef.h>

#include "common/base/err.h"

struct event_base;
struct resolve;

enum { RESOLVE_ADDRESSES_MAX = 16, RESOLVE_ADDRESS_SIZE = 64 };

/* addresses: count numeric addresses, in the resolver's order; error is NULL when count > 0. */
typedef void resolve_done_fn(const char *const *addresses, size_t count, const char *error,
                             void *arg);

/* Is text an IPv4 or IPv6 address (with or without a scope), so that nobody needs to be asked? */
bool resolve_is_address(const char *text) MUST_CHECK;

/* Looks host up with the machine's own resolver (getaddrinfo, so hosts file, search domains and
 * nsswitch count) in a thread of its own.  done is called once from the loop, never from inside
 * this call; the lookup is gone then. */
struct resolve *resolve_start(struct event_base *base, const char *host, resolve_done_fn *done,
                              void *arg, struct err *err) MUST_CHECK;

/* done will not be called.  NULL is fine. */
void resolve_cancel(struct resolve *resolve);

#endif
