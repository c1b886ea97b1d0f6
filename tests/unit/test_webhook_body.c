/* SPDX-License-Identifier: Apache-2.0 */
/* The thin body of a webhook, byte by byte. */
#include "common/model/webhook_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/json.h"

#define ID_HEX "0193a0b1c2d37000800000000000002a"

static struct webhook_job job_of(enum job_state state)
{
    struct webhook_job job = {
        .state = state,
        .ended_us = INT64_C(1763694245678901), /* 2025-11-21T03:04:05.678Z */
        .sequence = 1,
    };

    assert_true(id_parse("job_" ID_HEX, strlen("job_" ID_HEX), "job_", &job.id));
    return job;
}

static void assert_body(const struct webhook_job *job, const char *expected)
{
    struct buf body;
    json_t *read;

    buf_init(&body, WEBHOOK_BODY_MAX);
    assert_true(webhook_body_write(job, &body));
    assert_string_equal(body.data, expected);
    read = json_parse(body.data, body.len, JSON_READ_STRICT, NULL);
    assert_non_null(read);
    json_decref(read);
    buf_release(&body);
}

static void test_succeeded_job_with_everything(void **state)
{
    static const uint8_t digest[32] = {0xab, 0xcd, [31] = 0x01};
    struct webhook_job job = job_of(JOB_SUCCEEDED);

    (void)state;
    job.workflow = "ticket-triage";
    job.metadata = "{\"customer\": \"42\"}";
    job.has_usage = true;
    job.input_tokens = 12;
    job.output_tokens = 34;
    job.cached_input_tokens = 2;
    job.cost_nano = 12300;
    job.result_sha256 = digest;
    assert_body(&job,
                "{\"type\":\"job.succeeded\",\"timestamp\":\"2025-11-21T03:04:05.678Z\",\"data\":{"
                "\"id\":\"job_" ID_HEX "\",\"object\":\"job\",\"state\":\"succeeded\","
                "\"workflow\":\"ticket-triage\",\"metadata\":{\"customer\": \"42\"},"
                "\"usage\":{\"input_tokens\":12,\"output_tokens\":34,\"cached_input_tokens\":2,"
                "\"total_tokens\":46},\"cost_usd\":\"0.000012300\","
                "\"result_url\":\"/v1/jobs/job_" ID_HEX "\",\"result_sha256\":"
                "\"abcd000000000000000000000000000000000000000000000000000000000001\","
                "\"sequence\":1}}");
}

static void test_what_is_not_known_is_null(void **state)
{
    static const enum job_state states[] = {JOB_FAILED, JOB_CANCELLED, JOB_EXPIRED};
    static const char *const expected[] = {
#define NULLS(state)                                                                          \
    "{\"type\":\"job." state "\",\"timestamp\":\"2025-11-21T03:04:05.678Z\",\"data\":{"       \
    "\"id\":\"job_" ID_HEX "\",\"object\":\"job\",\"state\":\"" state "\",\"workflow\":null," \
    "\"metadata\":null,\"usage\":null,\"cost_usd\":\"0.000000000\","                          \
    "\"result_url\":\"/v1/jobs/job_" ID_HEX "\",\"result_sha256\":null,\"sequence\":1}}"
        NULLS("failed"),
        NULLS("cancelled"),
        NULLS("expired"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        struct webhook_job job = job_of(states[i]);

        assert_body(&job, expected[i]);
    }
}

static void test_estimated_usage_says_so(void **state)
{
    struct webhook_job job = job_of(JOB_FAILED);
    struct buf body;

    (void)state;
    job.has_usage = job.is_usage_estimated = true;
    buf_init(&body, WEBHOOK_BODY_MAX);
    assert_true(webhook_body_write(&job, &body));
    assert_non_null(strstr(body.data, "\"total_tokens\":0,\"usage_estimated\":true}"));
    buf_release(&body);
}

static void test_body_over_its_maximum_fails(void **state)
{
    struct webhook_job job = job_of(JOB_FAILED);
    struct buf body;

    (void)state;
    buf_init(&body, 100);
    assert_false(webhook_body_write(&job, &body));
    buf_release(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_succeeded_job_with_everything),
        cmocka_unit_test(test_what_is_not_known_is_null),
        cmocka_unit_test(test_estimated_usage_says_so),
        cmocka_unit_test(test_body_over_its_maximum_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
