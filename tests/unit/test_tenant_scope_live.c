/* SPDX-License-Identifier: Apache-2.0 */
/* Row-level security on a real Postgres: the tenants' role sees and touches one tenant's rows only,
 * whatever a statement forgets to ask for. */
#include "common/model/tenant_scope_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "tests/unit/store_fixture.h"

static struct pg *scoped; /* as the tenants' role */

/* No statement here says which tenant it wants: that is what is tested. */
PG_STATEMENT(scope_count_jobs, "SELECT count(*) FROM jobs");
PG_STATEMENT(scope_count_queue, "SELECT count(*) FROM queue");
PG_STATEMENT(scope_count_runs, "SELECT count(*) FROM runs");
PG_STATEMENT(scope_count_calls, "SELECT count(*) FROM calls");
PG_STATEMENT(scope_count_events, "SELECT count(*) FROM events");
PG_STATEMENT(scope_count_deliveries, "SELECT count(*) FROM deliveries");
PG_STATEMENT(scope_count_endpoints, "SELECT count(id) FROM endpoints");
PG_STATEMENT(scope_count_tenants, "SELECT count(id) FROM tenants");
PG_STATEMENT(scope_count_gates, "SELECT count(*) FROM gates");
PG_STATEMENT(scope_count_usage, "SELECT count(*) FROM usage_deltas");
PG_STATEMENT(scope_count_pauses, "SELECT count(*) FROM pauses");
PG_STATEMENT(scope_count_limits, "SELECT count(*) FROM limits");
PG_STATEMENT(scope_cancel_all, "UPDATE runs SET cancel_requested = true RETURNING 1");
PG_STATEMENT(scope_empty_queue, "DELETE FROM queue RETURNING 1");
PG_STATEMENT(scope_end_all, "UPDATE jobs SET state = 'cancelled' RETURNING 1");
PG_STATEMENT(scope_forge_event, "INSERT INTO events (job, run, seq, kind) VALUES ($1::uuid, 9, 9, 'job.queued') RETURNING 1");
PG_STATEMENT(scope_forge_delivery, "INSERT INTO deliveries (id, tenant, url, type) VALUES"
                                   " (id_make(), 'globex', 'https://a.example', 'job.failed') RETURNING 1");
PG_STATEMENT(scope_read_keys, "SELECT count(*) FROM api_keys");
PG_STATEMENT(scope_read_secrets, "SELECT webhook_secret FROM tenants");
PG_STATEMENT(scope_read_audit, "SELECT count(*) FROM audit");

struct told {
    bool is_told;
    enum pg_status status;
    char sqlstate[6];
    int rows;
    int64_t number;
};

static void on_told(const struct pg_reply *reply, void *arg)
{
    struct told *told = arg;

    told->is_told = true;
    told->status = reply->status;
    snprintf(told->sqlstate, sizeof(told->sqlstate), "%s", reply->sqlstate);
    if (reply->status == PG_OK) {
        told->rows = pg_rows(reply->result);
        told->number = told->rows ? pg_get_int(reply->result, 0, 0) : 0;
    }
}

static struct told ask(const char *tenant, const struct pg_statement *statement,
                       const struct pg_value *values, size_t count)
{
    struct told told = {0};

    if (tenant)
        tenant_query(scoped, tenant, statement, values, count, on_told, &told);
    else
        pg_query(scoped, statement, values, count, on_told, &told);
    await_flag(&told.is_told);
    return told;
}

static struct id job_of[2];
static const char *const tenants[] = {"acme", "globex"};

static void add_job(const char *tenant, const char *job)
{
    sql_run(
        "INSERT INTO jobs (id, tenant, key_id, priority, model, request, deadline, max_attempts,"
        " timeout_s, est_tokens)"
        " VALUES ('%s', '%s', 'k', 1, 'm', '{}', now() + interval '1 day', 5, 60, 1)",
        job, tenant);
    sql_run(
        "INSERT INTO events (job, run, seq, kind) VALUES ('%s', 0, 0, 'job.queued') RETURNING 1",
        job);
}

