/* SPDX-License-Identifier: Apache-2.0 */
/* Every rule of a submit body: what is refused, with which code and for which field. */
#include "common/model/job_submit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/str.h"
#include "common/model/settings.h"

#define MESSAGES "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define REQUEST "\"request\":{\"model\":\"fast\"," MESSAGES "}"
#define WITH(members) "{" REQUEST "," members "}"
#define CHAT(members) "{\"request\":{\"model\":\"fast\"," members "}}"
#define SAYING(message) CHAT("\"messages\":[" message "]")

static struct settings *settings;

static int load_settings(void **state)
{
    static const char text[] =
        "providers:\n"
        "  main: {format: openai, base_url: 'http://127.0.0.1:1/v1', api_key: x}\n"
        "routes:\n"
        "  fast: {strategy: fallback, targets: [{provider: main, model: m}]}\n"
        "prices:\n"
        "  main:\n"
        "    m: {input_per_mtok: 1, cached_input_per_mtok: 1, output_per_mtok: 2,"
        " context_tokens: 8192, max_output_tokens: 1000}\n";
    struct err err = {{0}, {0}, {0}};
    struct config *config = config_parse("test.yaml", text, sizeof(text) - 1, &err);

    (void)state;
    settings = config ? settings_load(config, &err) : NULL;
    config_free(config);
    if (!settings)
        print_error("%s\n", err.message);
    return settings ? 0 : -1;
}

static int free_settings(void **state)
{
    (void)state;
    settings_unref(settings);
    return 0;
}

static struct job_new *read_body(const char *body, struct err *err)
{
    struct job_rules rules = {.settings = settings};

    err_clear(err);
    return job_submit_read(body, strlen(body), &rules, err);
}

