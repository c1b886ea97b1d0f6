/* SPDX-License-Identifier: Apache-2.0 */
/* Rates, leases, providers' accounts and intake in a real Redis. */
#include "common/model/channels.h"
#include "tests/unit/admission_fixture.h"
#include "tests/unit/metric_fixture.h"

/* --- rates ------------------------------------------------------------------------------------ */

static void test_requests_pass_up_to_the_burst_and_then_one_each_interval(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    for (int i = 0; i < 60; i++) {
        under_init(&under, i);
        under.tenant.requests_per_minute = 300; /* a burst of 30, then one each 200 ms */
        world_ask_only(world, &under);
    }
    world->done = 0;
    wait_until(world, world->done == 60);
    assert_in_range(world->go, 30, 32);
    assert_int_equal(world->answer.dimension, ADMISSION_REQUESTS);
    assert_int_equal(world->answer.interval_us, 200 * US_PER_MS);
    assert_in_range(world->answer.wait_us, 1, 200 * US_PER_MS);
    assert_string_equal(world->answer.detail, "requests_per_minute of tenant: limit 300");
    world_free(world);
}

static void test_a_request_that_was_never_made_gives_its_turn_back(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.tenant.requests_per_minute = 1;
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    world_settle(world, 1, ADMISSION_UNDONE, 0, 0, world->answer.holds);
    under.request.job = job_of(2);
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    world_settle(world, 2, ADMISSION_RELEASED, 0, 0, world->answer.holds); /* it was a request */
    under.request.job = job_of(3);
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    world_free(world);
}

static void test_tokens_are_estimated_on_the_way_in_and_made_right_on_the_way_out(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.tenant.tokens_per_minute = 1000; /* a burst of 100 */
    under.request.tokens = 800;            /* over the burst: passes when nothing is owed */
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    under.request.job = job_of(2);
    under.request.tokens = 50;
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    assert_int_equal(world->answer.dimension, ADMISSION_TOKENS);
    assert_in_range(world->answer.wait_us, 40 * US_PER_S, 46 * US_PER_S);
    world_settle(world, 1, ADMISSION_SETTLED, 0, 20, ADMISSION_HOLDS_RATES);
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    under.request.job = job_of(3);
    under.request.tokens = 1101;
    assert_int_equal(world_ask(world, &under), ADMISSION_NEVER);
    world_free(world);
}

static void test_large_requests_do_not_pass_the_limit_of_a_minute_together(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    /* GCRA alone would let the second pass 54 s after the first: 1800 in a minute. */
    under_init(&under, 1);
    under.tenant.tokens_per_minute = 1000;
    under.request.tokens = 900;
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    under.request.job = job_of(2);
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    assert_in_range(world->answer.wait_us, 59 * US_PER_S, 65 * US_PER_S);
    world_free(world);
}

static void test_more_tokens_than_estimated_are_taken_afterwards(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.tenant.tokens_per_minute = 600;
    under.request.tokens = 1;
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    world_settle(world, 1, ADMISSION_SETTLED, 0, 301, ADMISSION_HOLDS_RATES);
    under.request.job = job_of(2);
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    assert_in_range(world->answer.wait_us, 20 * US_PER_S, 30 * US_PER_S);
    world_free(world);
}

static void test_concurrency_is_a_lease_that_ends_with_the_call_or_by_itself(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.workflow.max_concurrency = 1;
    under.request.lease_s = 1;
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    under.request.job = job_of(2);
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    assert_int_equal(world->answer.dimension, ADMISSION_CONCURRENCY);
    assert_int_equal(world->answer.scope, LIMIT_WORKFLOW);
    world_settle(world, 1, ADMISSION_SETTLED, 0, -1, ADMISSION_HOLDS_RATES);
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    under.request.job = job_of(3);
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    wait_until(world, world_ask(world, &under) == ADMISSION_GO); /* its worker is dead */
    world_free(world);
}

static const char state_key[] = "{t:acme}:m:tenant";

