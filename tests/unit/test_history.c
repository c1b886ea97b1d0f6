/* SPDX-License-Identifier: Apache-2.0 */
/* Which histories of a database agree with our migrations, and what is pending. */
#include "migrations/history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define FILE_OF(name, text)                 \
    {                                       \
        name, text, text + sizeof(text) - 1 \
    }

static const char first[] = "SELECT 1";
static const char second[] = "SELECT 2";
static const char third[] = "SELECT 3";

static const struct migration table[] = {
    FILE_OF("0001_first.sql", first),
    FILE_OF("0002_second.sql", second),
    FILE_OF("0004_third.sql", third),
    {NULL, NULL, NULL},
};

static struct applied applied_of(int version, const char *name, const struct migration *content)
{
    struct applied row = {.version = version};

    strcpy(row.name, name);
    if (content)
        migration_checksum(content, row.checksum);
    return row;
}

static void test_names_carry_versions(void **state)
{
    (void)state;
    assert_int_equal(migration_version("0001_schema.sql"), 1);
    assert_int_equal(migration_version("0120_x.sql"), 120);
    assert_int_equal(migration_version("1_x.sql"), -1);
    assert_int_equal(migration_version("0000_x.sql"), -1);
    assert_int_equal(migration_version("abcd_x.sql"), -1);
    assert_int_equal(migration_version("0001"), -1);
}

static void test_checksum_is_sha256_of_the_text(void **state)
{
    char checksum[CHECKSUM_SIZE];

    (void)state;
    migration_checksum(&table[0], checksum);
    assert_string_equal(checksum,
                        "e004ebd5b5532a4b85984a62f8ad48a81aa3460c1ca07701f386135d72cdecf5");
}

static void test_pending_is_what_comes_after_the_applied(void **state)
{
    struct applied rows[] = {
        applied_of(1, "0001_first.sql", &table[0]), applied_of(2, "0002_second.sql", &table[1]),
        applied_of(4, "0004_third.sql", &table[2]), applied_of(5, "0005_newer.sql", NULL)};

    (void)state;
    for (size_t count = 0; count <= 4; count++) {
        struct history history;
        struct err err;

        assert_true(history_check(table, rows, count, &history, &err));
        assert_int_equal(history.known, 3);
        assert_int_equal(history.applied, count > 3 ? 3 : count);
        assert_int_equal(history.newer, count > 3 ? 1 : 0);
    }
}

static void assert_refused(const struct applied *rows, size_t count, const char *named)
{
    struct history history;
    struct err err;

    assert_false(history_check(table, rows, count, &history, &err));
    assert_non_null(strstr(err.message, named));
    assert_non_null(strstr(err.message, "history has changed"));
}

static void test_changed_file_is_named(void **state)
{
    struct applied rows[] = {applied_of(1, "0001_first.sql", &table[0]),
                             applied_of(2, "0002_second.sql", &table[2])};

    (void)state;
    assert_refused(rows, 2, "migrations/0002_second.sql");
}

static void test_removed_file_is_named(void **state)
{
    struct applied rows[] = {applied_of(1, "0001_first.sql", &table[0]),
                             applied_of(2, "0002_second.sql", &table[1]),
                             applied_of(3, "0003_gone.sql", NULL)};

    (void)state;
    assert_refused(rows, 3, "0003_gone.sql");
}

static void test_file_squeezed_in_is_named(void **state)
{
    struct applied rows[] = {applied_of(1, "0001_first.sql", &table[0]),
                             applied_of(4, "0004_third.sql", &table[2])};
    struct applied ahead[] = {applied_of(1, "0001_first.sql", &table[0]),
                              applied_of(7, "0007_newer.sql", NULL)};

    (void)state;
    assert_refused(rows, 2, "migrations/0002_second.sql");
    assert_refused(ahead, 2, "migrations/0002_second.sql");
}

static void test_our_own_files_must_ascend(void **state)
{
    const struct migration doubled[] = {
        FILE_OF("0001_a.sql", first), FILE_OF("0001_b.sql", second), {NULL, NULL, NULL}};
    const struct migration unnamed[] = {FILE_OF("readme.sql", first), {NULL, NULL, NULL}};
    struct history history;
    struct err err;

    (void)state;
    assert_false(history_check(doubled, NULL, 0, &history, &err));
    assert_non_null(strstr(err.message, "0001_b.sql"));
    assert_false(history_check(unnamed, NULL, 0, &history, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_carry_versions),
        cmocka_unit_test(test_checksum_is_sha256_of_the_text),
        cmocka_unit_test(test_pending_is_what_comes_after_the_applied),
        cmocka_unit_test(test_changed_file_is_named),
        cmocka_unit_test(test_removed_file_is_named),
        cmocka_unit_test(test_file_squeezed_in_is_named),
        cmocka_unit_test(test_our_own_files_must_ascend),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
