/* SPDX-License-Identifier: Apache-2.0 */
/* What no waiting helps is refused at once; what only has to wait is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/model/limit_judge.h"
#include "common/model/request_facts.h"
#include "common/model/settings.h"

#define USD INT64_C(1000000000)

static void test_what_never_fits_is_refused_and_named(void **state)
{
    static const struct limit_facts job = {.body_bytes = 500, .tokens = 100, .least_nano = 2 * USD};
    static const struct {
        const char *limits, *code, *words; /* code NULL: passes */
        int64_t least_nano;                /* 0: as above */
    } cases[] = {
        {"{}", NULL, "", 0},
        {"{\"max_body_bytes\":500}", NULL, "", 0},
        {"{\"max_body_bytes\":499}", "too_large", "limit of 499 bytes", 0},
        {"{\"tokens_per_minute\":100}", NULL, "", 0},
        {"{\"tokens_per_minute\":99}", "never_fits", "tokens_per_minute of tenant", 0},
        {"{\"tokens_per_minute\":0}", "never_fits", "tokens_per_minute", 0},
        {"{\"requests_per_minute\":0,\"max_concurrency\":0,\"submits_per_minute\":0,"
         "\"max_queued\":0}",
         NULL, "", 0},
        {"{\"max_job_cost_usd\":\"2\"}", NULL, "", 0},
        {"{\"max_job_cost_usd\":\"1.999999999\"}", "never_fits", "max_job_cost_usd", 0},
        {"{\"max_job_cost_usd\":\"0\"}", "never_fits", "max_job_cost_usd", 0},
        {"{\"budget_usd\":{\"day\":\"2\",\"month\":\"2\",\"total\":\"2\"}}", NULL, "", 0},
        {"{\"budget_usd\":{\"day\":\"1\"}}", "never_fits", "budget_usd.day", 0},
        {"{\"budget_usd\":{\"month\":\"1\"}}", "never_fits", "budget_usd.month", 0},
        {"{\"budget_usd\":{\"total\":\"0\"}}", "never_fits", "budget_usd.total", 0},
        {"{\"budget_usd\":{\"total\":\"0\"}}", "never_fits", "budget_usd.total", -1},
        {"{\"budget_usd\":{\"total\":\"1\"}}", NULL, "", -1},
        {"{\"users\":{\"*\":{\"budget_usd\":{\"day\":\"1\"}}}}", "never_fits",
         "budget_usd.day of user:u", 0},
        {"{\"models\":{\"m\":{\"tokens_per_minute\":9}}}", "never_fits", "of model:m", 0},
        {"{\"tokens_per_minute\":0,\"max_body_bytes\":1,\"budget_usd\":{\"day\":\"0\"},"
         "\"shadow\":true}",
         NULL, "", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct applied_limit applied[LIMIT_SCOPE_COUNT];
        struct limit_facts facts = job;
        struct err err = {0};
        struct limits *limits =
            limits_parse_text(cases[i].limits, strlen(cases[i].limits), LIMITS_OF_TENANT, &err);
        int count = limits_apply(limits, NULL, "k", "w", "u", "m", applied);

        assert_non_null(limits);
        if (cases[i].least_nano)
            facts.least_nano = cases[i].least_nano;
        if (limit_judge_job(applied, count, &facts, &err) != !cases[i].code ||
            (cases[i].code && strcmp(err.code, cases[i].code) != 0) ||
            (cases[i].code && !strstr(err.message, cases[i].words)))
            fail_msg("%s: %s %s", cases[i].limits, err.code, err.message);
        limits_unref(limits);
    }
}

