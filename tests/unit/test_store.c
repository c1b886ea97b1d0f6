/* SPDX-License-Identifier: Apache-2.0 */
/* What a reply means to a fenced write. */
#include "common/model/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_passing_trouble_is_told_from_bad_rows(void **state)
{
    static const struct {
        const char *sqlstate;
        bool is_passing;
    } cases[] = {
        {"08006", true},                    /* connection failure */
        {"25006", true},                    /* read-only: the other side of a fail-over */
        {"25P02", false},                   /* a transaction already failed: our mistake */
        {"40001", true},  {"40P01", true},  /* serialisation, deadlock */
        {"53100", true},  {"53300", true},  /* disk full, too many connections */
        {"55P03", true},                    /* lock not available */
        {"57014", true},  {"57P01", true},  /* timeout, shutdown */
        {"58030", true},                    /* I/O error */
        {"22021", false}, {"22P02", false}, /* bytes that are no text, text that is no JSON */
        {"23505", false}, {"42P01", false}, {"", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(store_is_passing(cases[i].sqlstate), cases[i].is_passing);
}

static void test_every_reply_has_one_meaning(void **state)
{
    static const struct {
        struct pg_batch_reply reply;
        enum store_outcome outcome;
    } cases[] = {
        {{.status = PG_OK, .sqlstate = "", .row = 0}, STORE_DONE},
        {{.status = PG_OK, .sqlstate = "", .row = -1}, STORE_STALE},
        {{.status = PG_FAILED, .sqlstate = "22021", .row = -1}, STORE_REFUSED},
        {{.status = PG_FAILED, .sqlstate = "53100", .row = -1}, STORE_AWAY},
        {{.status = PG_UNKNOWN, .sqlstate = "", .row = -1}, STORE_AWAY},
        {{.status = PG_UNAVAILABLE, .sqlstate = "", .row = -1}, STORE_AWAY},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(store_outcome_of(&cases[i].reply), cases[i].outcome);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passing_trouble_is_told_from_bad_rows),
        cmocka_unit_test(test_every_reply_has_one_meaning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
