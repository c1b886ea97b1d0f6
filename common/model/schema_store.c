/* SPDX-License-Identifier: Apache-2.0 */
/* Is the database's schema the one this version was written for? */
#include "common/model/schema_store.h"

#include "common/io/pg.h"

static bool read_version(struct pg_session *session, int64_t *version, struct err *err)
{
    static const char has_table[] = "SELECT to_regclass('schema_migrations') IS NOT NULL";
    static const char newest[] = "SELECT coalesce(max(version), 0) FROM schema_migrations";
    struct pg_result *result;
    bool is_there;

    *version = 0;
    if (!pg_session_run(session, has_table, NULL, 0, &result, err))
        return false;
    is_there = pg_get_bool(result, 0, 0);
    pg_result_free(result);
    if (!is_there)
        return true;
    if (!pg_session_run(session, newest, NULL, 0, &result, err))
        return false;
    *version = pg_get_int(result, 0, 0);
    pg_result_free(result);
    return true;
}

enum schema_state schema_check(const char *database_url, struct err *err)
{
    struct pg_session *session = pg_session_open(database_url, "nightshift-schema", err);
    int64_t version;
    bool ok;

    if (!session)
        return SCHEMA_AWAY;
    ok = read_version(session, &version, err);
    pg_session_close(session);
    if (!ok)
        return SCHEMA_AWAY;
    if (version >= SCHEMA_VERSION)
        return SCHEMA_FITS;
    err_set(err,
            "the database has schema version %lld, this program needs %d: run "
            "nightshift-migrate",
            (long long)version, SCHEMA_VERSION);
    return SCHEMA_OLD;
}
