/* SPDX-License-Identifier: Apache-2.0 */
/* A Redis of its own and questions to it, for the tests of admission. */
#ifndef TESTS_UNIT_ADMISSION_FIXTURE_H
#define TESTS_UNIT_ADMISSION_FIXTURE_H

#include "common/base/clock.h"
#include "common/io/redis.h"
#include "common/model/admission.h"
#include "common/model/book_redis.h"
#include "common/model/limit_cache.h"
#include "tests/unit/redis_fixture.h"

#include <event2/event.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <cmocka.h>

enum { GIVE_UP_S = 20, TEXT_SIZE = 4096 };

#define CENT INT64_C(10000000)
#define DAY "tenant|d20261121"

extern const char generation[]; /* of every question and book */
extern struct redis_fixture *world_server;
extern struct budget_windows windows; /* of every question */

/* Group setup and teardown: the server. */
int world_start_server(void **state);
int world_stop_server(void **state);

struct world {
    struct event_base *base;
    struct redis *redis; /* admission's */
    struct redis *side;  /* for looking on */
    struct admission *admission;
    int done;
    struct admission_answer answer;
    struct intake_answer intake;
    enum book_outcome book;
    int go, wait, never, stale, away;
    char text[TEXT_SIZE];
    char run_id[64];
};

/* Turns the loop until the condition holds. */
#define wait_until(world, condition)                                                \
    do {                                                                            \
        int64_t until_us_ = clock_monotonic_us() + GIVE_UP_S * US_PER_S;            \
        struct event *tick_ =                                                       \
            event_new((world)->base, -1, EV_PERSIST, world_on_tick, (world)->base); \
        event_add(tick_, &(struct timeval){.tv_usec = 1000});                       \
        while (!(condition) && clock_monotonic_us() < until_us_)                    \
            event_base_dispatch((world)->base);                                     \
        event_free(tick_);                                                          \
        if (!(condition))                                                           \
            fail_msg("never came true: %s", #condition);                            \
    } while (0)

/* What a question is about: a set for the tenant and one for a workflow. */
struct under {
    struct limit_set tenant;
    struct limit_set workflow;
    struct applied_limit applied[2];
    struct admission_request request;
};

/* A command over the other connection: words with spaces between; its reply. */
const char *world_command(struct world *world, const char *format, ...) PRINTF_LIKE(2, 3);
void world_wait_ready(struct world *world);
struct world *world_new(void);
void world_free(struct world *world);
struct id job_of(int number);
void under_init(struct under *under, int job);
void world_ask_only(struct world *world, struct under *under);
enum admission_outcome world_ask(struct world *world, struct under *under);
enum admission_outcome world_ask_money(struct world *world, int job, int64_t amount, int64_t limit);
void world_settle_only(struct world *world, int job, enum admission_end end, int64_t cost,
                       int64_t tokens, unsigned holds);
void world_settle(struct world *world, int job, enum admission_end end, int64_t cost,
                  int64_t tokens, unsigned holds);
const char *world_book(struct world *world, const char *field); /* as redis_book_script says */
const char *world_account(struct world *world, const char *name);
int64_t world_leases(struct world *world, const char *state); /* by its key */
enum book_outcome world_mark(struct world *world, const char *which);
enum book_outcome world_write_account(struct world *world, const char *which, const char *name,
                                      int64_t spent);
enum book_outcome world_write_record(struct world *world, const char *which, int job,
                                     int64_t amount, bool is_unknown);
enum book_outcome world_publish(struct world *world, const char *which, size_t fields);
void world_open_book(struct world *world);
void world_intake(struct world *world, struct under *under, int64_t submits);
void world_on_answer(const struct admission_answer *answer, void *arg);
void world_on_book(enum book_outcome outcome, void *arg);
void world_on_tick(evutil_socket_t fd, short what, void *arg);

#endif