static const struct {
    const char *body, *code, *param;
} refused[] = {
    /* The text itself. */
    {"", "invalid_json", ""},
    {"{", "invalid_json", ""},
    {"nonsense", "invalid_json", ""},
    {"{\"request\":1,\"request\":2}", "invalid_json", ""},
    {WITH("\"metadata\":{\"a\":\"\\u0000\"}"), "invalid_json", ""},
    {WITH("\"metadata\":{\"a\":\"\\ud800\"}"), "invalid_json", ""},
    {"[]", "invalid_value", ""},
    {"\"x\"", "invalid_value", ""},
    {"null", "invalid_value", ""},
    /* Unknown and missing. */
    {"{}", "missing_field", "request"},
    {"{\"request\":null}", "missing_field", "request"},
    {"{\"requst\":{}}", "unknown_field", "requst"},
    {WITH("\"prioriti\":\"high\""), "unknown_field", "prioriti"},
    {WITH("\"idempotency_key\":\"k\""), "unknown_field", "idempotency_key"},
    /* The request. */
    {"{\"request\":[]}", "invalid_value", "request"},
    {"{\"request\":{}}", "missing_field", "request.model"},
    {"{\"request\":{\"model\":7," MESSAGES "}}", "invalid_value", "request.model"},
    {"{\"request\":{\"model\":\"fats\"," MESSAGES "}}", "model_not_found", "request.model"},
    {"{\"request\":{\"model\":\"\"," MESSAGES "}}", "model_not_found", "request.model"},
    {"{\"request\":{\"model\":\"fast\"}}", "missing_field", "request.messages"},
    {CHAT("\"messages\":null"), "missing_field", "request.messages"},
    {CHAT("\"messages\":{}"), "invalid_value", "request.messages"},
    {CHAT("\"messages\":[]"), "invalid_value", "request.messages"},
    {SAYING("\"hi\""), "invalid_value", "request.messages[0]"},
    {SAYING("{\"content\":\"hi\"}"), "missing_field", "request.messages[0].role"},
    {SAYING("{\"role\":\"usr\",\"content\":\"hi\"}"), "invalid_value", "request.messages[0].role"},
    {SAYING("{\"role\":1,\"content\":\"hi\"}"), "invalid_value", "request.messages[0].role"},
    {SAYING("{\"role\":\"user\"}"), "missing_field", "request.messages[0].content"},
    {SAYING("{\"role\":\"user\",\"content\":null}"), "missing_field",
     "request.messages[0].content"},
    {SAYING("{\"role\":\"assistant\",\"tool_calls\":null}"), "missing_field",
     "request.messages[0].content"},
    {SAYING("{\"role\":\"user\",\"content\":5}"), "invalid_value", "request.messages[0].content"},
    {SAYING("{\"role\":\"user\",\"content\":[]}"), "invalid_value", "request.messages[0].content"},
    {SAYING("{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":[\"b\"]}"),
     "invalid_value", "request.messages[1].content[0]"},
    {SAYING("{\"role\":\"user\",\"content\":[{}]}"), "missing_field",
     "request.messages[0].content[0].type"},
    {SAYING("{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}"), "missing_field",
     "request.messages[0].content[0].text"},
    {SAYING("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":1}]}"), "invalid_value",
     "request.messages[0].content[0].text"},
    {CHAT(MESSAGES ",\"n\":2"), "invalid_value", "request.n"},
    {CHAT(MESSAGES ",\"n\":\"1\""), "invalid_value", "request.n"},
    {CHAT(MESSAGES ",\"max_tokens\":0"), "invalid_value", "request.max_tokens"},
    {CHAT(MESSAGES ",\"max_tokens\":1.5"), "invalid_value", "request.max_tokens"},
    {CHAT(MESSAGES ",\"max_completion_tokens\":\"9\""), "invalid_value",
     "request.max_completion_tokens"},
    /* Labels. */
    {WITH("\"priority\":\"urgent\""), "invalid_value", "priority"},
    {WITH("\"priority\":1"), "invalid_value", "priority"},
    {WITH("\"workflow\":\"\""), "invalid_value", "workflow"},
    {WITH("\"workflow\":\"a b\""), "invalid_value", "workflow"},
    {WITH("\"user\":\"\xc3\xa9\""), "invalid_value", "user"},
    {WITH("\"purpose\":5"), "invalid_value", "purpose"},
    {WITH("\"data_class\":\"a;b\""), "invalid_value", "data_class"},
    /* Metadata. */
    {WITH("\"metadata\":[]"), "invalid_value", "metadata"},
    {WITH("\"metadata\":{\"a\":1}"), "invalid_value", "metadata.a"},
    {WITH("\"metadata\":{\"a\":null}"), "invalid_value", "metadata.a"},
    {WITH("\"metadata\":{\"\":\"x\"}"), "invalid_value", "metadata"},
    {WITH("\"metadata\":{\"a\":\"1\",\"b\":\"1\",\"c\":\"1\",\"d\":\"1\",\"e\":\"1\",\"f\":\"1\","
          "\"g\":\"1\",\"h\":\"1\",\"i\":\"1\",\"j\":\"1\",\"k\":\"1\",\"l\":\"1\",\"m\":\"1\","
          "\"n\":\"1\",\"o\":\"1\",\"p\":\"1\",\"q\":\"1\"}"),
     "invalid_value", "metadata"},
    /* Times and limits. */
    {WITH("\"run_at\":\"tomorrow\""), "invalid_value", "run_at"},
    {WITH("\"run_at\":1800000000"), "invalid_value", "run_at"},
    {WITH("\"deadline\":\"2026-11-21\""), "invalid_value", "deadline"},
    {WITH("\"deadline\":\"2026-02-30T00:00:00Z\""), "invalid_value", "deadline"},
    {WITH("\"window\":{\"start\":\"22:00\"}"), "invalid_value", "window"},
    {WITH("\"max_attempts\":0"), "invalid_value", "max_attempts"},
    {WITH("\"max_attempts\":21"), "invalid_value", "max_attempts"},
    {WITH("\"max_attempts\":\"5\""), "invalid_value", "max_attempts"},
    {WITH("\"timeout_s\":0"), "invalid_value", "timeout_s"},
    {WITH("\"timeout_s\":3601"), "invalid_value", "timeout_s"},
    {WITH("\"timeout_s\":1.0"), "invalid_value", "timeout_s"},
    {WITH("\"max_cost_usd\":0.25"), "invalid_value", "max_cost_usd"},
    {WITH("\"max_cost_usd\":\"-1\""), "invalid_value", "max_cost_usd"},
    {WITH("\"max_cost_usd\":\"1e-3\""), "invalid_value", "max_cost_usd"},
    {WITH("\"max_cost_usd\":\"0.0000000001\""), "invalid_value", "max_cost_usd"},
    {WITH("\"max_cost_usd\":\"0.000001\""), "never_fits", "max_cost_usd"},
    {WITH("\"max_cost_usd\":\"0\""), "never_fits", "max_cost_usd"},
    /* Webhooks. */
    {WITH("\"webhook\":\"http://example.com\""), "invalid_value", "webhook"},
    {WITH("\"webhook\":{}"), "missing_field", "webhook.url"},
    {WITH("\"webhook\":{\"url\":\"http://a.example/\",\"x\":1}"), "unknown_field", "webhook.x"},
    {WITH("\"webhook\":{\"url\":\"ftp://a.example/\"}"), "invalid_value", "webhook.url"},
    {WITH("\"webhook\":{\"url\":\"http://127.0.0.1/\"}"), "invalid_value", "webhook.url"},
    {WITH("\"webhook\":{\"url\":\"http://0x7f.1/\"}"), "invalid_value", "webhook.url"},
    {WITH("\"webhook\":{\"url\":\"http://[::1]/\"}"), "invalid_value", "webhook.url"},
    {WITH("\"webhook\":{\"url\":\"http://10.0.0.8:9/\"}"), "invalid_value", "webhook.url"},
    {WITH("\"webhook\":{\"url\":\"http://u:p@a.example/\"}"), "invalid_value", "webhook.url"},
    {WITH("\"webhook\":{\"url\":\"http://a.example/\",\"events\":[]}"), "invalid_value",
     "webhook.events"},
    {WITH("\"webhook\":{\"url\":\"http://a.example/\",\"events\":\"job.failed\"}"), "invalid_value",
     "webhook.events"},
    {WITH("\"webhook\":{\"url\":\"http://a.example/\",\"events\":[\"job.failed\",\"job.fail\"]}"),
     "invalid_value", "webhook.events[1]"},
};

