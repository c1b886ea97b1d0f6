/* SPDX-License-Identifier: Apache-2.0 */
/* Brings a database to this program's schema. */
#include "migrations/migrate.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/pg.h"

/* "nightshi": whoever changes this schema holds this lock. */
#define MIGRATE_LOCK INT64_C(0x6e69676874736869)

static bool run(struct pg_session *session, const char *sql, struct err *err)
{
    return pg_session_run(session, sql, NULL, 0, NULL, err);
}

static bool run_bool(struct pg_session *session, const char *sql, const struct pg_value *values,
                     size_t count, bool *out, struct err *err)
{
    struct pg_result *result;

    if (!pg_session_run(session, sql, values, count, &result, err))
        return false;
    *out = pg_get_bool(result, 0, 0);
    pg_result_free(result);
    return true;
}

static void row_read(struct applied *row, const struct pg_result *result, int at)
{
    row->version = (int)pg_get_int(result, at, 0);
    snprintf(row->name, sizeof(row->name), "%s", pg_get_text(result, at, 1, NULL));
    snprintf(row->checksum, sizeof(row->checksum), "%s", pg_get_text(result, at, 2, NULL));
    row->applied_us = pg_get_time(result, at, 3);
}

/* *rows is the caller's to free.  A database without the table has none. */
static bool rows_read(struct pg_session *session, struct applied **rows, size_t *count,
                      struct err *err)
{
    static const char select_rows[] = "SELECT version, name, checksum, applied_at"
                                      " FROM schema_migrations"
                                      " ORDER BY version";
    struct pg_result *result;
    bool has_table;

    *rows = NULL;
    *count = 0;
    if (!run_bool(session, "SELECT to_regclass('schema_migrations') IS NOT NULL", NULL, 0,
                  &has_table, err))
        return false;
    if (!has_table)
        return true;
    if (!pg_session_run(session, select_rows, NULL, 0, &result, err))
        return false;
    *count = (size_t)pg_rows(result);
    *rows = xcalloc(*count + 1, sizeof(**rows));
    for (size_t i = 0; i < *count; i++)
        row_read(&(*rows)[i], result, (int)i);
    pg_result_free(result);
    return true;
}

static bool take_lock(struct pg_session *session, FILE *notices, struct err *err)
{
    struct pg_value number = pg_int8(MIGRATE_LOCK);
    bool is_free;

    if (!run_bool(session, "SELECT pg_try_advisory_lock($1)", &number, 1, &is_free, err))
        return false;
    if (is_free)
        return true;
    fprintf(notices, "another migration of this database is under way, waiting for it\n");
    return pg_session_run(session, "SELECT pg_advisory_lock($1)", &number, 1, NULL, err);
}

static bool apply_in_transaction(struct pg_session *session, const struct migration *migration,
                                 struct err *err)
{
    static const char insert_row[] =
        "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)";
    char checksum[CHECKSUM_SIZE];
    struct pg_value values[] = {pg_int4(migration_version(migration->name)),
                                pg_text(migration->name), pg_null(PG_TEXT)};

    migration_checksum(migration, checksum);
    values[2] = pg_text(checksum);
    return run(session, "BEGIN", err) && run(session, migration->begin, err) &&
           pg_session_run(session, insert_row, values, 3, NULL, err) && run(session, "COMMIT", err);
}

static bool apply_one(struct pg_session *session, const struct migration *migration, FILE *notices,
                      struct err *err)
{
    int64_t began_us = clock_monotonic_us();

    if (!apply_in_transaction(session, migration, err)) {
        struct err ignored;

        if (!run(session, "ROLLBACK", &ignored))
            return err_wrap(err, "migrations/%s (the connection is lost too)", migration->name);
        return err_wrap(err, "migrations/%s", migration->name);
    }
    fprintf(notices, "applied %s in %lld ms\n", migration->name,
            (long long)((clock_monotonic_us() - began_us) / US_PER_MS));
    return true;
}

/* Waiting long for a lock would hold up all queries behind it: better to fail, and to be started
 * again. */
static bool prepare(struct pg_session *session, FILE *notices, struct err *err)
{
    return take_lock(session, notices, err) &&
           run(session,
               "SET statement_timeout = 0; SET lock_timeout = '10s';"
               "SET client_min_messages = warning;"
               "CREATE TABLE IF NOT EXISTS schema_migrations ("
               "    version    integer PRIMARY KEY,"
               "    name       text NOT NULL,"
               "    checksum   text NOT NULL,"
               "    applied_at timestamptz NOT NULL DEFAULT now())",
               err);
}

static bool apply_pending(struct pg_session *session, const struct migration *table, FILE *notices,
                          struct err *err)
{
    struct applied *rows;
    struct history history;
    size_t count;
    bool ok =
        rows_read(session, &rows, &count, err) && history_check(table, rows, count, &history, err);

