/* SPDX-License-Identifier: Apache-2.0 */
/* POST /v1/jobs/bulk: a line in, a line out, in order and in bounded memory.
 *
 * Lines are submitted as they come, WINDOW of them at a time; when that many are out the body is
 * not read on.  Answers leave in the order of the lines.  A client need not read them before it has
 * sent everything: what the connection does not take goes to a temporary file. */
#include "producer/bulk.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <event2/event.h>

#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/io/daemon.h"
#include "common/io/http_server.h"
#include "common/model/api_error.h"
#include "common/model/job.h"
#include "common/model/job_submit.h"
#include "producer/answer_spool.h"
#include "producer/line_split.h"
#include "producer/producer.h"
#include "producer/reply.h"
#include "producer/submit.h"

enum {
    WINDOW = 256, /* lines whose answers are not out yet */
    WINDOW_BYTES = 6 * 1024 * 1024,
    LINES_MAX = 100000,
    BODY_MAX = 512 * 1024 * 1024,
    IDLE_MS = 60000,
    UNREAD_MS = 86400 * 1000, /* who sends need not read yet; the body has its own clock */
    RETRY_MS = 50,            /* when the process has too much out */
    INPUT_MAX = 1024 * 1024,  /* read but not yet looked at, while the window is full */
    ANSWERS_MAX = 1024 * 1024,
    PENDING_HIGH = 256 * 1024,
    PENDING_LOW = 64 * 1024,
    SPOOL_PIECE = 128 * 1024,
};

/* A line on its way. */
struct slot {
    struct bulk *bulk;
    int64_t number;
    size_t len;   /* bytes it counts against the window */
    char *answer; /* NULL: not there yet */
    size_t answer_len;
};

struct bulk {
    struct request_context *context; /* NULL: the request has ended */
    struct http_request *http;
    struct producer *producer;
    char tenant[JOB_LABEL_MAX + 1];
    char key_id[CALLER_KEY_SIZE];
    struct line_split lines;
    struct buf input; /* came while the window was full */
    struct slot slots[WINDOW];
    unsigned first, count; /* of the slots in use: a ring */
    size_t bytes;          /* of lines being submitted */
    int64_t accepted, rejected;
    struct buf answers; /* of this turn */
    struct answer_spool spool;
    struct event *retry;
    int outstanding;     /* calls that come back with this struct */
    bool tells_replays;  /* ?include=replayed */
    bool has_line;       /* lines.line waits until there is room to submit it */
    bool has_flush;      /* at the end of this turn */
    bool is_draining;    /* on_drain is awaited */
    bool is_body_over;   /* its end, good or bad, was told */
    bool is_input_over;  /* nothing more will come, or be looked at */
    bool is_closed_line; /* the last line, summary or error, is written */
    bool is_failed;      /* answers were lost: the connection must end */
    char code[32];       /* why the input broke off; "" when it did not */
    char message[128];
};

static void bulk_advance(struct bulk *bulk);

/* --- the end ---------------------------------------------------------------------------------- */

static void bulk_release(struct bulk *bulk)
{
    if (bulk->context || bulk->outstanding > 0)
        return;
    for (unsigned i = 0; i < WINDOW; i++)
        free(bulk->slots[i].answer);
    if (bulk->retry)
        event_free(bulk->retry);
    answer_spool_release(&bulk->spool);
    buf_release(&bulk->answers);
    buf_release(&bulk->input);
    line_split_release(&bulk->lines);
    free(bulk);
}

static void bulk_end(struct bulk *bulk)
{
    bulk->context = NULL;
    if (bulk->retry)
        event_del(bulk->retry);
    if (bulk->is_failed)
        http_abort(bulk->http, true);
    else
        http_end(bulk->http);
    bulk_release(bulk);
}

/* The client is gone.  What was accepted stays. */
static void on_close(struct http_request *http, void *arg)
{
    (void)http;
    bulk_end(arg);
}

/* --- answers out ------------------------------------------------------------------------------ */