static void test_bad_body_is_refused_with_code_and_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct err err;
        struct job_new *job = read_body(refused[i].body, &err);

        if (job || strcmp(err.code, refused[i].code) != 0 ||
            strcmp(err.param, refused[i].param) != 0)
            fail_msg("%s: got %s of \"%s\" (%s)", refused[i].body, job ? "a job" : err.code,
                     err.param, err.message);
    }
}

static void test_errors_say_what_was_expected_and_what_came(void **state)
{
    struct err err;

    (void)state;
    assert_null(read_body(
        SAYING("{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"b\"},"
               "{\"role\":\"usr\",\"content\":\"c\"}"),
        &err));
    assert_string_equal(err.message, "request.messages[2].role: expected system, user, assistant "
                                     "or tool, got \"usr\"");
    assert_null(read_body(WITH("\"prioriti\":\"high\""), &err));
    assert_non_null(strstr(err.message, "priority"));
    assert_null(read_body("{\"request\":{\"model\":\"fats\"," MESSAGES "}}", &err));
    assert_non_null(strstr(err.message, "fast"));
    assert_null(read_body("{\n  \"request\": x}", &err));
    assert_non_null(strstr(err.message, "line 2, column"));
}

static void test_body_nested_too_deep_is_refused(void **state)
{
    char body[1024] = "{\"request\":{\"model\":\"fast\"," MESSAGES ",\"x\":";
    struct err err;
    size_t len = strlen(body);

    (void)state;
    memset(body + len, '[', 64);
    memset(body + len + 64, ']', 64);
    memcpy(body + len + 128, "}}", 3);
    assert_null(read_body(body, &err));
    assert_string_equal(err.code, "invalid_json");
}

