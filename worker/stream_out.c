/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks of output: gathered, shown live, appended, kept until confirmed. */
#include "worker/stream_out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/redis.h"
#include "common/model/channels.h"

#include <event2/event.h>

enum { RETRY_MS = 200, AWAY_MS = 1000, CHUNK_DATA_MAX = STREAM_CHUNK_MAX * 8 };

static const struct log_context log_stream = {.component = "stream"};

enum chunk_kind { CHUNK_TEXT, CHUNK_TOOL, CHUNK_OTHER };

struct chunk {
    struct chunk *next;
    struct stream_out *out;
    enum chunk_kind kind;
    int seq;
    int attempt;
    int64_t offset; /* CHUNK_TEXT: of its first byte */
    bool is_sent;   /* and not answered */
    int tool;       /* CHUNK_TOOL: which call */
    struct buf id, name;
    struct buf body; /* text; arguments; JSON of the others */
};

struct stream_out {
    struct stream_out_spec spec;
    struct event *timer;
    struct chunk *open;
    struct chunk *first, **last; /* closed, not confirmed */
    int next_seq;
    int attempt;
    int64_t text_bytes;
    bool has_deltas;
    size_t shown; /* bytes of the open chunk that live readers have, or nobody wanted */
    bool is_watched;
    int publishing; /* without an answer */
    int stale;      /* of these the first so many say nothing about who watches now */
    int64_t last_us;
    int out_count; /* appends and publishes without an answer */
    bool is_dropped;
};

/* --- life ------------------------------------------------------------------------------------- */

static void chunk_free(struct chunk *chunk)
{
    if (!chunk)
        return;
    buf_release(&chunk->id);
    buf_release(&chunk->name);
    buf_release(&chunk->body);
    free(chunk);
}

static void on_timer(evutil_socket_t fd, short what, void *arg);

struct stream_out *stream_out_new(const struct stream_out_spec *spec)
{
    struct stream_out *out = calloc(1, sizeof(*out));

    if (!out)
        return NULL;
    out->spec = *spec;
    out->last = &out->first;
    out->next_seq = 1;
    out->last_us = clock_monotonic_us();
    out->timer = event_new(spec->base, -1, 0, on_timer, out);
    if (out->timer)
        return out;
    free(out);
    return NULL;
}

static void free_if_over(struct stream_out *out)
{
    if (out->is_dropped && out->out_count == 0)
        free(out);
}

void stream_out_drop(struct stream_out *out)
{
    struct chunk *chunk, *next;

    if (!out)
        return;
    event_free(out->timer);
    out->timer = NULL;
    chunk_free(out->open);
    out->open = NULL;
    for (chunk = out->first; chunk; chunk = next) {
        next = chunk->next;
        if (!chunk->is_sent) /* the others are freed by their answers */
            chunk_free(chunk);
    }
    out->first = NULL;
    out->is_dropped = true;
    free_if_over(out);
}

static void arm(struct stream_out *out, int64_t ms)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    evtimer_add(out->timer, &wait);
}

int stream_out_take_seq(struct stream_out *out)
{
    return out->next_seq++;
}

/* --- append ----------------------------------------------------------------------------------- */

static bool write_tool(const struct chunk *chunk, struct buf *data)
{
    buf_printf(data, "{\"attempt\":%d,\"index\":%d,\"id\":", chunk->attempt, chunk->tool);
    buf_put_json_text(data, chunk->id.len > 0 ? chunk->id.data : NULL);
    buf_puts(data, ",\"name\":");
    buf_put_json_text(data, chunk->name.len > 0 ? chunk->name.data : NULL);
    buf_puts(data, ",\"arguments\":");
    buf_put_json_string(data, chunk->body.len > 0 ? chunk->body.data : "", chunk->body.len);
    return buf_putc(data, '}');
}

static void chunk_forget(struct stream_out *out, struct chunk *chunk)
{
    for (struct chunk **at = &out->first; *at; at = &(*at)->next) {
        if (*at != chunk)
            continue;
        *at = chunk->next;
        if (out->last == &chunk->next)
            out->last = at;
        break;
    }
    chunk_free(chunk);
}

