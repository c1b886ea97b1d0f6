/* SPDX-License-Identifier: Apache-2.0 */
/* Batches: rows gather, go sorted as one unnest statement, and are split until the bad one fails
 * alone. */
#include "common/io/pg_batch.h"

#include <assert.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/io/pg_batch_row.h"

enum {
    ROWS_DEFAULT = 500,
    BYTES_DEFAULT = 8 * 1024 * 1024,
    QUEUED_DEFAULT = 50000,
    QUEUED_BYTES_DEFAULT = 256 * 1024 * 1024,
    CONFLICTS_MAX = 5, /* deadlocks and serialization failures of one batch */
    RETRY_REST_MS = 100,
    LOOKED_MAX = 5000, /* waiting rows, for those of one scope */
};

static const struct backoff_policy conflict_policy = {.base_ms = 10, .cap_ms = 200};

/* Rows that were sent together.  Between a failure and the next try it rests (in the timer's care)
 * and keeps its place among max_in_flight. */
struct flight {
    struct flight *next;
    struct flight **at;     /* what points to it */
    struct pg_batch *batch; /* NULL: pg_batch_free was called, the rows are gone */
    struct event *rest;
    int conflicts;
    int64_t failed_us; /* when it first found no database; 0: not */
    int count;
    struct pg_batch_row *rows[];
};

struct row_list {
    struct pg_batch_row *first;
    struct pg_batch_row **last;
};

/* A row is in exactly one place: waiting, among the followers of an older row with its key, or in a
 * flight.  With keys that must not meet, `keys` holds the oldest row of each key. */
struct pg_batch {
    struct pg *pg;
    struct pg_batch_kind kind;
    struct pg_value *constants;
    size_t constant_count;
    struct row_list waiting;
    struct map *keys; /* NULL: equal keys may meet */
    struct flight *flights;
    int flight_count;
    int queued; /* waiting and followers */
    size_t queued_bytes;
    int outstanding;
    uint64_t added;
    struct event *flush; /* at the end of this turn */
    int depth;           /* of our callbacks on the stack */
    bool is_dying;
};

static void flight_send(struct flight *flight);

static void waiting_push(struct pg_batch *batch, struct pg_batch_row *row)
{
    row->next = NULL;
    *batch->waiting.last = row;
    batch->waiting.last = &row->next;
}

/* The row that *at points to leaves the list. */
static struct pg_batch_row *waiting_take(struct pg_batch *batch, struct pg_batch_row **at)
{
    struct pg_batch_row *row = *at;

    *at = row->next;
    if (!row->next)
        batch->waiting.last = at;
    batch->queued--;
    batch->queued_bytes -= row->bytes;
    return row;
}

static void follow(struct pg_batch_row *first, struct pg_batch_row *row)
{
    row->next = NULL;
    if (first->last_follower)
        first->last_follower->next = row;
    else
        first->followers = row;
    first->last_follower = row;
}

/* The row is done with: the next of its key, if there is one, may go. */
static void key_release(struct pg_batch *batch, struct pg_batch_row *row)
{
    struct pg_batch_row *next = row->followers;

    if (!batch->keys)
        return;
    if (!next) {
        map_remove(batch->keys, row->key, row->key_len);
        return;
    }
    next->followers = next->next;
    next->last_follower = next->followers ? row->last_follower : NULL;
    if (!map_put(batch->keys, next->key, next->key_len, next))
        abort(); /* it cannot fail: the value of a key already there is replaced */
    waiting_push(batch, next);
}

static void row_deliver(struct pg_batch *batch, struct pg_batch_row *row,
                        const struct pg_reply *reply)
{
    struct pg_batch_reply told = {
        .status = reply->status,
        .sqlstate = reply->sqlstate,
        .message = reply->message,
        .result = reply->result,
        .row = row->answer,
    };

    key_release(batch, row);
    batch->outstanding--;
    row->done(&told, row->arg);
    free(row);
}

static struct flight *flight_new(struct pg_batch *batch, int count)
{
    struct flight *flight = xcalloc(1, sizeof(*flight) + (size_t)count * sizeof(flight->rows[0]));

