/* SPDX-License-Identifier: Apache-2.0 */
/* nightshift-migrate's parts against a real Postgres: the schema, its rights, the first key. */
#include "migrations/migrate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/crypto.h"
#include "common/io/pg.h"
#include "common/model/audit_store.h"
#include "common/model/schema_store.h"
#include "migrations/admin_key_store.h"
#include "tests/unit/postgres_fixture.h"

static struct postgres_fixture *postgres;
static struct pg_session *admin;

/* Every PG_STATEMENT of every program; the linker marks where they begin and end. */
extern const struct pg_statement *const __start_pg_statements[];
extern const struct pg_statement *const __stop_pg_statements[];

static void assert_denied(struct pg_session *session, const char *sql)
{
    struct err err;

    assert_false(pg_session_run(session, sql, NULL, 0, NULL, &err));
    if (!strstr(err.message, "permission denied"))
        fail_msg("%s: %s", sql, err.message);
}

static int64_t number(const char *sql)
{
    return session_number(admin, sql);
}

static void apply(const struct migration *table, char *notices, size_t size)
{
    FILE *out = fmemopen(notices, size, "w");
    struct err err;

    if (!migrate_apply(admin, table, out, &err))
        fail_msg("%s", err.message);
    fclose(out);
}

static void test_migrations_apply_to_an_empty_database_once(void **state)
{
    char notices[1024] = "";
    struct err err;
    bool is_current = true;
    FILE *nowhere = fopen("/dev/null", "we");

    (void)state;
    assert_int_equal(schema_check(postgres_fixture_url(postgres), &err), SCHEMA_OLD);
    assert_non_null(strstr(err.message, "nightshift-migrate"));
    assert_true(migrate_status(admin, migrations_table, nowhere, &is_current, &err));
    assert_false(is_current);
    apply(migrations_table, notices, sizeof(notices));
    assert_non_null(strstr(notices, "applied 0001_"));
    assert_true(migrate_status(admin, migrations_table, nowhere, &is_current, &err));
    assert_true(is_current);
    apply(migrations_table, notices, sizeof(notices));
    assert_string_equal(notices, "the schema is up to date\n");
    assert_int_equal(schema_check(postgres_fixture_url(postgres), &err), SCHEMA_FITS);
    fclose(nowhere);
}

static void test_programs_ask_for_the_newest_schema(void **state)
{
    (void)state;
    assert_int_equal(number("SELECT max(version) FROM schema_migrations"), SCHEMA_VERSION);
}

static void test_every_statement_can_be_prepared(void **state)
{
    int failures = 0;
    int prepared = 0;

    (void)state;
    for (const struct pg_statement *const *at = __start_pg_statements; at < __stop_pg_statements;
         at++) {
        const struct pg_statement *statement = *at;
        struct err err;
        char *sql;

        if (!statement) /* padding of the sanitizer's */
            continue;
        sql = malloc(strlen(statement->name) + strlen(statement->sql) + 64);
        sprintf(sql, "PREPARE \"%s\" AS %s", statement->name, statement->sql);
        if (!pg_session_run(admin, sql, NULL, 0, NULL, &err)) {
            print_error("%s: %s\n", statement->name, err.message);
            failures++;
        }
        free(sql);
        prepared++;
    }
    assert_int_equal(failures, 0);
    assert_true(prepared > 10);
}

/* Of the statements prepared above: a condition that may leak what row-level security hides is not
 * for the index, and a page of users would read all users of a year. */
static void test_users_of_a_page_are_found_by_key_under_row_security(void **state)
{
    (void)state;
    session_run(admin, "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;"
                       "SET enable_sort = off; SET ROLE nightshift_tenant");
    session_run(admin,
                "DO $$ "
                "DECLARE line text; plan text := ''; "
                "BEGIN"
                "    FOR line IN EXECUTE 'EXPLAIN EXECUTE usage_users_statement('"
                "                        || repeat('NULL, ', 16) || 'NULL)' LOOP"
                "        plan := plan || line || chr(10);"
                "    END LOOP;"
                "    IF plan !~ 'Unique.*Index Cond: [^\n]*day = covers[^\n]*end_user >= ' THEN"
                "        RAISE EXCEPTION 'not by the key: %', plan;"
                "    END IF; "
                "END $$");
    session_run(admin,
                "RESET ROLE; RESET enable_sort; RESET enable_seqscan; RESET plan_cache_mode");
}

/* Of the statements prepared above.  A plan is made for the tenant who comes first and serves all:
 * a policy that fits an index, or can be hashed, has all rows of a large tenant read for one of
 * them. */
