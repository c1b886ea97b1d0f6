/* SPDX-License-Identifier: Apache-2.0 */
/* A Redis of its own and questions to it, for the tests of admission. */
#include "tests/unit/admission_fixture.h"

#include <signal.h>

#include "common/io/metrics.h"

struct redis_fixture *world_server;
const char generation[] = "1.1";

void world_on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(arg);
}

static void on_text(const struct redis_reply *reply, void *arg)
{
    struct world *world = arg;

    world->done++;
    world->text[0] = '\0';
    if (reply->kind == REDIS_INT)
        snprintf(world->text, sizeof(world->text), "%ld", (long)reply->number);
    else if (reply->text)
        snprintf(world->text, sizeof(world->text), "%s", reply->text);
    else if (reply->kind == REDIS_LOST)
        snprintf(world->text, sizeof(world->text), "lost");
}

/* A command of its own connection: words with spaces between. */
static const char *send_words(struct world *world, const char *const *words, int count)
{
    int done = world->done;

    redis_command(world->side, words, NULL, count, on_text, world);
    wait_until(world, world->done > done);
    return world->text;
}

const char *world_command(struct world *world, const char *format, ...)
{
    const char *words[32];
    char text[1024];
    int count = 0;
    char *rest = NULL;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        words[count++] = word;
    return send_words(world, words, count);
}

void world_wait_ready(struct world *world)
{
    wait_until(world, redis_is_ready(world->redis) && redis_is_ready(world->side));
    snprintf(world->run_id, sizeof(world->run_id), "%s", redis_run_id(world->redis));
}

struct world *world_new(void)
{
    const struct redis_options options = {.url = redis_fixture_url(world_server),
                                          .command_timeout_ms = 300};
    struct world *world = calloc(1, sizeof(*world));
    struct err err;

    world->base = event_base_new();
    world->redis = redis_new(world->base, &options, &err);
    world->side = redis_new(world->base, &options, &err);
    world->admission = admission_new(world->base, world->redis);
    assert_non_null(world->redis);
    world_wait_ready(world);
    world_command(world, "CONFIG SET maxmemory 0");
    world_command(world, "FLUSHALL");
    world->done = 0;
    return world;
}

void world_free(struct world *world)
{
    admission_free(world->admission);
    redis_free(world->redis);
    redis_free(world->side);
    event_base_free(world->base);
    free(world);
}

/* --- questions -------------------------------------------------------------------------------- */

static const struct limit_set no_limits = {.submits_per_minute = -1,
                                           .requests_per_minute = -1,
                                           .tokens_per_minute = -1,
                                           .max_concurrency = -1,
                                           .max_queued = -1,
                                           .max_body_bytes = -1,
                                           .max_job_cost_nano = -1,
                                           .budget_nano = {-1, -1, -1}};

struct budget_windows windows = {
    .day = "2026-11-21",
    .id = {"d20261121", "m202611", "t"},
    .end_us = {3600 * US_PER_S, 7200 * US_PER_S, INT64_MAX},
};

struct id job_of(int number)
{
    struct id id = {{0}};

    id.bytes[6] = 0x70;
    id.bytes[8] = 0x80;
    id.bytes[12] = (uint8_t)(number >> 24);
    id.bytes[13] = (uint8_t)(number >> 16);
    id.bytes[14] = (uint8_t)(number >> 8);
    id.bytes[15] = (uint8_t)number;
    return id;
}

void under_init(struct under *under, int job)
{
    under->tenant = no_limits;
    under->workflow = no_limits;
    under->applied[0] = (struct applied_limit){LIMIT_TENANT, "", &under->tenant};
    under->applied[1] = (struct applied_limit){LIMIT_WORKFLOW, "nightly", &under->workflow};
    under->request = (struct admission_request){
        .tenant = "acme",
        .job = job_of(job),
        .call = 1,
        .run = 1,
        .run_token = 7,
        .tokens = 10,
        .limits = under->applied,
        .limit_count = 2,
        .windows = &windows,
        .generation = generation,
        .provider_requests_per_minute = -1,
        .provider_tokens_per_minute = -1,
        .provider_max_concurrency = -1,
    };
}

void world_on_answer(const struct admission_answer *answer, void *arg)
{
    struct world *world = arg;

    world->done++;
    world->answer = *answer;
    world->go += answer->outcome == ADMISSION_GO;
    world->wait += answer->outcome == ADMISSION_WAIT;
    world->never += answer->outcome == ADMISSION_NEVER;
    world->stale += answer->outcome == ADMISSION_STALE;
    world->away += answer->outcome == ADMISSION_AWAY;
}

void world_ask_only(struct world *world, struct under *under)
{
    under->request.run_id = world->run_id;
    assert_non_null(admission_ask(world->admission, &under->request, world_on_answer, world));
}

enum admission_outcome world_ask(struct world *world, struct under *under)
{
    int done = world->done;

