/* SPDX-License-Identifier: Apache-2.0 */
/* One libpq connection in pipeline mode that comes back by itself whenever it is lost. */
#ifndef COMMON_IO_PG_LINK_H
#define COMMON_IO_PG_LINK_H

#include "common/base/err.h"
#include "common/base/log.h"

struct event_base;
struct pg_conn; /* libpq's PGconn */
struct pg_link;

struct pg_link_options {
    const char *url;
    const char *application; /* application_name */
    const char *settings;    /* "-c name=value ..." */
    const struct log_context *log;
    /* A connection is ready, in pipeline mode.  It is the last thing the link does. */
    void (*on_ready)(void *arg);
    /* Input was consumed, or (broken: why) the connection turned out to be dead; what had arrived
     * before may still be taken from it, then the owner says pg_link_drop.  Last thing as well. */
    void (*on_input)(const char *broken, void *arg);
    /* All that libpq held back is out. */
    void (*on_flushed)(void *arg);
    /* An attempt to connect failed. */
    void (*on_failed)(void *arg);
    void *arg;
};

/* Begins to connect.  The strings and *log must outlive the link. */
struct pg_link *pg_link_new(struct event_base *base, const struct pg_link_options *options,
                            struct err *err) MUST_CHECK;
void pg_link_free(struct pg_link *link);

/* NULL unless ready.  Only to send and to take results; the link closes it. */
struct pg_conn *pg_link_conn(const struct pg_link *link);

/* Pushes out what libpq holds.  False: some of it has to wait for the socket (or the connection is
 * broken); on_flushed or on_input will tell. */
bool pg_link_flush(struct pg_link *link);

/* Closes the connection and begins again after a backoff. */
void pg_link_drop(struct pg_link *link, const char *why);

#endif