static void test_policy_of_a_tenant_is_no_way_to_find_rows(void **state)
{
    (void)state;
    session_run(admin, "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;"
                       "SET app.tenant = 'few'; SET ROLE nightshift_tenant");
    session_run(
        admin, "DO $$ "
               "DECLARE item record; line text; plan text; looked int := 0; "
               "BEGIN"
               "    FOR item IN SELECT name, repeat(', NULL', cardinality(parameter_types)) AS list"
               "                FROM pg_prepared_statements"
               "                WHERE name ~ '^(job_(list|read|state)|event_(locate|read|peek)"
               "|queue_cancel|run_flag_cancel|submit_copy)_' LOOP"
               "        plan := '';"
               "        FOR line IN EXECUTE format('EXPLAIN EXECUTE %I(%s)', item.name,"
               "                                   substr(item.list, 3)) LOOP"
               "            plan := plan || line || chr(10);"
               "        END LOOP;"
               "        IF plan ~ 'Index Cond: [^\n]*current_setting'"
               "           OR (item.name ~ '^event' AND plan ~ 'hashed SubPlan') THEN"
               "            RAISE EXCEPTION '% goes by the policy: %', item.name, plan;"
               "        END IF;"
               "        looked := looked + 1;"
               "    END LOOP;"
               "    IF looked <> 20 THEN"
               "        RAISE EXCEPTION 'looked at % statements', looked;"
               "    END IF; "
               "END $$");
    session_run(admin, "RESET ROLE; RESET app.tenant; RESET enable_seqscan; RESET plan_cache_mode");
}

static void test_broken_migration_leaves_no_trace_and_is_named(void **state)
{
    static const char good[] = "CREATE TABLE half (id int)";
    static const char bad[] = "CREATE TABLE other (id int); SELECT nonsense";
    struct migration table[32] = {0};
    size_t count = 0;
    FILE *nowhere = fopen("/dev/null", "we");
    struct err err;

    (void)state;
    for (; migrations_table[count].name; count++)
        table[count] = migrations_table[count];
    assert_true(count + 2 < sizeof(table) / sizeof(table[0]));
    table[count] = (struct migration){"9001_good.sql", good, good + strlen(good)};
    table[count + 1] = (struct migration){"9002_bad.sql", bad, bad + strlen(bad)};
    assert_false(migrate_apply(admin, table, nowhere, &err));
    assert_non_null(strstr(err.message, "migrations/9002_bad.sql"));
    assert_non_null(strstr(err.message, "nonsense"));
    assert_int_equal(number("SELECT count(*) FROM pg_class WHERE relname = 'half'"), 1);
    assert_int_equal(number("SELECT count(*) FROM pg_class WHERE relname = 'other'"), 0);
    assert_true(migrate_apply(admin, migrations_table, nowhere, &err)); /* newer: accepted */
    session_run(admin, "DROP TABLE half; DELETE FROM schema_migrations WHERE version = 9001");
    fclose(nowhere);
}

/* Rows written before 0004 verify after it, and the chain goes on behind them. */
static void test_older_audit_is_taken_along(void **state)
{
    struct migration older[64] = {0};
    FILE *nowhere = fopen("/dev/null", "we");
    char url[256];
    struct audit_verifier verifier;
    struct pg_session *session;
    struct err err;

    (void)state;
    for (size_t i = 0; migration_version(migrations_table[i].name) < 4; i++)
        older[i] = migrations_table[i];
    session_run(admin, "CREATE DATABASE older");
    snprintf(url, sizeof(url), "%.*solder",
             (int)(strlen(postgres_fixture_url(postgres)) - strlen("postgres")),
             postgres_fixture_url(postgres));
    session = pg_session_open(url, "older", &err);
    assert_non_null(session);
    assert_true(migrate_apply(session, older, nowhere, &err));
    session_run(session, "SELECT audit_append('a', 'b', 'c', '{}') FROM generate_series(1, 3)");
    assert_true(migrate_apply(session, migrations_table, nowhere, &err));
    session_run(session, "SELECT audit_append('a', 'b', 'c', '{}')");
    assert_true(audit_verify_database(url, NULL, NULL, &verifier, &err));
    assert_null(verifier.fault);
    assert_int_equal(verifier.rows, 4);
    session_run(session, "UPDATE audit SET actor = 'x' WHERE seq = 2");
    assert_true(audit_verify_database(url, NULL, NULL, &verifier, &err));
    assert_int_equal(verifier.first_bad, 2);
    pg_session_close(session);
    session_run(admin, "DROP DATABASE older");
    fclose(nowhere);
}

static void test_changed_history_is_refused(void **state)
{
    FILE *nowhere = fopen("/dev/null", "we");
    struct err err;

    (void)state;
    session_run(admin, "UPDATE schema_migrations SET checksum = 'x' || checksum");
    assert_false(migrate_apply(admin, migrations_table, nowhere, &err));
    assert_non_null(strstr(err.message, "migrations/0001_"));
    session_run(admin, "UPDATE schema_migrations SET checksum = substr(checksum, 2)");
    assert_true(migrate_apply(admin, migrations_table, nowhere, &err));
    fclose(nowhere);
}

