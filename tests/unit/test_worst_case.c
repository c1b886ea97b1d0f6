/* SPDX-License-Identifier: Apache-2.0 */
/* The bound on what a call may cost, and the fields that would break it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/model/price_guard.h"
#include "common/model/request_fields.h"
#include "common/model/settings.h"
#include "common/model/worst_case.h"
#include "worker/reservation.h"

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
    {PARTS("input_audio"), 1, 0, 0, true, BIT(PRICED_INPUT_AUDIO)},
    {PARTS("of tomorrow"), 1, 0, 0, true, BIT(PRICED_MESSAGES)},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"no type\"}]}]}", 1, 0, 0, true,
     BIT(PRICED_MESSAGES)},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\","
     "\"cache_control\":{}}]}]}",
     1, 0, 0, false, BIT(PRICED_MESSAGES)},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\","
     "\"cache_control\":null}]}]}",
     1, 0, 0, false, 0},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"cache_control\":{}}]}", 1, 0, 0, false,
     BIT(PRICED_MESSAGES)},
    {"{\"messages\":[{\"role\":\"user\",\"\\u0063ontent\":[{\"type\":\"file\"}]}]}", 1, 0, 0, true,
     0},
    {"{\"messages\":[{\"role\":\"assistant\",\"audio\":{\"id\":\"a\"}}]}", 1, 0, 0, true,
     BIT(PRICED_INPUT_AUDIO)},
    {"{\"messages\":[{\"role\":\"assistant\",\"audio\":null,\"content\":\"\"}]}", 1, 0, 0, false,
     0},
    {ASK(",\"tools\":[{\"type\":\"function\"},{\"type\":\"custom\"}]"), 1, 2, 0, false, 0},
    {ASK(",\"tools\":[{\"type\":\"function\"},{\"type\":\"web_search\"}]"), 1, 2, 0, false,
     BIT(PRICED_TOOLS)},
    {ASK(",\"tools\":[{\"type\":\"function\",\"cache_control\":{}}]"), 1, 1, 0, false,
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
    {ASK(",\"max_t\\u006fkens\":7"), 1, 0, 7, false, 0},
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
            facts.has_attachment != cases[i].has_attachment || facts.has_unknown ||
            facts.text != cases[i].request || facts.bytes != (int64_t)strlen(cases[i].request))
            fail_msg("%s: messages=%d tools=%d max=%d attachment=%d priced=%x unknown=%d",
                     cases[i].request, (int)facts.messages, (int)facts.tools, (int)facts.max_output,
                     facts.has_attachment, facts.priced, facts.has_unknown);
    }
}

static const struct {
    const char *more;
    bool is_known;
} members[] = {
    {",\"plugins\":[{\"id\":\"web\"}]", false},
    {",\"plugins\":null", true},
    {",\"extra_body\":{\"top_k\":1}", false},
    {",\"temperature\":1", true},
    {",\"Temperature\":1", false},
    {",\"temperature \":1", false},
    {",\"temper\\u0061ture\":1", true},
    {",\"temper\\ud83d\\ude00ture\":1", false},
    {",\"\":1", false},
    {",\"a_name_that_is_longer_than_any_field_that_is_known_is_unknown\":1", false},
    {",\"plugins\":1,\"temperature\":1", false},
    {",\"metadata\":{\"plugins\":1}", true},
    {",\"web_search_options\":{},\"service_tier\":\"flex\",\"prediction\":{}", true},
};

static void test_members_that_no_table_knows_are_noticed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        struct request_facts facts;
        char request[512];

        snprintf(request, sizeof(request), "{\"model\":\"m\",\"messages\":[" HELLO "]%s}",
                 members[i].more);
        request_facts_read(request, strlen(request), &facts);
        if (facts.has_unknown == members[i].is_known || facts.messages != 1)
            fail_msg("%s: unknown=%d", members[i].more, facts.has_unknown);
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
    target.context_tokens = 0; /* and none is known to write more */
    assert_true(worst_case_nano(&target, &facts) >= 1000000);
    facts.max_output = 17;
    assert_int_equal(worst_case_nano(&target, &facts), 17);
}

static void test_output_of_no_known_size_is_guessed_for_tokens_per_minute(void **state)
{
    struct target target = target_of(0, 1);
    struct request_facts facts = {.bytes = 300};
    struct reservation reservation;

    (void)state;
    target.max_output_tokens = 0;
    target.context_tokens = 0;
    reservation = reservation_of(&target, &facts);
    assert_int_equal(reservation.est_tokens, 100 + 4096);
    assert_int_equal(reservation.cost_nano, reservation.output_tokens);
    assert_int_equal(reservation_output(&reservation, 900000), 900000);
}

