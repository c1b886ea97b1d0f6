/* SPDX-License-Identifier: Apache-2.0 */
/* Postgres over libpq's pipeline mode on the event loop: the queue before one connection. */
#include "common/io/pg.h"

#include <assert.h>
#include <event2/event.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/metrics.h"
#include "common/io/pg_link.h"
#include "common/io/pg_request.h"

enum {
    PIPELINE_MAX =
        64, /* requests in flight; the rest waits here, where a lost connection spares it */
    DUTY_SIZE = 48,
    QUEUED_DEFAULT = 4096,
    UNAVAILABLE_AFTER_DEFAULT_MS = 2000,
    STATEMENT_TIMEOUT_DEFAULT_MS = 15000,
    LOCK_TIMEOUT_DEFAULT_MS = 5000,
    IDLE_IN_TRANSACTION_MS = 10000,
    STALL_MARGIN_MS = 5000, /* past statement_timeout the server must have said something */
    CLOCK_EVERY_MS = 30000,
    CLOCK_AGAIN_MS = 1000,
    CLOCK_ROUND_TRIP_MAX_MS = 1000, /* a slower answer says little about the clock */
};

/* A request is in exactly one of the three lists, or being delivered. */
struct pg {
    struct event_base *base;
    char duty[DUTY_SIZE];
    char application[DUTY_SIZE + 16];
    char settings[384];
    struct log_context log;
    void (*on_connect)(struct pg *pg, void *arg);
    void *arg;
    bool keeps_clock;
    int max_queued;
    int64_t unavailable_after_us;
    int64_t stall_us;

    struct pg_link *link;
    struct pg_prepared *prepared;
    struct pg_request_list waiting; /* not sent */
    struct pg_request_list flying;  /* sent; the first one is being answered */
    struct pg_request_list ended;   /* to be delivered */
    struct event *pump;             /* at the end of this turn: deliver and send */
    struct event *timer;
    int64_t timer_us;    /* when it fires; 0: not set */
    int64_t lost_us;     /* since when there is no connection */
    int64_t progress_us; /* when the first of flying became the first, or got a result */
    int64_t last_error_us;
    int64_t clock_due_us;
    int64_t clock_sent_us; /* monotonic; 0: no measurement under way */
    bool is_stuck;         /* libpq holds output that the socket did not take */
    int depth;             /* of our own callbacks on the stack */
    bool is_dying;         /* pg_free was called inside one of them */
};

PG_STATEMENT(pg_clock_read, "SELECT clock_timestamp()");

static const struct metric errors_total = {
    .name = "nightshift_pg_errors_total",
    .type = METRIC_COUNTER,
    .help = "Queries that did not succeed, lost connections and failed attempts to connect.",
    .labels = {"duty"},
};

static const struct metric query_seconds = {
    .name = "nightshift_pg_query_seconds",
    .type = METRIC_HISTOGRAM,
    .help = "From a query's call to its answer, waiting included.",
    .labels = {"duty"},
};

static void pg_destroy(struct pg *pg);

static void pg_enter(struct pg *pg)
{
    pg->depth++;
}