static void test_long_names_and_values_are_refused(void **state)
{
    static const struct {
        const char *before;
        size_t letters;
        const char *after;
        bool is_good;
    } cases[] = {
        {"\"workflow\":\"", 128, "\"", true},         {"\"workflow\":\"", 129, "\"", false},
        {"\"metadata\":{\"", 64, "\":\"v\"}", true},  {"\"metadata\":{\"", 65, "\":\"v\"}", false},
        {"\"metadata\":{\"k\":\"", 512, "\"}", true}, {"\"metadata\":{\"k\":\"", 513, "\"}", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct job_new *job;
        struct buf body;
        struct err err;

        buf_init(&body, 4096);
        buf_printf(&body, "{%s,%s", REQUEST, cases[i].before);
        for (size_t n = 0; n < cases[i].letters; n++)
            buf_putc(&body, 'a');
        buf_printf(&body, "%s}", cases[i].after);
        job = read_body(body.data, &err);
        assert_int_equal(job != NULL, cases[i].is_good);
        job_new_free(job);
        buf_release(&body);
    }
}

static void test_defaults_apply_where_nothing_is_said(void **state)
{
    struct err err;
    struct job_new *job = read_body("{" REQUEST ",\"workflow\":null,\"window\":null}", &err);

    (void)state;
    assert_non_null(job);
    assert_int_equal(job->priority, PRIORITY_NORMAL);
    assert_int_equal(job->max_attempts, 5);
    assert_int_equal(job->timeout_s, 600);
    assert_int_equal(job->max_cost_nano, -1);
    assert_int_equal(job->deadline_us, 0);
    assert_null(job->workflow);
    assert_null(job->metadata);
    assert_null(job->webhook_url);
    assert_string_equal(job->model, "fast");
    job_submit_stamp(job, id_make(US_PER_DAY));
    assert_int_equal(job->deadline_us, 15 * US_PER_DAY);
    job_new_free(job);
}

static void test_all_members_are_taken(void **state)
{
    struct err err;
    struct job_new *job = read_body(
        WITH("\"priority\":\"low\",\"workflow\":\"w/1\",\"user\":\"u@x\",\"purpose\":\"p\","
             "\"data_class\":\"d\",\"metadata\":{ \"a\" : \"b\" },"
             "\"run_at\":\"2026-11-22T01:00:00Z\",\"deadline\":\"2026-11-22T08:00:00+02:00\","
             "\"webhook\":{\"url\":\"https://app.example/hook\",\"events\":[\"job.failed\","
             "\"job.expired\"]},\"max_attempts\":1,\"timeout_s\":3600,\"max_cost_usd\":\"0.25\""),
        &err);

    (void)state;
    assert_non_null(job);
    assert_int_equal(job->priority, PRIORITY_LOW);
    assert_string_equal(job->workflow, "w/1");
    assert_string_equal(job->user, "u@x");
    assert_string_equal(job->metadata, "{ \"a\" : \"b\" }");
    assert_int_equal(job->deadline_us - job->run_at_us, 5 * 3600 * US_PER_S);
    assert_string_equal(job->webhook_url, "https://app.example/hook");
    assert_string_equal(job->webhook_events, "job.failed,job.expired");
    assert_int_equal(job->max_attempts, 1);
    assert_int_equal(job->timeout_s, 3600);
    assert_int_equal(job->max_cost_nano, 250000000);
    job_new_free(job);
}

static void test_request_is_kept_as_its_exact_bytes(void **state)
{
    static const char request[] =
        "{ \"model\":\"fast\", \"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{}]},"
        "{\"role\":\"tool\",\"content\":[{\"type\":\"text\",\"text\":\"\\u00e9\"}]}],"
        "\"temperature\":0.10,\"seed\":123456789012345678901234567890,\"n\":1,\"stream\":\"yes\" }";
    char body[512];
    struct err err;
    struct job_new *job;

    (void)state;
    snprintf(body, sizeof(body), "{\"request\": %s }", request);
    job = read_body(body, &err);
    assert_non_null(job);
    assert_int_equal(job->request_len, sizeof(request) - 1);
    assert_string_equal(job->request, request);
    job_new_free(job);
}

static void test_expected_tokens_are_input_and_asked_output(void **state)
{
    struct err err;
    struct job_new *job = read_body(CHAT(MESSAGES ",\"max_tokens\":77"), &err);
    struct job_new *open = read_body("{" REQUEST "}", &err);

    (void)state;
    assert_int_equal(job->est_tokens, (int64_t)(job->request_len + 2) / 3 + 77);
    assert_int_equal(open->est_tokens, (int64_t)(open->request_len + 2) / 3 + 1000);
    job_new_free(job);
    job_new_free(open);
}

static void test_ceiling_that_fits_one_call_is_taken(void **state)
{
    struct err err;
    /* Under 160 bytes and overheads at $1 and 10 output tokens at $2 per million. */
    struct job_new *job =
        read_body("{\"request\":{\"model\":\"fast\"," MESSAGES ",\"max_tokens\":10},"
                  "\"max_cost_usd\":\"0.00018\"}",
                  &err);

    (void)state;
    assert_non_null(job);
    job_new_free(job);
}

static void test_bulk_line_may_carry_an_idempotency_key(void **state)
{
    static const char good[] = "{" REQUEST ",\"idempotency_key\":\"k-1\"}";
    static const char bad[] = "{" REQUEST ",\"idempotency_key\":\"k 1\"}";
    struct job_rules rules = {.settings = settings, .takes_idempotency_key = true};
    struct err err = {{0}, {0}, {0}};
    struct job_new *job = job_submit_read(good, strlen(good), &rules, &err);

    (void)state;
    assert_non_null(job);
    assert_string_equal(job->idempotency_key, "k-1");
    job_new_free(job);
    assert_null(job_submit_read(bad, strlen(bad), &rules, &err));
    assert_string_equal(err.param, "idempotency_key");
}

static void test_allowed_network_may_be_a_webhooks_target(void **state)
{
    static const char body[] = WITH("\"webhook\":{\"url\":\"http://127.0.0.1:9/\"}");
    struct network network;
    struct job_rules rules = {
        .settings = settings, .allow_networks = &network, .allow_network_count = 1};
    struct err err = {{0}, {0}, {0}};
    struct job_new *job;

    (void)state;
    assert_true(network_parse("127.0.0.0/8", &network, &err));
    job = job_submit_read(body, strlen(body), &rules, &err);
    assert_non_null(job);
    job_new_free(job);
}

static void test_times_are_judged_against_creation(void **state)
{
    static const int64_t now = INT64_C(1800000000) * 1000000;
    static const struct {
        int64_t run_at, deadline; /* relative to now, 0: none */
        const char *param;        /* NULL: fine */
    } cases[] = {
        {0, 0, NULL},
        {-US_PER_S, 0, NULL},
        {US_PER_S, 0, NULL},
        {US_PER_S, 2 * US_PER_S, NULL},
        {0, US_PER_S, NULL},
        {0, 14 * US_PER_DAY, NULL},
        {0, 14 * US_PER_DAY + 1, "deadline"},
        {0, -1, "deadline"},
        {2 * US_PER_S, 2 * US_PER_S, "deadline"},
        {3 * US_PER_S, 2 * US_PER_S, "deadline"},
        {14 * US_PER_DAY - 1, 0, NULL},
        {14 * US_PER_DAY, 0, "run_at"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = {{0}, {0}, {0}};
        struct job_new job = {
            .run_at_us = cases[i].run_at ? now + cases[i].run_at : 0,
            .deadline_us = cases[i].deadline ? now + cases[i].deadline : 0,
        };

        assert_int_equal(job_submit_judge_times(&job, now, &err), cases[i].param == NULL);
        assert_string_equal(err.param, cases[i].param ? cases[i].param : "");
    }
    assert_false(job_submit_judge_times(&(struct job_new){.deadline_us = now}, now, NULL));
}

static void test_idempotency_key_is_visible_ascii(void **state)
{
    char key[IDEMPOTENCY_KEY_MAX + 2];
    struct err err;

    (void)state;
    memset(key, 'k', sizeof(key));
    key[IDEMPOTENCY_KEY_MAX + 1] = '\0';
    assert_false(idempotency_key_check(key, "Idempotency-Key", &err));
    key[IDEMPOTENCY_KEY_MAX] = '\0';
    assert_true(idempotency_key_check(key, "Idempotency-Key", &err));
    assert_false(idempotency_key_check("", "Idempotency-Key", &err));
    assert_false(idempotency_key_check("a b", "Idempotency-Key", &err));
    assert_false(idempotency_key_check("\xc3\xa9", "Idempotency-Key", &err));
    assert_string_equal(err.param, "Idempotency-Key");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_body_is_refused_with_code_and_field),
        cmocka_unit_test(test_errors_say_what_was_expected_and_what_came),
        cmocka_unit_test(test_body_nested_too_deep_is_refused),
        cmocka_unit_test(test_long_names_and_values_are_refused),
        cmocka_unit_test(test_defaults_apply_where_nothing_is_said),
        cmocka_unit_test(test_all_members_are_taken),
        cmocka_unit_test(test_request_is_kept_as_its_exact_bytes),
        cmocka_unit_test(test_expected_tokens_are_input_and_asked_output),
        cmocka_unit_test(test_ceiling_that_fits_one_call_is_taken),
        cmocka_unit_test(test_bulk_line_may_carry_an_idempotency_key),
        cmocka_unit_test(test_allowed_network_may_be_a_webhooks_target),
        cmocka_unit_test(test_times_are_judged_against_creation),
        cmocka_unit_test(test_idempotency_key_is_visible_ascii),
    };

    return cmocka_run_group_tests(tests, load_settings, free_settings);
}
