/* SPDX-License-Identifier: Apache-2.0 */
/* Every call the simulator received, in memory and as JSON lines in a file. */
#include "tests/simulator/call_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/base/str.h"

enum {
    FACTS_MAX = 16 << 10,
    VALUE_MAX = 512, /* of one value that the caller chose; the rest is cut */
    FILE_PENDING_MAX = 64 << 20,
    FLUSH_US = 10000,
    STATUS_MAX = 600
};

/* One call.  What never changes is kept as the JSON it will be shown as. */
struct record {
    int64_t seq; /* 0: unused */
    int64_t received_us;
    int64_t ended_us; /* 0: in flight */
    char *facts;      /* "provider":...,"headers":{...} */
    int64_t prompt_tokens;
    int64_t output_tokens;
    int status;
    enum call_outcome outcome;
    bool has_sent_usage;
    bool has_text;
    uint8_t text_sha256[SHA256_SIZE];
};

struct call_log {
    struct record *ring; /* CALL_LOG_RING, by seq modulo */
    int64_t last_seq;
    int64_t first_seq; /* of this epoch: call_log_reset moves it */
    int fd;            /* -1: no file */
    struct buf pending;
    struct event *flush_timer;
    int64_t received, in_flight, peak;
    int64_t by_outcome[CALL_ERROR + 1];
    int64_t by_status[STATUS_MAX];
    int64_t prompt_tokens, output_tokens;
};

static const char *const outcome_names[] = {
    [CALL_COMPLETED] = "completed",
    [CALL_CUT] = "cut",
    [CALL_CLIENT_GONE] = "client_gone",
    [CALL_ERROR] = "error",
};

/* --- the file --------------------------------------------------------------------------------- */

static void flush_file(struct call_log *log)
{
    size_t done = 0;

    while (done < log->pending.len) {
        ssize_t n = write(log->fd, log->pending.data + done, log->pending.len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            log_error(NULL, "write the call log: %s", strerror(errno));
            break;
        }
        done += (size_t)n;
    }
    buf_clear(&log->pending);
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    flush_file(arg);
}

struct call_log *call_log_new(struct event_base *base, const char *path, struct err *err)
{
    struct call_log *log = xcalloc(1, sizeof(*log));

    log->fd = -1;
    log->first_seq = 1;
    buf_init(&log->pending, FILE_PENDING_MAX);
    log->ring = xcalloc(CALL_LOG_RING, sizeof(*log->ring));
    if (!path)
        return log;
    log->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    log->flush_timer = evtimer_new(base, on_flush, log);
    if (log->fd < 0 || !log->flush_timer) {
        err_set(err, "open the call log %s: %s", path, strerror(errno));
        call_log_free(log);
        return NULL;
    }
    return log;
}

/* --- one call as JSON ------------------------------------------------------------------------- */

static void put_member(struct buf *out, const char *name, const char *text, size_t len)
{
    struct buf clean;

    buf_printf(out, ",\"%s\":", name);
    if (!text) {
        buf_puts(out, "null");
        return;
    }
    buf_init(&clean, FACTS_MAX);
    if (str_utf8_clean(&clean, text, len < VALUE_MAX ? len : VALUE_MAX))
        buf_put_json_string(out, clean.data ? clean.data : "", clean.len);
    else
        buf_puts(out, "null");
    buf_release(&clean);
}

static void put_text_member(struct buf *out, const char *name, const char *text)
{
    put_member(out, name, text, text ? strlen(text) : 0);
}

static void put_headers(struct buf *out, const struct call_facts *facts)
{
    struct buf headers;

    buf_init(&headers, FACTS_MAX);
    for (size_t i = 0; i < facts->header_count; i++)
        put_text_member(&headers, facts->header_names[i], facts->header_values[i]);
    /* Each member brings its comma in front; the first one's is not wanted. */
    buf_printf(out, ",\"headers\":{%s}", headers.len > 0 ? headers.data + 1 : "");
    buf_release(&headers);
}