static void on_drain(struct http_request *http, void *arg);

static void await_drain(struct bulk *bulk)
{
    if (bulk->is_draining)
        return;
    bulk->is_draining = true;
    http_on_drain(bulk->http, PENDING_LOW, on_drain, bulk);
}

static void bulk_fail(struct bulk *bulk, const struct err *err)
{
    static const struct log_context context = {.component = "bulk"};

    log_error(&context, "answers cannot be kept: %s", err->message);
    bulk->is_failed = true;
    bulk->is_input_over = true;
}

/* Gives what was gathered to the connection, or behind what waits in the file already. */
static void flush_answers(struct bulk *bulk)
{
    struct err err = {0};

    if (bulk->answers.len == 0 && !bulk->answers.is_broken)
        return;
    if (bulk->answers.is_broken) {
        err_set(&err, "out of memory");
        bulk_fail(bulk, &err);
    } else if (answer_spool_is_empty(&bulk->spool) && http_pending(bulk->http) < PENDING_HIGH &&
               http_write(bulk->http, bulk->answers.data, bulk->answers.len)) {
        buf_clear(&bulk->answers);
        return;
    } else if (answer_spool_add(&bulk->spool, bulk->answers.data, bulk->answers.len, &err)) {
        await_drain(bulk);
    } else {
        bulk_fail(bulk, &err);
    }
    buf_clear(&bulk->answers);
}

static bool refill_from_spool(struct bulk *bulk, struct err *err)
{
    char *piece = malloc(SPOOL_PIECE);
    size_t len = 0;
    bool ok = piece && answer_spool_take(&bulk->spool, piece, SPOOL_PIECE, &len, err);

    if (ok && !http_write(bulk->http, piece, len))
        ok = err_set(err, "the connection does not take what it asked for");
    free(piece);
    return ok;
}

static void on_drain(struct http_request *http, void *arg)
{
    struct bulk *bulk = arg;
    struct err err = {0};

    (void)http;
    bulk->is_draining = false;
    if (!answer_spool_is_empty(&bulk->spool) && !refill_from_spool(bulk, &err))
        bulk_fail(bulk, &err);
    else if (!answer_spool_is_empty(&bulk->spool))
        await_drain(bulk);
    bulk_advance(bulk);
}

static void put_error(struct buf *out, const char *object, int64_t number, const char *code,
                      const char *param, const char *message)
{
    int status = strcmp(code, "incomplete") == 0 ? 400 : api_error_status(code);
    struct buf error;

    buf_init(&error, ANSWERS_MAX);
    api_error_write(&error, status, code, param, message);
    buf_putc(out, '{');
    if (object)
        buf_printf(out, "\"object\":\"%s\",", object);
    buf_printf(out, "\"line\":%" PRId64 ",", number);
    if (error.is_broken)
        out->is_broken = true;
    else
        buf_append(out, error.data + 1, error.len - 1); /* with its newline */
    buf_release(&error);
}

static void put_last_line(struct bulk *bulk)
{
    if (bulk->code[0])
        put_error(&bulk->answers, "bulk.error", bulk->lines.number + 1, bulk->code, NULL,
                  bulk->message);
    else
        buf_printf(&bulk->answers,
                   "{\"object\":\"bulk.summary\",\"accepted\":%" PRId64 ",\"rejected\":%" PRId64
                   "}\n",
                   bulk->accepted, bulk->rejected);
    bulk->is_closed_line = true;
}

/* Answers at the head of the ring leave; those behind one that is not there yet wait. */
static void gather_answers(struct bulk *bulk)
{
    while (bulk->count > 0 && bulk->slots[bulk->first].answer) {
        struct slot *slot = &bulk->slots[bulk->first];

        if (bulk->answers.len + slot->answer_len > ANSWERS_MAX)
            flush_answers(bulk);
        buf_append(&bulk->answers, slot->answer, slot->answer_len);
        free(slot->answer);
        slot->answer = NULL;
        bulk->first = (bulk->first + 1) % WINDOW;
        bulk->count--;
    }
    if (bulk->is_input_over && bulk->count == 0 && !bulk->is_closed_line)
        put_last_line(bulk);
}

