/* SPDX-License-Identifier: Apache-2.0 */
/* The intake's role on a real Postgres: it submits for all tenants, and reaches no table itself. */
#include "common/model/submit_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/io/pg.h"
#include "migrations/migrate.h"
#include "tests/unit/store_fixture.h"

static struct pg *intake; /* as the intake's role */
static struct submit_store *store;

/* --- what it may not -------------------------------------------------------------------------- */

PG_STATEMENT(intake_read_jobs, "SELECT request FROM jobs");
PG_STATEMENT(intake_count_jobs, "SELECT FROM jobs");
PG_STATEMENT(intake_add_job,
             "INSERT INTO jobs (id, tenant, key_id, priority, model, request, deadline,"
             " max_attempts, timeout_s, est_tokens)"
             " VALUES (id_make(), 'acme', 'k', 1, 'm', '{}', now() + interval '1 day', 5, 60, 1)");
PG_STATEMENT(intake_end_jobs, "UPDATE jobs SET state = 'cancelled'");
PG_STATEMENT(intake_remove_jobs, "DELETE FROM jobs");
PG_STATEMENT(intake_read_keys, "SELECT job FROM idempotency");
PG_STATEMENT(intake_add_count, "INSERT INTO counts VALUES ('acme', 1, 'queued', 1)");
PG_STATEMENT(intake_spend_credits, "UPDATE lanes SET credits = 0");
PG_STATEMENT(intake_read_secrets, "SELECT webhook_secret FROM tenants");
PG_STATEMENT(intake_read_api_keys, "SELECT FROM api_keys");

/* Of how many tables it may do anything, by its own rights or by everybody's. */
PG_STATEMENT(intake_list_rights,
             "SELECT count(*) FROM pg_class c"
             " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"
             "   AND (has_table_privilege(current_user, oid,"
             "                            'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')"
             "        OR has_any_column_privilege(current_user, oid, 'SELECT, INSERT, UPDATE'))");

/* Extensions' functions are everybody's. */
PG_STATEMENT(intake_list_functions,
             "SELECT coalesce(string_agg(proname, ' ' ORDER BY proname), '') FROM pg_proc p"
             " WHERE pronamespace = 'public'::regnamespace"
             "   AND prokind = 'f' AND has_function_privilege(current_user, oid, 'EXECUTE')"
             "   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')");

struct told {
    bool is_told;
    enum pg_status status;
    char sqlstate[6];
    char text[256];
    int64_t number;
};

static void on_told(const struct pg_reply *reply, void *arg)
{
    struct told *told = arg;

    told->is_told = true;
    told->status = reply->status;
    snprintf(told->sqlstate, sizeof(told->sqlstate), "%s", reply->sqlstate);
}

static void on_number(const struct pg_reply *reply, void *arg)
{
    on_told(reply, arg);
    if (reply->status == PG_OK)
        ((struct told *)arg)->number = pg_get_int(reply->result, 0, 0);
}

static void on_text(const struct pg_reply *reply, void *arg)
{
    struct told *told = arg;

    on_told(reply, arg);
    if (reply->status == PG_OK)
        snprintf(told->text, sizeof(told->text), "%s", pg_get_text(reply->result, 0, 0, NULL));
}

static struct told ask(const struct pg_statement *statement, pg_done_fn *done)
{
    struct told told = {0};

    pg_query(intake, statement, NULL, 0, done, &told);
    await_flag(&told.is_told);
    return told;
}

static void test_no_table_can_be_read_or_written(void **state)
{
    static const struct pg_statement *const all[] = {
        &intake_read_jobs,    &intake_count_jobs,    &intake_add_job,   &intake_end_jobs,
        &intake_remove_jobs,  &intake_read_keys,     &intake_add_count, &intake_spend_credits,
        &intake_read_secrets, &intake_read_api_keys,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct told told = ask(all[i], on_told);

        if (told.status != PG_FAILED || strcmp(told.sqlstate, "42501") != 0)
            fail_msg("%s: status %d, %s", all[i]->name, told.status, told.sqlstate);
    }
    assert_int_equal(ask(&intake_list_rights, on_number).number, 0);
}

static void test_only_functions_of_submits_are_its_own(void **state)
{
    (void)state;
    assert_string_equal(ask(&intake_list_functions, on_text).text,
                        "submit_find_job submit_find_key submit_jobs");
}