    flight->batch = batch;
    flight->next = batch->flights;
    flight->at = &batch->flights;
    if (flight->next)
        flight->next->at = &flight->next;
    batch->flights = flight;
    batch->flight_count++;
    return flight;
}

static void flight_unlink(struct flight *flight)
{
    *flight->at = flight->next;
    if (flight->next)
        flight->next->at = flight->at;
    flight->batch->flight_count--;
}

static void flight_free(struct flight *flight)
{
    if (flight->rest)
        event_free(flight->rest);
    free(flight);
}

/* Ends the rows that wait; followers come up as those before them go. */
static void waiting_refuse(struct pg_batch *batch)
{
    struct pg_reply reply = {.status = PG_UNAVAILABLE, .sqlstate = "", .message = "shutting down"};

    while (batch->waiting.first)
        row_deliver(batch, waiting_take(batch, &batch->waiting.first), &reply);
}

static void batch_enter(struct pg_batch *batch)
{
    batch->depth++;
}

/* pg_batch_free inside a row's callback takes effect when all rows at hand are told. */
static void batch_leave(struct pg_batch *batch)
{
    if (batch->is_dying)
        waiting_refuse(batch);
    if (--batch->depth > 0 || !batch->is_dying)
        return;
    map_free(batch->keys);
    event_free(batch->flush);
    free(batch->constants);
    free(batch);
}

/* The flight's end: all its rows are told. */
static void flight_deliver(struct flight *flight, const struct pg_reply *reply)
{
    struct pg_batch *batch = flight->batch;

    flight_unlink(flight);
    event_active(batch->flush, EV_TIMEOUT, 0);
    batch_enter(batch);
    for (int i = 0; i < flight->count; i++)
        row_deliver(batch, flight->rows[i], reply);
    flight_free(flight);
    batch_leave(batch);
}

static void on_rested(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    flight_send(arg);
}

static void flight_rest(struct flight *flight, int64_t ms)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    if (!flight->rest)
        flight->rest = event_new(event_get_base(flight->batch->flush), -1, 0, on_rested, flight);
    if (!flight->rest || event_add(flight->rest, &wait) != 0)
        abort(); /* out of memory, for one timer */
}

/* Finds out which result row answers which input row. */
static void match_answers(struct flight *flight, const struct pg_result *result)
{
    for (int row = 0; row < pg_rows(result); row++) {
        int64_t ord = pg_get_int(result, row, 0);

        assert(ord >= 1 && ord <= flight->count);
        assert(flight->rows[ord - 1]->answer < 0);
        flight->rows[ord - 1]->answer = row;
    }
}

/* Both halves keep the order of the keys. */
static void flight_split(struct flight *flight)
{
    int left = flight->count / 2;
    struct flight *second = flight_new(flight->batch, flight->count - left);

    second->count = flight->count - left;
    second->conflicts = flight->conflicts;
    memcpy(second->rows, flight->rows + left, (size_t)second->count * sizeof(second->rows[0]));
    flight->count = left;
    flight_send(flight);
    flight_send(second);
}

/* An error of the statement itself (42: it cannot be planned, 25: the transaction may not write)
 * has no bad row to look for.  42501 may be one row's: row-level security says so. */
static bool is_of_one_row(const char *sqlstate)
{
    if (strcmp(sqlstate, "42501") == 0)
        return true;
    return strncmp(sqlstate, "42", 2) != 0 && strncmp(sqlstate, "25", 2) != 0;
}

static bool is_conflict(const char *sqlstate)
{
    return strcmp(sqlstate, "40P01") == 0 || strcmp(sqlstate, "40001") == 0;
}

static void flight_failed(struct flight *flight, const struct pg_reply *reply)
{
    if (is_conflict(reply->sqlstate) && flight->conflicts < CONFLICTS_MAX) {
        flight->conflicts++;
        flight_rest(flight,
                    backoff_full_jitter_ms(&conflict_policy, flight->conflicts, backoff_random()));
    } else if (flight->count > 1 && is_of_one_row(reply->sqlstate)) {
        flight_split(flight);
    } else {
        flight_deliver(flight, reply);
    }
}

