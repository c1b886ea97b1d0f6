/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of limits: what is refused and by which name, the canonical form, and what applies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/model/limits.h"

static struct limits *parse_as(const char *text, enum limits_owner owner, struct err *err)
{
    return limits_parse_text(text, strlen(text), owner, err);
}

static struct limits *parse(const char *text)
{
    struct err err = {0};
    struct limits *limits = parse_as(text, LIMITS_OF_TENANT, &err);

    if (!limits)
        fail_msg("%s: %s", text, err.message);
    return limits;
}

static void check_refused(const char *text, enum limits_owner owner, const char *code,
                          const char *param)
{
    struct err err = {0};
    struct limits *limits = parse_as(text, owner, &err);

    if (limits)
        fail_msg("accepted: %s", text);
    if (strcmp(err.code, code) != 0 || strcmp(err.param, param) != 0)
        fail_msg("%s: %s %s: %s", text, err.code, err.param, err.message);
}

static void test_a_bad_member_is_named(void **state)
{
    static const struct {
        const char *text, *code, *param;
    } cases[] = {
        {"{\"requests_per_minute\":-1}", "invalid_value", "requests_per_minute"},
        {"{\"requests_per_minute\":1.5}", "invalid_value", "requests_per_minute"},
        {"{\"requests_per_minute\":10.0}", "invalid_value", "requests_per_minute"},
        {"{\"tokens_per_minute\":1000000001}", "invalid_value", "tokens_per_minute"},
        {"{\"tokens_per_minute\":1e400}", "invalid_value", "tokens_per_minute"},
        {"{\"max_queued\":99999999999999999999}", "invalid_value", "max_queued"},
        {"{\"max_concurrency\":\"5\"}", "invalid_value", "max_concurrency"},
        {"{\"max_concurrency\":true}", "invalid_value", "max_concurrency"},
        {"{\"max_body_bytes\":[]}", "invalid_value", "max_body_bytes"},
        {"{\"max_job_cost_usd\":1}", "invalid_value", "max_job_cost_usd"},
        {"{\"max_job_cost_usd\":\"-1\"}", "invalid_value", "max_job_cost_usd"},
        {"{\"budget_usd\":\"5\"}", "invalid_value", "budget_usd"},
        {"{\"budget_usd\":{\"day\":\"0.1234567891\"}}", "invalid_value", "budget_usd.day"},
        {"{\"budget_usd\":{\"month\":\"9000000.000000001\"}}", "invalid_value", "budget_usd.month"},
        {"{\"budget_usd\":{\"total\":\"1e3\"}}", "invalid_value", "budget_usd.total"},
        {"{\"budget_usd\":{\"week\":\"1\"}}", "unknown_field", "budget_usd.week"},
        {"{\"budget_policy\":\"drop\"}", "invalid_value", "budget_policy"},
        {"{\"budget_policy\":1}", "invalid_value", "budget_policy"},
        {"{\"time_zone\":\"\"}", "invalid_value", "time_zone"},
        {"{\"time_zone\":\"Berlin; DROP\"}", "invalid_value", "time_zone"},
        {"{\"time_zone\":1}", "invalid_value", "time_zone"},
        {"{\"shadow\":1}", "invalid_value", "shadow"},
        {"{\"requests_per_minut\":1}", "unknown_field", "requests_per_minut"},
        {"{\"workflows\":[]}", "invalid_value", "workflows"},
        {"{\"workflows\":{\"a b\":{}}}", "invalid_value", "workflows"},
        {"{\"users\":{\"\":{}}}", "invalid_value", "users"},
        {"{\"models\":{\"\":{}}}", "invalid_value", "models"},
        {"{\"workflows\":{\"w\":5}}", "invalid_value", "workflows.w"},
        {"{\"workflows\":{\"w\":{\"budget_usd\":{\"day\":1}}}}", "invalid_value",
         "workflows.w.budget_usd.day"},
        {"{\"users\":{\"*\":{\"max_queued\":-2}}}", "invalid_value", "users.*.max_queued"},
        {"{\"users\":{\"u\":{\"time_zone\":\"UTC\"}}}", "unknown_field", "users.u.time_zone"},
        {"{\"users\":{\"u\":{\"budget_policy\":\"fail\"}}}", "unknown_field",
         "users.u.budget_policy"},
        {"{\"models\":{\"m\":{\"models\":{}}}}", "unknown_field", "models.m.models"},
        {"{\"a\":1,\"a\":2}", "invalid_json", ""},
        {"[]", "invalid_value", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_refused(cases[i].text, LIMITS_OF_TENANT, cases[i].code, cases[i].param);
}

static void test_a_key_has_no_zone_and_no_names_of_its_own(void **state)
{
    struct err err = {0};
    struct limits *limits;

    (void)state;
    check_refused("{\"time_zone\":\"UTC\"}", LIMITS_OF_KEY, "invalid_value", "time_zone");
    check_refused("{\"workflows\":{\"w\":{}}}", LIMITS_OF_KEY, "invalid_value", "workflows");
    limits = parse_as("{\"time_zone\":null,\"users\":{},\"models\":null,\"max_queued\":3,"
                      "\"budget_policy\":\"fail\"}",
                      LIMITS_OF_KEY, &err);
    assert_non_null(limits);
    assert_int_equal(limits_policy(limits), BUDGET_FAIL);
    limits_unref(limits);
}

static void check_rendered(const char *text, const char *expected)
{
    struct limits *limits = text ? parse(text) : NULL, *again;
    struct buf out, twice;
    struct err err = {0};

    buf_init(&out, LIMITS_DOCUMENT_MAX);
    buf_init(&twice, LIMITS_DOCUMENT_MAX);
    assert_true(limits_render(limits, &out));
    assert_string_equal(out.data, expected);
    again = limits_parse_text(out.data, out.len, LIMITS_OF_TENANT, &err);
    assert_non_null(again);
    assert_true(limits_render(again, &twice));
    assert_string_equal(twice.data, expected);
    limits_unref(limits);
    limits_unref(again);
    buf_release(&out);
    buf_release(&twice);
}

#define NOTHING                                                                            \
    "\"submits_per_minute\":null,\"requests_per_minute\":null,\"tokens_per_minute\":null," \
    "\"max_concurrency\":null,\"max_queued\":null,\"max_body_bytes\":null,"                \
    "\"max_job_cost_usd\":null,"                                                           \
    "\"budget_usd\":{\"day\":null,\"month\":null,\"total\":null},\"shadow\":false"
#define NO_NAMES "\"workflows\":{},\"users\":{},\"models\":{}}"
#define NO_LIMITS "{" NOTHING ",\"budget_policy\":\"wait\",\"time_zone\":null," NO_NAMES

static void test_the_canonical_document_has_all_members(void **state)
{
    (void)state;
    check_rendered(NULL, NO_LIMITS);
    check_rendered("{}", NO_LIMITS);
    check_rendered("{\"requests_per_minute\":null,\"budget_usd\":null,\"users\":{\"a\":null}}",
                   NO_LIMITS);
    check_rendered("{\"time_zone\":\"Europe/Berlin\",\"budget_policy\":\"fail\",\"shadow\":true,"
                   "\"submits_per_minute\":0,\"requests_per_minute\":1,\"tokens_per_minute\":2,"
                   "\"max_concurrency\":3,\"max_queued\":4,\"max_body_bytes\":5,"
                   "\"max_job_cost_usd\":\"0.25\",\"budget_usd\":{\"total\":\"9000000\"}}",
                   "{\"submits_per_minute\":0,\"requests_per_minute\":1,\"tokens_per_minute\":2,"
                   "\"max_concurrency\":3,\"max_queued\":4,\"max_body_bytes\":5,"
                   "\"max_job_cost_usd\":\"0.250000000\",\"budget_usd\":{\"day\":null,"
                   "\"month\":null,\"total\":\"9000000.000000000\"},\"shadow\":true,"
                   "\"budget_policy\":\"fail\",\"time_zone\":\"Europe/Berlin\"," NO_NAMES);
    check_rendered("{\"users\":{\"b\":{},\"*\":{}},\"models\":{\"m \\\"x\\\"\":{}}}",
                   "{" NOTHING ",\"budget_policy\":\"wait\",\"time_zone\":null,\"workflows\":{},"
                   "\"users\":{\"*\":{" NOTHING "},\"b\":{" NOTHING "}},"
                   "\"models\":{\"m \\\"x\\\"\":{" NOTHING "}}}");
}

static void test_accounts_are_the_same_or_not(void **state)
{
    static const struct {
        const char *a, *b;
        bool is_same;
    } cases[] = {
        {NULL, "{}", true},
        {"{\"max_queued\":1}", "{\"time_zone\":\"UTC\"}", true},
        {"{\"budget_usd\":{\"day\":\"1\"}}", "{\"budget_usd\":{\"day\":\"2\"}}", true},
        {"{\"budget_usd\":{\"day\":\"1\"}}", "{\"budget_usd\":{\"month\":\"1\"}}", false},
        {NULL, "{\"budget_usd\":{\"day\":\"1\"}}", false},
        {"{\"budget_usd\":{\"day\":\"1\"}}", NULL, false},
        {"{\"budget_usd\":{\"day\":\"1\"}}", "{\"budget_usd\":{\"day\":\"1\"},\"shadow\":true}",
         false},
        {NULL, "{\"budget_usd\":{\"day\":\"1\"},\"shadow\":true}", false},
        {"{\"max_queued\":1,\"shadow\":true}", "{\"max_queued\":1}", true},
        {"{\"budget_usd\":{\"day\":\"1\"}}",
         "{\"budget_usd\":{\"day\":\"1\"},\"time_zone\":\"Asia/Tokyo\"}", false},
        {"{\"users\":{\"*\":{\"budget_usd\":{\"day\":\"1\"}}}}",
         "{\"users\":{\"*\":{\"budget_usd\":{\"day\":\"1\"}},\"u\":{\"max_queued\":1}}}", false},
        {"{\"users\":{\"v\":{\"max_queued\":1}}}", "{\"users\":{\"u\":{\"max_queued\":1}}}", true},
        {"{\"workflows\":{\"w\":{\"budget_usd\":{\"day\":\"1\"}}}}",
         "{\"users\":{\"w\":{\"budget_usd\":{\"day\":\"1\"}}}}", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct limits *a = cases[i].a ? parse(cases[i].a) : NULL;
        struct limits *b = cases[i].b ? parse(cases[i].b) : NULL;

        if (limits_same_accounts(a, b) != cases[i].is_same ||
            limits_same_accounts(b, a) != cases[i].is_same)
            fail_msg("case %zu", i);
        limits_unref(a);
        limits_unref(b);
    }
}

static void test_a_job_is_under_the_sets_of_its_names(void **state)
{
    struct limits *tenant = parse("{\"max_queued\":1,\"time_zone\":\"UTC\","
                                  "\"workflows\":{\"w\":{\"max_queued\":2},\"e\":{}},"
                                  "\"users\":{\"*\":{\"max_queued\":3},\"u\":{\"max_queued\":4}},"
                                  "\"models\":{\"m\":{\"budget_usd\":{\"total\":\"1\"}}}}");
    struct limits *key = parse("{\"max_queued\":5,\"shadow\":true}");
    struct applied_limit out[LIMIT_SCOPE_COUNT];
    char text[LIMIT_SCOPE_TEXT_SIZE];

    (void)state;
    assert_int_equal(limits_apply(tenant, key, "k", "w", "u", "m", out), 5);
    for (int i = 0; i < LIMIT_SCOPE_COUNT; i++)
        assert_int_equal(out[i].scope, i);
    assert_int_equal(out[LIMIT_KEY].set->max_queued, 5);
    assert_true(out[LIMIT_KEY].set->is_shadow);
    assert_int_equal(out[LIMIT_WORKFLOW].set->max_queued, 2);
    assert_int_equal(out[LIMIT_USER].set->max_queued, 4);
    assert_true(limits_applied_budget(out, 5));
    limit_scope_format(out[LIMIT_WORKFLOW].scope, out[LIMIT_WORKFLOW].name, text);
    assert_string_equal(text, "workflow:w");

    /* Somebody else is under "*" by his own name; an empty set is none; NULL names have none. */
    assert_int_equal(limits_apply(tenant, NULL, "k", "e", "other", "x", out), 2);
    assert_int_equal(out[1].scope, LIMIT_USER);
    assert_string_equal(out[1].name, "other");
    assert_int_equal(out[1].set->max_queued, 3);
    assert_false(limits_applied_budget(out, 2));
    assert_int_equal(limits_apply(tenant, NULL, "k", NULL, NULL, "x", out), 1);
    assert_int_equal(limits_apply(NULL, key, "k", "w", "u", "m", out), 1);
    assert_int_equal(limits_apply(NULL, NULL, "k", "w", "u", "m", out), 0);
    limits_unref(tenant);
    limits_unref(key);
}

static void test_what_is_empty_and_what_has_a_budget(void **state)
{
    struct limits *empty = parse("{\"users\":{\"u\":{}},\"time_zone\":\"UTC\"}");
    struct limits *named = parse("{\"users\":{\"u\":{\"budget_usd\":{\"day\":\"0\"}}}}");
    struct limits *shadow = parse("{\"budget_usd\":{\"day\":\"1\"},\"shadow\":true}");
    struct applied_limit out[LIMIT_SCOPE_COUNT];

    (void)state;
    assert_true(limits_is_empty(NULL) && limits_is_empty(empty));
    assert_false(limits_is_empty(named) || limits_is_empty(shadow));
    assert_false(limits_has_budget(NULL) || limits_has_budget(empty));
    assert_true(limits_has_budget(named) && limits_has_budget(shadow));
    assert_int_equal(limits_apply(shadow, NULL, "k", NULL, NULL, "m", out), 1);
    assert_false(limits_applied_budget(out, 1));
    assert_string_equal(limits_time_zone(empty), "UTC");
    assert_null(limits_time_zone(named));
    assert_null(limits_time_zone(NULL));
    limits_unref(empty);
    limits_unref(named);
    limits_unref(shadow);
}

static void count_visit(enum limit_scope scope, const char *name, const struct limit_set *set,
                        void *arg)
{
    char *seen = arg;

    (void)set;
    snprintf(seen + strlen(seen), 128 - strlen(seen), "%s=%s ", limit_scope_name(scope), name);
}

static void test_named_sets_are_found_and_visited(void **state)
{
    struct limits *limits = parse("{\"max_queued\":1,\"users\":{\"*\":{\"max_queued\":2},"
                                  "\"u\":{\"max_queued\":3}},\"models\":{\"m\":{}}}");
    char seen[128] = "";

    (void)state;
    assert_int_equal(limits_set_of(limits, LIMIT_TENANT, "")->max_queued, 1);
    assert_int_equal(limits_set_of(limits, LIMIT_USER, "u")->max_queued, 3);
    assert_int_equal(limits_set_of(limits, LIMIT_USER, "v")->max_queued, 2);
    assert_null(limits_set_of(limits, LIMIT_WORKFLOW, "w"));
    assert_null(limits_set_of(NULL, LIMIT_TENANT, ""));
    limits_each(limits, count_visit, seen);
    limits_each(NULL, count_visit, seen);
    assert_string_equal(seen, "tenant= user=u model=m ");
    limits_unref(limits);
}

static void test_scopes_are_written_and_read(void **state)
{
    static const char *const texts[] = {"tenant", "key:K1", "workflow:a:b", "user:u@x",
                                        "model:m|n"};
    enum limit_scope scope;
    const char *name;
    char text[LIMIT_SCOPE_TEXT_SIZE];

    (void)state;
    for (int i = 0; i < LIMIT_SCOPE_COUNT; i++) {
        assert_true(limit_scope_parse(texts[i], &scope, &name));
        assert_int_equal(scope, i);
        limit_scope_format(scope, name, text);
        assert_string_equal(text, texts[i]);
    }
    assert_false(limit_scope_parse("tenants", &scope, &name));
    assert_false(limit_scope_parse("user", &scope, &name));
    assert_false(limit_scope_parse("", &scope, &name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_bad_member_is_named),
        cmocka_unit_test(test_a_key_has_no_zone_and_no_names_of_its_own),
        cmocka_unit_test(test_the_canonical_document_has_all_members),
        cmocka_unit_test(test_accounts_are_the_same_or_not),
        cmocka_unit_test(test_a_job_is_under_the_sets_of_its_names),
        cmocka_unit_test(test_what_is_empty_and_what_has_a_budget),
        cmocka_unit_test(test_named_sets_are_found_and_visited),
        cmocka_unit_test(test_scopes_are_written_and_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