static void test_cached_input_that_is_dearer_counts(void **state)
{
    struct target target = target_of(1, 0);
    struct request_facts facts = {.bytes = 1000, .max_output = 1};

    (void)state;
    target.price.cached_input_nano_per_mtok = 2000000;
    assert_true(worst_case_nano(&target, &facts) >= 2000);
}

/* Appends what output costs from so many minutes on. */
static void change_price(struct target *target, int minutes, int64_t output)
{
    target->changes[target->change_count++] = (struct price_change){
        .from_us = clock_db_us() + minutes * 60 * US_PER_S,
        .price = {.output_nano_per_mtok = output * 1000000},
    };
}

static void test_a_dearer_price_that_comes_within_the_hour_is_reserved(void **state)
{
    struct target target = target_of(0, 3);
    struct request_facts facts = {.bytes = 300, .max_output = 10};

    (void)state;
    change_price(&target, 30, 5);
    change_price(&target, 45, 1);
    change_price(&target, 120, 90);
    assert_int_equal(worst_case_nano(&target, &facts), 50);
    assert_int_equal(reservation_of(&target, &facts).cost_nano, 50);
    target.changes[0].price.output_nano_per_mtok = 2000000;
    assert_int_equal(worst_case_nano(&target, &facts), 30); /* that of now is the dearest */
}

static void test_a_call_is_priced_by_what_is_in_force_when_it_is_sent(void **state)
{
    struct target target = target_of(0, 9);
    struct request_facts facts = {.bytes = 300, .max_output = 10};
    struct reservation reservation;

    (void)state;
    change_price(&target, -120, 8);
    change_price(&target, -1, 3);
    change_price(&target, 30, 5);
    reservation = reservation_of(&target, &facts);
    assert_int_equal(reservation.price.output_nano_per_mtok, 3000000);
    assert_int_equal(reservation.cost_nano, 50); /* what is past is not reserved */
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
    struct request_facts facts = {0};
    struct err err = {0};

    (void)state;
    assert_true(price_guard_route(&route, &facts, &err));
    route.targets[0].priced_fields = BIT(PRICED_AUDIO) | BIT(PRICED_SERVICE_TIER);
    facts.priced = BIT(PRICED_SERVICE_TIER);
    assert_false(price_guard_route(&route, &facts, &err));
    assert_string_equal(err.code, "invalid_value");
    assert_string_equal(err.param, "request.service_tier");
    route.targets[1].priced_fields = BIT(PRICED_SERVICE_TIER);
    assert_true(price_guard_route(&route, &facts, &err));
    facts.priced = BIT(PRICED_AUDIO) | BIT(PRICED_SERVICE_TIER);
    assert_false(price_guard_route(&route, &facts, &err));
    assert_string_equal(err.param, "request.audio");
}

/* Every use that is known says where it is. */
static void test_price_changing_fields_are_told_by_their_place(void **state)
{
    struct target target = target_of(0, 1);

    (void)state;
    for (int field = 0; field < PRICED_FIELD_COUNT; field++) {
        struct request_facts facts = {.priced = BIT(field)};
        struct err err = {0};

        assert_false(price_guard_target(&target, &facts, &err));
        assert_memory_equal(err.param, "request.", 8);
        assert_memory_equal(err.message, err.param, strlen(err.param));
        assert_non_null(strstr(err.message, priced_field_name((enum priced_field)field)));
        target.priced_fields = BIT(field);
        assert_true(price_guard_target(&target, &facts, &err));
        target.priced_fields = 0;
    }
}

static void test_fields_that_no_table_knows_must_be_priced_at_every_target(void **state)
{
    static const char request[] = ASK(",\"plugins\":[1],\"speed\":\"fast\",\"temprature\":1");
    struct route route = {.target_count = 2, .targets = {target_of(0, 1), target_of(0, 3)}};
    struct request_facts facts;
    struct err err = {0};

    (void)state;
    request_facts_read(request, strlen(request), &facts);
    assert_false(price_guard_route(&route, &facts, &err));
    assert_string_equal(err.code, "invalid_value");
    assert_string_equal(err.param, "request.plugins");
    for (int i = 0; i < 2; i++) {
        strcpy(route.targets[i].priced_others[0], "plugins");
        strcpy(route.targets[i].priced_others[1], "speed");
        route.targets[i].priced_other_count = 2;
    }
    assert_false(price_guard_route(&route, &facts, &err));
    assert_string_equal(err.param, "request.temprature");
    assert_non_null(strstr(err.message, "did you mean temperature?"));
    for (int i = 0; i < 2; i++)
        strcpy(route.targets[i].priced_others[route.targets[i].priced_other_count++], "temprature");
    assert_true(price_guard_route(&route, &facts, &err));
    route.targets[1].priced_other_count = 1;
    assert_false(price_guard_route(&route, &facts, &err));
    assert_string_equal(err.param, "request.speed");
}