/* No answer because of the connection. */
static void flight_lost(struct flight *flight, const struct pg_reply *reply)
{
    const struct pg_batch_kind *kind = &flight->batch->kind;
    int64_t now_us = clock_monotonic_us();
    bool may_repeat = reply->status == PG_UNAVAILABLE || kind->is_repeatable;

    if (flight->failed_us == 0)
        flight->failed_us = now_us;
    if (may_repeat && now_us - flight->failed_us < kind->retry_ms * US_PER_MS)
        flight_rest(flight, RETRY_REST_MS);
    else
        flight_deliver(flight, reply);
}

static void on_reply(const struct pg_reply *reply, void *arg)
{
    struct flight *flight = arg;

    if (!flight->batch) {
        flight_free(flight);
        return;
    }
    switch (reply->status) {
    case PG_OK:
        match_answers(flight, reply->result);
        flight_deliver(flight, reply);
        break;
    case PG_FAILED:
        flight_failed(flight, reply);
        break;
    case PG_UNKNOWN:
    case PG_UNAVAILABLE:
        flight_lost(flight, reply);
        break;
    }
}

static void flight_query(struct flight *flight, const struct pg_value *params, size_t count)
{
    const struct pg_batch *batch = flight->batch;
    const struct pg_batch_kind *kind = &batch->kind;
    const struct pg_step steps[] = {
        {kind->scope, &flight->rows[0]->values[kind->scope_column], 1},
        {kind->statement, params, count},
    };

    if (kind->scope)
        pg_transaction(batch->pg, steps, 2, on_reply, flight);
    else
        pg_query(batch->pg, kind->statement, params, count, on_reply, flight);
}

/* Turns rows into columns. */
static void flight_send(struct flight *flight)
{
    struct pg_batch *batch = flight->batch;
    size_t columns = (size_t)batch->kind.column_count;
    size_t count = (size_t)flight->count;
    struct pg_value params[PG_PARAMS_MAX];
    struct pg_value *cells = malloc(columns * count * sizeof(*cells));

    if (!cells) {
        flight_rest(flight, RETRY_REST_MS); /* nothing is lost, memory may come back */
        return;
    }
    for (size_t column = 0; column < columns; column++) {
        struct pg_value *elements = cells + column * count;

        for (size_t i = 0; i < count; i++)
            elements[i] = flight->rows[i]->values[column];
        params[column] = pg_array(batch->kind.columns[column], elements, count);
    }
    for (size_t i = 0; i < batch->constant_count; i++)
        params[columns + i] = batch->constants[i];
    flight_query(flight, params, columns + batch->constant_count);
    free(cells);
}

/* May the row go with the first of the flight? */
static bool has_scope_of(const struct pg_batch *batch, const struct flight *flight,
                         const struct pg_batch_row *row)
{
    const struct pg_value *mine, *first;

    if (!batch->kind.scope || flight->count == 0)
        return true;
    mine = &row->values[batch->kind.scope_column];
    first = &flight->rows[0]->values[batch->kind.scope_column];
    return mine->bytes.len == first->bytes.len &&
           memcmp(mine->bytes.data, first->bytes.data, mine->bytes.len) == 0;
}

/* The oldest rows that fit together, in their order; those of other scopes keep their places. */
static void flight_fill(struct flight *flight, int count)
{
    struct pg_batch *batch = flight->batch;
    struct pg_batch_row **at = &batch->waiting.first;
    size_t bytes = 0;

    for (int looked = 0; *at && flight->count < count && looked < LOOKED_MAX; looked++) {
        struct pg_batch_row *row = *at;

        if (!has_scope_of(batch, flight, row)) {
            at = &row->next;
            continue;
        }
        if (flight->count > 0 && bytes + row->bytes > batch->kind.max_bytes)
            break;
        bytes += row->bytes;
        waiting_take(batch, at);
        flight->rows[flight->count++] = row;
    }
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
    struct pg_batch *batch = arg;

    (void)fd, (void)what;
    while (batch->waiting.first && batch->flight_count < batch->kind.max_in_flight) {
        int count = batch->queued < batch->kind.max_rows ? batch->queued : batch->kind.max_rows;
        struct flight *flight = flight_new(batch, count);

        flight_fill(flight, count);
        if (batch->kind.key_columns > 0)
            qsort(flight->rows, (size_t)flight->count, sizeof(flight->rows[0]),
                  pg_batch_row_compare);
        flight_send(flight);
    }
}