/* The last thing a callback does. */
static void pg_leave(struct pg *pg)
{
    if (--pg->depth == 0 && pg->is_dying)
        pg_destroy(pg);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void count_error(struct pg *pg)
{
    pg->last_error_us = clock_monotonic_us();
    metric_add(&errors_total, METRIC_LABELS(pg->duty), 1);
}

static void deliver(struct pg *pg, struct pg_request *request)
{
    if (request->status != PG_OK)
        count_error(pg);
    metric_observe_us(&query_seconds, METRIC_LABELS(pg->duty),
                      clock_monotonic_us() - request->queued_us);
    pg_request_deliver(request);
}

/* Delivers what is there now; what the callbacks add waits for the next turn. */
static void deliver_ended(struct pg *pg)
{
    for (int left = pg->ended.count; left > 0; left--) {
        struct pg_request *request = pg_request_list_pop(&pg->ended);

        if (!request)
            return; /* pg_free, in a callback */
        deliver(pg, request);
    }
    if (pg->ended.count > 0 && !pg->is_dying)
        event_active(pg->pump, EV_TIMEOUT, 0);
}

static void move_all(struct pg_request_list *from, struct pg_request_list *to,
                     enum pg_status status, const char *sqlstate, const char *message)
{
    struct pg_request *request;

    while ((request = pg_request_list_pop(from)) != NULL) {
        pg_request_end(request, status, sqlstate, message);
        pg_request_list_push(to, request);
    }
}

/* The connection is of no use any more.  What was sent may have been done. */
static void pg_lost(struct pg *pg, const char *why)
{
    count_error(pg);
    pg->lost_us = clock_monotonic_us();
    pg->is_stuck = false;
    pg->clock_sent_us = 0;
    pg_prepared_forget_all(pg->prepared);
    move_all(&pg->flying, &pg->ended, PG_UNKNOWN, "08006", why);
    pg_link_drop(pg->link, why);
    event_active(pg->pump, EV_TIMEOUT, 0);
}

static void send_request(struct pg *pg, struct pg_request *request, PGconn *conn)
{
    if (!pg->flying.first)
        pg->progress_us = clock_monotonic_us();
    pg_request_list_push(&pg->flying, request);
    if (!pg_request_send(request, pg->prepared, conn))
        pg_lost(pg, PQerrorMessage(conn));
}

static void send_waiting(struct pg *pg)
{
    PGconn *conn;

    while (pg->waiting.first && !pg->is_stuck && pg->flying.count < PIPELINE_MAX) {
        conn = pg_link_conn(pg->link);
        if (!conn)
            return;
        send_request(pg, pg_request_list_pop(&pg->waiting), conn);
        if (pg_link_conn(pg->link))
            pg->is_stuck = !pg_link_flush(pg->link);
    }
}

/* Without a connection the queue's head gives up first: all wait equally long. */
static int64_t waiting_due_us(const struct pg *pg)
{
    int64_t since = pg->waiting.first->queued_us;

    return (since > pg->lost_us ? since : pg->lost_us) + pg->unavailable_after_us;
}

static void expire_waiting(struct pg *pg, int64_t now_us)
{
    while (pg->waiting.first && waiting_due_us(pg) <= now_us) {
        struct pg_request *request = pg_request_list_pop(&pg->waiting);

        pg_request_end(request, PG_UNAVAILABLE, "08001", "no connection to the database");
        pg_request_list_push(&pg->ended, request);
    }
}

/* The database's clock, taken in the middle of the round trip. */
static void on_clock(const struct pg_reply *reply, void *arg)
{
    struct pg *pg = arg;
    int64_t round_trip_us = clock_monotonic_us() - pg->clock_sent_us;
    int64_t now_us;

    if (reply->status != PG_OK || pg->clock_sent_us == 0)
        return;
    pg->clock_sent_us = 0;
    if (round_trip_us > CLOCK_ROUND_TRIP_MAX_MS * US_PER_MS)
        return;
    now_us = pg_get_time(reply->result, 0, 0) + round_trip_us / 2;
    clock_set_db_us(now_us);
    log_debug(&pg->log, "database clock: offset_us=%lld round_trip_us=%lld",
              (long long)(now_us - clock_now_us()), (long long)round_trip_us);
}

/* Goes past the queue, and not at all while output is stuck: a measurement that waits behind others
 * is worth nothing. */
static void read_clock(struct pg *pg, int64_t now_us)
{
    struct pg_step step = {.statement = &pg_clock_read};
    PGconn *conn = pg_link_conn(pg->link);

    if (!conn)
        return;
    pg->clock_due_us = now_us + (pg->is_stuck ? CLOCK_AGAIN_MS : CLOCK_EVERY_MS) * US_PER_MS;
    if (pg->is_stuck)
        return;
    pg->clock_sent_us = clock_monotonic_us();
    send_request(pg, pg_request_new(&step, 1, on_clock, pg), conn);
    if (pg_link_conn(pg->link))
        pg->is_stuck = !pg_link_flush(pg->link);
}

/* The moment the timer is needed next; INT64_MAX: never. */
static int64_t due_us(const struct pg *pg)
{
    int64_t due = INT64_MAX;

    if (!pg_link_conn(pg->link))
        return pg->waiting.first ? waiting_due_us(pg) : due;
    if (pg->flying.first)
        due = earlier(due, pg->progress_us + pg->stall_us);
    if (pg->keeps_clock)
        due = earlier(due, pg->clock_due_us);
    return due;
}

/* A timer that is set too early does no harm: it looks again. */
static void timer_arm(struct pg *pg)
{
    int64_t due = due_us(pg);
    int64_t wait_us;
    struct timeval wait;

    if (due == INT64_MAX || (pg->timer_us != 0 && pg->timer_us <= due))
        return;
    wait_us = due - clock_monotonic_us();
    if (wait_us < US_PER_MS)
        wait_us = US_PER_MS;
    pg->timer_us = due;
    wait = (struct timeval){.tv_sec = wait_us / US_PER_S, .tv_usec = wait_us % US_PER_S};
    event_add(pg->timer, &wait);
}

static void work(struct pg *pg)
{
    deliver_ended(pg);
    if (pg->is_dying)
        return;
    send_waiting(pg);
    timer_arm(pg);
}

static void on_pump(evutil_socket_t fd, short what, void *arg)
{
    struct pg *pg = arg;

    (void)fd, (void)what;
    pg_enter(pg);
    work(pg);
    pg_leave(pg);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct pg *pg = arg;
    int64_t now_us = clock_monotonic_us();

    (void)fd, (void)what;
    pg_enter(pg);
    pg->timer_us = 0;
    if (!pg_link_conn(pg->link))
        expire_waiting(pg, now_us);
    else if (pg->flying.first && pg->progress_us + pg->stall_us <= now_us)
        pg_lost(pg, "the server does not answer");
    else if (pg->keeps_clock && pg->clock_due_us <= now_us)
        read_clock(pg, now_us);
    work(pg);
    pg_leave(pg);
}

/* The first in flight has all its answers, and the Sync. */
static void finish_first(struct pg *pg)
{
    struct pg_request *request = pg_request_list_pop(&pg->flying);

    if (pg_request_retry(request))
        pg_request_list_push(&pg->waiting, request);
    else
        deliver(pg, request);
}

/* One result.  False: the connection is of no use (why says it), or pg is dying. */
static bool take_result(struct pg *pg, PGresult *result, char *why, size_t size)
{
    struct pg_request *first = pg->flying.first;

    pg->progress_us = clock_monotonic_us();
    if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
        PQclear(result);
        finish_first(pg);
        return !pg->is_dying;
    }
    snprintf(why, size, "%s", PQresultErrorMessage(result));
    return pg_request_take(first, result);
}

