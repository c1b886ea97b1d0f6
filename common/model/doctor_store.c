/* SPDX-License-Identifier: Apache-2.0 */
/* What `nightshift doctor` asks of the database: one look, blocking, changing nothing. */
#include "common/model/doctor_store.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/io/pg.h"

/* One statement's only row. */
static bool look(const char *database_url, const char *sql, struct pg_session **session,
                 struct pg_result **result, struct err *err)
{
    *session = pg_session_open(database_url, "nightshift-doctor", err);
    if (!*session)
        return false;
    if (pg_session_run(*session, sql, NULL, 0, result, err))
        return true;
    pg_session_close(*session);
    return false;
}

bool doctor_look_server(const char *database_url, struct doctor_server *out, struct err *err)
{
    /* data_directory is shown to superusers and pg_read_all_settings only, as no row here. */
    static const char sql[] =
        "SELECT clock_timestamp(), current_setting('server_version_num')::int8, "
        "       pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on', "
        "       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), "
        "       current_setting('max_connections')::int8, "
        "       (SELECT setting FROM pg_settings WHERE name = 'data_directory')";
    struct pg_session *session;
    struct pg_result *result;
    const char *folder;

    memset(out, 0, sizeof(*out));
    session = pg_session_open(database_url, "nightshift-doctor", err);
    if (!session)
        return false;
    out->asked_us = clock_now_us();
    if (!pg_session_run(session, sql, NULL, 0, &result, err)) {
        pg_session_close(session);
        return false;
    }
    out->answered_us = clock_now_us();
    out->clock_us = pg_get_time(result, 0, 0);
    out->version = (int)pg_get_int(result, 0, 1);
    out->is_read_only = pg_get_bool(result, 0, 2);
    out->connections = pg_get_int(result, 0, 3);
    out->connections_max = pg_get_int(result, 0, 4);
    folder = pg_get_text(result, 0, 5, NULL);
    snprintf(out->data_directory, sizeof(out->data_directory), "%s", folder ? folder : "");
    pg_result_free(result);
    pg_session_close(session);
    return true;
}

bool doctor_look_fleet(const char *database_url, struct doctor_fleet *out, struct err *err)
{
    /* A worker is alive as the scheduler sees it: a beat in the last 6 s (rescue_store.c). */
    static const char sql[] =
        "SELECT count(*) FILTER (WHERE beat_at >= clock_timestamp() - interval '6 s'), "
        "       count(*) FILTER (WHERE beat_at < clock_timestamp() - interval '6 s'), "
        "       coalesce((extract(epoch FROM clock_timestamp() - max(beat_at)) * 1000)::int8, -1), "
        "       (SELECT CASE WHEN beat_at = 'epoch' THEN -1 "
        "               ELSE (extract(epoch FROM clock_timestamp() - beat_at) * 1000)::int8 END "
        "        FROM leadership WHERE name = 'scheduler'), "
        "       (SELECT holder FROM leadership WHERE name = 'scheduler'), "
        "       (SELECT count(*) FROM (SELECT FROM queue WHERE ready_at <= now() LIMIT 1000) q) "
        "FROM workers";
    struct pg_session *session;
    struct pg_result *result;
    const char *leader;

    memset(out, 0, sizeof(*out));
    if (!look(database_url, sql, &session, &result, err))
        return false;
    out->workers_alive = pg_get_int(result, 0, 0);
    out->workers_silent = pg_get_int(result, 0, 1);
    out->newest_beat_ms = pg_get_int(result, 0, 2);
    out->leader_beat_ms = pg_is_null(result, 0, 3) ? -1 : pg_get_int(result, 0, 3);
    leader = pg_get_text(result, 0, 4, NULL);
    snprintf(out->leader, sizeof(out->leader), "%s", leader ? leader : "");
    out->waiting = pg_get_int(result, 0, 5);
    pg_result_free(result);
    pg_session_close(session);
    return true;
}
