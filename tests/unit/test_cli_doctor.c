/* SPDX-License-Identifier: Apache-2.0 */
/* When the doctor calls a disk full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/statvfs.h>

#include <cmocka.h>

#include "producer/cli/doctor.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { GB = 1024 };

static void test_a_disk_is_full_by_room_share_and_files(void **state)
{
    static const struct {
        unsigned long mb, free_mb, files, free_files;
        enum finding_state state; /* FINDING_OK: nothing is told */
        const char *text;
    } cases[] = {
        {100 * GB, 50 * GB, 1000, 500, FINDING_OK, ""},
        {1000, 200, 1000, 500, FINDING_OK, ""},
        {1000, 199, 1000, 500, FINDING_BAD, "data (/d) is full: 199 MB and 50 % of its files"},
        {100 * GB, 0, 1000, 500, FINDING_BAD, "data (/d) is full: 0 MB"},
        {500 * GB, 9 * GB, 1000, 500, FINDING_BAD, "data (/d) is full: 9216 MB"},
        {500 * GB, 10 * GB, 1000, 500, FINDING_WARN, "data (/d) is filling up: 10240 MB are left"},
        {100 * GB, 9 * GB, 1000, 500, FINDING_WARN, "data (/d) is filling up: 9216 MB"},
        {100 * GB, 10 * GB, 1000, 500, FINDING_OK, ""},
        {4000 * GB, 21 * GB, 1000, 500, FINDING_OK, ""}, /* little of it, but plenty */
        {100 * GB, 50 * GB, 1000, 9, FINDING_BAD, "is full: 51200 MB and 0 % of its files"},
        {100 * GB, 50 * GB, 1000, 19, FINDING_WARN, "is filling up"},
        {100 * GB, 50 * GB, 1000, 100, FINDING_OK, ""},
        {100 * GB, 50 * GB, 0, 0, FINDING_OK, ""}, /* a file system that counts no files */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct statvfs disk = {.f_frsize = 1024 * 1024,
                                     .f_blocks = cases[i].mb,
                                     .f_bavail = cases[i].free_mb,
                                     .f_files = cases[i].files,
                                     .f_favail = cases[i].free_files};
        bool is_told = cases[i].state != FINDING_OK;
        struct finding finding = {.state = FINDING_OK};
        struct check check = {.findings = &finding};

        if (doctor_judge_space(&check, "data", "/d", &disk) != is_told ||
            check.count != (int)is_told || finding.state != cases[i].state ||
            !strstr(finding.text, cases[i].text) ||
            (is_told && !strstr(finding.remedy, "make room")))
            fail_msg("%zu: %d %s / %s", i, (int)finding.state, finding.text, finding.remedy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_disk_is_full_by_room_share_and_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
