/* SPDX-License-Identifier: Apache-2.0 */
/* What admission costs: so many calls a second are asked for, and in some rounds settled; then the
 * CPU of this process and of its Redis is printed in percent of one core.
 * Usage: admission [RATE [SECONDS]].  RATE times SECONDS below 100,000: leases are never given back
 * where nothing is settled. */
#include "common/model/admission.h"
#include "common/base/clock.h"
#include "common/io/redis.h"
#include "common/model/book_redis.h"
#include "common/model/limit_cache.h"
#include "tests/unit/redis_fixture.h"

#include <event2/event.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>

enum { TENANTS = 20, CALL_MS = 200, TICK_MS = 5, OUT_MAX = 65536 };

static const struct limit_set tenant_set = {
    .submits_per_minute = -1,
    .requests_per_minute = 1000000,
    .tokens_per_minute = 900000000,
    .max_concurrency = 5000,
    .max_queued = -1,
    .max_body_bytes = -1,
    .max_job_cost_nano = -1,
    .budget_nano = {INT64_C(1) << 50, INT64_C(1) << 51, -1}};
static const struct limit_set workflow_set = {.submits_per_minute = -1,
                                              .requests_per_minute = -1,
                                              .tokens_per_minute = -1,
                                              .max_concurrency = 3000,
                                              .max_queued = -1,
                                              .max_body_bytes = -1,
                                              .max_job_cost_nano = -1,
                                              .budget_nano = {INT64_C(1) << 50, -1, -1}};
static const struct budget_windows windows = {.id = {"d20261121", "m202611", "t"},
                                              .end_us = {US_PER_DAY, 30 * US_PER_DAY, INT64_MAX}};

struct out {
    int number;
    int64_t until_us;
};

/* Each has its own tenants. */
struct round {
    const char *title, *tenants;
    int limit_count;
    bool is_settled;
};

static const struct round rounds[] = {
    {"admissions alone, under a tenant's rates, concurrency and budgets of day and month", "alone",
     1, false},
    {"each with its settlement", "settled", 1, true},
    {"and under a workflow's concurrency and budget too", "workflow", 2, true},
};
enum { ROUNDS = sizeof(rounds) / sizeof(rounds[0]) };

struct bench {
    struct event_base *base;
    struct redis *redis;
    struct admission *admission;
    int books;
    int64_t rate;
    const struct round *round;
    int next; /* number of the next call */
    int64_t started_us, end_us;
    int64_t asked, granted, refused, settled;
    int64_t wait_us_sum, wait_us_max;
    struct out out[OUT_MAX]; /* a ring: calls to be settled, in order of their end */
    int64_t first, last;
    double redis_s;
    bool has_info;
};

struct question {
    struct bench *bench;
    int number;
    int64_t at_us;
};

static struct id job_of(int number)
{
    struct id id = {.bytes = {[6] = 0x70, [8] = 0x80}};

    memcpy(id.bytes + 12, &number, sizeof(number));
    return id;
}

static void tenant_of(const struct round *round, int number, char out[16])
{
    snprintf(out, 16, "%.10s%d", round->tenants, number % TENANTS);
}

static void on_answer(const struct admission_answer *answer, void *arg)
{
    struct question *question = arg;
    struct bench *bench = question->bench;
    int64_t now_us = clock_monotonic_us();
    int64_t wait_us = now_us - question->at_us;

    bench->wait_us_sum += wait_us;
    if (wait_us > bench->wait_us_max)
        bench->wait_us_max = wait_us;
    if (answer->outcome == ADMISSION_GO) {
        bench->granted++;
        if (bench->round->is_settled && bench->last - bench->first < OUT_MAX)
            bench->out[bench->last++ % OUT_MAX] =
                (struct out){.number = question->number, .until_us = now_us + CALL_MS * US_PER_MS};
    } else {
        bench->refused++;
    }
    free(question);
}

static void ask(struct bench *bench, int number)
{
    struct applied_limit limits[] = {{LIMIT_TENANT, "", &tenant_set},
                                     {LIMIT_WORKFLOW, "nightly-summaries", &workflow_set}};
    struct question *question = malloc(sizeof(*question));
    char tenant[16];
    const struct admission_request request = {.tenant = tenant,
                                              .job = job_of(number),
                                              .run = 1,
                                              .call = 1,
                                              .run_token = number,
                                              .lease_s = 720,
                                              .tokens = 1500,
                                              .amount_nano = 2500000,
                                              .limits = limits,
                                              .limit_count = bench->round->limit_count,
                                              .windows = &windows,
                                              .generation = "1.1",
                                              .run_id = redis_run_id(bench->redis)};

    *question = (struct question){bench, number, clock_monotonic_us()};
    tenant_of(bench->round, number, tenant);
    if (!admission_ask(bench->admission, &request, on_answer, question))
        free(question);
}