static int64_t state_lasts_s(struct world *world)
{
    return strtoll(world_command(world, "TTL %s", state_key), NULL, 10);
}

static void ask_for(struct world *world, struct under *under, int job, int lease_s)
{
    under->request.job = job_of(job);
    under->request.lease_s = lease_s;
    assert_int_equal(world_ask(world, under), ADMISSION_GO);
}

static void end_of(struct world *world, int job)
{
    world_settle(world, job, ADMISSION_SETTLED, 0, 10, ADMISSION_HOLDS_RATES);
}

static void test_the_state_of_a_scope_outlives_its_leases_and_ends(void **state)
{
    enum { HOUR = 3600, MINUTE_S = 60, SHORT_S = 75 };
    struct world *world = world_new();
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.tenant.max_concurrency = 100;
    for (int i = 0; i < 2; i++) { /* without rates, and with them */
        ask_for(world, &under, 1, MINUTE_S);
        assert_in_range(state_lasts_s(world), MINUTE_S, SHORT_S);
        ask_for(world, &under, 2, HOUR);
        assert_in_range(state_lasts_s(world), HOUR, 3 * HOUR + 10);
        ask_for(world, &under, 3, 5 * HOUR);
        ask_for(world, &under, 4, 1);
        assert_in_range(state_lasts_s(world), 5 * HOUR - MINUTE_S, 5 * HOUR * 17 / 16 + 10);
        end_of(world, 3);
        assert_in_range(state_lasts_s(world), HOUR, 3 * HOUR + 10);
        end_of(world, 1);
        end_of(world, 2);
        end_of(world, 4);
        assert_in_range(state_lasts_s(world), 1, SHORT_S);
        assert_int_equal(world_leases(world, state_key), 0);
        under.tenant.tokens_per_minute = 1000000;
    }
    world_free(world);
}

static void test_a_lease_is_given_back_and_no_other_of_another_end(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.tenant.max_concurrency = 3;
    ask_for(world, &under, 1, 1);
    ask_for(world, &under, 2, 600);
    ask_for(world, &under, 3, 1);
    end_of(world, 2);
    assert_int_equal(world_leases(world, state_key), 2);
    ask_for(world, &under, 4, 600);
    under.request.job = job_of(5);
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    wait_until(world, world_ask(world, &under) == ADMISSION_GO); /* one has ended by itself */
    end_of(world, 1); /* nothing is there of it any more */
    end_of(world, 3);
    end_of(world, 4);
    end_of(world, 4);
    for (int job = 6; job < 8; job++) { /* three are out then, and no more */
        under.request.job = job_of(job);
        wait_until(world, world_ask(world, &under) == ADMISSION_GO);
    }
    under.request.job = job_of(8);
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    assert_int_equal(world_leases(world, state_key), 3);
    world_free(world);
}

static void test_leases_stay_when_a_limit_of_tokens_is_set(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.tenant.max_concurrency = 3;
    ask_for(world, &under, 1, 60);
    ask_for(world, &under, 2, 6000);
    under.tenant.tokens_per_minute = 1000;
    under.request.tokens = 20;
    ask_for(world, &under, 3, 60);
    under.request.job = job_of(4);
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    assert_int_equal(world->answer.dimension, ADMISSION_CONCURRENCY);
    end_of(world, 1);
    end_of(world, 2);
    end_of(world, 3);
    assert_int_equal(world_leases(world, state_key), 0);
    under.request.tokens = 1091; /* ten were used of it */
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    under.request.tokens = 1090;
    wait_until(world, world_ask(world, &under) == ADMISSION_GO);
    world_free(world);
}

static void test_a_limit_of_nothing_waits(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.tenant.requests_per_minute = 0;
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    under.tenant.requests_per_minute = -1;
    under.tenant.max_concurrency = 0;
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    under.tenant.max_concurrency = -1;
    under.tenant.tokens_per_minute = 0;
    assert_int_equal(world_ask(world, &under), ADMISSION_NEVER);
    under.tenant.tokens_per_minute = -1;
    assert_int_equal(world_ask(world, &under), ADMISSION_GO); /* and without any it asks nobody */
    assert_int_equal(world->answer.holds, 0);
    assert_string_equal(world_command(world, "DBSIZE"), "0");
    world_free(world);
}

