/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/jobs/{id}/events: subscribe first, then read Postgres, then take from Redis what
 * continues it; Postgres is looked at once a second anyway, because live messages get lost. */
#include "producer/stream.h"

#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/sse.h"
#include "common/base/str.h"
#include "common/io/http_server.h"
#include "common/io/redis.h"
#include "common/model/event_read_store.h"
#include "common/model/job_json.h"
#include "common/model/job_store.h"
#include "producer/cursor_read.h"
#include "producer/live_backlog.h"
#include "producer/producer.h"
#include "producer/reply.h"
#include "producer/stream_position.h"
#include "producer/watch.h"

enum {
    TICK_MS = 1000,
    COMMENT_MS = 15000,
    HOLE_READ_MS = 200, /* the least between two reads for the same hole */
    GAP_PATIENCE_MS = 3000,
    PENDING_HIGH = 256 * 1024, /* unsent bytes: then nothing is read or taken any more ... */
    PENDING_LOW = 64 * 1024,   /* ... until they are so few */
    EVENT_MAX = 2 * EVENT_PAGE_BYTES * 6 + 4096,
};

struct stream {
    struct stream *next, **link;
    struct streams *streams;
    struct request_context *context; /* NULL: the request has ended */
    struct http_request *http;
    struct id job;
    char tenant[JOB_LABEL_MAX + 1];
    struct stream_position position;
    struct cursor cursor; /* asked for */
    struct watch *watch;
    struct live_backlog backlog;
    struct id worker_told; /* that somebody watches */
    int outstanding;       /* answers still to come that hold this struct */
    bool has_head;         /* the answer's head was sent */
    bool is_reading;
    bool is_peeking;
    bool wants_read;
    bool is_blocked; /* the reader is slow */
    bool is_broken;  /* a write failed: the position is not to be trusted, the next tick drops it */
    bool is_ended;   /* the closing event is due: only the job object is missing */
    bool is_fetching;
    int64_t written_us;
    int64_t hole_read_us;
    int64_t gap_since_us; /* a row is missing since; 0: none is */
};

struct streams {
    struct producer *producer;
    struct event_reads *reads;
    struct event *tick;
    struct stream *first;
    bool is_draining;
};

static void stream_read(struct stream *stream);

/* --- the end of a stream ---------------------------------------------------------------------- */

static void stream_release(struct stream *stream)
{
    if (stream->context || stream->outstanding > 0)
        return;
    live_backlog_clear(&stream->backlog);
    free(stream);
}

/* The request was ended, or is about to be: nothing is done for it any more. */
static void stream_detach(struct stream *stream)
{
    watch_stop(stream->watch);
    stream->watch = NULL;
    if (stream->link) {
        *stream->link = stream->next;
        if (stream->next)
            stream->next->link = stream->link;
        stream->link = NULL;
    }
    stream->context = NULL;
}

static void stream_end(struct stream *stream)
{
    struct http_request *http = stream->http;

    stream_detach(stream);
    if (stream->has_head && !stream->is_broken)
        http_end(http);
    else
        http_abort(http, false);
    stream_release(stream);
}

static void on_close(struct http_request *http, void *arg)
{
    (void)http;
    stream_end(arg);
}