static void test_a_set_in_shadow_says_what_it_would_have_refused(void **state)
{
    enum {
        BODY = 1 << LIMIT_SHADOW_BODY,
        JOB_COST = 1 << LIMIT_SHADOW_JOB_COST,
        NEVER_FITS = 1 << LIMIT_SHADOW_NEVER_FITS,
    };
    static const struct {
        const char *limits; /* of a tenant, in shadow */
        int64_t least_nano;
        unsigned shadows;
    } cases[] = {
        {"{\"shadow\":true}", 2 * USD, 0},
        {"{\"max_body_bytes\":500,\"shadow\":true}", 2 * USD, 0},
        {"{\"max_body_bytes\":499,\"shadow\":true}", 2 * USD, BODY},
        {"{\"tokens_per_minute\":100,\"shadow\":true}", 2 * USD, 0},
        {"{\"tokens_per_minute\":99,\"shadow\":true}", 2 * USD, NEVER_FITS},
        {"{\"tokens_per_minute\":0,\"shadow\":true}", 2 * USD, NEVER_FITS},
        {"{\"max_job_cost_usd\":\"2\",\"shadow\":true}", 2 * USD, 0},
        {"{\"max_job_cost_usd\":\"1.999999999\",\"shadow\":true}", 2 * USD, JOB_COST},
        {"{\"max_job_cost_usd\":\"1\",\"shadow\":true}", -1, 0},
        {"{\"max_job_cost_usd\":\"0\",\"shadow\":true}", -1, JOB_COST},
        {"{\"budget_usd\":{\"day\":\"2\",\"month\":\"2\",\"total\":\"2\"},\"shadow\":true}",
         2 * USD, 0},
        {"{\"budget_usd\":{\"day\":\"1\"},\"shadow\":true}", 2 * USD, NEVER_FITS},
        {"{\"budget_usd\":{\"month\":\"1\"},\"shadow\":true}", 2 * USD, NEVER_FITS},
        {"{\"budget_usd\":{\"total\":\"0\"},\"shadow\":true}", -1, NEVER_FITS},
        {"{\"tokens_per_minute\":1,\"budget_usd\":{\"day\":\"1\"},\"shadow\":true}", 2 * USD,
         NEVER_FITS},
        {"{\"max_body_bytes\":1,\"max_job_cost_usd\":\"1\",\"tokens_per_minute\":1,\"shadow\":"
         "true}",
         2 * USD, BODY | JOB_COST | NEVER_FITS},
        {"{\"requests_per_minute\":0,\"max_concurrency\":0,\"submits_per_minute\":0,\"max_queued\":"
         "0,"
         "\"shadow\":true}",
         2 * USD, 0},
        {"{\"users\":{\"*\":{\"max_body_bytes\":1,\"shadow\":true}},"
         "\"models\":{\"m\":{\"tokens_per_minute\":1,\"shadow\":true}}}",
         2 * USD, BODY | NEVER_FITS},
        {"{\"max_body_bytes\":500,\"users\":{\"u\":{\"max_body_bytes\":1,\"shadow\":true}}}",
         2 * USD, BODY},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct limit_facts facts = {
            .body_bytes = 500, .tokens = 100, .least_nano = cases[i].least_nano};
        struct applied_limit applied[LIMIT_SCOPE_COUNT];
        struct err err = {0};
        struct limits *limits =
            limits_parse_text(cases[i].limits, strlen(cases[i].limits), LIMITS_OF_TENANT, &err);
        int count = limits_apply(limits, NULL, "k", "w", "u", "m", applied);
        unsigned shadows = limit_judge_shadows(applied, count, &facts);

        assert_non_null(limits);
        if (shadows != cases[i].shadows || !limit_judge_job(applied, count, &facts, &err))
            fail_msg("%s: %u %s", cases[i].limits, shadows, err.message);
        limits_unref(limits);
    }
}

static void test_a_set_that_is_enforced_has_no_shadow(void **state)
{
    static const struct limit_facts facts = {
        .body_bytes = 500, .tokens = 100, .least_nano = 2 * USD};
    struct limit_set set = {.max_body_bytes = 1, .tokens_per_minute = 0, .max_job_cost_nano = 1};
    struct applied_limit applied = {.scope = LIMIT_TENANT, .name = "", .set = &set};
    struct err err = {0};

    (void)state;
    assert_int_equal(limit_judge_shadows(&applied, 1, &facts), 0);
    assert_false(limit_judge_job(&applied, 1, &facts, &err));
    assert_int_equal(limit_judge_shadows(NULL, 0, &facts), 0);
}