static void on_appended(enum store_outcome outcome, void *arg)
{
    struct chunk *chunk = arg;
    struct stream_out *out = chunk->out;
    bool is_text = chunk->kind == CHUNK_TEXT;

    out->out_count--;
    if (out->is_dropped) {
        chunk_free(chunk);
        free_if_over(out);
        return;
    }
    chunk->is_sent = false;
    if (outcome == STORE_AWAY) {
        log_warn(&log_stream, "output not stored yet: Postgres away (trying again)");
        arm(out, AWAY_MS);
        return;
    }
    if (outcome == STORE_REFUSED)
        log_error(&log_stream, "output not stored: refused by the database (seq=%d)", chunk->seq);
    chunk_forget(out, chunk);
    if (outcome == STORE_STALE) {
        out->spec.on_lost(out->spec.arg);
        return;
    }
    if (!is_text)
        stream_out_changed(out);
    if (!out->first)
        out->spec.on_quiet(out->spec.arg);
}

static bool append(struct stream_out *out, struct chunk *chunk)
{
    static const char *const kinds[] = {
        [CHUNK_TEXT] = "output.delta",
        [CHUNK_TOOL] = "output.tool_delta",
        [CHUNK_OTHER] = "attempt.superseded",
    };
    struct event_row row = {
        .job = out->spec.job,
        .run = out->spec.run,
        .run_token = out->spec.run_token,
        .seq = chunk->seq,
        .kind = kinds[chunk->kind],
        .attempt = chunk->attempt,
        .byte_offset = -1,
    };
    struct buf data;
    bool ok = true;

    buf_init(&data, CHUNK_DATA_MAX);
    if (chunk->kind == CHUNK_TEXT) {
        row.byte_offset = chunk->offset;
        row.text = chunk->body.data;
        row.text_len = chunk->body.len;
    } else {
        ok = chunk->kind == CHUNK_TOOL ? write_tool(chunk, &data)
                                       : buf_append(&data, chunk->body.data, chunk->body.len);
        row.data = data.data;
        row.data_len = data.len;
    }
    ok = ok && event_append(out->spec.events, &row, on_appended, chunk);
    buf_release(&data);
    return ok;
}

/* Sends what is closed, in order, as far as the store takes it. */
static void pump(struct stream_out *out)
{
    for (struct chunk *chunk = out->first; chunk; chunk = chunk->next) {
        if (chunk->is_sent)
            continue;
        if (!append(out, chunk)) {
            arm(out, RETRY_MS);
            return;
        }
        chunk->is_sent = true;
        out->out_count++;
        out->last_us = clock_monotonic_us();
    }
}

/* --- live ------------------------------------------------------------------------------------- */

static void on_published(const struct redis_reply *reply, void *arg)
{
    struct stream_out *out = arg;

    out->out_count--;
    out->publishing--;
    if (out->stale > 0)
        out->stale--;
    else if (reply->kind == REDIS_INT && !out->is_dropped)
        out->is_watched = reply->number > 0;
    free_if_over(out);
}

static void publish(struct stream_out *out, const struct live_message *message)
{
    char channel[CHANNEL_SIZE];
    struct buf text;

    if (!out->spec.redis)
        return;
    channel_of_job(out->spec.job, channel);
    buf_init(&text, STREAM_CHUNK_MAX + 256);
    if (live_message_write(message, &text)) {
        out->out_count++;
        out->publishing++;
        redis_publish(out->spec.redis, channel, text.data, text.len, on_published, out);
    }
    buf_release(&text);
}

void stream_out_changed(struct stream_out *out)
{
    publish(out, &(struct live_message){.kind = LIVE_CHANGED});
}

void stream_out_turn(struct stream_out *out)
{
    struct chunk *open = out->open;

    if (!open || open->kind != CHUNK_TEXT || out->shown >= open->body.len)
        return;
    if (out->is_watched)
        publish(out, &(struct live_message){
                         .kind = LIVE_DELTA,
                         .run = out->spec.run,
                         .seq = open->seq,
                         .attempt = open->attempt,
                         .offset = open->offset + (int64_t)out->shown,
                         .text = open->body.data + out->shown,
                         .len = open->body.len - out->shown,
                     });
    out->shown = open->body.len;
}

/* Whoever comes late lacks the open chunk from its start: Postgres has it only when it closes.
 * Others skip what they know by its offset. */
void stream_out_watch(struct stream_out *out)
{
    out->is_watched = true;
    out->stale = out->publishing;
    out->shown = 0;
    stream_out_turn(out);
}

/* --- gather ----------------------------------------------------------------------------------- */

static void close_open(struct stream_out *out)
{
    if (!out->open)
        return;
    stream_out_turn(out);
    *out->last = out->open;
    out->last = &out->open->next;
    out->open = NULL;
}

/* Closes and appends the open chunk. */
static void flush(struct stream_out *out)
{
    close_open(out);
    pump(out);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    flush(arg);
}