/* A job in the queue, one in a run with a call, an endpoint, a delivery, a gate, ... */
static void fill(const char *tenant, struct id waiting, struct id running)
{
    add_job(tenant, hex(waiting));
    add_job(tenant, hex(running));
    sql_run("INSERT INTO queue (job, tenant, priority, ready_at, deadline, est_tokens)"
            " VALUES ('%s', '%s', 1, now(), now() + interval '1 day', 1)",
            hex(waiting), tenant);
    sql_run("INSERT INTO runs (job, tenant, priority, run, run_token, worker, deadline,"
            " dispatch_seq, est_tokens, lease_until, calls, attempts, deferrals, crashes,"
            " started_at) VALUES ('%s', '%s', 1, 1, nextval('run_tokens'), '%s',"
            " now() + interval '1 day', 0, 1, now() + interval '1 hour', 1, 0, 0, 0, now())",
            hex(running), tenant, hex(fixture_worker));
    sql_run(
        "INSERT INTO calls (job, call, run, tenant, key_id, route, provider, model,"
        " input_nano_per_mtok, cached_nano_per_mtok, output_nano_per_mtok, reserved_nano, state,"
        " budget_day) VALUES ('%s', 1, 1, '%s', 'k', 'm', 'p', 'm', 1, 1, 1, 1, 'sent',"
        " current_date)",
        hex(running), tenant);
    sql_run("INSERT INTO deliveries (id, tenant, url, type)"
            " VALUES (id_make(), '%s', 'https://a.example', 'job.failed')",
            tenant);
    sql_run("INSERT INTO endpoints (id, tenant, url, secret)"
            " VALUES ('ep_%s', '%s', 'https://a.example', '\\x00')",
            tenant, tenant);
    sql_run("INSERT INTO gates (tenant, kind, name, until, interval_us, reason)"
            " VALUES ('%s', 'tenant', '', now(), 0, 'rate_limit')",
            tenant);
    sql_run("INSERT INTO usage_deltas (tenant, day, hour, route, key_id)"
            " VALUES ('%s', current_date, now(), 'm', 'k')",
            tenant);
    sql_run("INSERT INTO limits (owner_kind, owner, document) VALUES ('tenant', '%s', '{}')",
            tenant);
    sql_run("INSERT INTO pauses (kind, name) VALUES ('tenant', '%s')", tenant);
}

static int set_up(void **state)
{
    static const char *const besides[] = {"endpoints", "gates",  "usage_deltas",
                                          "limits",    "pauses", "deliveries"};

    if (fixture_reset(state) != 0)
        return -1;
    for (size_t i = 0; i < sizeof(besides) / sizeof(besides[0]); i++)
        sql_run("DELETE FROM %s", besides[i]);
    sql_run("INSERT INTO tenants (id, name, webhook_secret) VALUES ('globex', 'Globex', '\\x00')"
            " ON CONFLICT DO NOTHING");
    for (int i = 0; i < 2; i++) {
        job_of[i] = id_make(clock_db_us());
        fill(tenants[i], id_make(clock_db_us()), job_of[i]);
    }
    return 0;
}

static void test_every_table_shows_a_tenant_its_own_rows_only(void **state)
{
    static const struct {
        const struct pg_statement *statement;
        int64_t own;
    } cases[] = {
        {&scope_count_jobs, 2},      {&scope_count_queue, 1},   {&scope_count_runs, 1},
        {&scope_count_calls, 1},     {&scope_count_events, 2},  {&scope_count_deliveries, 1},
        {&scope_count_endpoints, 1}, {&scope_count_tenants, 1}, {&scope_count_gates, 1},
        {&scope_count_usage, 1},     {&scope_count_pauses, 1},  {&scope_count_limits, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int t = 0; t < 2; t++) {
            struct told told = ask(tenants[t], cases[i].statement, NULL, 0);

            if (told.status != PG_OK || told.number != cases[i].own)
                fail_msg("%s as %s: %d rows, status %d, %s", cases[i].statement->name, tenants[t],
                         (int)told.number, told.status, told.sqlstate);
        }
        assert_int_equal(ask("nobody", cases[i].statement, NULL, 0).number, 0);
    }
}

/* An error on a fresh connection, and on one that was used for a tenant: the setting was local to
 * its transaction. */
static void test_without_a_tenant_nothing_is_shown(void **state)
{
    struct told told;

    (void)state;
    assert_int_equal(ask("acme", &scope_count_jobs, NULL, 0).number, 2);
    told = ask(NULL, &scope_count_jobs, NULL, 0);
    assert_true(told.status == PG_FAILED || told.number == 0);
    told = ask(NULL, &scope_empty_queue, NULL, 0);
    assert_true(told.status == PG_FAILED || told.rows == 0);
    assert_int_equal(sql_number("SELECT count(*) FROM queue"), 2);
}