static void settle(struct bench *bench, int number)
{
    char tenant[16];
    const struct admission_settlement settlement = {.tenant = tenant,
                                                    .job = job_of(number),
                                                    .run = 1,
                                                    .call = 1,
                                                    .holds = ADMISSION_HOLDS_MONEY |
                                                             ADMISSION_HOLDS_RATES,
                                                    .end = ADMISSION_SETTLED,
                                                    .cost_nano = 1234567,
                                                    .tokens = 1100};

    tenant_of(bench->round, number, tenant);
    admission_settle(bench->admission, &settlement);
    bench->settled++;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct bench *bench = arg;
    int64_t now_us = clock_monotonic_us();
    int64_t due = (now_us - bench->started_us) * bench->rate / US_PER_S;

    (void)fd;
    (void)what;
    if (now_us >= bench->end_us) {
        event_base_loopbreak(bench->base);
        return;
    }
    while (bench->round->is_settled && bench->first < bench->last &&
           bench->out[bench->first % OUT_MAX].until_us <= now_us)
        settle(bench, bench->out[bench->first++ % OUT_MAX].number);
    while (bench->asked < due) {
        bench->asked++;
        ask(bench, bench->next++);
    }
}

static void on_info(const struct redis_reply *reply, void *arg)
{
    static const char *const names[] = {"used_cpu_sys:", "used_cpu_user:"};
    struct bench *bench = arg;

    bench->has_info = true;
    bench->redis_s = 0;
    for (int i = 0; i < 2 && reply->kind == REDIS_TEXT; i++) {
        const char *at = strstr(reply->text, names[i]);

        bench->redis_s += at ? strtod(at + strlen(names[i]), NULL) : 0;
    }
}

static double redis_seconds(struct bench *bench)
{
    const char *const info[] = {"INFO", "cpu"};

    bench->has_info = false;
    redis_command(bench->redis, info, NULL, 2, on_info, bench);
    while (!bench->has_info)
        event_base_loop(bench->base, EVLOOP_ONCE);
    return bench->redis_s;
}

static double own_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void on_book(enum book_outcome outcome, void *arg)
{
    struct bench *bench = arg;

    if (outcome != BOOK_DONE) {
        fputs("a book could not be made\n", stderr);
        exit(1);
    }
    bench->books++;
}

static void make_books(struct bench *bench)
{
    const char *run_id = redis_run_id(bench->redis);
    char tenant[16];

    for (int i = 0; i < TENANTS * ROUNDS; i++) {
        tenant_of(&rounds[i / TENANTS], i, tenant);
        book_mark(bench->redis, run_id, tenant, "1.1", on_book, bench);
        book_publish(bench->redis, run_id, tenant, "1.1", 0, on_book, bench);
    }
    while (bench->books < 2 * TENANTS * ROUNDS)
        event_base_loop(bench->base, EVLOOP_ONCE);
}

/* The calls still out at the end are settled by nobody. */
static void run(struct bench *bench, const struct round *round, int64_t seconds)
{
    const struct timeval period = {.tv_usec = TICK_MS * US_PER_MS};
    struct event *tick = event_new(bench->base, -1, EV_PERSIST, on_tick, bench);
    double redis_s = redis_seconds(bench);
    double own_s = own_seconds();
    double share = 100.0 / (double)seconds;

    bench->round = round;
    bench->asked = bench->granted = bench->refused = bench->settled = 0;
    bench->wait_us_sum = bench->wait_us_max = 0;
    bench->first = bench->last;
    bench->started_us = clock_monotonic_us();
    bench->end_us = bench->started_us + seconds * US_PER_S;
    event_add(tick, &period);
    event_base_dispatch(bench->base);
    event_free(tick);
    redis_s = redis_seconds(bench) - redis_s;
    own_s = own_seconds() - own_s;
    printf("%s:\n  %ld calls asked, %ld granted, %ld refused, %ld settled in %ld s\n", round->title,
           (long)bench->asked, (long)bench->granted, (long)bench->refused, (long)bench->settled,
           (long)seconds);
    printf("  an answer takes %.2f ms, at most %.2f ms\n",
           (double)bench->wait_us_sum / (double)(bench->asked ? bench->asked : 1) / 1000,
           (double)bench->wait_us_max / 1000);
    printf("  of one core: Redis %.1f %%, client %.1f %%, together %.1f %%\n", redis_s * share,
           own_s * share, (redis_s + own_s) * share);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    struct err err = {.message = ""};
    struct redis_fixture *server = redis_fixture_start(&err);
    struct redis_options options = {.command_timeout_ms = 1000};
    int64_t seconds = argc > 2 ? atol(argv[2]) : 8;

    signal(SIGPIPE, SIG_IGN);
    bench.rate = argc > 1 ? atol(argv[1]) : 2000;
    bench.base = event_base_new();
    options.url = server ? redis_fixture_url(server) : "";
    bench.redis = server ? redis_new(bench.base, &options, &err) : NULL;
    if (!bench.redis) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    bench.admission = admission_new(bench.base, bench.redis);
    while (!redis_is_ready(bench.redis))
        event_base_loop(bench.base, EVLOOP_ONCE);
    make_books(&bench);
    for (int i = 0; i < ROUNDS; i++)
        run(&bench, &rounds[i], seconds);
    admission_free(bench.admission);
    redis_free(bench.redis);
    event_base_free(bench.base);
    redis_fixture_stop(server);
    return 0;
}