    world_ask_only(world, under);
    assert_int_equal(world->done, done); /* never from inside */
    wait_until(world, world->done > done);
    return world->answer.outcome;
}

/* A call of job under a day's budget. */
enum admission_outcome world_ask_money(struct world *world, int job, int64_t amount, int64_t limit)
{
    struct under under;

    under_init(&under, job);
    under.tenant.budget_nano[BUDGET_DAY] = limit;
    under.request.amount_nano = amount;
    return world_ask(world, &under);
}

void world_settle_only(struct world *world, int job, enum admission_end end, int64_t cost,
                       int64_t tokens, unsigned holds)
{
    const struct admission_settlement settlement = {.tenant = "acme",
                                                    .job = job_of(job),
                                                    .run = 1,
                                                    .call = 1,
                                                    .holds = holds,
                                                    .provider = "main",
                                                    .end = end,
                                                    .cost_nano = cost,
                                                    .tokens = tokens,
                                                    .counts_overrun = true};

    admission_settle(world->admission, &settlement);
}

void world_settle(struct world *world, int job, enum admission_end end, int64_t cost,
                  int64_t tokens, unsigned holds)
{
    world_settle_only(world, job, end, cost, tokens, holds);
    wait_until(world, admission_settles_kept(world->admission) == 0);
}

const char *world_book(struct world *world, const char *field)
{
    const char *const words[] = {"EVAL", redis_book_script, "1", "{t:acme}:book", field};

    return send_words(world, words, 5);
}

const char *world_account(struct world *world, const char *name)
{
    char field[BOOK_ACCOUNT_SIZE + 2];

    snprintf(field, sizeof(field), "a:%s", name);
    return world_book(world, field);
}

int64_t world_leases(struct world *world, const char *state)
{
    const char *const words[] = {"EVAL", redis_leases_script, "1", state};

    return strtoll(send_words(world, words, 4), NULL, 10);
}

void world_on_book(enum book_outcome outcome, void *arg)
{
    struct world *world = arg;

    world->done++;
    world->book = outcome;
}

enum book_outcome world_mark(struct world *world, const char *which)
{
    int done = world->done;

    book_mark(world->redis, world->run_id, "acme", which, world_on_book, world);
    wait_until(world, world->done > done);
    return world->book;
}

enum book_outcome world_write_account(struct world *world, const char *which, const char *name,
                                      int64_t spent)
{
    const struct book_account value = {.account = name, .spent_nano = spent};
    int done = world->done;

    book_write(world->redis, world->run_id, "acme", which, &value, 1, NULL, 0, world_on_book,
               world);
    wait_until(world, world->done > done);
    return world->book;
}

enum book_outcome world_write_record(struct world *world, const char *which, int job,
                                     int64_t amount, bool is_unknown)
{
    const char *const accounts[] = {DAY};
    const struct book_record record = {.job = job_of(job),
                                       .run = 1,
                                       .call = 1,
                                       .is_unknown = is_unknown,
                                       .amount_nano = amount,
                                       .at_us = 1000,
                                       .owner = 7,
                                       .accounts = accounts,
                                       .account_count = 1};
    const struct book_account value = {.account = DAY,
                                       .reserved_nano = is_unknown ? 0 : amount,
                                       .unknown_nano = is_unknown ? amount : 0};
    int done = world->done;

    book_write(world->redis, world->run_id, "acme", which, &value, 1, &record, 1, world_on_book,
               world);
    wait_until(world, world->done > done);
    return world->book;
}

enum book_outcome world_publish(struct world *world, const char *which, size_t fields)
{
    int done = world->done;

    book_publish(world->redis, world->run_id, "acme", which, fields, world_on_book, world);
    wait_until(world, world->done > done);
    return world->book;
}

void world_open_book(struct world *world)
{
    assert_int_equal(world_mark(world, generation), BOOK_DONE);
    assert_int_equal(world_publish(world, generation, 0), BOOK_DONE);
}

static void on_intake(const struct intake_answer *answer, void *arg)
{
    struct world *world = arg;

    world->done++;
    world->intake = *answer;
}

void world_intake(struct world *world, struct under *under, int64_t submits)
{
    const struct intake_request request = {
        .tenant = "acme", .limits = under->applied, .limit_count = 2, .submits = submits};
    int done = world->done;

    assert_non_null(admission_intake(world->admission, &request, on_intake, world));
    wait_until(world, world->done > done);
}

int world_start_server(void **state)
{
    struct err err;
    (void)state;

    signal(SIGPIPE, SIG_IGN);
    assert_true(metrics_setup(&err));
    world_server = redis_fixture_start(&err);
    if (!world_server)
        fprintf(stderr, "%s\n", err.message);
    return world_server ? 0 : -1;
}

int world_stop_server(void **state)
{
    (void)state;
    redis_fixture_stop(world_server);
    return 0;
}
