/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a batch on their way to the server: read, uploaded a chunk at a time, tried again. */
#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "producer/cli/batch.h"

enum {
    REFUSED_PAUSE_MS = 1000,
    UPLOAD_TIMEOUT_MS = 120000,
    SKEW_MS = 2000,
    UPLOAD_BYTES_MAX = BATCH_CHUNK_BYTES + BATCH_LINE_MAX + BATCH_CHUNK_LINES, /* a line over */
};

static void submit_in(struct batch *batch, int64_t ms)
{
    const struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    event_add(batch->submit_timer, &wait);
}

/* --- reading ---------------------------------------------------------------------------------- */

static struct entry *add_entry(struct batch *batch, int64_t line)
{
    struct entry *entry = xcalloc(1, sizeof(*entry));

    if (batch->count == batch->cap) {
        size_t cap = batch->cap ? batch->cap * 2 : 1024;
        struct entry **entries = realloc(batch->entries, cap * sizeof(*entries));

        if (!entries)
            abort();
        batch->entries = entries;
        batch->cap = cap;
    }
    entry->batch = batch;
    entry->line = line;
    heap_entry_init(&entry->look);
    batch->entries[batch->count++] = entry;
    return entry;
}

static void read_line(struct batch *batch)
{
    struct batch_line line = {.body = &batch->line};
    struct err err;
    struct entry *entry;

    if (!batch_input_next(batch->input, &line, &err)) {
        batch->is_input_over = true;
        if (*err.message) {
            batch_say(batch, "%s", err.message);
            batch_stop(batch, CLI_USAGE);
        }
        return;
    }
    if (batch->count == BATCH_LINES_MAX) {
        batch->is_input_over = true;
        batch_say(batch, "a batch has at most %d lines; split the file", BATCH_LINES_MAX);
        batch_stop(batch, CLI_USAGE);
        return;
    }
    entry = add_entry(batch, line.number);
    if (line.is_bad) {
        batch_entry_bad(batch, entry, *line.err.code ? line.err.code : "invalid_value",
                        line.err.message);
        return;
    }
    batch->chunk[batch->chunk_count++] =
        (struct pending){.entry = entry, .text = xstrdup(line.body->data), .len = line.body->len};
    batch->chunk_bytes += line.body->len + 1;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* Was the job there before this run?  The server says whether its key was known.  Where it may be
 * known by an upload of this run that broke off, the id says when the job was made, by the server's
 * clock. */
static bool was_there(const struct batch *batch, const struct pending *pending,
                      const json_t *answer)
{
    int64_t begun_wall_us =
        clock_now_us() - (clock_monotonic_us() - batch->begun_us) + batch->server_skew_us;

    if (!json_is_true(json_object_get(answer, "replayed")))
        return false;
    return !pending->may_be_ours ||
           id_time_us(pending->entry->job) < begun_wall_us - SKEW_MS * US_PER_MS;
}

static bool may_pass_later(const char *code)
{
    static const char *const codes[] = {"rate_limited", "queue_full", "overloaded",
                                        "unavailable",  "conflict",   "internal"};

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (str_equal(code, codes[i]))
            return true;
    return false;
}

/* True: this line needs no further try. */
static bool take_answer(struct batch *batch, struct pending *pending, const json_t *answer)
{
    const char *id = json_string_or_null(answer, "id");
    const json_t *error = json_object_get(answer, "error");
    const char *code = json_string_or_null(error, "code");
    const char *message = json_string_or_null(error, "message");

    if (id && id_parse(id, strlen(id), "job_", &pending->entry->job)) {
        batch->resumed += was_there(batch, pending, answer);
        batch->submitted++;
        batch_entry_accepted(batch, pending->entry);
        return true;
    }
    if (!error || may_pass_later(code))
        return false;
    batch_entry_bad(batch, pending->entry, code ? code : "invalid_value", message ? message : "?");
    return true;
}

/* Line by line; what was not answered, or may pass later, stays in the chunk. */
static void take_answers(struct batch *batch, const char *text)
{
    bool is_answered[BATCH_CHUNK_LINES] = {false}, is_taken[BATCH_CHUNK_LINES] = {false};
    int kept = 0;

    while (*text) {
        size_t len = strcspn(text, "\n");
        struct err err;
        json_t *answer = json_parse(text, len, JSON_READ_LENIENT, &err);
        json_int_t line = json_integer_value(json_object_get(answer, "line"));

        if (!json_object_get(answer, "object") && line >= 1 && line <= batch->chunk_count &&
            !is_answered[line - 1]) {
            is_answered[line - 1] = true;
            is_taken[line - 1] = take_answer(batch, &batch->chunk[line - 1], answer);
        }
        json_decref(answer);
        text += len + (text[len] == '\n');
    }
    batch->chunk_bytes = 0;
    for (int i = 0; i < batch->chunk_count; i++) {
        if (is_taken[i]) {
            free(batch->chunk[i].text);
            continue;
        }
        batch->chunk_bytes += batch->chunk[i].len + 1;
        batch->chunk[i].may_be_ours |= !is_answered[i];
        batch->chunk[kept++] = batch->chunk[i];
    }
    batch->chunk_count = kept;
}

static void on_uploaded(const struct api_answer *answer, void *arg)
{
    struct batch *batch = arg;
    int before = batch->chunk_count;

    batch->upload = NULL;
    if (answer->status >= 400 && answer->status < 500 && answer->status != 429) {
        batch_say(batch, "%s (%d %s)", answer->message, answer->status, answer->code);
        batch_stop(batch, CLI_REFUSED);
        return;
    }
    if (answer->date_us > 0)
        batch->server_skew_us = answer->date_us - answer->answered_us;
    /* What came before the break counts, too.  Without a status it may have been taken. */
    if (answer->status == 200 || answer->status == 0)
        take_answers(batch, answer->body);
    if (answer->status == 200) {
        batch_answered(batch);
        submit_in(batch, batch->chunk_count == before ? REFUSED_PAUSE_MS : 0);
    } else if (answer->status == 429) {
        batch_answered(batch);
        submit_in(batch, answer->retry_after_ms > 0 ? answer->retry_after_ms : REFUSED_PAUSE_MS);
    } else {
        submit_in(batch, batch_unanswered(batch, answer));
    }
    batch_write_ready(batch);
    batch_look_more(batch);
}

/* --- sending ---------------------------------------------------------------------------------- */

static void upload(struct batch *batch)
{
    struct api_request request = {.who = WHO_TENANT,
                                  .method = "POST",
                                  .path = "/v1/jobs/bulk?include=replayed",
                                  .content_type = "application/x-ndjson",
                                  .timeout_ms = UPLOAD_TIMEOUT_MS};
    struct err err = {0};
    struct buf body;

    buf_init(&body, UPLOAD_BYTES_MAX);
    for (int i = 0; i < batch->chunk_count; i++) {
        buf_append(&body, batch->chunk[i].text, batch->chunk[i].len);
        buf_putc(&body, '\n');
    }
    request.body = body.data;
    request.body_len = body.len;
    if (body.is_broken)
        err_set(&err, "upload: out of memory");
    else
        batch->upload = api_start(batch->cli, &request, on_uploaded, batch, &err);
    buf_release(&body);
    if (!batch->upload) {
        batch_say(batch, "%s", err.message);
        batch_stop(batch, CLI_USAGE);
    }
}

void batch_submit_more(struct batch *batch)
{
    if (batch->upload || batch->is_ended)
        return;
    while (!batch->is_input_over && batch->chunk_count < BATCH_CHUNK_LINES &&
           batch->chunk_bytes < BATCH_CHUNK_BYTES)
        read_line(batch);
    if (batch->chunk_count > 0)
        upload(batch);
    batch_write_ready(batch);
    batch_look_more(batch);
}
