/* SPDX-License-Identifier: Apache-2.0 */
/* Postgres without a loop: one blocking connection for small programs and start-up checks. */
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/io/pg_target.h"
#include "common/io/pg_value.h"

struct pg_session {
    PGconn *conn;
};

/* libpq's messages end in a newline. */
static bool err_set_line(struct err *err, const char *message)
{
    size_t len = strcspn(message, "\n");

    return err_set(err, "%.*s", (int)len, message);
}

/* What the server said, with its detail; or what libpq says when the server did not. */
static bool err_set_result(struct err *err, const PGresult *result)
{
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);

    if (!message)
        return err_set_line(err, PQresultErrorMessage(result));
    if (!detail)
        return err_set(err, "%s", message);
    return err_set(err, "%s (%s)", message, detail);
}

static void ignore_notice(void *arg, const char *message)
{
    (void)arg, (void)message;
}

static PGconn *session_connect(const char *url, const char *application, struct err *err)
{
    struct pg_target *target = pg_target_new(url, application, "-c TimeZone=UTC", err);
    PGconn *conn = NULL;

    if (!target)
        return NULL;
    conn = pg_target_connect(target, true, err);
    pg_target_free(target);
    if (!conn || PQstatus(conn) == CONNECTION_OK)
        return conn;
    err_set_line(err, PQerrorMessage(conn));
    PQfinish(conn);
    return NULL;
}

struct pg_session *pg_session_open(const char *url, const char *application, struct err *err)
{
    PGconn *conn = session_connect(url, application, err);
    struct pg_session *session;

    if (!conn)
        return NULL;
    PQsetNoticeProcessor(conn, ignore_notice, NULL);
    session = xcalloc(1, sizeof(*session));
    session->conn = conn;
    return session;
}

void pg_session_close(struct pg_session *session)
{
    if (!session)
        return;
    PQfinish(session->conn);
    free(session);
}

static PGresult *session_run(struct pg_session *session, const char *sql,
                             const struct pg_value *values, size_t count, bool wants_rows,
                             struct err *err)
{
    struct pg_params params;
    char sqlstate[PG_SQLSTATE_SIZE];
    PGresult *result;

    if (count == 0 && !wants_rows)
        return PQexec(session->conn, sql);
    if (!pg_params_encode(&params, values, count, sqlstate, err))
        return NULL;
    result = PQexecParams(session->conn, sql, params.count, params.types, params.values,
                          params.lengths, params.formats, 1);
    pg_params_release(&params);
    return result;
}

bool pg_session_run(struct pg_session *session, const char *sql, const struct pg_value *values,
                    size_t count, struct pg_result **result, struct err *err)
{
    PGresult *answer;
    ExecStatusType status;

    err_clear(err);
    answer = session_run(session, sql, values, count, result != NULL, err);
    status = PQresultStatus(answer);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
        if (result)
            *result = answer;
        else
            PQclear(answer);
        return true;
    }
    if (answer)
        err_set_result(err, answer);
    else if (err && !err->message[0])
        err_set_line(err, PQerrorMessage(session->conn));
    PQclear(answer);
    return false;
}