/* The JSON of what never changes; NULL when it would be absurdly large. */
static char *facts_json(const struct call_facts *facts)
{
    const char *key = facts->key;
    char sha[2 * SHA256_SIZE + 1];
    struct buf out;

    if (key && strlen(key) > 4)
        key += strlen(key) - 4;
    if (facts->prompt_sha256)
        str_hex(facts->prompt_sha256, SHA256_SIZE, sha);
    buf_init(&out, FACTS_MAX);
    put_text_member(&out, "provider", facts->provider);
    put_text_member(&out, "model", facts->model);
    put_text_member(&out, "key", key);
    put_text_member(&out, "prompt_sha256", facts->prompt_sha256 ? sha : NULL);
    buf_printf(&out, ",\"bytes\":%zu,\"stream\":%s", facts->bytes,
               facts->is_stream ? "true" : "false");
    put_text_member(&out, "job", facts->job);
    put_member(&out, "marker", facts->marker, facts->marker_len);
    put_headers(&out, facts);
    if (out.is_broken) {
        buf_release(&out);
        return NULL;
    }
    return buf_detach(&out, NULL);
}

static void put_record(struct buf *out, const struct record *record)
{
    char received[CLOCK_RFC3339_SIZE], ended[CLOCK_RFC3339_SIZE];
    char sha[2 * SHA256_SIZE + 1];

    clock_format_rfc3339(record->received_us, received);
    buf_printf(out, "{\"seq\":%" PRId64 ",\"received_at\":\"%s\"%s", record->seq, received,
               record->facts ? record->facts : "");
    if (record->ended_us == 0) {
        buf_puts(out, ",\"status\":null,\"outcome\":null,\"output_tokens\":null,"
                      "\"prompt_tokens\":null,\"sent_usage\":null,\"ended_at\":null,"
                      "\"text_sha256\":null}");
        return;
    }
    clock_format_rfc3339(record->ended_us, ended);
    if (record->status)
        buf_printf(out, ",\"status\":%d", record->status);
    else
        buf_puts(out, ",\"status\":null");
    buf_printf(out,
               ",\"outcome\":\"%s\",\"output_tokens\":%" PRId64 ",\"prompt_tokens\":%" PRId64
               ",\"sent_usage\":%s,\"ended_at\":\"%s\",\"text_sha256\":",
               outcome_names[record->outcome], record->output_tokens, record->prompt_tokens,
               record->has_sent_usage ? "true" : "false", ended);
    str_hex(record->text_sha256, SHA256_SIZE, sha);
    buf_printf(out, record->has_text ? "\"%s\"}" : "null}", sha);
}

/* --- life of a call --------------------------------------------------------------------------- */

int64_t call_log_begin(struct call_log *log, const struct call_facts *facts)
{
    int64_t seq = log->last_seq + 1;
    struct record *record = &log->ring[seq % CALL_LOG_RING];

    if (record->seq != 0 && record->ended_us == 0)
        return 0;
    free(record->facts);
    *record = (struct record){
        .seq = seq,
        .received_us = clock_now_us(),
        .facts = facts_json(facts),
    };
    log->last_seq = seq;
    log->received++;
    log->in_flight++;
    if (log->in_flight > log->peak)
        log->peak = log->in_flight;
    return seq;
}

static void write_line(struct call_log *log, const struct record *record)
{
    const struct timeval soon = {.tv_usec = FLUSH_US};

    if (log->fd < 0)
        return;
    put_record(&log->pending, record);
    buf_putc(&log->pending, '\n');
    if (log->pending.len > (1U << 20) || log->pending.is_broken)
        flush_file(log);
    else if (!evtimer_pending(log->flush_timer, NULL))
        event_add(log->flush_timer, &soon);
}