static int64_t shadow_refusals(const char *dimension)
{
    char name[96];
    int64_t value;

    snprintf(name, sizeof(name), "nightshift_shadow_refusals_total{dimension=\"%s\"}", dimension);
    value = metric_value(name);
    return value > 0 ? value : 0; /* -1: there was none yet */
}

static void test_a_shadow_counts_and_refuses_nobody(void **state)
{
    struct world *world = world_new();
    int64_t requests = shadow_refusals("requests"), budget = shadow_refusals("budget");
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.tenant.is_shadow = true;
    under.tenant.requests_per_minute = 1;
    under.tenant.budget_nano[BUDGET_TOTAL] = 5;
    under.request.amount_nano = 6;
    assert_int_equal(world_ask(world, &under), ADMISSION_GO); /* without a book, too */
    assert_int_equal(world->answer.holds, ADMISSION_HOLDS_RATES);
    world_open_book(world);
    for (int i = 2; i < 5; i++) {
        under.request.job = job_of(i);
        assert_int_equal(world_ask(world, &under), ADMISSION_GO);
        assert_int_equal(world->answer.holds, ADMISSION_HOLDS_MONEY | ADMISSION_HOLDS_RATES);
    }
    assert_string_equal(world_account(world, "tenant|t"), "0 18 0");
    /* The first had its turn, and no book. */
    assert_int_equal(shadow_refusals("requests"), requests + 3);
    assert_int_equal(shadow_refusals("budget"), budget + 3);
    world_free(world);
}

static void test_a_shadow_is_counted_by_what_would_have_refused(void **state)
{
    static const char *const names[] = {"requests", "tokens", "concurrency", "budget"};
    enum { DIMENSIONS = sizeof(names) / sizeof(names[0]) };
    struct world *world = world_new();
    (void)state;

    world_open_book(world);
    for (int i = 0; i < DIMENSIONS; i++) {
        int64_t before[DIMENSIONS];
        struct under under;

        under_init(&under, 1 + i);
        under.tenant.is_shadow = true;
        under.tenant.requests_per_minute = i == 0 ? 0 : 1000;
        under.tenant.tokens_per_minute = i == 1 ? 0 : 100000;
        under.tenant.max_concurrency = i == 2 ? 0 : 1000;
        under.tenant.budget_nano[BUDGET_TOTAL] = i == 3 ? 0 : CENT;
        under.request.amount_nano = 1;
        for (int k = 0; k < DIMENSIONS; k++)
            before[k] = shadow_refusals(names[k]);
        assert_int_equal(world_ask(world, &under), ADMISSION_GO);
        for (int k = 0; k < DIMENSIONS; k++)
            assert_int_equal(shadow_refusals(names[k]), before[k] + (k == i));
    }
    world_free(world);
}

static void test_a_budget_in_shadow_never_waits_for_its_book(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.tenant.is_shadow = true;
    under.tenant.budget_nano[BUDGET_DAY] = 5;
    under.request.amount_nano = 6;
    under.request.generation = "7.7";
    world_open_book(world); /* of another generation */
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    assert_int_equal(world->answer.holds, 0);
    under.request.generation = generation;
    under.request.run_id = "another";
    assert_non_null(admission_ask(world->admission, &under.request, world_on_answer, world));
    world->done = 0;
    wait_until(world, world->done > 0);
    assert_int_equal(world->answer.outcome, ADMISSION_GO);
    assert_int_equal(world->answer.holds, ADMISSION_HOLDS_MONEY);
    under.request.job = job_of(2);
    under.request.windows = NULL; /* nobody knows them */
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    assert_int_equal(world->answer.holds, 0);
    assert_string_equal(world_account(world, DAY), "0 6 0");

    under.request.windows = &windows;
    redis_fixture_crash(world_server);
    wait_until(world, !redis_is_ready(world->redis));
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    assert_int_equal(world->answer.holds, ADMISSION_HOLDS_LOCAL);
    assert_true(redis_fixture_restart(world_server, &(struct err){.message = ""}));
    world_wait_ready(world);
    world_free(world);
}

