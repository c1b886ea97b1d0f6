/* SPDX-License-Identifier: Apache-2.0 */
/* A private Redis for a test program: own folder, own port, gone when the program ends. */
#ifndef TESTS_UNIT_REDIS_FIXTURE_H
#define TESTS_UNIT_REDIS_FIXTURE_H

#include "common/base/err.h"

struct redis_fixture;

/* Starts a server without persistence on a free port of 127.0.0.1 and waits until it answers. */
struct redis_fixture *redis_fixture_start(struct err *err) MUST_CHECK;

int redis_fixture_port(const struct redis_fixture *redis);
/* redis://127.0.0.1:PORT and the same server's unix:///...; borrowed. */
const char *redis_fixture_url(const struct redis_fixture *redis);
const char *redis_fixture_unix_url(const struct redis_fixture *redis);

/* Kills the server (as a crash would) and waits for its end; the data is gone. */
void redis_fixture_crash(struct redis_fixture *redis);

/* Freezes (false: thaws) the server. */
void redis_fixture_freeze(struct redis_fixture *redis, bool is_frozen);

/* Starts it again on the same port and waits until it answers. */
bool redis_fixture_restart(struct redis_fixture *redis, struct err *err) MUST_CHECK;

/* Ends it and removes the folder.  Also done at exit for what was not stopped. */
void redis_fixture_stop(struct redis_fixture *redis);

/* For EVAL: how many leases stand in a state of rates (rates.lua), its key being the only one. */
extern const char redis_leases_script[];
/* For EVAL: a field of a book, by its key, as a text: "gen", "ver" or "live" of its head, an
 * account as "<spent> <reserved> <unknown>", a record.  With a second argument that is written
 * there. */
extern const char redis_book_script[];

#endif
