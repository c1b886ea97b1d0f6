/* SPDX-License-Identifier: Apache-2.0 */
/* A private Postgres for a test program: own folder, own port, gone when the program ends. */
#ifndef TESTS_UNIT_POSTGRES_FIXTURE_H
#define TESTS_UNIT_POSTGRES_FIXTURE_H

#include <stdint.h>

#include "common/base/err.h"

struct pg_session;
struct postgres_fixture;

/* Makes a cluster (no fsync, trust authentication, superuser "nightshift", database "postgres") in
 * a folder under /tmp, starts it on a free port of 127.0.0.1 and waits until it answers.  Works as
 * root (the server then runs as user postgres) and as a plain user. */
struct postgres_fixture *postgres_fixture_start(struct err *err) MUST_CHECK;

/* postgresql://nightshift@127.0.0.1:PORT/postgres; borrowed. */
const char *postgres_fixture_url(const struct postgres_fixture *postgres);

/* Kills the server (as a crash would) and waits for its end; the data stays. */
void postgres_fixture_crash(struct postgres_fixture *postgres);

/* Freezes (false: thaws) the server's processes. */
void postgres_fixture_freeze(struct postgres_fixture *postgres, bool is_frozen);

/* Starts it again on the same port and waits until it answers. */
bool postgres_fixture_restart(struct postgres_fixture *postgres, struct err *err) MUST_CHECK;

/* Ends it and removes the folder.  Also done at exit for what was not stopped. */
void postgres_fixture_stop(struct postgres_fixture *postgres);

/* SQL in a session, blocking; fails the test when it fails. */
void session_run(struct pg_session *session, const char *sql);
int64_t session_number(struct pg_session *session, const char *sql);

#endif
