/* SPDX-License-Identifier: Apache-2.0 */
/* One query or transaction on its way through pg: encoded steps, and what became of them. */
#ifndef COMMON_IO_PG_REQUEST_H
#define COMMON_IO_PG_REQUEST_H

#include "common/io/pg_prepared.h"

struct pg_conn; /* libpq's PGconn */

struct pg_request_step {
    const struct pg_statement *statement;
    struct pg_params params;
    struct pg_prepared_entry *entry;
    int version;       /* of the entry, when sent */
    bool is_preparing; /* its prepare goes along, and has not been answered yet */
};

struct pg_request {
    struct pg_request *next;
    pg_done_fn *done;
    void *arg;
    int64_t queued_us;
    int64_t sent_us;
    int retries;
    enum pg_status status;
    char sqlstate[PG_SQLSTATE_SIZE];
    char message[ERR_MESSAGE_MAX];
    struct pg_result *result;
    bool has_rows;      /* result is a result set */
    size_t answered;    /* steps */
    size_t failed_step; /* when status is PG_FAILED */
    bool failed_at_prepare;
    size_t step_count;
    struct pg_request_step steps[];
};

/* First in, first out. */
struct pg_request_list {
    struct pg_request *first;
    struct pg_request **last; /* where the next one is hung in */
    int count;
};

void pg_request_list_init(struct pg_request_list *list);
void pg_request_list_push(struct pg_request_list *list, struct pg_request *request);
struct pg_request *pg_request_list_pop(struct pg_request_list *list); /* NULL when empty */

/* Never NULL: what cannot be encoded is PG_FAILED already. */
struct pg_request *pg_request_new(const struct pg_step *steps, size_t count, pg_done_fn *done,
                                  void *arg) MUST_CHECK;
void pg_request_free(struct pg_request *request);

/* Says how it ended; a request that has failed stays PG_FAILED. */
void pg_request_end(struct pg_request *request, enum pg_status status, const char *sqlstate,
                    const char *message);

/* Calls done and frees. */
void pg_request_deliver(struct pg_request *request);

/* Hands prepares, steps and the Sync to libpq.  False when the connection turned out to be broken:
 * the request may be half sent. */
bool pg_request_send(struct pg_request *request, struct pg_prepared *prepared,
                     struct pg_conn *conn) MUST_CHECK;

/* Takes the answer to its next message (not the Sync's); owns result from here.  False: the error
 * means that the connection is lost. */
bool pg_request_take(struct pg_request *request, struct pg_result *result) MUST_CHECK;

/* Failed only because a statement's preparation was stale (schema changed under it, or an earlier
 * prepare failed in the same pipeline)?  Then nothing was done, and it is made ready to be sent
 * again. */
bool pg_request_retry(struct pg_request *request) MUST_CHECK;

#endif
