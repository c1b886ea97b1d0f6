/* SPDX-License-Identifier: Apache-2.0 */
/* One query or transaction on its way through pg: encoded steps, and what became of them. */
#include "common/io/pg_request.h"

#include <assert.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"

enum { RETRIES_MAX = 3 };

void pg_request_list_init(struct pg_request_list *list)
{
    *list = (struct pg_request_list){.last = &list->first};
}

void pg_request_list_push(struct pg_request_list *list, struct pg_request *request)
{
    request->next = NULL;
    *list->last = request;
    list->last = &request->next;
    list->count++;
}

struct pg_request *pg_request_list_pop(struct pg_request_list *list)
{
    struct pg_request *request = list->first;

    if (!request)
        return NULL;
    list->first = request->next;
    if (!list->first)
        list->last = &list->first;
    list->count--;
    request->next = NULL;
    return request;
}

struct pg_request *pg_request_new(const struct pg_step *steps, size_t count, pg_done_fn *done,
                                  void *arg)
{
    /* The bulk, the values, is allocated so that it may fail; this little must not, or nobody could
     * be told. */
    struct pg_request *request = xcalloc(1, sizeof(*request) + count * sizeof(request->steps[0]));

    assert(count > 0);
    request->done = done;
    request->arg = arg;
    request->queued_us = clock_monotonic_us();
    for (size_t i = 0; i < count; i++) {
        struct pg_request_step *step = &request->steps[i];
        char sqlstate[PG_SQLSTATE_SIZE];
        struct err err;

        step->statement = steps[i].statement;
        if (!pg_params_encode(&step->params, steps[i].values, steps[i].count, sqlstate, &err)) {
            err_wrap(&err, "%s", step->statement->name);
            pg_request_end(request, PG_FAILED, sqlstate, err.message);
            break;
        }
        request->step_count++;
    }
    return request;
}

void pg_request_free(struct pg_request *request)
{
    for (size_t i = 0; i < request->step_count; i++)
        pg_params_release(&request->steps[i].params);
    PQclear(request->result);
    free(request);
}

void pg_request_end(struct pg_request *request, enum pg_status status, const char *sqlstate,
                    const char *message)
{
    if (request->status == PG_FAILED)
        return;
    request->status = status;
    snprintf(request->sqlstate, sizeof(request->sqlstate), "%s", sqlstate);
    snprintf(request->message, sizeof(request->message), "%s", message);
}

void pg_request_deliver(struct pg_request *request)
{
    struct pg_reply reply = {
        .status = request->status,
        .sqlstate = request->sqlstate,
        .message = request->message,
        .result = request->status == PG_OK ? request->result : NULL,
    };

    request->done(&reply, request->arg);
    pg_request_free(request);
}

static bool step_prepare(struct pg_request_step *step, struct pg_prepared *prepared, PGconn *conn)
{
    step->entry = pg_prepared_find(prepared, step->statement, &step->params);
    if (!step->entry)
        return false;
    step->is_preparing = !step->entry->is_prepared;
    step->version = step->entry->version;
    step->entry->is_prepared = true;
    return !step->is_preparing || PQsendPrepare(conn, step->entry->name, step->statement->sql,
                                                step->params.count, step->params.types);
}

bool pg_request_send(struct pg_request *request, struct pg_prepared *prepared, struct pg_conn *conn)
{
    request->sent_us = clock_monotonic_us();
    for (size_t i = 0; i < request->step_count; i++) {
        struct pg_request_step *step = &request->steps[i];
        const struct pg_params *params = &step->params;

        if (!step_prepare(step, prepared, conn) ||
            !PQsendQueryPrepared(conn, step->entry->name, params->count, params->values,
                                 params->lengths, params->formats, 1))
            return false;
    }
    return PQpipelineSync(conn);
}

/* Keeps the last result set; before there is one, the last result. */
static void keep_result(struct pg_request *request, PGresult *result)
{
    bool has_rows = PQresultStatus(result) == PGRES_TUPLES_OK;

    if (request->has_rows && !has_rows) {
        PQclear(result);
        return;
    }
    PQclear(request->result);
    request->result = result;
    request->has_rows = has_rows;
}

/* The primary message only: a detail would quote values. */
static void note_failure(struct pg_request *request, const PGresult *result, const char *sqlstate)
{
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    struct err err;

    err_set(&err, "%s", message ? message : "the server gave no reason");
    if (request->answered < request->step_count)
        err_wrap(&err, "%s", request->steps[request->answered].statement->name);
    pg_request_end(request, PG_FAILED, sqlstate, err.message);
}

static bool is_loss(const PGresult *result, const char *sqlstate)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

    if (!sqlstate) /* libpq's own words: the server did not say this */
        return true;
    return pg_sqlstate_is_loss(sqlstate) ||
           (severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0));
}

/* The request's first error; false when it means more than that. */
static bool take_error(struct pg_request *request, const struct pg_request_step *step,
                       const PGresult *result)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    if (is_loss(result, sqlstate))
        return false;
    if (request->status == PG_FAILED)
        return true;
    request->failed_step = request->answered;
    request->failed_at_prepare = step && step->is_preparing;
    note_failure(request, result, sqlstate);
    return true;
}

/* Results come for a step's prepare, if it was sent along, and then for the step itself; after an
 * error as PGRES_PIPELINE_ABORTED, up to the Sync.  A COMMIT's error (a deferred constraint) comes
 * when all steps are answered. */
bool pg_request_take(struct pg_request *request, struct pg_result *result)
{
    ExecStatusType status = PQresultStatus(result);
    bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
    struct pg_request_step *step = NULL;
    bool is_alive = true;

    if (request->answered < request->step_count)
        step = &request->steps[request->answered];
    if (!ok && status != PGRES_PIPELINE_ABORTED)
        is_alive = take_error(request, step, result);
    if (!ok && step && step->is_preparing)
        pg_prepared_forget(step->entry, step->version);
    if (step && !step->is_preparing) {
        request->answered++;
        if (ok) {
            keep_result(request, result);
            return true;
        }
    }
    if (step)
        step->is_preparing = false;
    PQclear(result);
    return is_alive;
}

bool pg_request_retry(struct pg_request *request)
{
    struct pg_request_step *step;
    bool is_missing = strcmp(request->sqlstate, "26000") == 0;
    bool is_stale = strcmp(request->sqlstate, "0A000") == 0 &&
                    strstr(request->message, "cached plan must not change result type");

    if (request->status != PG_FAILED || (!is_missing && !is_stale) || request->failed_at_prepare ||
        request->failed_step >= request->step_count || request->retries >= RETRIES_MAX)
        return false;
    step = &request->steps[request->failed_step];
    pg_prepared_forget(step->entry, step->version);
    request->retries++;
    request->status = PG_OK;
    request->sqlstate[0] = '\0';
    request->message[0] = '\0';
    request->answered = 0;
    PQclear(request->result);
    request->result = NULL;
    request->has_rows = false;
    return true;
}