/* Takes what has come in.  PQgetResult gives NULL after each message's results and for ever when
 * there is nothing left, so two in a row are the end; PQisBusy keeps it from blocking. */
static bool take_results(struct pg *pg, PGconn *conn, char *why, size_t size)
{
    bool was_null = false;

    while (pg->flying.first && !PQisBusy(conn)) {
        PGresult *result = PQgetResult(conn);

        if (!result && was_null)
            return true;
        was_null = !result;
        if (result && !take_result(pg, result, why, size))
            return false;
    }
    return true;
}

static void on_input(const char *broken, void *arg)
{
    struct pg *pg = arg;
    char why[ERR_MESSAGE_MAX];
    char words[ERR_MESSAGE_MAX];
    bool ok;

    snprintf(words, sizeof(words), "%s", broken ? broken : "");
    pg_enter(pg);
    ok = take_results(pg, pg_link_conn(pg->link), why, sizeof(why));
    if (!pg->is_dying) {
        if (!ok)
            pg_lost(pg, why);
        else if (broken)
            pg_lost(pg, words);
        work(pg);
    }
    pg_leave(pg);
}

static void on_flushed(void *arg)
{
    struct pg *pg = arg;

    pg_enter(pg);
    pg->is_stuck = false;
    work(pg);
    pg_leave(pg);
}

static void on_failed(void *arg)
{
    count_error(arg);
}

static void on_ready(void *arg)
{
    struct pg *pg = arg;

    pg_enter(pg);
    if (pg->keeps_clock)
        read_clock(pg, clock_monotonic_us());
    if (pg->on_connect)
        pg->on_connect(pg, pg->arg);
    if (!pg->is_dying)
        work(pg);
    pg_leave(pg);
}

static void pg_submit(struct pg *pg, struct pg_request *request)
{
    if (pg->is_dying)
        pg_request_end(request, PG_UNAVAILABLE, "", "shutting down");
    else if (pg_outstanding(pg) >= pg->max_queued)
        pg_request_end(request, PG_UNAVAILABLE, "", "the queue before the database is full");
    pg_request_list_push(request->status == PG_OK ? &pg->waiting : &pg->ended, request);
    if (!pg->is_dying)
        event_active(pg->pump, EV_TIMEOUT, 0);
}

void pg_query(struct pg *pg, const struct pg_statement *statement, const struct pg_value *values,
              size_t count, pg_done_fn *done, void *arg)
{
    struct pg_step step = {.statement = statement, .values = values, .count = count};

    pg_submit(pg, pg_request_new(&step, 1, done, arg));
}

void pg_transaction(struct pg *pg, const struct pg_step *steps, size_t count, pg_done_fn *done,
                    void *arg)
{
    pg_submit(pg, pg_request_new(steps, count, done, arg));
}

struct event_base *pg_base(const struct pg *pg)
{
    return pg->base;
}