static struct chunk *open_chunk(struct stream_out *out, enum chunk_kind kind)
{
    struct chunk *chunk = calloc(1, sizeof(*chunk));

    if (!chunk)
        return NULL;
    chunk->out = out;
    chunk->kind = kind;
    chunk->seq = stream_out_take_seq(out);
    chunk->attempt = out->attempt;
    chunk->offset = out->text_bytes;
    buf_init(&chunk->id, STREAM_CHUNK_MAX);
    buf_init(&chunk->name, STREAM_CHUNK_MAX);
    buf_init(&chunk->body, STREAM_CHUNK_MAX);
    out->open = chunk;
    out->shown = 0;
    if (!event_pending(out->timer, EV_TIMEOUT, NULL))
        arm(out, STREAM_FLUSH_MS);
    return chunk;
}

void stream_out_begin(struct stream_out *out, int attempt)
{
    flush(out);
    out->attempt = attempt;
    out->text_bytes = 0;
    out->has_deltas = false;
}

void stream_out_text(struct stream_out *out, const char *text, size_t len)
{
    while (len > 0) {
        size_t room, take;

        if (out->open && (out->open->kind != CHUNK_TEXT || out->open->attempt != out->attempt))
            flush(out);
        if (!out->open && !open_chunk(out, CHUNK_TEXT))
            return; /* out of memory: the result still has it */
        room = STREAM_CHUNK_MAX - out->open->body.len;
        take = len <= room ? len : str_utf8_boundary(text, room);
        if (take == 0 || !buf_append(&out->open->body, text, take)) {
            if (out->open->body.len == 0)
                return;
            flush(out);
            continue;
        }
        out->text_bytes += (int64_t)take;
        out->has_deltas = true;
        text += take;
        len -= take;
    }
}

static bool fits_tool(const struct stream_out *out, const struct tool_delta *delta)
{
    const struct chunk *open = out->open;

    return open && open->kind == CHUNK_TOOL && open->tool == delta->index &&
           open->attempt == out->attempt &&
           open->body.len + delta->arguments_len < STREAM_CHUNK_MAX;
}

void stream_out_tool(struct stream_out *out, const struct tool_delta *delta)
{
    size_t at = 0;

    do {
        size_t take = delta->arguments_len - at;

        if (take >= STREAM_CHUNK_MAX)
            take = str_utf8_boundary(delta->arguments + at, STREAM_CHUNK_MAX - 1);
        if (!fits_tool(out, delta)) {
            flush(out);
            if (!open_chunk(out, CHUNK_TOOL))
                return;
            out->open->tool = delta->index;
        }
        if (at == 0 && delta->id)
            buf_puts(&out->open->id, delta->id);
        if (at == 0 && delta->name)
            buf_puts(&out->open->name, delta->name);
        if (take > 0)
            buf_append(&out->open->body, delta->arguments + at, take);
        at += take;
    } while (at < delta->arguments_len);
    out->has_deltas = true;
}

bool stream_out_has_deltas(const struct stream_out *out)
{
    return out->has_deltas;
}

int64_t stream_out_bytes(const struct stream_out *out)
{
    return out->text_bytes;
}

/* --- close ------------------------------------------------------------------------------------ */

void stream_out_supersede(struct stream_out *out, const char *reason)
{
    struct chunk *chunk;

    close_open(out);
    chunk = open_chunk(out, CHUNK_OTHER);
    if (chunk)
        buf_printf(&chunk->body, "{\"attempt\":%d,\"valid_bytes\":%lld,\"reason\":\"%s\"}",
                   out->attempt, (long long)out->text_bytes, reason);
    flush(out);
    out->has_deltas = false;
}

bool stream_out_is_quiet(const struct stream_out *out)
{
    return !out->first;
}

bool stream_out_prepare_end(struct stream_out *out, struct event_chunk *chunk, bool *has_chunk)
{
    *has_chunk = false;
    if (out->open && out->open->kind != CHUNK_TEXT)
        close_open(out);
    pump(out);
    if (out->first)
        return false;
    event_del(out->timer);
    if (!out->open)
        return true;
    stream_out_turn(out);
    *chunk = (struct event_chunk){
        .seq = out->open->seq,
        .attempt = out->open->attempt,
        .byte_offset = out->open->offset,
        .text = out->open->body.data,
        .text_len = out->open->body.len,
    };
    *has_chunk = true;
    return true;
}

int64_t stream_out_last_us(const struct stream_out *out)
{
    return out->last_us;
}
