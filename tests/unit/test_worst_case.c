/* SPDX-License-Identifier: Apache-2.0 */
/* The bound on what a call may cost, and the fields that would break it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/model/settings.h"
#include "common/model/submit_guard.h"
#include "common/model/worst_case.h"

#define BIT(field) (1u << (field))
#define HELLO "{\"role\":\"user\",\"content\":\"hello\"}"
#define ASK(more) "{\"model\":\"m\",\"messages\":[" HELLO "]" more "}"
#define PARTS(type)                                                                      \
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"," \
    "\"text\":\"\\\"}]\"},{\"type\":\"" type "\",\"x\":{}}]}]}"

static const struct {
    const char *request;
    int64_t messages, tools, max_output;
    bool has_attachment;
    unsigned priced;
} cases[] = {
    {ASK(""), 1, 0, 0, false, 0},
    {" {\n \"messages\" : [ " HELLO " , " HELLO " ] , \"max_tokens\" : 7 } ", 2, 0, 7, false, 0},
    {ASK(",\"max_tokens\":7,\"max_completion_tokens\":9"), 1, 0, 9, false, 0},
    {ASK(",\"max_completion_tokens\":3,\"max_tokens\":9"), 1, 0, 9, false, 0},
    {ASK(",\"max_tokens\":null"), 1, 0, 0, false, 0},
    {PARTS("text"), 1, 0, 0, false, 0},
    {PARTS("refusal"), 1, 0, 0, false, 0},
    {PARTS("image_url"), 1, 0, 0, true, 0},
    {PARTS("image\\u005furl"), 1, 0, 0, true, 0},
    {PARTS("file"), 1, 0, 0, true, 0},
    {PARTS("input_audio"), 1, 0, 0, true, 0},
    {PARTS("of tomorrow"), 1, 0, 0, true, 0},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"no type\"}]}]}", 1, 0, 0, true, 0},
    {"{\"messages\":[{\"role\":\"user\",\"\\u0063ontent\":[{\"type\":\"file\"}]}]}", 1, 0, 0, true,
     0},
    {"{\"messages\":[{\"role\":\"assistant\",\"audio\":{\"id\":\"a\"}}]}", 1, 0, 0, true, 0},
    {"{\"messages\":[{\"role\":\"assistant\",\"audio\":null,\"content\":\"\"}]}", 1, 0, 0, false,
     0},
    {ASK(",\"tools\":[{\"type\":\"function\"},{\"type\":\"custom\"}]"), 1, 2, 0, false, 0},
    {ASK(",\"tools\":[{\"type\":\"function\"},{\"type\":\"web_search\"}]"), 1, 2, 0, false,
     BIT(PRICED_TOOLS)},
    {ASK(",\"tools\":[{}]"), 1, 1, 0, false, BIT(PRICED_TOOLS)},
    {ASK(",\"tools\":{\"type\":\"web_search\"}"), 1, 0, 0, false, BIT(PRICED_TOOLS)},
    {ASK(",\"tools\":null"), 1, 0, 0, false, 0},
    {ASK(",\"functions\":[{\"name\":\"f\"}]"), 1, 1, 0, false, 0},
    {ASK(",\"service_tier\":\"default\""), 1, 0, 0, false, 0},
    {ASK(",\"service_tier\":null"), 1, 0, 0, false, 0},
    {ASK(",\"service_tier\":\"priority\""), 1, 0, 0, false, BIT(PRICED_SERVICE_TIER)},
    {ASK(",\"service_tier\":\"auto\""), 1, 0, 0, false, BIT(PRICED_SERVICE_TIER)},
    {ASK(",\"service\\u005ftier\":\"flex\""), 1, 0, 0, false, BIT(PRICED_SERVICE_TIER)},
    {ASK(",\"modalities\":[\"text\"]"), 1, 0, 0, false, 0},
    {ASK(",\"modalities\":null"), 1, 0, 0, false, 0},
    {ASK(",\"modalities\":[\"text\",\"audio\"]"), 1, 0, 0, false, BIT(PRICED_MODALITIES)},
    {ASK(",\"audio\":{\"voice\":\"v\"}"), 1, 0, 0, false, BIT(PRICED_AUDIO)},
    {ASK(",\"web_search_options\":{}"), 1, 0, 0, false, BIT(PRICED_WEB_SEARCH_OPTIONS)},
    {ASK(",\"prediction\":{\"type\":\"content\"}"), 1, 0, 0, false, BIT(PRICED_PREDICTION)},
    {ASK(",\"metadata\":{\"audio\":\"x\",\"tools\":[{\"type\":\"web_search\"}]}"), 1, 0, 0, false,
     0},
    {"{}", 0, 0, 0, false, 0},
    {"[1]", 0, 0, 0, false, 0},
};

static void test_requests_are_read_for_what_they_cost(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct request_facts facts;

        request_facts_read(cases[i].request, strlen(cases[i].request), &facts);
        if (facts.messages != cases[i].messages || facts.tools != cases[i].tools ||
            facts.max_output != cases[i].max_output || facts.priced != cases[i].priced ||
            facts.has_attachment != cases[i].has_attachment ||
            facts.bytes != (int64_t)strlen(cases[i].request))
            fail_msg("%s: messages=%d tools=%d max=%d attachment=%d priced=%x", cases[i].request,
                     (int)facts.messages, (int)facts.tools, (int)facts.max_output,
                     facts.has_attachment, facts.priced);
    }
}

static struct target target_of(int64_t input, int64_t output)
{
    static char model[] = "m";

    return (struct target){
        .model = model,
        .price = {.input_nano_per_mtok = input * 1000000,
                  .cached_input_nano_per_mtok = input * 500000,
                  .output_nano_per_mtok = output * 1000000},
        .context_tokens = 100000,
        .max_output_tokens = 5000,
    };
}

static void test_input_is_bounded_by_bytes_and_overheads(void **state)
{
    struct target target = target_of(1, 0);
    struct request_facts facts = {.bytes = 300, .messages = 2, .max_output = 1};
    int64_t plain = worst_case_nano(&target, &facts);

    (void)state;
    assert_true(plain >= 300 + 2 * 4 && plain < 400);
    facts.tools = 1;
    assert_true(worst_case_nano(&target, &facts) > plain);
}

static void test_attachments_reserve_the_models_context(void **state)
{
    struct target target = target_of(1, 0);
    struct request_facts facts = {.bytes = 300, .max_output = 1, .has_attachment = true};

    (void)state;
    assert_int_equal(worst_case_nano(&target, &facts), 100000);
    facts.bytes = 200000; /* longer than the context: the provider will refuse it, or charge it */
    assert_true(worst_case_nano(&target, &facts) >= 200000);
    facts.bytes = 300;
    target.context_tokens = 0;
    assert_true(worst_case_nano(&target, &facts) >= 1000000);
}

