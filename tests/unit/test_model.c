/* SPDX-License-Identifier: Apache-2.0 */
/* The shared vocabulary: states, tickets, live messages, the error table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/model/api_error.h"
#include "common/model/channels.h"
#include "common/model/job.h"
#include "common/model/topics.h"

static void test_names_of_states_and_priorities_come_back(void **state)
{
    (void)state;
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        enum job_state got;

        assert_true(job_state_parse(job_state_name((enum job_state)i), &got));
        assert_int_equal(got, i);
    }
    for (int i = 0; i < PRIORITY_COUNT; i++) {
        enum priority got;

        assert_true(priority_parse(priority_name((enum priority)i), &got));
        assert_int_equal(got, i);
    }
    assert_false(job_state_parse("done", &(enum job_state){JOB_QUEUED}));
    assert_false(priority_parse("", &(enum priority){PRIORITY_LOW}));
}

static void test_terminal_states_absorb_and_all_are_reachable(void **state)
{
    (void)state;
    for (int from = 0; from < JOB_STATE_COUNT; from++) {
        bool is_reachable = from == JOB_QUEUED;

        for (int to = 0; to < JOB_STATE_COUNT; to++) {
            if (job_state_is_terminal((enum job_state)from))
                assert_false(job_may_move((enum job_state)from, (enum job_state)to));
            is_reachable = is_reachable || job_may_move((enum job_state)to, (enum job_state)from);
        }
        assert_true(is_reachable);
    }
    assert_false(job_may_move(JOB_QUEUED, JOB_SUCCEEDED));
}

static void test_tickets_survive_the_broker(void **state)
{
    struct ticket in = {.job = id_make(INT64_C(1700000000000000)), .dispatch_seq = 7};
    struct ticket out;
    char text[TICKET_TEXT_MAX];
    size_t len;

    (void)state;
    strcpy(in.tenant, "acme.eu-1");
    len = ticket_write(&in, text);
    assert_true(ticket_read(text, len, &out));
    assert_true(id_equal(in.job, out.job));
    assert_int_equal(out.dispatch_seq, 7);
    assert_string_equal(out.tenant, "acme.eu-1");
    for (size_t cut = 0; cut + strlen(in.tenant) <= len; cut++)
        assert_false(ticket_read(text, cut, &out));
}

static void test_foreign_bytes_are_no_tickets(void **state)
{
    static const char *const bad[] = {
        "",
        "1",
        "2 018bcfe5687b7fffbfffffffffffffff 0 acme",
        "1 018bcfe5687b7fffbfffffffffffffff -1 acme",
        "1 018bcfe5687b7fffbfffffffffffffff 99999999999 acme",
        "1 018bcfe5687b7fffbfffffffffffffff 0 ",
        "1 018bcfe5687b7fffbfffffffffffffff 0 a b",
        "1 018bcfe5687b7fffbfffffffffffffff 0",
        "1 018bcfe5687b4fffbfffffffffffffff 0 acme",
        "1 018BCFE5687B7FFFBFFFFFFFFFFFFFFF 0 acme",
        "1 not-hex-not-hex-not-hex-not-hex-x 0 acme",
    };
    struct ticket out;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(ticket_read(bad[i], strlen(bad[i]), &out));
}

static void test_live_messages_carry_their_text_exactly(void **state)
{
    static const char text[] = "two\nlines and a snowman \xe2\x98\x83";
    struct live_message in = {.kind = LIVE_DELTA,
                              .run = 2,
                              .seq = 9,
                              .attempt = 3,
                              .offset = 400,
                              .text = text,
                              .len = sizeof(text) - 1};
    struct live_message out;
    struct buf buf;

    (void)state;
    buf_init(&buf, 4096);
    assert_true(live_message_write(&in, &buf));
    assert_true(live_message_read(buf.data, buf.len, &out));
    assert_int_equal(out.kind, LIVE_DELTA);
    assert_int_equal(out.run, 2);
    assert_int_equal(out.seq, 9);
    assert_int_equal(out.attempt, 3);
    assert_int_equal(out.offset, 400);
    assert_int_equal(out.len, in.len);
    assert_memory_equal(out.text, text, in.len);
    buf_clear(&buf);
    in.kind = LIVE_CHANGED;
    assert_true(live_message_write(&in, &buf));
    assert_true(live_message_read(buf.data, buf.len, &out));
    assert_int_equal(out.kind, LIVE_CHANGED);
    buf_release(&buf);
}

static void test_broken_live_messages_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "x",
                                      "d",
                                      "d ",
                                      "d 1 2 3\nx",
                                      "d 1 2 3 4",
                                      "d 1 2 3 -4\nx",
                                      "d 1 2 99999999999 4\nx",
                                      "d 1 2 3 4\n\xff"};
    struct live_message out;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(live_message_read(bad[i], strlen(bad[i]), &out));
}

static void test_errors_have_the_status_and_type_of_their_code(void **state)
{
    static const struct {
        const char *code;
        int status;
        const char *type;
    } cases[] = {
        {"invalid_value", 400, "invalid_request_error"},
        {"invalid_key", 401, "authentication_error"},
        {"missing_scope", 403, "permission_error"},
        {"not_found", 404, "invalid_request_error"},
        {"idempotency_mismatch", 422, "invalid_request_error"},
        {"queue_full", 429, "rate_limit_error"},
        {"budget_exceeded", 429, "insufficient_quota"},
        {"unavailable", 503, "api_error"},
        {"no such code", 500, "api_error"},
    };
    struct buf buf;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(api_error_status(cases[i].code), cases[i].status);
        assert_string_equal(api_error_type(cases[i].status, cases[i].code), cases[i].type);
    }
    buf_init(&buf, 4096);
    api_error_write(&buf, 400, "invalid_value", "a.b", "say \"what\"");
    assert_string_equal(buf.data, "{\"error\":{\"message\":\"say \\\"what\\\"\",\"type\":"
                                  "\"invalid_request_error\",\"param\":\"a.b\",\"code\":"
                                  "\"invalid_value\"}}\n");
    buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_of_states_and_priorities_come_back),
        cmocka_unit_test(test_terminal_states_absorb_and_all_are_reachable),
        cmocka_unit_test(test_tickets_survive_the_broker),
        cmocka_unit_test(test_foreign_bytes_are_no_tickets),
        cmocka_unit_test(test_live_messages_carry_their_text_exactly),
        cmocka_unit_test(test_broken_live_messages_are_refused),
        cmocka_unit_test(test_errors_have_the_status_and_type_of_their_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