/* The request is 30 bytes long, hence 10 tokens of input, and asks for 90 more. */
static void test_what_fits_no_account_of_a_route_is_refused_and_the_roomiest_named(void **state)
{
    static const char asking[] = "{\"max_tokens\":90           }";
    static const char silent[] = "{\"model\":\"m\"               }";
    static const struct {
        const char *request;
        int64_t per_minute[3]; /* of the targets' accounts; -1: there is no such target */
        int64_t max_output[2]; /* of the models of the first targets; 0: 4096 are guessed */
        const char *words;     /* NULL: passes */
    } cases[] = {
        {asking, {0, -1}, {0}, NULL},
        {asking, {100, -1}, {0}, NULL},
        {asking,
         {99, -1},
         {0},
         "may take 100 tokens, which never fits into the 99 of "
         "tokens_per_minute of provider p0"},
        {asking, {1, -1}, {0}, "into the 1 of tokens_per_minute of provider p0"},
        {asking, {99, 0, -1}, {0}, NULL},
        {asking, {0, 99, -1}, {0}, NULL},
        {asking, {99, 100, -1}, {0}, NULL},
        {asking,
         {5, 99, 7},
         {0},
         "take 100 tokens, which never fits into the 99 of "
         "tokens_per_minute of provider p1"},
        {silent, {4106, -1}, {0}, NULL},
        {silent, {4105, -1}, {0}, "take 4106 tokens, which never fits into the 4105 of"},
        {silent, {510, -1}, {500}, NULL},
        {silent, {509, -1}, {500}, "take 510 tokens, which never fits into the 509 of"},
        {silent, {1000, 60, -1}, {2000, 50}, NULL}, /* each by the guess for its own model */
        {silent, {1000, 59, -1}, {2000, 50}, "take 2010 tokens, which never fits into the 1000 of"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char names[3][4] = {"p0", "p1", "p2"};
        struct provider providers[3];
        struct route route = {.name = names[0]};
        struct request_facts facts;
        struct err err = {0};
        bool fits;

        request_facts_read(cases[i].request, strlen(cases[i].request), &facts);
        for (int t = 0; t < 3 && cases[i].per_minute[t] >= 0; t++) {
            providers[t] =
                (struct provider){.name = names[t], .tokens_per_minute = cases[i].per_minute[t]};
            route.targets[t] = (struct target){
                .provider = &providers[t], .max_output_tokens = t < 2 ? cases[i].max_output[t] : 0};
            route.target_count++;
        }
        fits = limit_judge_accounts(&route, &facts, &err);
        if (fits != !cases[i].words ||
            (!fits && (strcmp(err.code, "never_fits") != 0 || strcmp(err.param, "request") != 0 ||
                       !strstr(err.message, cases[i].words))))
            fail_msg("case %zu: %s %s", i, err.code, err.message);
    }
}

static void test_ceiling_is_the_least_of_all(void **state)
{
    struct limit_set none = {.max_job_cost_nano = -1};
    struct limit_set small = {.max_job_cost_nano = 5};
    struct limit_set shadow = {.max_job_cost_nano = 1, .is_shadow = true};
    struct applied_limit applied[] = {{.set = &none}, {.set = &shadow}, {.set = &small}};

    (void)state;
    assert_int_equal(limit_judge_ceiling(NULL, 0, -1), -1);
    assert_int_equal(limit_judge_ceiling(NULL, 0, 7), 7);
    assert_int_equal(limit_judge_ceiling(applied, 2, -1), -1);
    assert_int_equal(limit_judge_ceiling(applied, 3, -1), 5);
    assert_int_equal(limit_judge_ceiling(applied, 3, 7), 5);
    assert_int_equal(limit_judge_ceiling(applied, 3, 0), 0);
}

static void test_queues_of_the_sets(void **state)
{
    struct limit_set tenant = {.submits_per_minute = -1, .max_queued = 7};
    struct limit_set user = {.submits_per_minute = 3, .max_queued = -1};
    struct limit_set shadow = {.submits_per_minute = -1, .max_queued = 1, .is_shadow = true};
    struct applied_limit applied[] = {
        {.scope = LIMIT_TENANT, .name = "", .set = &tenant},
        {.scope = LIMIT_KEY, .name = "k", .set = &shadow},
        {.scope = LIMIT_USER, .name = "u", .set = &user},
    };
    int64_t queues[LIMIT_SCOPE_COUNT];

    (void)state;
    assert_true(limit_judge_queues(applied, 3, queues));
    assert_int_equal(queues[LIMIT_TENANT], 7);
    assert_int_equal(queues[LIMIT_KEY], -1);
    assert_int_equal(queues[LIMIT_USER], -1);
    assert_false(limit_judge_queues(applied + 1, 2, queues));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_never_fits_is_refused_and_named),
        cmocka_unit_test(test_a_set_in_shadow_says_what_it_would_have_refused),
        cmocka_unit_test(test_a_set_that_is_enforced_has_no_shadow),
        cmocka_unit_test(test_what_fits_no_account_of_a_route_is_refused_and_the_roomiest_named),
        cmocka_unit_test(test_ceiling_is_the_least_of_all),
        cmocka_unit_test(test_queues_of_the_sets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