static void test_output_without_a_limit_reserves_the_models_maximum(void **state)
{
    struct target target = target_of(0, 1);
    struct request_facts facts = {.bytes = 300, .max_output = 17};

    (void)state;
    assert_int_equal(worst_case_nano(&target, &facts), 17);
    facts.max_output = 0;
    assert_int_equal(worst_case_nano(&target, &facts), 5000);
    target.max_output_tokens = 0;
    assert_int_equal(worst_case_nano(&target, &facts), 100000);
}

static void test_cached_input_that_is_dearer_counts(void **state)
{
    struct target target = target_of(1, 0);
    struct request_facts facts = {.bytes = 1000, .max_output = 1};

    (void)state;
    target.price.cached_input_nano_per_mtok = 2000000;
    assert_true(worst_case_nano(&target, &facts) >= 2000);
}

static void test_routes_have_a_dearest_and_a_cheapest_target(void **state)
{
    struct route route = {.target_count = 2, .targets = {target_of(0, 1), target_of(0, 3)}};
    struct request_facts facts = {.max_output = 10};

    (void)state;
    assert_int_equal(worst_case_least_nano(&route, &facts), 10);
    assert_int_equal(worst_case_most_nano(&route, &facts), 30);
}

static void test_price_changing_fields_must_be_priced_at_every_target(void **state)
{
    struct route route = {.target_count = 2, .targets = {target_of(0, 1), target_of(0, 3)}};
    struct err err = {0};

    (void)state;
    assert_true(submit_guard_check(&route, 0, &err));
    route.targets[0].priced_fields = BIT(PRICED_AUDIO) | BIT(PRICED_SERVICE_TIER);
    assert_false(submit_guard_check(&route, BIT(PRICED_SERVICE_TIER), &err));
    assert_string_equal(err.code, "invalid_value");
    assert_string_equal(err.param, "request.service_tier");
    route.targets[1].priced_fields = BIT(PRICED_SERVICE_TIER);
    assert_true(submit_guard_check(&route, BIT(PRICED_SERVICE_TIER), &err));
    assert_false(submit_guard_check(&route, BIT(PRICED_AUDIO) | BIT(PRICED_SERVICE_TIER), &err));
    assert_string_equal(err.param, "request.audio");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_are_read_for_what_they_cost),
        cmocka_unit_test(test_input_is_bounded_by_bytes_and_overheads),
        cmocka_unit_test(test_attachments_reserve_the_models_context),
        cmocka_unit_test(test_output_without_a_limit_reserves_the_models_maximum),
        cmocka_unit_test(test_cached_input_that_is_dearer_counts),
        cmocka_unit_test(test_routes_have_a_dearest_and_a_cheapest_target),
        cmocka_unit_test(test_price_changing_fields_must_be_priced_at_every_target),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
