/* SPDX-License-Identifier: Apache-2.0 */
/* Where a pg connection goes: the URL's parts, our settings, and the addresses of its hosts. */
#ifndef COMMON_IO_PG_TARGET_H
#define COMMON_IO_PG_TARGET_H

#include <stddef.h>

#include "common/base/err.h"

struct pg_conn; /* libpq's PGconn */
struct pg_target;

enum { PG_HOSTS_MAX = 32 };

/* settings: "-c name=value ..." for the server, added to the URL's own options.  Keepalives,
 * tcp_user_timeout and the like are set unless the URL sets them. */
struct pg_target *pg_target_new(const char *url, const char *application, const char *settings,
                                struct err *err) MUST_CHECK;
void pg_target_free(struct pg_target *target);

/* The next host name that must be looked up before connecting; NULL: none (all are addresses or
 * socket folders, or known by now). */
const char *pg_target_unresolved(const struct pg_target *target);

/* The answer for that host; none: it stays out. */
void pg_target_set_addresses(struct pg_target *target, const char *const *addresses, size_t count);

/* Names are to be looked up anew. */
void pg_target_forget_addresses(struct pg_target *target);

/* Starts with the next host (the first did not even answer). */
void pg_target_rotate(struct pg_target *target);

/* PQconnectStartParams over the known addresses, or PQconnectdbParams (blocking, which looks up
 * what is unresolved by itself).  NULL when nothing can be tried. */
struct pg_conn *pg_target_connect(const struct pg_target *target, bool is_blocking,
                                  struct err *err) MUST_CHECK;

#endif
