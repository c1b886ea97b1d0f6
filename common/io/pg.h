/* SPDX-License-Identifier: Apache-2.0 */
/* Postgres over libpq's pipeline mode on the event loop: one connection per duty. */
#ifndef COMMON_IO_PG_H
#define COMMON_IO_PG_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"

struct event_base;
struct pg;
struct pg_result;

enum pg_type { PG_BOOL, PG_INT4, PG_INT8, PG_TEXT, PG_BYTEA, PG_UUID, PG_TIME, PG_ARRAY };

/* A parameter.  Sent in binary.  PG_TIME is microseconds since the Unix epoch (timestamptz).  JSON
 * columns take PG_TEXT with a cast in the SQL.  text/bytes/elements are borrowed until the call
 * that takes the value returns (it copies). */
struct pg_value {
    enum pg_type type;
    bool is_null;
    union {
        bool b;
        int64_t i;
        struct id uuid;
        struct {
            const void *data;
            size_t len;
        } bytes;
        struct {
            enum pg_type type;
            const struct pg_value *elements;
            size_t count;
        } array;
    };
};

struct pg_value pg_null(enum pg_type type);
struct pg_value pg_bool(bool value);
struct pg_value pg_int4(int32_t value);
struct pg_value pg_int8(int64_t value);
struct pg_value pg_text(const char *text); /* NULL gives a null */
struct pg_value pg_text_len(const char *text, size_t len);
struct pg_value pg_bytea(const void *data, size_t len);
struct pg_value pg_uuid(struct id id);
struct pg_value pg_time(int64_t us);         /* us since the epoch */
struct pg_value pg_time_or_null(int64_t us); /* 0 gives a null */
struct pg_value pg_array(enum pg_type type, const struct pg_value *elements, size_t count);

enum { PG_PARAMS_MAX = 64 };

/* A statement, prepared on first use on each connection.  Define with PG_STATEMENT so that the
 * schema test finds and prepares every one of them. */
struct pg_statement {
    const char *name; /* unique; the same as the C function that runs it */
    const char *sql;
};

#define PG_STATEMENT(id, text)                         \
    static const struct pg_statement id = {#id, text}; \
    static const struct pg_statement *const id##_entry \
        __attribute__((used, section("pg_statements"))) = &id

/* How a query ended. */
enum pg_status {
    PG_OK,
    PG_FAILED,      /* the server refused it: sqlstate tells; nothing of it was done */
    PG_UNKNOWN,     /* it was sent and the connection died: it may have been done */
    PG_UNAVAILABLE, /* it was never sent: no connection within the wait, or the queue was full */
};

struct pg_reply {
    enum pg_status status;
    const char *sqlstate;           /* five characters, "" when there is none */
    const char *message;            /* for the log */
    const struct pg_result *result; /* of the last statement with a result set, else of the last;
                                     * NULL unless PG_OK */
};

/* Called exactly once, from the loop, never from inside pg_query. */
typedef void pg_done_fn(const struct pg_reply *reply, void *arg);

struct pg_options {
    const char *url;              /* DATABASE_URL; host names are resolved before libpq sees them */
    const char *duty;             /* "intake": in application_name, log lines and metrics */
    int max_queued;               /* queries waiting or in flight (0: 4096) */
    int64_t unavailable_after_ms; /* a query waits this long for a connection (0: 2000) */
    int statement_timeout_ms;     /* 0: 15000 */
    int lock_timeout_ms;          /* 0: 5000 */
    const char *role;             /* acts as this role of the server; NULL: as the URL's own */
    bool asynchronous_commit;     /* synchronous_commit=off, for what may be lost */
    bool keeps_clock;             /* measures the database's clock (clock_db_us); one per process */
    void (*on_connect)(struct pg *pg, void *arg); /* each time a connection is ready; may be NULL */
    void *arg;
};

/* Connects in the background and reconnects for ever with backoff.  Prepared statements, timeouts,
 * TCP keepalive and tcp_user_timeout are set on each connection. */
struct pg *pg_new(struct event_base *base, const struct pg_options *options,
                  struct err *err) MUST_CHECK;
/* What is outstanding ends with PG_UNKNOWN or PG_UNAVAILABLE before this returns.  May be called
 * from a callback of pg's own. */
void pg_free(struct pg *pg);

struct event_base *pg_base(const struct pg *pg);
bool pg_is_ready(const struct pg *pg);
int pg_outstanding(const struct pg *pg);
int64_t pg_last_error_us(const struct pg *pg); /* monotonic time of the last failure; 0: never */

/* Runs one statement as its own transaction.  Values are copied. */
void pg_query(struct pg *pg, const struct pg_statement *statement, const struct pg_value *values,
              size_t count, pg_done_fn *done, void *arg);

/* Runs several statements as one transaction (one Sync; each sees what those before it did, with a
 * snapshot of its own). */
struct pg_step {
    const struct pg_statement *statement;
    const struct pg_value *values;
    size_t count;
};
void pg_transaction(struct pg *pg, const struct pg_step *steps, size_t count, pg_done_fn *done,
                    void *arg);

/* Rows of a result (binary format).  Columns by position; wrong types assert. */
int pg_rows(const struct pg_result *result);
bool pg_is_null(const struct pg_result *result, int row, int column);
bool pg_get_bool(const struct pg_result *result, int row, int column);      /* null: false */
int64_t pg_get_int(const struct pg_result *result, int row, int column);    /* int2/4/8; null: 0 */
int64_t pg_get_time(const struct pg_result *result, int row, int column);   /* null: 0 */
struct id pg_get_uuid(const struct pg_result *result, int row, int column); /* null: zero id */
/* Text, json, jsonb, bytea; NUL-terminated, borrowed from the result; NULL when null. */
const char *pg_get_text(const struct pg_result *result, int row, int column, size_t *len);

/* Blocking sisters for programs without a loop (nightshift-migrate) and for start-up checks. */
struct pg_session;
struct pg_session *pg_session_open(const char *url, const char *application,
                                   struct err *err) MUST_CHECK;
void pg_session_close(struct pg_session *session);
/* Any SQL text; several statements are allowed when count is 0 and result is NULL.  The caller
 * frees *result (pg_result_free). */
bool pg_session_run(struct pg_session *session, const char *sql, const struct pg_value *values,
                    size_t count, struct pg_result **result, struct err *err) MUST_CHECK;
void pg_result_free(struct pg_result *result);

#endif