static void test_daemons_may_act_as_it(void **state)
{
    (void)state;
    assert_int_equal(
        sql_number("SELECT pg_has_role('intake_app', '%s', 'MEMBER')::int", INTAKE_ROLE), 1);
}

/* --- what it may ------------------------------------------------------------------------------ */

struct stored {
    bool is_told;
    enum submit_result result;
};

static void on_stored(const struct submit_reply *reply, void *arg)
{
    *(struct stored *)arg = (struct stored){.is_told = true, .result = reply->result};
}

struct found {
    bool is_told;
    bool is_found;
    struct id job;
};

static void on_key(const struct submit_key_reply *reply, void *arg)
{
    assert_int_equal(reply->status, PG_OK);
    *(struct found *)arg =
        (struct found){.is_told = true, .is_found = reply->is_found, .job = reply->job};
}

static void on_job(enum pg_status status, bool is_found, void *arg)
{
    assert_int_equal(status, PG_OK);
    *(struct found *)arg = (struct found){.is_told = true, .is_found = is_found};
}

/* One batch, two tenants, one of them with a limited queue. */
static void test_submits_of_several_tenants_are_stored(void **state)
{
    const int64_t caps[LIMIT_SCOPE_COUNT] = {1, -1, -1, -1, -1};
    struct job_new jobs[] = {fixture_new_job("acme", PRIORITY_NORMAL, "k"),
                             fixture_new_job("globex", PRIORITY_NORMAL, NULL),
                             fixture_new_job("globex", PRIORITY_NORMAL, NULL)};
    struct stored stored[3] = {{0}};
    struct found found = {0};

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_true(submit_store(store, &jobs[i], i ? caps : NULL, on_stored, &stored[i]));
    for (int i = 0; i < 3; i++)
        await_flag(&stored[i].is_told);
    assert_int_equal(stored[0].result, SUBMIT_STORED);
    assert_int_equal(stored[1].result, SUBMIT_STORED);
    assert_int_equal(stored[2].result, SUBMIT_QUEUE_FULL);
    assert_int_equal(sql_number("SELECT count(*) FROM queue"), 2);
    assert_counts_balance();

    assert_true(submit_find_key(store, "acme", "k", on_key, &found));
    await_flag(&found.is_told);
    assert_true(found.is_found && id_equal(found.job, jobs[0].id));
    found = (struct found){0};
    assert_true(submit_find_job(store, jobs[1].id, on_job, &found));
    await_flag(&found.is_told);
    assert_true(found.is_found);
    found = (struct found){0};
    assert_true(submit_find_job(store, jobs[2].id, on_job, &found));
    await_flag(&found.is_told);
    assert_false(found.is_found);
}

static int set_up(void **state)
{
    if (fixture_reset(state) != 0)
        return -1;
    sql_run("INSERT INTO tenants (id, name, webhook_secret) VALUES ('globex', 'Globex', '\\x00')");
    return 0;
}

/* Rights as a server in use has them: what is not for everybody was taken from everybody. */
static bool grant(struct err *err)
{
    struct pg_session *owner = pg_session_open(fixture_url(), "grant", err);
    bool ok;

    sql_run("CREATE ROLE intake_app");
    ok = owner && migrate_grant(owner, "intake_app", err);
    pg_session_close(owner);
    return ok;
}

static int start(void **state)
{
    struct pg_options options = {.duty = "intake", .role = INTAKE_ROLE};
    struct err err;

    if (fixture_start(state) != 0 || !grant(&err))
        return -1;
    options.url = fixture_url();
    intake = pg_new(fixture_base, &options, &err);
    store = intake ? submit_store_new(intake, fixture_pg[0], fixture_pg[0]) : NULL;
    return store ? 0 : -1;
}

static int stop(void **state)
{
    submit_store_free(store);
    pg_free(intake);
    return fixture_stop(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_no_table_can_be_read_or_written, set_up),
        cmocka_unit_test_setup(test_only_functions_of_submits_are_its_own, set_up),
        cmocka_unit_test_setup(test_daemons_may_act_as_it, set_up),
        cmocka_unit_test_setup(test_submits_of_several_tenants_are_stored, set_up),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
