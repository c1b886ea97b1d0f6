/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of budgets: a real Redis beside the Postgres of store_fixture, processes that keep the
 * books of tenant acme in it, and calls that are paid for. */
#ifndef TESTS_UNIT_BOOK_FIXTURE_H
#define TESTS_UNIT_BOOK_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/io/redis.h"
#include "common/model/admission.h"
#include "common/model/book_rebuild.h"
#include "common/model/call_store.h"
#include "common/model/limit_cache.h"
#include "tests/unit/store_fixture.h"

struct redis_fixture;

#define CENT INT64_C(10000000)

enum { BOOK_TEXT_SIZE = 512 };

/* cmocka group set-up and tear-down: Postgres and Redis. */
int book_group_start(void **state);
int book_group_stop(void **state);
/* cmocka set-up and tear-down of each test: empty tables and Redis, process one, a dollar a day for
 * acme. */
int book_set_up(void **state);
int book_tear_down(void **state);

extern struct redis_fixture *fixture_redis; /* the server, to crash */
extern struct redis *fixture_side;          /* for looking on and meddling */

/* --- Redis ------------------------------------------------------------------------------------ */

struct side_answer {
    bool is_there;
    enum redis_kind kind;
    int64_t number;
    char text[BOOK_TEXT_SIZE];
};

void await_redis(struct redis *redis);
struct side_answer side_ask(const char *const *words, int count);
#define COMMAND(...)                             \
    side_ask((const char *const[]){__VA_ARGS__}, \
             (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *)))
void flush_redis(void);

/* A field of acme's book. */
struct side_answer book_field(const char *name);
void book_set_field(const char *name, const char *value);

/* --- processes -------------------------------------------------------------------------------- */

/* What one process has. */
struct process {
    struct redis *redis;
    struct limit_cache *cache;
    struct admission *admission;
    struct book_rebuild *books;
};

/* one runs in every test; two is stopped after the test if it was started. */
extern struct process one, two;

void process_start(struct process *process, int connection);
/* Has the process read the limits anew. */
void process_refresh(struct process *process);

/* As PUT does when the accounts change; process one knows of it. */
void put_limits(const char *tenant, const char *document);

/* --- calls ------------------------------------------------------------------------------------ */

struct call {
    struct id job;
    int64_t token;
    int64_t amount;
    char generation[GENERATION_TEXT_SIZE];
    char day[BUDGET_DAY_SIZE];
    struct admission_answer answer;
    bool is_answered;
};

/* A job of acme that runs: its first call is about to be made. */
struct call running_call(int64_t amount);

/* Asks for the call's reservation, once. */
enum admission_outcome process_ask(struct process *process, struct call *call);
/* Whatever it takes, as a worker does it. */
enum admission_outcome process_reserve(struct process *process, struct call *call);

/* Writes the intent into the ledger, as a worker does between the reservation and the call. */
enum intent_outcome try_intent(const struct call *call);
bool intend(const struct call *call);

/* What the call came to: in the ledger alone, to Redis alone, in both. */
void settle_in_postgres(const struct call *call, int64_t cost);
void process_tell(struct process *process, const struct call *call, enum admission_end end,
                  int64_t cost);
void process_settle(struct process *process, const struct call *call, int64_t cost);
/* Until Redis knows of all that the process told it. */
void process_await_settled(struct process *process);

/* --- books ------------------------------------------------------------------------------------ */

/* Has acme's book made anew: begins it, waits until nothing is wanted any more, waits until Redis
 * has what this process believes; the first and the last. */
void process_begin_rebuild(struct process *process);
void process_await_rebuilt(struct process *process);
void process_await_current(struct process *process);
void process_rebuild(struct process *process);
/* After Redis lost everything. */
void process_rebuild_lost(struct process *process);
void process_await_no_wants(struct process *process);

/* The field of acme's book for today of what is named, "tenant" or "workflow:nightly"; borrowed
 * until the next call. */
const char *book_account_today(const char *of);
/* The account of the tenant's day: "<spent> <reserved> <unknown>". */
void assert_day(const char *expected);
/* Every account in the ledger is in the book, and nothing else is. */
void assert_book_is_ledger(const char *tenant);

#endif