    free(rows);
    if (!ok)
        return false;
    for (size_t i = history.applied; i < history.known; i++) {
        if (!apply_one(session, &table[i], notices, err))
            return false;
    }
    if (history.newer > 0)
        fprintf(notices, "the database is %zu migration(s) ahead of this program: left as it is\n",
                history.newer);
    else if (history.applied == history.known)
        fprintf(notices, "the schema is up to date\n");
    return true;
}

bool migrate_apply(struct pg_session *session, const struct migration *table, FILE *notices,
                   struct err *err)
{
    struct pg_value number = pg_int8(MIGRATE_LOCK);

    return prepare(session, notices, err) && apply_pending(session, table, notices, err) &&
           pg_session_run(session, "SELECT pg_advisory_unlock($1)", &number, 1, NULL, err);
}

bool migrate_status(struct pg_session *session, const struct migration *table, FILE *out,
                    bool *is_current, struct err *err)
{
    struct applied *rows;
    struct history history;
    size_t count;
    bool ok = false;

    if (!rows_read(session, &rows, &count, err) ||
        !history_check(table, rows, count, &history, err))
        goto done;
    for (size_t i = 0; i < count; i++) {
        char at[CLOCK_RFC3339_SIZE];

        clock_format_rfc3339(rows[i].applied_us, at);
        fprintf(out, "%-40s applied %s%s\n", rows[i].name, at,
                i >= history.applied ? " (newer than this program)" : "");
    }
    for (size_t i = history.applied; i < history.known; i++)
        fprintf(out, "%-40s pending\n", table[i].name);
    *is_current = history.applied == history.known;
    ok = true;
done:
    free(rows);
    return ok;
}

/* Partitions are reached through their parents only, and need no rights of their own.  Functions
 * that may drop data run as their owner, hence not for everybody.  The daemons serve all tenants,
 * so policies show them all; they step down to the tenants' role where they act for one, and to the
 * intake's where they store what many tenants submit. */
static const char grant_all[] =
    "DO $$\n"
    "DECLARE\n"
    "    app text := current_setting('nightshift.app_role');\n"
    "    object record;\n"
    "BEGIN\n"
    "    EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', app);\n"
    "    FOR object IN\n"
    "        SELECT relname AS name, relkind AS kind, relrowsecurity AS has_policies\n"
    "        FROM pg_class\n"
    "        WHERE relnamespace = 'public'::regnamespace\n"
    "          AND relkind IN ('r', 'p', 'S')\n"
    "          AND NOT relispartition\n"
    "        ORDER BY relname\n"
    "    LOOP\n"
    "        IF object.kind = 'S' THEN\n"
    "            EXECUTE format('GRANT USAGE, SELECT ON SEQUENCE %I TO %I', object.name, app);\n"
    "            CONTINUE;\n"
    "        END IF;\n"
    "        EXECUTE format('REVOKE ALL ON TABLE %I FROM %I', object.name, app);\n"
    "        EXECUTE format('GRANT %s ON TABLE %I TO %I',\n"
    "                       CASE object.name\n"
    "                           WHEN 'audit' THEN 'SELECT'\n"
    "                           WHEN 'audit_head' THEN 'SELECT'\n"
    "                           WHEN 'audit_checkpoints' THEN 'SELECT, INSERT'\n"
    "                           WHEN 'schema_migrations' THEN 'SELECT'\n"
    "                           ELSE 'SELECT, INSERT, UPDATE, DELETE'\n"
    "                       END, object.name, app);\n"
    "        IF object.has_policies THEN\n"
    "            EXECUTE format('DROP POLICY IF EXISTS %I ON %I', 'daemons ' || app, "
    "object.name);\n"
    "            EXECUTE format('CREATE POLICY %I ON %I TO %I USING (true)',\n"
    "                           'daemons ' || app, object.name, app);\n"
    "        END IF;\n"
    "    END LOOP;\n"
    "    EXECUTE format('GRANT nightshift_tenant, nightshift_intake TO %I', app);\n"
    "    FOR object IN\n"
    "        SELECT p.oid::regprocedure AS name\n"
    "        FROM pg_proc p\n"
    "        WHERE p.pronamespace = 'public'::regnamespace\n"
    "          AND p.prokind = 'f'\n"
    "          AND NOT EXISTS (SELECT FROM pg_depend d\n"
    "                          WHERE d.objid = p.oid AND d.deptype = 'e')\n"
    "        ORDER BY 1\n"
    "    LOOP\n"
    "        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', object.name);\n"
    "        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', object.name, app);\n"
    "    END LOOP;\n"
    "END\n"
    "$$";

bool migrate_grant(struct pg_session *session, const char *role, struct err *err)
{
    struct pg_value name = pg_text(role);

    return (pg_session_run(session, "SELECT set_config('nightshift.app_role', $1, false)", &name, 1,
                           NULL, err) &&
            run(session, grant_all, err)) ||
           err_wrap(err, "grant rights to role %s", role);
}