/* What is sent to OpenAI and to open models every day, and nothing that could cost more. */
static void test_fields_that_leave_the_price_alone_are_never_refused(void **state)
{
    static const char request[] = ASK(
        ",\"n\":1,\"temperature\":0.1,\"top_p\":1,\"presence_penalty\":0,\"frequency_penalty\":0,"
        "\"logit_bias\":{},\"seed\":1,\"stop\":[],\"logprobs\":true,\"top_logprobs\":2,"
        "\"response_format\":{\"type\":\"json_object\"},\"tool_choice\":\"auto\","
        "\"parallel_tool_calls\":false,\"reasoning_effort\":\"low\",\"verbosity\":\"low\","
        "\"stream\":true,\"stream_options\":{},\"store\":false,\"metadata\":{},\"user\":\"u\","
        "\"safety_identifier\":\"u\",\"prompt_cache_key\":\"k\",\"top_k\":40,\"min_p\":0.1,"
        "\"repetition_penalty\":1.1,\"guided_json\":{},\"structured_outputs\":{},"
        "\"chat_template_kwargs\":{},\"random_seed\":1,\"safe_prompt\":true,\"mirostat\":2");
    static const char *const costly[] = {
        "n_predict",
        "num_predict",
        "max_new_tokens",
        "max_output_tokens",
        "options",
        "best_of",
        "use_beam_search",
        "models",
        "provider",
        "plugins",
        "search_parameters",
        "data_sources",
        "cache_control",
        "enable_thinking",
        "chat_template",
        "extra_body",
        "priority",
        "service_tier",
        "tools",
        "modalities",
        "audio",
        "web_search_options",
        "prediction",
        "",
        "MAX_TOKENS",
    };
    struct target target = target_of(0, 1);
    struct request_facts facts;
    struct err err = {0};

    (void)state;
    request_facts_read(request, strlen(request), &facts);
    assert_false(facts.has_unknown);
    assert_true(price_guard_target(&target, &facts, &err));
    for (size_t i = 0; i < sizeof(costly) / sizeof(costly[0]); i++)
        if (request_field_is_plain(costly[i]))
            fail_msg("%s: may cost more", costly[i]);
}

static void test_a_name_too_long_to_be_listed_is_refused(void **state)
{
    static const char request[] =
        ASK(",\"a_name_that_is_longer_than_any_field_that_is_known_is_unknown\":1");
    struct target target = target_of(0, 1);
    struct request_facts facts;
    struct err err = {0};

    (void)state;
    request_facts_read(request, strlen(request), &facts);
    assert_false(price_guard_target(&target, &facts, &err));
    assert_string_equal(err.param, "request");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_are_read_for_what_they_cost),
        cmocka_unit_test(test_members_that_no_table_knows_are_noticed),
        cmocka_unit_test(test_input_is_bounded_by_bytes_and_overheads),
        cmocka_unit_test(test_attachments_reserve_the_models_context),
        cmocka_unit_test(test_output_without_a_limit_reserves_the_models_maximum),
        cmocka_unit_test(test_output_of_no_known_size_is_guessed_for_tokens_per_minute),
        cmocka_unit_test(test_cached_input_that_is_dearer_counts),
        cmocka_unit_test(test_a_dearer_price_that_comes_within_the_hour_is_reserved),
        cmocka_unit_test(test_a_call_is_priced_by_what_is_in_force_when_it_is_sent),
        cmocka_unit_test(test_routes_have_a_dearest_and_a_cheapest_target),
        cmocka_unit_test(test_price_changing_fields_must_be_priced_at_every_target),
        cmocka_unit_test(test_price_changing_fields_are_told_by_their_place),
        cmocka_unit_test(test_fields_that_no_table_knows_must_be_priced_at_every_target),
        cmocka_unit_test(test_fields_that_leave_the_price_alone_are_never_refused),
        cmocka_unit_test(test_a_name_too_long_to_be_listed_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