/* --- lines ------------------------------------------------------------------------------------ */

static struct slot *slot_take(struct bulk *bulk, size_t len)
{
    struct slot *slot = &bulk->slots[(bulk->first + bulk->count) % WINDOW];

    bulk->count++;
    *slot = (struct slot){.bulk = bulk, .number = bulk->lines.number, .len = len};
    bulk->bytes += len;
    return slot;
}

static void slot_answer(struct slot *slot, struct buf *answer)
{
    struct err err = {0};

    slot->bulk->bytes -= slot->len;
    slot->len = 0;
    slot->answer = buf_detach(answer, &slot->answer_len);
    if (slot->answer)
        return;
    err_set(&err, "out of memory");
    bulk_fail(slot->bulk, &err);
    slot->answer = calloc(1, 1);
    slot->answer_len = 0;
}

static void slot_refuse(struct slot *slot, const struct err *err)
{
    const char *code = err->code[0] ? err->code : "internal";
    struct buf answer;

    buf_init(&answer, ANSWERS_MAX);
    put_error(&answer, NULL, slot->number, code, err->param,
              err->code[0] ? err->message : "the server made a mistake");
    slot->bulk->rejected++;
    slot_answer(slot, &answer);
}

static void on_submitted(const struct submit_outcome *outcome, void *arg)
{
    struct slot *slot = arg;
    struct bulk *bulk = slot->bulk;
    struct buf answer;
    char id[ID_TEXT_SIZE];

    bulk->outstanding--;
    if (outcome->is_accepted) {
        id_format(outcome->job->id, "job_", id);
        buf_init(&answer, ANSWERS_MAX);
        buf_printf(&answer, "{\"line\":%" PRId64 ",\"id\":\"%s\"", slot->number, id);
        if (bulk->tells_replays)
            buf_printf(&answer, ",\"replayed\":%s", outcome->is_replayed ? "true" : "false");
        buf_puts(&answer, "}\n");
        bulk->accepted++;
        slot_answer(slot, &answer);
    } else {
        slot_refuse(slot, &outcome->err);
    }
    if (bulk->context)
        bulk_advance(bulk);
    else
        bulk_release(bulk);
}

/* The line as a job with its owner; NULL: err tells why it is none. */
static struct job_new *read_line(const struct bulk *bulk, const char *text, size_t len,
                                 struct err *err)
{
    struct job_rules rules = submit_rules(bulk->producer);
    struct job_new *job;

    rules.takes_idempotency_key = true;
    job = job_submit_read(text, len, &rules, err);
    if (!job)
        return NULL;
    job->tenant = strdup(bulk->tenant);
    job->key_id = strdup(bulk->key_id);
    if (job->idempotency_key)
        submit_fingerprint("POST /v1/jobs/bulk", text, len, job->body_hash);
    if (job->tenant && job->key_id)
        return job;
    job_new_free(job);
    err_set(err, "out of memory");
    return NULL;
}

/* Submits lines.line.  False: too much is out, it stays. */
static bool submit_line(struct bulk *bulk)
{
    const struct buf *line = &bulk->lines.line;
    struct err err = {0};
    struct job_new *job = read_line(bulk, line->data, line->len, &err);
    unsigned next = (bulk->first + bulk->count) % WINDOW;

    if (!job) {
        slot_refuse(slot_take(bulk, 0), &err);
        return true;
    }
    if (!submit_job(bulk->producer, job, line->len, on_submitted, &bulk->slots[next]))
        return false;
    slot_take(bulk, line->len);
    bulk->outstanding++;
    return true;
}

static void refuse_line(struct bulk *bulk, const char *code, const char *message)
{
    struct err err = {0};

    err_input(&err, code, "", "%s", message);
    slot_refuse(slot_take(bulk, 0), &err);
}