void call_log_end(struct call_log *log, int64_t seq, const struct call_end *end)
{
    struct record *record = &log->ring[seq % CALL_LOG_RING];

    if (record->seq != seq || record->ended_us != 0)
        return; /* of before a reset */
    record->ended_us = clock_now_us();
    record->status = end->status;
    record->outcome = end->outcome;
    record->prompt_tokens = end->prompt_tokens;
    record->output_tokens = end->output_tokens;
    record->has_sent_usage = end->has_sent_usage;
    record->has_text = end->text_sha256 != NULL;
    if (end->text_sha256)
        memcpy(record->text_sha256, end->text_sha256, SHA256_SIZE);
    log->in_flight--;
    log->by_outcome[end->outcome]++;
    log->by_status[end->status > 0 && end->status < STATUS_MAX ? end->status : 0]++;
    log->prompt_tokens += end->prompt_tokens;
    log->output_tokens += end->output_tokens;
    write_line(log, record);
}

void call_log_reset(struct call_log *log)
{
    for (int64_t i = 0; i < CALL_LOG_RING; i++) {
        free(log->ring[i].facts);
        log->ring[i] = (struct record){.seq = 0};
    }
    log->first_seq = log->last_seq + 1;
    log->received = log->in_flight = log->peak = 0;
    log->prompt_tokens = log->output_tokens = 0;
    memset(log->by_outcome, 0, sizeof(log->by_outcome));
    memset(log->by_status, 0, sizeof(log->by_status));
}

void call_log_free(struct call_log *log)
{
    const struct call_end cut = {.outcome = CALL_CUT};

    if (!log)
        return;
    for (int64_t i = 0; log->fd >= 0 && log->flush_timer && i < CALL_LOG_RING; i++) {
        if (log->ring[i].seq != 0 && log->ring[i].ended_us == 0)
            call_log_end(log, log->ring[i].seq, &cut);
    }
    if (log->fd >= 0) {
        flush_file(log);
        close(log->fd);
    }
    if (log->flush_timer)
        event_free(log->flush_timer);
    for (int64_t i = 0; i < CALL_LOG_RING; i++)
        free(log->ring[i].facts);
    buf_release(&log->pending);
    free(log->ring);
    free(log);
}

/* --- reading it ------------------------------------------------------------------------------- */

void call_log_list(const struct call_log *log, int64_t after, int64_t limit, struct buf *out)
{
    int64_t oldest = log->last_seq - CALL_LOG_RING + 1;
    int64_t seq = after + 1;
    int64_t count = 0;

    if (seq < log->first_seq)
        seq = log->first_seq;
    if (seq < oldest)
        seq = oldest;
    buf_puts(out, "{\"object\":\"list\",\"data\":[");
    for (; seq <= log->last_seq && count < limit; seq++, count++) {
        if (count > 0)
            buf_putc(out, ',');
        put_record(out, &log->ring[seq % CALL_LOG_RING]);
    }
    buf_printf(out, "],\"last_seq\":%" PRId64 ",\"has_more\":%s}\n", log->last_seq,
               seq <= log->last_seq ? "true" : "false");
}

void call_log_stats(const struct call_log *log, struct buf *out)
{
    const char *comma = "";

    buf_printf(out,
               "\"received\":%" PRId64 ",\"in_flight\":%" PRId64 ",\"peak\":%" PRId64
               ",\"completed\":%" PRId64 ",\"cut\":%" PRId64 ",\"aborted\":%" PRId64
               ",\"errors\":%" PRId64 ",\"prompt_tokens\":%" PRId64 ",\"output_tokens\":%" PRId64
               ",\"last_seq\":%" PRId64 ",\"by_status\":{",
               log->received, log->in_flight, log->peak, log->by_outcome[CALL_COMPLETED],
               log->by_outcome[CALL_CUT], log->by_outcome[CALL_CLIENT_GONE],
               log->by_outcome[CALL_ERROR], log->prompt_tokens, log->output_tokens, log->last_seq);
    for (int i = 0; i < STATUS_MAX; i++) {
        if (log->by_status[i] == 0)
            continue;
        buf_printf(out, "%s\"%d\":%" PRId64, comma, i, log->by_status[i]);
        comma = ",";
    }
    buf_putc(out, '}');
}