static void test_names_of_users_make_no_keys_or_fields_of_their_own(void **state)
{
    struct world *world = world_new();
    char text[BOOK_ACCOUNT_SIZE];
    (void)state;

    book_account_format(LIMIT_USER, "ann@x.org", "t", text);
    assert_string_equal(text, "user:ann@x.org|t");
    book_account_format(LIMIT_USER, "a b|t 0 0", "t", text);
    assert_memory_equal(text, "user:#", 6);
    assert_int_equal(strlen(text), strlen("user:#|t") + 32);
    assert_null(strchr(text, ' '));
    world_free(world);
}

/* --- the provider's account ------------------------------------------------------------------- */

static void test_what_the_provider_gave_goes_back_when_the_tenant_refuses(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.tenant.max_concurrency = 0;
    under.request.provider = "main";
    under.request.provider_max_concurrency = 1;
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    assert_false(world->answer.is_provider);
    wait_until(world, admission_settles_kept(world->admission) == 0);
    under.tenant.max_concurrency = 1;
    under.request.job = job_of(2);
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    assert_int_equal(world->answer.holds, ADMISSION_HOLDS_RATES | ADMISSION_HOLDS_PROVIDER);
    world_free(world);
}

static void test_what_the_tenant_gave_goes_back_when_the_provider_refuses(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    world_open_book(world);
    under_init(&under, 1);
    under.tenant.budget_nano[BUDGET_DAY] = 100;
    under.tenant.requests_per_minute = 1;
    under.request.amount_nano = 100;
    under.request.provider = "main";
    under.request.provider_max_concurrency = 0;
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    assert_true(world->answer.is_provider);
    assert_string_equal(world->answer.detail, "max_concurrency of provider main: limit 0");
    wait_until(world, admission_settles_kept(world->admission) == 0);
    assert_string_equal(world_account(world, DAY), "0 0 0");
    under.request.provider_max_concurrency = 1;
    under.request.job = job_of(2);
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    world_settle(world, 2, ADMISSION_SETTLED, 60, 5, world->answer.holds);
    assert_string_equal(world_account(world, DAY), "60 0 0");
    assert_int_equal(world_leases(world, "{p:main}:m:account"), 0);
    world_free(world);
}

static void on_provider(bool ok, const struct admission_seen *seen, int64_t age_us,
                        int64_t closed_us, void *arg)
{
    struct world *world = arg;

    world->done++;
    snprintf(world->text, sizeof(world->text), "%d %ld/%ld %ld/%ld %s %s", ok,
             (long)seen->remaining_requests, (long)seen->limit_requests,
             (long)seen->remaining_tokens, (long)seen->limit_tokens, age_us < 0 ? "never" : "fresh",
             closed_us > 0 ? "closed" : "open");
}

static void test_what_a_provider_says_of_itself_closes_it_to_all(void **state)
{
    const struct admission_seen seen = {.limit_requests = 500,
                                        .remaining_requests = 0,
                                        .reset_requests_us = 2 * US_PER_S,
                                        .limit_tokens = 90000,
                                        .remaining_tokens = 80000,
                                        .reset_tokens_us = 600 * US_PER_S,
                                        .retry_after_us = -1};
    struct world *world = world_new();
    struct under under;
    (void)state;

    admission_read_seen(world->side, "main", on_provider, world);
    wait_until(world, world->done == 1);
    assert_string_equal(world->text, "1 -1/-1 -1/-1 never open");
    admission_learn(world->admission, "main", &seen);
    under_init(&under, 1);
    under.request.provider = "main";
    assert_int_equal(world_ask(world, &under), ADMISSION_WAIT);
    assert_int_equal(world->answer.dimension, ADMISSION_CLOSED);
    assert_in_range(world->answer.wait_us, US_PER_S, 2 * US_PER_S);
    world->done = 0;
    admission_read_seen(world->side, "main", on_provider, world);
    wait_until(world, world->done == 1);
    assert_string_equal(world->text, "1 0/500 80000/90000 fresh closed");
    wait_until(world, world_ask(world, &under) == ADMISSION_GO);
    world_free(world);
}