static void stop_input(struct bulk *bulk, const char *code, const char *message)
{
    bulk->is_input_over = true;
    snprintf(bulk->code, sizeof(bulk->code), "%s", code);
    snprintf(bulk->message, sizeof(bulk->message), "%s", message);
}

static void take_line(struct bulk *bulk, enum line_kind kind)
{
    char message[96];

    switch (kind) {
    case LINE_NONE:
    case LINE_BLANK:
        break;
    case LINE_TEXT:
        bulk->has_line = true; /* bulk_advance submits it */
        break;
    case LINE_OVER:
        snprintf(message, sizeof(message), "the line is longer than the limit of %" PRId64 " bytes",
                 bulk->producer->options->max_body_bytes);
        refuse_line(bulk, "too_large", message);
        break;
    case LINE_LOST:
        refuse_line(bulk, "overloaded", "the server is out of memory");
        break;
    }
}

static bool has_room(const struct bulk *bulk)
{
    return bulk->count < WINDOW && (bulk->count == 0 || bulk->bytes < WINDOW_BYTES);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    bulk_advance(arg);
}

/* Submits the line that waits, if one does and there is room.  True: none waits any more. */
static bool place_line(struct bulk *bulk)
{
    struct timeval wait = {.tv_usec = RETRY_MS * 1000};

    if (!bulk->has_line)
        return true;
    if (!has_room(bulk))
        return false;
    bulk->has_line = !submit_line(bulk);
    if (bulk->has_line)
        event_add(bulk->retry, &wait);
    return !bulk->has_line;
}

/* Looks at data line by line while there is room; returns how much of it was used. */
static size_t take_input(struct bulk *bulk, const char *data, size_t len)
{
    size_t at = 0, used;

    while (at < len && !bulk->is_input_over && place_line(bulk) && has_room(bulk)) {
        if (bulk->lines.number >= LINES_MAX && !bulk->lines.has_bytes) {
            stop_input(bulk, "too_large", "more than 100000 lines");
            break;
        }
        take_line(bulk, line_split_feed(&bulk->lines, data + at, len - at, &used));
        at += used;
    }
    place_line(bulk);
    return bulk->is_input_over ? len : at;
}

/* --- the machine ------------------------------------------------------------------------------ */

/* The input is read, whole or as far as it will be. */
static bool is_input_taken(const struct bulk *bulk)
{
    return bulk->input.len == 0 && !bulk->has_line;
}

static void finish_input(struct bulk *bulk)
{
    if (!bulk->is_body_over || bulk->is_input_over || !is_input_taken(bulk) || !has_room(bulk))
        return;
    if (bulk->code[0] == '\0') {
        take_line(bulk, line_split_finish(&bulk->lines));
        if (!place_line(bulk))
            return;
    }
    bulk->is_input_over = true;
}

static void on_flush(void *arg)
{
    struct bulk *bulk = arg;

    bulk->outstanding--;
    bulk->has_flush = false;
    if (!bulk->context) {
        bulk_release(bulk);
        return;
    }
    flush_answers(bulk);
    if (bulk->is_failed ||
        (bulk->is_closed_line && bulk->answers.len == 0 && answer_spool_is_empty(&bulk->spool)))
        bulk_end(bulk);
}

/* Is there something to do at once?  Lines refused here and now make room for more. */
static bool can_go_on(const struct bulk *bulk)
{
    if (bulk->is_input_over || !has_room(bulk) || evtimer_pending(bulk->retry, NULL))
        return false;
    return !is_input_taken(bulk) || bulk->is_body_over;
}

static void bulk_advance(struct bulk *bulk)
{
    do {
        buf_drop_front(&bulk->input, take_input(bulk, bulk->input.data, bulk->input.len));
        finish_input(bulk);
        gather_answers(bulk);
    } while (can_go_on(bulk));
    if (!bulk->is_body_over) {
        if (bulk->is_input_over || !is_input_taken(bulk) || !has_room(bulk))
            http_pause_body(bulk->http);
        else
            http_resume_body(bulk->http);
    }
    if (!bulk->has_flush) {
        bulk->has_flush = true;
        bulk->outstanding++;
        daemon_defer(bulk->producer->base, on_flush, bulk);
    }
}

