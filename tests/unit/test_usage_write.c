/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of usage as JSON and CSV, and the names they are grouped by. */
#include "producer/usage_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "producer/admin.h"

static void test_names_are_a_comma_list(void **state)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"our", "group_by: expected a comma list of hour, day, workflow, model, provider, key and "
                "user, got \"our\" (did you mean \"hour\"?)"},
        {"day,day", "group_by: day stands there twice"},
        {"day,", "group_by: expected a comma list"},
        {",day", "group_by: expected a comma list"},
        {"day, user", "group_by: expected a comma list"},
        {"tenant", "group_by: expected a comma list"},
        {"DAY", "group_by: expected a comma list"},
    };
    struct usage_names names;
    struct err err = {0};

    (void)state;
    assert_true(usage_names_parse("user,hour,key", &names, &err));
    assert_int_equal(names.count, 3);
    assert_int_equal(names.of[0], USAGE_USER);
    assert_int_equal(names.of[1], USAGE_HOUR);
    assert_int_equal(names.of[2], USAGE_KEY);
    assert_true(usage_names_parse("", &names, &err) && names.count == 0);
    assert_true(usage_names_parse(NULL, &names, &err) && names.count == 0);
    assert_true(usage_names_parse("hour,day,workflow,model,provider,key,user", &names, &err));
    assert_int_equal(names.count, USAGE_NAMES);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(usage_names_parse(bad[i].text, &names, &err));
        if (strncmp(err.message, bad[i].message, strlen(bad[i].message)) != 0)
            fail_msg("%s", err.message);
        assert_string_equal(err.param, "group_by");
    }
}

static void test_cells_are_no_formulas(void **state)
{
    static const struct {
        const char *text, *cell;
    } cases[] = {
        {"", ""},
        {"triage", "triage"},
        {"a,b", "\"a,b\""},
        {"say \"hi\"", "\"say \"\"hi\"\"\""},
        {"two\nlines", "\"two\nlines\""},
        {"=1+1", "'=1+1"},
        {"+1", "'+1"},
        {"-1", "'-1"},
        {"@cmd", "'@cmd"},
        {"\tx", "'\tx"},
        {"\rx", "\"'\rx\""},
        {"=HYPERLINK(\"http://x\",\"y\")", "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\""},
        {"a=b", "a=b"},
    };
    struct buf out;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        buf_init(&out, 1024);
        buf_puts(&out, "");
        csv_put_cell(&out, cases[i].text);
        assert_int_equal(out.len, strlen(cases[i].cell));
        assert_memory_equal(out.len ? out.data : "", cases[i].cell, out.len);
        buf_release(&out);
    }
}

static const struct usage_row row = {
    .day = 20778,
    .hour_us = INT64_C(1795230000000000),
    .names = {[USAGE_WORKFLOW] = "=w", [USAGE_USER] = NULL},
    .sums = {[USAGE_JOBS] = 7,
             [USAGE_INPUT_TOKENS] = INT64_C(9223372036854775807),
             [USAGE_COST_NANO] = 123400,
             [USAGE_UNKNOWN_NANO] = 5000000000,
             [USAGE_QUEUE_WAIT_MS] = -12},
};

static void test_row_is_written_exactly(void **state)
{
    struct usage_names names;
    struct err err = {0};
    struct buf out;

    (void)state;
    assert_true(usage_names_parse("day,hour,workflow,user", &names, &err));
    admin_list_begin(&out);
    usage_row_put_json(&out, &names, &row);
    usage_row_put_json(&out, &names, &row);
    admin_list_end(&out);
    assert_non_null(strstr(out.data,
                           "},{\"day\":\"2026-11-21\",\"hour\":\"2026-11-21T03:00:00.000Z\","
                           "\"workflow\":\"=w\",\"user\":null,\"jobs\":7,\"calls\":0,"
                           "\"retries\":0,\"errors\":0,"
                           "\"input_tokens\":9223372036854775807,\"output_tokens\":0,"
                           "\"cached_input_tokens\":0,\"cache_hits\":0,"
                           "\"cost_usd\":\"0.000123400\",\"unknown_calls\":0,"
                           "\"unknown_cost_usd\":\"5.000000000\","
                           "\"queue_wait_ms\":-12}]"));
    buf_release(&out);
    buf_init(&out, 4096);
    usage_titles_put_csv(&out, &names);
    usage_row_put_csv(&out, &names, &row);
    assert_string_equal(out.data,
                        "day,hour,workflow,user,jobs,calls,retries,errors,input_tokens,"
                        "output_tokens,cached_input_tokens,cache_hits,cost_usd,unknown_calls,"
                        "unknown_cost_usd,queue_wait_ms\r\n"
                        "2026-11-21,2026-11-21T03:00:00.000Z,'=w,,7,0,0,0,9223372036854775807,0,0,"
                        "0,0.000123400,0,5.000000000,-12\r\n");
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_a_comma_list),
        cmocka_unit_test(test_cells_are_no_formulas),
        cmocka_unit_test(test_row_is_written_exactly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