struct listener {
    struct redis_subscriber *subscriber;
    bool is_ready;
    int heard;
    char text[TEXT_SIZE];
};

static void on_closed(const char *channel, const char *data, size_t len, void *arg)
{
    struct listener *listener = arg;

    assert_string_equal(channel, CHANNEL_CLOSED);
    listener->heard++;
    snprintf(listener->text, sizeof(listener->text), "%.*s", (int)len, data);
}

static void on_subscribed(bool ready, void *arg)
{
    ((struct listener *)arg)->is_ready = ready;
}

static void listen_closed(struct world *world, struct listener *listener)
{
    const struct redis_options options = {.url = redis_fixture_url(world_server)};
    struct err err = {0};

    *listener = (struct listener){0};
    listener->subscriber = redis_subscriber_new(world->base, &options, on_closed, listener, &err);
    assert_non_null(listener->subscriber);
    wait_until(world, redis_subscriber_is_ready(listener->subscriber));
    redis_subscribe(listener->subscriber, CHANNEL_CLOSED, on_subscribed, listener);
    wait_until(world, listener->is_ready);
}

static void test_all_are_told_when_a_provider_closes_itself_and_not_for_each_answer(void **state)
{
    struct admission_seen seen = {.remaining_requests = 0,
                                  .limit_requests = -1,
                                  .reset_requests_us = 30 * US_PER_S,
                                  .limit_tokens = -1,
                                  .remaining_tokens = -1,
                                  .reset_tokens_us = -1,
                                  .retry_after_us = -1};
    struct world *world = world_new();
    struct listener listener;
    (void)state;

    listen_closed(world, &listener);
    seen.remaining_requests = 1;
    admission_learn(world->admission, "open one", &seen); /* says nothing */
    seen.remaining_requests = 0;
    admission_learn(world->admission, "closed one", &seen);
    wait_until(world, listener.heard == 1);
    assert_string_equal(strchr(listener.text, ' '), " closed one");
    assert_in_range(strtoll(listener.text, NULL, 10), 30 * US_PER_S, 30100 * US_PER_MS);
    for (int i = 0; i < 50; i++) { /* later by what passes between two answers, or earlier */
        seen.reset_requests_us = 30 * US_PER_S - i % 2 * US_PER_S;
        admission_learn(world->admission, "closed one", &seen);
    }
    seen.reset_requests_us = 10 * US_PER_S;
    admission_learn(world->admission, "last", &seen);
    wait_until(world, strstr(listener.text, " last"));
    assert_in_range(listener.heard, 2, 20);
    redis_subscriber_free(listener.subscriber);
    world_free(world);
}

/* --- intake ----------------------------------------------------------------------------------- */

static void test_intake_takes_or_looks_and_tells_the_meters(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.tenant.submits_per_minute = 60;
    under.workflow.submits_per_minute = 600;
    under.workflow.tokens_per_minute = 1000;
    world_intake(world, &under, 0);
    assert_false(world->intake.is_refused);
    assert_int_equal(world->intake.submits.limit, 60);
    assert_int_equal(world->intake.submits.remaining, 6);
    assert_int_equal(world->intake.submits.reset_us, 0);
    assert_int_equal(world->intake.tokens.limit, 1000);
    assert_int_equal(world->intake.tokens.remaining, 100);
    world_intake(world, &under, 6);
    assert_int_equal(world->intake.submits.remaining, 0);
    assert_int_equal(world->intake.submits.reset_us, 6 * US_PER_S);
    world_intake(world, &under, 1);
    assert_true(world->intake.is_refused);
    assert_int_equal(world->intake.scope, LIMIT_TENANT);
    assert_in_range(world->intake.retry_after_us, 1, US_PER_S);
    world_intake(world, &under, 7);
    assert_true(world->intake.is_never);
    world_free(world);
}

