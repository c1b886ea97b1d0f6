/* SPDX-License-Identifier: Apache-2.0 */
/* Is the database's schema the one this version was written for? */
#ifndef COMMON_MODEL_SCHEMA_STORE_H
#define COMMON_MODEL_SCHEMA_STORE_H

#include "common/base/err.h"

/* The number of the newest migration these programs need; a test holds it to migrations/. */
enum { SCHEMA_VERSION = 11 };

enum schema_state {
    SCHEMA_FITS, /* this version, or a newer one: migrations only ever add */
    SCHEMA_OLD,  /* the daemon must not start: err says to run nightshift-migrate */
    SCHEMA_AWAY, /* nobody could be asked: err says why; a daemon may start and wait */
};

/* Asks once, blocking: for start-up, before the loop turns. */
enum schema_state schema_check(const char *database_url, struct err *err) MUST_CHECK;

#endif