/* An answer came.  False: nobody waits for it any more, and the stream may be gone. */
static bool stream_answered(struct stream *stream)
{
    stream->outstanding--;
    if (stream->context)
        return true;
    stream_release(stream);
    return false;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* What cannot be written (no memory, or the client is gone) is lost to this connection: it must
 * end, or the reader would have a gap. */
static bool stream_write(struct stream *stream, struct buf *out)
{
    if (out->is_broken || !http_write(stream->http, out->data, out->len))
        stream->is_broken = true;
    buf_release(out);
    stream->written_us = clock_monotonic_us();
    return !stream->is_broken;
}

static bool write_event(struct stream *stream, const char *kind, const struct buf *data)
{
    struct buf out;
    char id[CURSOR_SIZE];

    cursor_format(&stream->position.at, id);
    buf_init(&out, JOB_JSON_MAX + EVENT_MAX);
    if (data->is_broken || !sse_write(&out, id, kind, data->data, data->len))
        out.is_broken = true;
    return stream_write(stream, &out);
}

static bool write_delta(struct stream *stream, const struct stream_event *event, const char *text,
                        int64_t skip)
{
    struct buf data;
    bool ok;

    buf_init(&data, EVENT_MAX + 6 * (size_t)event->len);
    buf_printf(&data, "{\"attempt\":%d,\"offset\":%lld,\"text\":", event->attempt,
               (long long)event->offset + (long long)skip);
    buf_put_json_string(&data, text + skip, (size_t)(event->len - skip));
    buf_putc(&data, '}');
    ok = write_event(stream, "output.delta", &data);
    buf_release(&data);
    return ok;
}

static void on_drain(struct http_request *http, void *arg)
{
    struct stream *stream = arg;

    (void)http;
    stream->is_blocked = false;
    stream_read(stream);
}

/* Is the reader too slow to be given more now?  Then on_drain goes on; a reader that takes nothing
 * at all is dropped by the server. */
static bool stream_is_blocked(struct stream *stream)
{
    if (stream->is_broken)
        return true;
    if (!stream->is_blocked && http_pending(stream->http) > PENDING_HIGH) {
        stream->is_blocked = true;
        http_on_drain(stream->http, PENDING_LOW, on_drain, stream);
    }
    return stream->is_blocked;
}

/* --- the closing event: the job as a read gives it -------------------------------------------- */

static void on_job(const struct job_read_reply *reply, void *arg)
{
    struct stream *stream = arg;
    struct buf data;
    char kind[32];

    if (!stream_answered(stream))
        return;
    stream->is_fetching = false;
    if (reply->status != PG_OK)
        return; /* the next tick tries again */
    if (!reply->view) {
        stream_end(stream);
        return;
    }
    buf_init(&data, JOB_JSON_MAX);
    if (!job_json_write(reply->view, &data))
        data.is_broken = true;
    while (data.len > 0 && data.data[data.len - 1] == '\n')
        data.len--;
    snprintf(kind, sizeof(kind), "job.%s", job_state_name(reply->view->state));
    if (!write_event(stream, kind, &data))
        log_warn(NULL, "the closing event of a stream could not be written");
    buf_release(&data);
    stream_end(stream);
}

static void stream_fetch_job(struct stream *stream)
{
    if (stream->is_fetching)
        return;
    stream->is_fetching = job_read(stream->streams->producer->jobs, stream->job, stream->tenant,
                                   false, on_job, stream);
    stream->outstanding += stream->is_fetching;
}

/* --- live messages ---------------------------------------------------------------------------- */

/* Sends what continues the position.  At a hole it stays, and Postgres is read. */
static void stream_take_live(struct stream *stream)
{
    struct live_message message;
    int64_t skip, now;

    while (!stream->is_reading && !stream->is_ended && !stream_is_blocked(stream) &&
           live_backlog_first(&stream->backlog, &message)) {
        struct stream_event event = {message.run,     message.seq,    true,
                                     message.attempt, message.offset, (int64_t)message.len};
        enum stream_verdict verdict = stream_position_live(&stream->position, &event, &skip);

        if (verdict == STREAM_WAIT) {
            now = clock_monotonic_us();
            if (now - stream->hole_read_us >= HOLE_READ_MS * US_PER_MS) {
                stream->hole_read_us = now;
                stream->worker_told = (struct id){0}; /* it tells its open chunk again */
                stream_read(stream);
            }
            return;
        }
        if (verdict == STREAM_SEND && !write_delta(stream, &event, message.text, skip))
            return;
        live_backlog_drop_first(&stream->backlog);
    }
}

static void on_live(const struct live_message *message, void *arg)
{
    struct stream *stream = arg;

    if (message->kind == LIVE_CHANGED) {
        if (stream->has_head)
            stream_read(stream);
        return;
    }
    if (stream->is_ended || message->len == 0 || !str_utf8_valid(message->text, message->len))
        return;
    live_backlog_add(&stream->backlog, message);
    if (stream->has_head)
        stream_take_live(stream);
}

/* The worker sends live text only while it knows that somebody watches; told after the
 * subscription, because it answers with what it has not stored yet. */
static void tell_worker(struct stream *stream, struct id worker)
{
    char channel[CHANNEL_SIZE];
    char text[ID_TEXT_SIZE];

    if (id_is_zero(worker) || id_equal(worker, stream->worker_told))
        return;
    stream->worker_told = worker;
    channel_of_worker(worker, channel);
    id_format(stream->job, "watch ", text);
    redis_publish(stream->streams->producer->redis, channel, text, strlen(text), NULL, NULL);
}

/* --- Postgres --------------------------------------------------------------------------------- */

static bool write_row(struct stream *stream, const struct event_read_row *row,
                      const struct stream_event *event, int64_t skip)
{
    struct buf data;
    bool ok;

    if (event->is_text)
        return write_delta(stream, event, row->text, skip);
    buf_init(&data, EVENT_MAX);
    buf_puts(&data, row->data ? row->data : "{}");
    ok = write_event(stream, row->kind, &data);
    buf_release(&data);
    return ok;
}

/* A number is missing before this row.  It is on its way, or a crash of the server took it: then
 * after a while the rest goes on without it. */
static bool gap_is_given_up(struct stream *stream)
{
    int64_t now = clock_monotonic_us();

    if (stream->gap_since_us == 0)
        stream->gap_since_us = now;
    return now - stream->gap_since_us > GAP_PATIENCE_MS * US_PER_MS;
}

/* False: stop with this page. */
static bool stream_take_row(struct stream *stream, const struct event_read_row *row)
{
    struct stream_event event = {row->run,     row->seq,         row->text != NULL,
                                 row->attempt, row->byte_offset, (int64_t)row->text_len};
    int64_t skip;
    enum stream_verdict verdict;

    if (stream_is_blocked(stream))
        return false;
    verdict = stream_position_row(&stream->position, &event, false, &skip);
    if (verdict == STREAM_WAIT) {
        if (!gap_is_given_up(stream))
            return false;
        log_warn(NULL, "events are missing before run=%d seq=%d", row->run, row->seq);
        verdict = stream_position_row(&stream->position, &event, true, &skip);
    }
    stream->gap_since_us = 0;
    if (verdict != STREAM_SEND)
        return true;
    if (row->seq == SEQ_ENDED) {
        stream->is_ended = true;
        return false;
    }
    return write_row(stream, row, &event, skip);
}

static void on_page(const struct event_page *page, void *arg)
{
    struct stream *stream = arg;
    bool goes_on = true;

    if (!stream_answered(stream))
        return;
    stream->is_reading = false;
    if (page->status != PG_OK)
        return; /* the next tick tries again */
    tell_worker(stream, page->worker);
    for (int i = 0; i < page->count && goes_on; i++)
        goes_on = stream_take_row(stream, &page->rows[i]);
    if (stream->is_ended) {
        stream_fetch_job(stream);
    } else if (goes_on && (page->is_full || stream->wants_read)) {
        stream->wants_read = false;
        stream_read(stream);
    } else {
        stream_take_live(stream);
    }
}

static void stream_read(struct stream *stream)
{
    if (stream->is_reading) {
        stream->wants_read = true;
        return;
    }
    if (stream->is_ended || stream_is_blocked(stream))
        return;
    stream->is_reading =
        event_read(stream->streams->reads, stream->job, stream->tenant, stream->position.at.run,
                   stream->position.at.seq, on_page, stream);
    stream->outstanding += stream->is_reading;
}

static void on_peeked(enum pg_status status, bool has_news, void *arg)
{
    struct stream *stream = arg;

    if (!stream_answered(stream))
        return;
    stream->is_peeking = false;
    if (status == PG_OK && has_news)
        stream_read(stream);
}

/* --- once a second ---------------------------------------------------------------------------- */

static void stream_comment(struct stream *stream, int64_t now)
{
    struct buf out;

    if (now - stream->written_us < COMMENT_MS * US_PER_MS || stream_is_blocked(stream))
        return;
    buf_init(&out, 64);
    sse_write_comment(&out, "still here");
    if (!stream_write(stream, &out))
        log_debug(NULL, "a comment could not be written");
}

static void stream_tick(struct stream *stream, int64_t now)
{
    if (!stream->has_head)
        return;
    if (stream->is_broken) {
        stream_end(stream);
        return;
    }
    stream_comment(stream, now);
    if (stream->is_ended)
        stream_fetch_job(stream);
    else if (!stream->is_reading && !stream->is_peeking && !stream->is_blocked) {
        stream->is_peeking =
            event_peek(stream->streams->reads, stream->job, stream->tenant, stream->position.at.run,
                       stream->position.at.seq, stream->position.at.offset, on_peeked, stream);
        stream->outstanding += stream->is_peeking;
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct streams *streams = arg;
    int64_t now = clock_monotonic_us();

    (void)fd, (void)what;
    for (struct stream *stream = streams->first, *next; stream; stream = next) {
        next = stream->next;
        stream_tick(stream, now);
    }
}

/* --- the beginning ---------------------------------------------------------------------------- */

static void stream_open(struct stream *stream)
{
    http_add_header(stream->http, "cache-control", "no-cache");
    http_add_header(stream->http, "x-accel-buffering", "no");
    http_start(stream->http, 200, "text/event-stream");
    stream->has_head = true;
    stream->written_us = clock_monotonic_us();
}

/* Messages are coming, or Redis is away: what Postgres has is read after the subscription. */
static void on_watching(bool is_listening, void *arg)
{
    struct stream *stream = arg;

    (void)is_listening;
    stream_open(stream);
    if (strcmp(http_method(stream->http), "HEAD") == 0)
        stream_end(stream);
    else
        stream_read(stream);
}

static void stream_refuse(struct stream *stream, const char *code, const char *param,
                          const char *message)
{
    struct http_request *http = stream->http;

    stream_detach(stream);
    reply_error(http, code, param, "%s", message);
    stream_release(stream);
}

static struct cursor_facts facts_of(const struct event_place *place)
{
    return (struct cursor_facts){
        .has_row = place->has_row,
        .is_text = place->is_text,
        .row_offset = place->row_offset,
        .row_len = place->row_len,
        .is_boundary = place->is_boundary,
        .last_seq = place->last_seq,
        .text_end = place->text_end,
    };
}

static void on_located(const struct event_place *place, void *arg)
{
    struct stream *stream = arg;
    struct cursor_facts facts = facts_of(place);

    if (!stream_answered(stream))
        return;
    if (place->status != PG_OK) {
        stream_refuse(stream, "unavailable", NULL, "the database is not available");
        return;
    }
    if (!place->is_found) {
        stream_refuse(stream, "not_found", NULL, "no job has this id");
        return;
    }
    if (stream->cursor.seq >= 0 && !cursor_is_possible(&stream->cursor, &facts)) {
        stream_refuse(stream, "invalid_value", "after", "the job never had this cursor");
        return;
    }
    if (stream->cursor.seq ==
        SEQ_ENDED) { /* the reader has the closing event: nothing is to come */
        stream_open(stream);
        stream_end(stream);
        return;
    }
    if (stream->cursor.seq >= 0)
        stream_position_resume(&stream->position, &stream->cursor, &facts, place->attempt);
    stream->watch =
        watch_start(stream->streams->producer->watches, stream->job, on_live, on_watching, stream);
    if (!stream->watch)
        on_watching(false, stream); /* too many: Postgres alone will do */
}

static void streams_add(struct streams *streams, struct stream *stream)
{
    stream->next = streams->first;
    stream->link = &streams->first;
    if (stream->next)
        stream->next->link = &stream->next;
    streams->first = stream;
}

static void stream_start(struct request_context *context, struct id job,
                         const struct cursor *cursor)
{
    struct streams *streams = context->producer->streams;
    struct stream *stream = calloc(1, sizeof(*stream));

    if (!stream) {
        reply_error(context->http, "unavailable", NULL, "out of memory");
        return;
    }
    stream->streams = streams;
    stream->context = context;
    stream->http = context->http;
    stream->job = job;
    stream->cursor = *cursor;
    snprintf(stream->tenant, sizeof(stream->tenant), "%s", context->caller.tenant);
    stream_position_init(&stream->position);
    streams_add(streams, stream);
    if (event_locate(streams->reads, job, stream->tenant, cursor->run, cursor->seq, cursor->offset,
                     on_located, stream)) {
        stream->outstanding++;
        http_on_close(stream->http, on_close, stream);
    } else {
        stream_refuse(stream, "unavailable", NULL, "too many requests wait for the database");
    }
}

void events_handle(struct request_context *context)
{
    struct cursor cursor;
    struct id job;
    struct err err = {0};

    if (!id_parse(context->params[0], strlen(context->params[0]), "job_", &job))
        reply_error(context->http, "not_found", NULL, "no job has this id");
    else if (!cursor_read(context->http, &cursor, &err))
        reply_err(context->http, &err);
    else if (context->producer->streams->is_draining)
        reply_error(context->http, "unavailable", NULL, "the server is shutting down");
    else
        stream_start(context, job, &cursor);
}

/* --- all of a process ------------------------------------------------------------------------- */

struct streams *streams_new(struct producer *producer, struct err *err)
{
    struct timeval period = {.tv_sec = TICK_MS / 1000};
    struct streams *streams = calloc(1, sizeof(*streams));

    if (streams) {
        streams->producer = producer;
        streams->reads = event_reads_new(producer->read_pg);
        streams->tick = event_new(producer->base, -1, EV_PERSIST, on_tick, streams);
        if (streams->reads && streams->tick && event_add(streams->tick, &period) == 0)
            return streams;
    }
    streams_free(streams);
    err_set(err, "event streams: out of memory");
    return NULL;
}

void streams_drain(struct streams *streams)
{
    streams->is_draining = true;
    for (struct stream *stream = streams->first, *next; stream; stream = next) {
        next = stream->next;
        if (stream->has_head)
            stream_end(stream);
        else
            stream_refuse(stream, "unavailable", NULL, "the server is shutting down");
    }
}

void streams_free(struct streams *streams)
{
    if (!streams)
        return;
    while (streams->first)
        stream_end(streams->first);
    if (streams->tick)
        event_free(streams->tick);
    event_reads_free(streams->reads);
    free(streams);
}
