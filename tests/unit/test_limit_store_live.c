/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of limits in a real Postgres: replaced whole or not at all, books and gates with them.
 */
#include "common/model/limit_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store_fixture.h"

struct told {
    bool is_told;
    enum admin_outcome outcome;
    int64_t woken;
    bool has_document;
};

static int set_up(void **state)
{
    fixture_reset(state);
    sql_run(
        "DELETE FROM limits; DELETE FROM budget_books; DELETE FROM gates; DELETE FROM api_keys");
    return 0;
}

static void on_told(const struct admin_reply *reply, void *arg)
{
    ((struct told *)arg)->outcome = reply->outcome;
    ((struct told *)arg)->is_told = true;
}

static void on_document(const struct admin_reply *reply, void *arg)
{
    size_t len;

    on_told(reply, arg);
    if (reply->outcome == ADMIN_DONE)
        ((struct told *)arg)->has_document = limits_document(reply, &len) != NULL;
}

static void on_woken(const struct admin_reply *reply, void *arg)
{
    on_told(reply, arg);
    if (reply->outcome == ADMIN_DONE)
        ((struct told *)arg)->woken = limits_woken(reply);
}

static enum admin_outcome put(enum limits_owner owner, const char *id, const char *document,
                              const char *old, bool is_new_accounts)
{
    struct limits_put put = {.owner = owner,
                             .id = id,
                             .document = document,
                             .old_document = old,
                             .is_new_accounts = is_new_accounts,
                             .actor = "test"};
    struct told told = {0};

    assert_true(limits_put(fixture_pg[0], &put, on_told, &told));
    await_flag(&told.is_told);
    return told.outcome;
}

static struct told get(enum limits_owner owner, const char *id)
{
    struct told told = {0};

    assert_true(limits_get(fixture_pg[0], owner, id, on_document, &told));
    await_flag(&told.is_told);
    return told;
}

static void test_a_document_that_was_replaced_meanwhile_is_not_overwritten(void **state)
{
    static const char first[] = "{\"max_queued\":1}", second[] = "{\"max_queued\":2}";

    (void)state;
    assert_int_equal(put(LIMITS_OF_TENANT, "acme", first, NULL, false), ADMIN_DONE);
    assert_int_equal(put(LIMITS_OF_TENANT, "acme", second, NULL, false), ADMIN_CONFLICT);
    assert_int_equal(put(LIMITS_OF_TENANT, "acme", first, second, true), ADMIN_CONFLICT);
    assert_int_equal(sql_number("SELECT count(*) FROM budget_books"), 0);
    sql_assert_text("1", "SELECT document ->> 'max_queued' FROM limits");
    assert_int_equal(put(LIMITS_OF_TENANT, "acme", second, "{ \"max_queued\" : 1 }", false),
                     ADMIN_DONE);
    sql_assert_text("2", "SELECT document ->> 'max_queued' FROM limits");
}

static void test_new_accounts_raise_the_generation_of_the_keys_tenant(void **state)
{
    (void)state;
    sql_run("INSERT INTO api_keys (id, tenant, name, scopes, hash)"
            " VALUES ('key1', 'acme', 'n', '{jobs:write}', '\\x00')");
    assert_int_equal(put(LIMITS_OF_KEY, "key1", "{}", NULL, true), ADMIN_DONE);
    assert_int_equal(sql_number("SELECT generation FROM budget_books WHERE tenant = 'acme'"), 1);
    assert_int_equal(put(LIMITS_OF_TENANT, "acme", "{}", NULL, true), ADMIN_DONE);
    assert_int_equal(sql_number("SELECT generation FROM budget_books WHERE tenant = 'acme'"), 2);
}

static void test_owners_that_are_not_there_have_no_limits(void **state)
{
    (void)state;
    sql_run("INSERT INTO api_keys (id, tenant, name, scopes, hash, revoked_at) VALUES"
            " ('adminkey', NULL, 'n', '{admin}', '\\x00', NULL),"
            " ('revoked', 'acme', 'n', '{jobs:write}', '\\x00', now())");
    assert_int_equal(put(LIMITS_OF_TENANT, "nobody", "{}", NULL, true), ADMIN_MISSING);
    assert_int_equal(put(LIMITS_OF_KEY, "adminkey", "{}", NULL, true), ADMIN_MISSING);
    assert_int_equal(put(LIMITS_OF_KEY, "revoked", "{}", NULL, true), ADMIN_MISSING);
    assert_int_equal(get(LIMITS_OF_TENANT, "nobody").outcome, ADMIN_MISSING);
    assert_false(get(LIMITS_OF_TENANT, "acme").has_document);
    assert_int_equal(sql_number("SELECT count(*) FROM limits"), 0);
}

static void test_only_who_waits_for_a_limit_is_woken_piece_by_piece(void **state)
{
    int64_t woken = 0;

    (void)state;
    for (int i = 0; i < 6; i++)
        sql_run("UPDATE queue SET dispatched_at = NULL, ready_at = now() + interval '1 hour',"
                " wait_reason = '%s' WHERE job = '%s'",
                i < 3 ? "budget" : "retry", hex(fixture_queue_job(1)));
    sql_run("INSERT INTO gates (tenant, kind, name, until, reason)"
            " VALUES ('acme', 'user', 'u', now(), 'budget'), ('other', 'tenant', '', now(), 'x')");
    for (int expected = 2; expected >= 0; expected--) {
        struct told told = {0};

        assert_true(limits_wake(fixture_pg[0], LIMITS_OF_TENANT, "acme", 2, on_woken, &told));
        await_flag(&told.is_told);
        assert_int_equal(told.woken, expected);
        woken += told.woken;
    }
    assert_int_equal(woken, 3);
    assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE ready_at <= now()"), 3);
    assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE wait_reason = 'retry'"), 3);
    sql_assert_text("other", "SELECT tenant FROM gates");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup(name, set_up)
        TEST(test_a_document_that_was_replaced_meanwhile_is_not_overwritten),
        TEST(test_new_accounts_raise_the_generation_of_the_keys_tenant),
        TEST(test_owners_that_are_not_there_have_no_limits),
        TEST(test_only_who_waits_for_a_limit_is_woken_piece_by_piece),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
