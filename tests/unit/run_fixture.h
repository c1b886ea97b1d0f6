/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of what running jobs write: a job in its first run, its calls' intents and ends.  Upon
 * store_fixture. */
#ifndef TESTS_UNIT_RUN_FIXTURE_H
#define TESTS_UNIT_RUN_FIXTURE_H

#include "common/model/call_store.h"
#include "tests/unit/store_fixture.h"

struct live {
    struct id job;
    int64_t token;
    int run;
};

/* A job of acme in its first run, claimed by the fixture's worker. */
struct live fixture_run_job(void);

/* The intent of a call at prices 5, 6 and 7 with 900 nano-dollars reserved; with a generation (or
 * NULL) of the tenant's book, on a day of its own. */
enum intent_outcome fixture_intend_knowing(struct call_store *calls, struct live live, int call,
                                           const char *generation, int64_t known_generation);
/* The same by one who knows of no book. */
enum intent_outcome fixture_intend(struct call_store *calls, struct live live, int call,
                                   const char *generation);

/* Books what a call came to, with the counters of its run. */
void fixture_settle(struct call_store *calls, struct live live, int attempts, int deferrals,
                    const struct call_outcome *outcome);

#endif