static void on_chunk(struct http_request *http, const char *data, size_t len, void *arg)
{
    struct bulk *bulk = arg;
    struct err err = {0};

    (void)http;
    if (!buf_append(&bulk->input, data, len)) {
        err_set(&err, "more input than can be held");
        bulk_fail(bulk, &err);
    }
    bulk_advance(bulk);
}

static void on_body_end(struct http_request *http, bool ok, const char *code, void *arg)
{
    struct bulk *bulk = arg;

    bulk->is_body_over = true;
    http_set_write_timeout(http, -1);
    if (ok || bulk->is_input_over)
        ;
    else if (strcmp(code, "too_large") == 0)
        snprintf(bulk->code, sizeof(bulk->code), "too_large"),
            snprintf(bulk->message, sizeof(bulk->message), "the body is larger than %d bytes",
                     BODY_MAX);
    else
        snprintf(bulk->code, sizeof(bulk->code), "incomplete"),
            snprintf(bulk->message, sizeof(bulk->message), "the upload broke off");
    bulk_advance(bulk);
}

/* --- the beginning ---------------------------------------------------------------------------- */

static bool is_ndjson(const char *type)
{
    static const char wanted[] = "application/x-ndjson";
    size_t len = type ? strcspn(type, "; \t") : 0;

    return len == sizeof(wanted) - 1 && strncasecmp(type, wanted, len) == 0;
}

static struct bulk *bulk_new(struct request_context *context)
{
    struct bulk *bulk = calloc(1, sizeof(*bulk));

    if (!bulk)
        return NULL;
    bulk->producer = context->producer;
    bulk->http = context->http;
    snprintf(bulk->tenant, sizeof(bulk->tenant), "%s", context->caller.tenant);
    snprintf(bulk->key_id, sizeof(bulk->key_id), "%s", context->caller.key_id);
    line_split_init(&bulk->lines, (size_t)context->producer->options->max_body_bytes);
    buf_init(&bulk->input, INPUT_MAX);
    buf_init(&bulk->answers, 2 * ANSWERS_MAX);
    answer_spool_init(&bulk->spool);
    bulk->retry = evtimer_new(context->producer->base, on_retry, bulk);
    if (bulk->retry) {
        bulk->context = context;
        return bulk;
    }
    bulk_release(bulk);
    return NULL;
}

static bool on_parameter(const char *name, const char *value, void *arg, struct err *err)
{
    bool *tells_replays = arg;

    if (strcmp(name, "include") != 0)
        return err_input(err, "invalid_value", name,
                         "%.64s: unknown query parameter (known: include)", name);
    *tells_replays = strcmp(value, "replayed") == 0;
    return *tells_replays || err_input(err, "invalid_value", name, "include: expected replayed");
}

void bulk_handle(struct request_context *context)
{
    bool tells_replays = false;
    struct err err = {0};
    struct bulk *bulk;

    if (!http_query_each(context->http, on_parameter, &tells_replays, &err)) {
        reply_err(context->http, &err);
        return;
    }
    if (!is_ndjson(http_header(context->http, "content-type"))) {
        reply_error(context->http, "unsupported_media_type", NULL,
                    "expected content-type application/x-ndjson");
        return;
    }
    bulk = bulk_new(context);
    if (!bulk) {
        reply_error(context->http, "unavailable", NULL, "out of memory");
        return;
    }
    bulk->tells_replays = tells_replays;
    http_on_close(context->http, on_close, bulk);
    http_set_write_timeout(context->http, UNREAD_MS);
    http_start(context->http, 200, "application/x-ndjson");
    http_stream_body(context->http, BODY_MAX, IDLE_MS, on_chunk, on_body_end, bulk);
}