static void test_app_role_gets_what_it_needs_and_no_more(void **state)
{
    char url[256];
    const char *at = strchr(postgres_fixture_url(postgres), '@');
    struct pg_session *app;
    struct err err;

    (void)state;
    session_run(admin, "CREATE ROLE \"the app\" LOGIN");
    assert_false(migrate_grant(admin, "nobody", &err));
    assert_non_null(strstr(err.message, "nobody"));
    for (int i = 0; i < 2; i++)
        assert_true(migrate_grant(admin, "the app", &err));
    snprintf(url, sizeof(url), "postgresql://the%%20app%s", at);
    app = pg_session_open(url, "app", &err);
    assert_non_null(app);
    session_run(app,
                "INSERT INTO pauses VALUES ('tenant', 'acme');"
                "UPDATE pauses SET name = 'other'; DELETE FROM pauses;"
                "SELECT nextval('run_tokens'); SELECT * FROM jobs; SELECT * FROM schema_migrations;"
                "SELECT partitions_ensure(current_date + 100, 1);"
                "SELECT audit_append('a', 'b', 'c', '{}');"
                "INSERT INTO audit_checkpoints VALUES (1, '', now(), '')");
    session_run(app, "SELECT * FROM jobs; SELECT * FROM audit");
    assert_denied(app, "UPDATE audit SET actor = 'me'");
    assert_denied(app, "DELETE FROM audit");
    assert_denied(app, "INSERT INTO audit VALUES (9, now(), 'a', 'b', 'c', 'd', '', '')");
    assert_denied(app, "TRUNCATE audit");
    assert_denied(app, "UPDATE audit_head SET seq = 0");
    assert_denied(app, "DELETE FROM audit_checkpoints");
    assert_denied(app, "UPDATE audit_checkpoints SET seq = 2");
    assert_denied(app, "TRUNCATE jobs");
    assert_denied(app, "UPDATE schema_migrations SET version = 9");
    assert_denied(app, "CREATE TABLE mine (id int)");
    pg_session_close(app);
    session_run(admin, "CREATE ROLE stranger LOGIN");
    snprintf(url, sizeof(url), "postgresql://stranger%s", at);
    app = pg_session_open(url, "stranger", &err);
    assert_non_null(app);
    assert_denied(app, "SELECT partitions_drop(current_date - 100)");
    pg_session_close(app);
}

static void test_admin_key_is_stored_as_its_hash(void **state)
{
    static const char sql[] = "SELECT hash, tenant, scopes[1] FROM api_keys WHERE id = $1";
    uint8_t pepper[API_KEY_PEPPER_SIZE] = {7};
    uint8_t hash[API_KEY_HASH_SIZE];
    char text[API_KEY_SIZE];
    struct pg_result *result;
    struct pg_value id;
    struct api_key key;
    struct err err;

    (void)state;
    assert_true(admin_key_insert(admin, "first", pepper, text, &err));
    assert_true(api_key_parse(text, strlen(text), &key));
    id = pg_text(key.id);
    assert_true(pg_session_run(admin, sql, &id, 1, &result, &err));
    assert_int_equal(pg_rows(result), 1);
    api_key_hash(pepper, &key, hash);
    assert_true(crypto_equal(pg_get_text(result, 0, 0, NULL), hash, sizeof(hash)));
    assert_true(pg_is_null(result, 0, 1));
    assert_string_equal(pg_get_text(result, 0, 2, NULL), "admin");
    pg_result_free(result);
}

static void test_schema_check_tells_away_from_old(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(schema_check("postgresql://x@127.0.0.1:1/x", &err), SCHEMA_AWAY);
}

static int start_everything(void **state)
{
    struct err err;

    (void)state;
    postgres = postgres_fixture_start(&err);
    if (!postgres) {
        print_error("%s\n", err.message);
        return -1;
    }
    admin = pg_session_open(postgres_fixture_url(postgres), "admin", &err);
    return admin ? 0 : -1;
}

static int stop_everything(void **state)
{
    (void)state;
    pg_session_close(admin);
    postgres_fixture_stop(postgres);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_migrations_apply_to_an_empty_database_once),
        cmocka_unit_test(test_programs_ask_for_the_newest_schema),
        cmocka_unit_test(test_every_statement_can_be_prepared),
        cmocka_unit_test(test_users_of_a_page_are_found_by_key_under_row_security),
        cmocka_unit_test(test_policy_of_a_tenant_is_no_way_to_find_rows),
        cmocka_unit_test(test_broken_migration_leaves_no_trace_and_is_named),
        cmocka_unit_test(test_older_audit_is_taken_along),
        cmocka_unit_test(test_changed_history_is_refused),
        cmocka_unit_test(test_app_role_gets_what_it_needs_and_no_more),
        cmocka_unit_test(test_admin_key_is_stored_as_its_hash),
        cmocka_unit_test(test_schema_check_tells_away_from_old),
    };

    return cmocka_run_group_tests(tests, start_everything, stop_everything);
}