bool pg_is_ready(const struct pg *pg)
{
    return pg_link_conn(pg->link) != NULL;
}

int pg_outstanding(const struct pg *pg)
{
    return pg->waiting.count + pg->flying.count + pg->ended.count;
}

int64_t pg_last_error_us(const struct pg *pg)
{
    return pg->last_error_us;
}

/* Our statements are keyed joins from a list of rows.  With generic plans and no sequential scans
 * they go by the index whatever the statistics say, and no plan is made twice; jit would compile
 * for longer than any of them runs. */
static void format_settings(struct pg *pg, const struct pg_options *options, int timeout_ms)
{
    snprintf(pg->settings, sizeof(pg->settings),
             "-c statement_timeout=%d -c lock_timeout=%d "
             "-c idle_in_transaction_session_timeout=%d -c synchronous_commit=%s "
             "-c jit=off -c plan_cache_mode=force_generic_plan -c enable_seqscan=off "
             "-c TimeZone=UTC%s%s",
             timeout_ms,
             options->lock_timeout_ms ? options->lock_timeout_ms : LOCK_TIMEOUT_DEFAULT_MS,
             IDLE_IN_TRANSACTION_MS, options->asynchronous_commit ? "off" : "on",
             options->role ? " -c role=" : "", options->role ? options->role : "");
}

static bool pg_init(struct pg *pg, const struct pg_options *options, struct err *err)
{
    int timeout_ms = options->statement_timeout_ms ? options->statement_timeout_ms
                                                   : STATEMENT_TIMEOUT_DEFAULT_MS;
    int64_t wait_ms = options->unavailable_after_ms ? options->unavailable_after_ms
                                                    : UNAVAILABLE_AFTER_DEFAULT_MS;
    struct pg_link_options link = {
        .url = options->url,
        .application = pg->application,
        .settings = pg->settings,
        .log = &pg->log,
        .on_ready = on_ready,
        .on_input = on_input,
        .on_flushed = on_flushed,
        .on_failed = on_failed,
        .arg = pg,
    };

    snprintf(pg->duty, sizeof(pg->duty), "%s", options->duty);
    snprintf(pg->application, sizeof(pg->application), "nightshift-%s", pg->duty);
    metric_declare(&errors_total, METRIC_LABELS(pg->duty));
    format_settings(pg, options, timeout_ms);
    pg->log.component = pg->duty;
    pg->on_connect = options->on_connect;
    pg->arg = options->arg;
    pg->keeps_clock = options->keeps_clock;
    pg->max_queued = options->max_queued ? options->max_queued : QUEUED_DEFAULT;
    pg->unavailable_after_us = wait_ms * US_PER_MS;
    pg->stall_us = ((int64_t)timeout_ms + STALL_MARGIN_MS) * US_PER_MS;
    pg->lost_us = clock_monotonic_us();
    pg->prepared = pg_prepared_new();
    pg->pump = event_new(pg->base, -1, 0, on_pump, pg);
    pg->timer = event_new(pg->base, -1, 0, on_timer, pg);
    if (!pg->prepared || !pg->pump || !pg->timer)
        return err_set(err, "database connection for %s: out of memory", options->duty);
    pg->link = pg_link_new(pg->base, &link, err);
    return pg->link || err_wrap(err, "database connection for %s", options->duty);
}

struct pg *pg_new(struct event_base *base, const struct pg_options *options, struct err *err)
{
    struct pg *pg = calloc(1, sizeof(*pg));

    if (!pg) {
        err_set(err, "database connection: out of memory");
        return NULL;
    }
    pg->base = base;
    pg_request_list_init(&pg->waiting);
    pg_request_list_init(&pg->flying);
    pg_request_list_init(&pg->ended);
    if (pg_init(pg, options, err))
        return pg;
    pg_destroy(pg);
    return NULL;
}

static void pg_destroy(struct pg *pg)
{
    pg_link_free(pg->link);
    pg_prepared_free(pg->prepared);
    if (pg->pump)
        event_free(pg->pump);
    if (pg->timer)
        event_free(pg->timer);
    free(pg);
}

void pg_free(struct pg *pg)
{
    struct pg_request *request;

    if (!pg)
        return;
    assert(!pg->is_dying);
    pg->is_dying = true;
    move_all(&pg->flying, &pg->ended, PG_UNKNOWN, "", "shutting down");
    move_all(&pg->waiting, &pg->ended, PG_UNAVAILABLE, "", "shutting down");
    while ((request = pg_request_list_pop(&pg->ended)) != NULL)
        pg_request_deliver(request);
    if (pg->depth == 0)
        pg_destroy(pg);
}
