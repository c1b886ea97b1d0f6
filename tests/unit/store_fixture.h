/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of the stores: a private Postgres with the schema, a loop, and rows to begin with. */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/io/pg.h"
#include "common/model/job.h"

struct event_base;
struct postgres_fixture;

enum { FIXTURE_CONNECTIONS = 2 };

/* One per test program. */
extern struct event_base *fixture_base;
extern struct pg *fixture_pg[FIXTURE_CONNECTIONS]; /* two connections of different "processes" */
extern struct id fixture_worker;                   /* a registered worker */

/* cmocka group set-up and tear-down. */
int fixture_start(void **state);
int fixture_stop(void **state);
/* cmocka set-up of each test: empty tables but for tenant "acme" and fixture_worker. */
int fixture_reset(void **state);

/* The server, to crash or freeze, and its URL. */
extern struct postgres_fixture *fixture_postgres;
const char *fixture_url(void);
/* After a crash: starts it again and opens the sessions anew. */
void fixture_restart(void);

/* Turns the loop until *flag (await_flag) or count reaches want; fails the test after a while. */
void await_flag(const bool *flag);
void await_count(const int *count, int want);
/* Turns the loop for a moment, to see that something does not happen. */
void turn_loop_ms(int ms);

/* SQL from outside, blocking. */
void sql_run(const char *fmt, ...) PRINTF_LIKE(1, 2);
int64_t sql_number(const char *fmt, ...) PRINTF_LIKE(1, 2);
void sql_assert_text(const char *expected, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Turns the loop until a statement waits for a lock; fails the test after a while. */
void await_blocked(void);

/* A second session of the same kind, for transactions left open. */
void other_run(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* A job of acme waiting in the queue, ready, dealt 3 s ago, dispatch_seq 0, counted as queued. */
struct id fixture_queue_job(int priority);
/* A new job as job_submit gives it; key may be NULL.  The texts are static or borrowed: nothing to
 * free. */
struct job_new fixture_new_job(const char *tenant, enum priority priority, const char *key);
/* The hex of an id, good as a uuid in SQL; four buffers in turn. */
const char *hex(struct id id);

/* The sums of counts by state agree with the rows of queue, runs and jobs. */
void assert_counts_balance(void);

#endif
