/* SPDX-License-Identifier: Apache-2.0 */
/* Which handler a method and path lead to. */
#include "producer/routes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *method, *path;
    const char *pattern; /* NULL: none */
    const char *first;   /* parameter */
    const char *allow;   /* begins with; "" for no such path */
} cases[] = {
    {"POST", "/v1/jobs", "/v1/jobs", "", ""},
    {"HEAD", "/v1/jobs", "/v1/jobs", "", ""},
    {"GET", "/v1/jobs/job_1", "/v1/jobs/{id}", "job_1", ""},
    {"GET", "/v1/jobs/a%2Fb", "/v1/jobs/{id}", "a%2Fb", ""},
    {"POST", "/v1/jobs/job_1/cancel", "/v1/jobs/{id}/cancel", "job_1", ""},
    {"GET", "/v1/jobs/job_1/result", "/v1/jobs/{id}/result", "job_1", ""},
    {"GET", "/healthz", "/healthz", "", ""},
    {"DELETE", "/v1/jobs", NULL, "", "POST, GET, HEAD"},
    {"GET", "/v1/jobs/job_1/cancel", NULL, "", "POST"},
    {"POST", "/v1/jobs/job_1", NULL, "", "GET, HEAD"},
    {"POST", "/v1/jobs/bulk", "/v1/jobs/bulk", "", ""},
    {"GET", "/v1/jobs/bulk", NULL, "", "POST"},
    {"HEAD", "/v1/jobs/bulk", NULL, "", "POST"},
    {"GET", "/v1/jobs/bulk/events", "/v1/jobs/{id}/events", "bulk", ""},
    {"GET", "/v1/jobs/{id}", "/v1/jobs/{id}", "{id}", ""},
    {"GET", "/", NULL, "", ""},
    {"GET", "/v1", NULL, "", ""},
    {"GET", "/v1/jobs/", NULL, "", ""},
    {"GET", "//v1/jobs", NULL, "", ""},
    {"GET", "/v1/jobs/job_1/", NULL, "", ""},
    {"GET", "/v1/jobs/job_1/cancel/x", NULL, "", ""},
    {"GET", "/v1/job", NULL, "", ""},
    {"GET", "/v1/jobsx", NULL, "", ""},
};

static void test_method_and_path_lead_to_one_entry(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char params[ROUTE_PARAMS_MAX][JOB_LABEL_MAX + 1] = {{0}};
        char allow[ALLOW_SIZE];
        const struct route_entry *entry =
            routes_find(cases[i].method, cases[i].path, params, allow);

        if (!cases[i].pattern) {
            assert_null(entry);
            assert_memory_equal(allow, cases[i].allow, strlen(cases[i].allow));
            assert_int_equal(*allow != '\0', *cases[i].allow != '\0');
            continue;
        }
        assert_non_null(entry);
        assert_string_equal(entry->pattern, cases[i].pattern);
        if (*cases[i].first)
            assert_string_equal(params[0], cases[i].first);
    }
}

static void test_parameter_too_long_to_be_anything_is_empty(void **state)
{
    char params[ROUTE_PARAMS_MAX][JOB_LABEL_MAX + 1] = {{0}};
    char path[512] = "/v1/jobs/", allow[ALLOW_SIZE];

    (void)state;
    memset(path + strlen(path), 'a', 300);
    assert_non_null(routes_find("GET", path, params, allow));
    assert_string_equal(params[0], "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_method_and_path_lead_to_one_entry),
        cmocka_unit_test(test_parameter_too_long_to_be_anything_is_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
