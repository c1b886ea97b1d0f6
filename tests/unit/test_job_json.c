/* SPDX-License-Identifier: Apache-2.0 */
/* The job object: every member always there, null where it does not apply. */
#include "common/model/job_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/json.h"

static const char *const members[] = {
    "id",         "object",     "state",      "priority",         "workflow",
    "user",       "purpose",    "data_class", "metadata",         "model",
    "created_at", "started_at", "ended_at",   "run_at",           "deadline",
    "attempts",   "deferrals",  "crashes",    "cancel_requested", "max_cost_usd",
    "waiting",    "usage",      "cost_usd",   "unknown_cost_usd", "replay_of",
    "error",
};
enum { MEMBER_COUNT = sizeof(members) / sizeof(members[0]) };

static struct id job_id(void)
{
    struct id id;

    assert_true(id_parse("job_01a1fe3321b176a2b9d169d35d244253", 36, "job_", &id));
    return id;
}

static json_t *written(const struct job_view *view, struct buf *out)
{
    struct err err;
    json_t *root;

    buf_init(out, JOB_JSON_MAX);
    assert_true(job_json_write(view, out));
    root = json_parse(out->data, out->len, JSON_READ_STRICT, &err);
    assert_non_null(root);
    return root;
}

static const char *text_at(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static void test_submitted_job_is_the_same_bytes_each_time(void **state)
{
    struct job_new job = {
        .id = job_id(),
        .priority = PRIORITY_LOW,
        .workflow = (char[]){"wf"},
        .metadata = (char[]){"{ \"k\":\"v\"}"},
        .model = (char[]){"fast"},
        .deadline_us = INT64_C(1800000000123999),
        .max_cost_nano = -1,
        .worst_case_nano = 1500,
    };
    static const char expected[] =
        "{\"id\":\"job_01a1fe3321b176a2b9d169d35d244253\",\"object\":\"job\",\"state\":\"queued\","
        "\"priority\":\"low\",\"workflow\":\"wf\",\"user\":null,\"purpose\":null,"
        "\"data_class\":null,\"metadata\":{ \"k\":\"v\"},\"model\":\"fast\","
        "\"created_at\":\"2026-11-21T13:02:06.257Z\",\"started_at\":null,\"ended_at\":null,"
        "\"run_at\":null,\"deadline\":\"2027-01-15T08:00:00.123Z\",\"attempts\":0,"
        "\"deferrals\":0,\"crashes\":0,\"cancel_requested\":false,"
        "\"max_cost_usd\":\"0.000001500\",\"fits_now\":null,\"waiting\":null,"
        "\"partial\":null,\"result\":null,\"usage\":null,\"cost_usd\":\"0.000000000\","
        "\"unknown_cost_usd\":\"0.000000000\",\"replay_of\":null,\"error\":null,\"calls\":[]}";
    struct buf out;

    (void)state;
    for (int i = 0; i < 2; i++) {
        buf_init(&out, JOB_JSON_MAX);
        assert_true(job_json_submitted(&job, &out));
        assert_string_equal(out.data, expected);
        buf_release(&out);
    }
}

static void test_listed_job_has_all_members_but_the_wide_ones(void **state)
{
    struct job_view view = {.id = job_id(), .state = JOB_RUNNING, .model = "m", .result = "{}"};
    struct buf out;
    json_t *root = written(&view, &out);

    (void)state;
    for (int i = 0; i < MEMBER_COUNT; i++)
        assert_non_null(json_object_get(root, members[i]));
    assert_int_equal(json_object_size(root), MEMBER_COUNT);
    json_decref(root);
    buf_release(&out);
}

static void test_waiting_is_told_only_while_queued(void **state)
{
    struct job_view view = {.id = job_id(),
                            .state = JOB_QUEUED,
                            .wait_reason = "retry",
                            .wait_detail = "say \"when\"",
                            .wait_until_us = US_PER_DAY};
    struct buf out;
    json_t *root = written(&view, &out), *waiting = json_object_get(root, "waiting");

    (void)state;
    assert_string_equal(text_at(waiting, "reason"), "retry");
    assert_string_equal(text_at(waiting, "detail"), "say \"when\"");
    assert_string_equal(text_at(waiting, "until"), "1970-01-02T00:00:00.000Z");
    assert_true(json_is_null(json_object_get(waiting, "position")));
    json_decref(root);
    buf_release(&out);
    view.state = JOB_RUNNING;
    root = written(&view, &out);
    assert_true(json_is_null(json_object_get(root, "waiting")));
    json_decref(root);
    buf_release(&out);
}

static void test_result_embeds_the_stored_bytes_and_their_text(void **state)
{
    static const char result[] = "{ \"choices\":[{\"message\":{\"content\":\"h\\u00e9\"}}],"
                                 "\"big\":123456789012345678901234567890}";
    char sha256[32];
    struct job_view view = {.id = job_id(),
                            .state = JOB_SUCCEEDED,
                            .is_full = true,
                            .partial_text = "must not show",
                            .partial_len = 13,
                            .partial_attempt = 1,
                            .result = result,
                            .result_len = strlen(result),
                            .result_sha256 = sha256,
                            .finish_reason = "stop"};
    struct buf out;
    json_t *root, *shown;

    (void)state;
    memset(sha256, 0xab, sizeof(sha256));
    root = written(&view, &out);
    shown = json_object_get(root, "result");
    assert_string_equal(text_at(shown, "text"), "h\xc3\xa9");
    assert_string_equal(text_at(shown, "finish_reason"), "stop");
    assert_int_equal(strlen(text_at(shown, "sha256")), 64);
    assert_non_null(strstr(out.data, result));
    assert_true(json_is_null(json_object_get(root, "partial")));
    json_decref(root);
    buf_release(&out);
}

static void test_job_without_success_keeps_its_text_as_partial(void **state)
{
    struct job_view view = {.id = job_id(),
                            .state = JOB_FAILED,
                            .is_full = true,
                            .partial_text = "half",
                            .partial_len = 4,
                            .partial_attempt = 3,
                            .error_type = "timeout",
                            .error_message = "too slow",
                            .error_retryable = true};
    struct buf out;
    json_t *root = written(&view, &out), *partial = json_object_get(root, "partial"),
           *error = json_object_get(root, "error");

    (void)state;
    assert_string_equal(text_at(partial, "text"), "half");
    assert_int_equal(json_integer_value(json_object_get(partial, "attempt")), 3);
    assert_true(json_is_null(json_object_get(root, "result")));
    assert_string_equal(text_at(error, "type"), "timeout");
    assert_true(json_is_null(json_object_get(error, "code")));
    assert_true(json_is_true(json_object_get(error, "retryable")));
    json_decref(root);
    buf_release(&out);
}

static void test_calls_show_the_ledger(void **state)
{
    struct job_view view = {
        .id = job_id(),
        .state = JOB_RUNNING,
        .is_full = true,
        .has_usage = true,
        .is_usage_estimated = true,
        .input_tokens = 12,
        .output_tokens = 34,
        .cached_input_tokens = 2,
        .cost_nano = 12300,
        .unknown_cost_nano = 7,
        .calls = "[[1,\"main\",\"m\",\"settled\",200,null,\"2026-11-21T03:04:05.678Z\",120,950,12,"
                 "34,2,12300,true],[2,\"main\",\"m\",\"unknown\",null,\"network\","
                 "\"2026-11-21T03:04:06.678Z\",null,null,null,null,null,7,false]]",
    };
    struct buf out;
    json_t *root = written(&view, &out), *calls = json_object_get(root, "calls"),
           *first = json_array_get(calls, 0), *second = json_array_get(calls, 1),
           *usage = json_object_get(root, "usage");

    (void)state;
    assert_int_equal(json_array_size(calls), 2);
    assert_string_equal(text_at(first, "id"), "call_01a1fe3321b176a2b9d169d35d244253_1");
    assert_string_equal(text_at(first, "cost_usd"), "0.000012300");
    assert_int_equal(json_integer_value(json_object_get(first, "status")), 200);
    assert_true(json_is_true(json_object_get(first, "usage_estimated")));
    assert_string_equal(text_at(second, "error_type"), "network");
    assert_true(json_is_null(json_object_get(second, "status")));
    assert_null(json_object_get(second, "usage_estimated"));
    assert_int_equal(json_integer_value(json_object_get(usage, "total_tokens")), 46);
    assert_true(json_is_true(json_object_get(usage, "usage_estimated")));
    assert_string_equal(text_at(root, "unknown_cost_usd"), "0.000000007");
    json_decref(root);
    buf_release(&out);
}

static void test_job_too_large_for_the_buffer_is_no_job(void **state)
{
    struct job_view view = {.id = job_id(), .state = JOB_RUNNING};
    struct buf out;

    (void)state;
    buf_init(&out, 100);
    assert_false(job_json_write(&view, &out));
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_submitted_job_is_the_same_bytes_each_time),
        cmocka_unit_test(test_listed_job_has_all_members_but_the_wide_ones),
        cmocka_unit_test(test_waiting_is_told_only_while_queued),
        cmocka_unit_test(test_result_embeds_the_stored_bytes_and_their_text),
        cmocka_unit_test(test_job_without_success_keeps_its_text_as_partial),
        cmocka_unit_test(test_calls_show_the_ledger),
        cmocka_unit_test(test_job_too_large_for_the_buffer_is_no_job),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