static void test_a_refused_submit_is_told_what_is_left_untaken(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.workflow.submits_per_minute = 60; /* none is left of these */
    world_intake(world, &under, 6);
    under.tenant.submits_per_minute = 10; /* the one of these is not taken */
    world_intake(world, &under, 1);
    assert_true(world->intake.is_refused);
    assert_int_equal(world->intake.scope, LIMIT_WORKFLOW);
    assert_int_equal(world->intake.submits.limit, 60);
    assert_int_equal(world->intake.submits.remaining, 0);
    under.workflow.submits_per_minute = -1;
    world_intake(world, &under, 0);
    assert_int_equal(world->intake.submits.limit, 10);
    assert_int_equal(world->intake.submits.remaining, 1);
    world_free(world);
}

static void test_a_submit_over_a_shadow_limit_passes_and_is_counted(void **state)
{
    struct world *world = world_new();
    const char *counted = "nightshift_shadow_refusals_total{dimension=\"submits\"}";
    int64_t before = metric_value(counted);
    struct under under;
    (void)state;

    under_init(&under, 1);
    under.tenant.submits_per_minute = 60;
    under.workflow.submits_per_minute = 600;
    under.tenant.is_shadow = true;
    for (int i = 0; i < 7; i++)
        world_intake(world, &under, 1);
    assert_false(world->intake.is_refused);
    assert_true(world->intake.is_shadow_refused);
    assert_int_equal(world->intake.submits.limit, 600); /* what was refused took nothing of it */
    assert_in_range(world->intake.submits.remaining, 53, 60);
    assert_true(metric_value(counted) > before);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_pass_up_to_the_burst_and_then_one_each_interval),
        cmocka_unit_test(test_a_request_that_was_never_made_gives_its_turn_back),
        cmocka_unit_test(test_tokens_are_estimated_on_the_way_in_and_made_right_on_the_way_out),
        cmocka_unit_test(test_large_requests_do_not_pass_the_limit_of_a_minute_together),
        cmocka_unit_test(test_more_tokens_than_estimated_are_taken_afterwards),
        cmocka_unit_test(test_concurrency_is_a_lease_that_ends_with_the_call_or_by_itself),
        cmocka_unit_test(test_the_state_of_a_scope_outlives_its_leases_and_ends),
        cmocka_unit_test(test_a_lease_is_given_back_and_no_other_of_another_end),
        cmocka_unit_test(test_leases_stay_when_a_limit_of_tokens_is_set),
        cmocka_unit_test(test_a_limit_of_nothing_waits),
        cmocka_unit_test(test_a_shadow_counts_and_refuses_nobody),
        cmocka_unit_test(test_a_shadow_is_counted_by_what_would_have_refused),
        cmocka_unit_test(test_a_budget_in_shadow_never_waits_for_its_book),
        cmocka_unit_test(test_names_of_users_make_no_keys_or_fields_of_their_own),
        cmocka_unit_test(test_what_the_provider_gave_goes_back_when_the_tenant_refuses),
        cmocka_unit_test(test_what_the_tenant_gave_goes_back_when_the_provider_refuses),
        cmocka_unit_test(test_what_a_provider_says_of_itself_closes_it_to_all),
        cmocka_unit_test(test_all_are_told_when_a_provider_closes_itself_and_not_for_each_answer),
        cmocka_unit_test(test_intake_takes_or_looks_and_tells_the_meters),
        cmocka_unit_test(test_a_refused_submit_is_told_what_is_left_untaken),
        cmocka_unit_test(test_a_submit_over_a_shadow_limit_passes_and_is_counted),
    };

    return cmocka_run_group_tests(tests, world_start_server, world_stop_server);
}