static void test_writes_reach_own_rows_only(void **state)
{
    (void)state;
    assert_int_equal(ask("acme", &scope_cancel_all, NULL, 0).rows, 1);
    assert_int_equal(sql_number("SELECT count(*) FROM runs WHERE cancel_requested"), 1);
    assert_int_equal(ask("acme", &scope_empty_queue, NULL, 0).rows, 1);
    assert_int_equal(sql_number("SELECT count(*) FROM queue WHERE tenant = 'globex'"), 1);
    assert_int_equal(ask("acme", &scope_end_all, NULL, 0).rows, 2);
    assert_int_equal(sql_number("SELECT count(*) FROM jobs WHERE state IS NULL"), 2);
}

static void test_rows_of_others_cannot_be_made(void **state)
{
    struct pg_value other = pg_uuid(job_of[1]), own = pg_uuid(job_of[0]);

    (void)state;
    assert_string_equal(ask("acme", &scope_forge_event, &other, 1).sqlstate, "42501");
    assert_string_equal(ask("acme", &scope_forge_delivery, NULL, 0).sqlstate, "42501");
    assert_int_equal(ask("acme", &scope_forge_event, &own, 1).status, PG_OK);
}

static void test_keys_secrets_and_audit_are_out_of_reach(void **state)
{
    static const struct pg_statement *const all[] = {&scope_read_keys, &scope_read_secrets,
                                                     &scope_read_audit};

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        assert_string_equal(ask("acme", all[i], NULL, 0).sqlstate, "42501");
}

/* What the role may do anything with: tables, parts of them, views; by a grant to all, too. */
#define REACHED                                                                                 \
    "reached AS ("                                                                              \
    "    SELECT c.oid, c.relname AS name,"                                                      \
    "           c.relrowsecurity AND c.relforcerowsecurity"                                     \
    "           AND (SELECT string_agg(p.polname, ' ') = 'own' FROM pg_policy p"                \
    "                WHERE p.polrelid = c.oid"                                                  \
    "                  AND (0 = ANY (p.polroles)"                                               \
    "                       OR '" TENANT_ROLE "'::regrole = ANY (p.polroles)))"                 \
    "               IS TRUE AS is_guarded"                                                      \
    "    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"                         \
    "    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')"                                          \
    "      AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'"              \
    "      AND (has_any_column_privilege('" TENANT_ROLE "', c.oid,"                             \
    "                                    'SELECT, INSERT, UPDATE, REFERENCES')"                 \
    "           OR has_table_privilege('" TENANT_ROLE "', c.oid, 'DELETE, TRUNCATE, TRIGGER'))" \
    ")"

static void test_no_table_is_within_reach_without_row_level_security(void **state)
{
    (void)state;
    /* Of workers it may read whether there are any, which is the same for all tenants. */
    sql_assert_text("workers",
                    "WITH " REACHED " SELECT string_agg(name, ' ' ORDER BY name) FROM reached"
                    " WHERE NOT is_guarded");
    sql_assert_text("beat_at is_draining",
                    "SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_attribute"
                    " WHERE attrelid = 'workers'::regclass AND attnum > 0 AND NOT attisdropped"
                    "   AND has_column_privilege('" TENANT_ROLE "', attrelid, attnum,"
                    "                            'SELECT, INSERT, UPDATE, REFERENCES')");
    assert_true(sql_number("WITH " REACHED " SELECT count(*) FROM reached WHERE is_guarded") >= 21);
}

static void test_the_role_itself_is_bound_by_policies(void **state)
{
    (void)state;
    assert_int_equal(sql_number("SELECT count(*) FROM pg_roles WHERE rolname = '" TENANT_ROLE "'"
                                " AND NOT rolsuper AND NOT rolbypassrls"),
                     1);
    assert_int_equal(sql_number("SELECT count(*) FROM pg_auth_members"
                                " WHERE member = '" TENANT_ROLE "'::regrole"),
                     0);
}

static int start(void **state)
{
    struct pg_options options = {.duty = "scoped", .role = TENANT_ROLE};
    struct err err;

    if (fixture_start(state) != 0)
        return -1;
    options.url = fixture_url();
    scoped = pg_new(fixture_base, &options, &err);
    return scoped ? 0 : -1;
}

static int stop(void **state)
{
    pg_free(scoped);
    return fixture_stop(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_every_table_shows_a_tenant_its_own_rows_only, set_up),
        cmocka_unit_test_setup(test_without_a_tenant_nothing_is_shown, set_up),
        cmocka_unit_test_setup(test_writes_reach_own_rows_only, set_up),
        cmocka_unit_test_setup(test_rows_of_others_cannot_be_made, set_up),
        cmocka_unit_test_setup(test_keys_secrets_and_audit_are_out_of_reach, set_up),
        cmocka_unit_test(test_no_table_is_within_reach_without_row_level_security),
        cmocka_unit_test(test_the_role_itself_is_bound_by_policies),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