static void constants_copy(struct pg_batch *batch, const struct pg_value *constants, size_t count)
{
    size_t room = pg_batch_values_room(constants, count);

    batch->constants = xcalloc(1, count * sizeof(constants[0]) + room + 1);
    batch->constant_count = count;
    pg_batch_values_copy(batch->constants, constants, count, (char *)(batch->constants + count));
}

static void kind_fill(struct pg_batch_kind *kind)
{
    kind->max_rows = kind->max_rows ? kind->max_rows : ROWS_DEFAULT;
    kind->max_bytes = kind->max_bytes ? kind->max_bytes : BYTES_DEFAULT;
    kind->max_in_flight = kind->max_in_flight ? kind->max_in_flight : 1;
    kind->max_queued = kind->max_queued ? kind->max_queued : QUEUED_DEFAULT;
    kind->max_queued_bytes = kind->max_queued_bytes ? kind->max_queued_bytes : QUEUED_BYTES_DEFAULT;
}

struct pg_batch *pg_batch_new(struct pg *pg, const struct pg_batch_kind *kind,
                              const struct pg_value *constants, size_t constant_count)
{
    struct pg_batch *batch = xcalloc(1, sizeof(*batch));

    assert(kind->column_count >= 1 && kind->column_count <= PG_BATCH_COLUMNS_MAX);
    assert(kind->key_columns <= kind->column_count);
    assert((size_t)kind->column_count + constant_count <= PG_PARAMS_MAX);
    batch->pg = pg;
    batch->kind = *kind;
    kind_fill(&batch->kind);
    batch->waiting.last = &batch->waiting.first;
    constants_copy(batch, constants, constant_count);
    batch->flush = event_new(pg_base(pg), -1, 0, on_flush, batch);
    if (kind->key_columns > 0 && !kind->allow_equal_keys) {
        /* A key is held while its row waits, and while it flies (in halves, after splits). */
        int flying = batch->kind.max_in_flight * batch->kind.max_rows;

        batch->keys = map_new((size_t)batch->kind.max_queued + (size_t)flying);
    }
    if (!batch->flush)
        abort(); /* out of memory at start-up */
    return batch;
}

/* The flight's rows are told; its reply, if one is to come, finds nobody. */
static void flight_abandon(struct flight *flight)
{
    struct pg_reply reply = {.status = PG_UNKNOWN, .sqlstate = "", .message = "shutting down"};
    bool is_at_pg = !flight->rest || !event_pending(flight->rest, EV_TIMEOUT, NULL);
    struct pg_batch *batch = flight->batch;

    flight_unlink(flight);
    for (int i = 0; i < flight->count; i++)
        row_deliver(batch, flight->rows[i], &reply);
    flight->batch = NULL;
    if (!is_at_pg)
        flight_free(flight);
}

void pg_batch_free(struct pg_batch *batch)
{
    if (!batch)
        return;
    assert(!batch->is_dying);
    batch->is_dying = true;
    batch_enter(batch);
    while (batch->flights)
        flight_abandon(batch->flights);
    batch_leave(batch);
}

bool pg_batch_add(struct pg_batch *batch, const struct pg_value *values, pg_batch_done_fn *done,
                  void *arg)
{
    struct pg_batch_row *row;
    struct pg_batch_row *first;

    if (batch->is_dying || batch->queued >= batch->kind.max_queued)
        return false;
    row = pg_batch_row_new(&batch->kind, values, done, arg);
    if (!row)
        return false;
    first = batch->keys ? map_get(batch->keys, row->key, row->key_len) : NULL;
    if (batch->queued_bytes + row->bytes > batch->kind.max_queued_bytes ||
        (batch->keys && !first && !map_put(batch->keys, row->key, row->key_len, row))) {
        free(row);
        return false;
    }
    row->number = batch->added++;
    batch->queued++;
    batch->queued_bytes += row->bytes;
    batch->outstanding++;
    if (first)
        follow(first, row);
    else
        waiting_push(batch, row);
    event_active(batch->flush, EV_TIMEOUT, 0);
    return true;
}

int pg_batch_outstanding(const struct pg_batch *batch)
{
    return batch->outstanding;
}
