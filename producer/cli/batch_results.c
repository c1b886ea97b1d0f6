/* SPDX-License-Identifier: Apache-2.0 */
/* Results of a batch: jobs looked at until they have ended, results kept until it is their turn. */
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/money.h"
#include "common/base/str.h"
#include "producer/cli/batch.h"
#include "producer/cli/csv_write.h"

/* Few jobs are looked at with patience (the server answers at their end); of many, the first few
 * hundred in order are asked again and again.  A job that takes longer than the others does not
 * hold those behind it back: after some looks it is asked seldom and no longer counts. */
enum {
    LOOKING_MAX = 32,
    ACTIVE_MAX = 256,
    SLOW_LOOKS = 6,
    PATIENCE_S = 20,
    IMPATIENCE_S = 1,
    SLOW_PAUSE_MS = 20000,
    LOOK_TIMEOUT_MS = 60000,
    COPY_SIZE = 64 * 1024,
};

/* --- writing in order ------------------------------------------------------------------------- */

static void spool_failed(struct batch *batch)
{
    if (!batch->is_ended)
        batch_say(batch, "temporary file: %s", strerror(errno));
    batch_stop(batch, CLI_FAILED);
}

/* The results end here; batch_run() tells why, or of standard output main(). */
static void write_failed(struct batch *batch)
{
    batch->out_error = errno ? errno : EIO;
    batch_stop(batch, CLI_FAILED);
}

static bool copy_result(struct batch *batch, const struct entry *entry)
{
    char piece[COPY_SIZE];
    size_t left = entry->spool_len;

    if (fseeko(batch->spool, (off_t)entry->spool_at, SEEK_SET) != 0) {
        spool_failed(batch);
        return false;
    }
    while (left > 0) {
        size_t got = fread(piece, 1, left < sizeof(piece) ? left : sizeof(piece), batch->spool);

        if (got == 0) {
            spool_failed(batch);
            return false;
        }
        if (batch->out == stdout ? !output_text(&batch->cli->out, piece, got)
                                 : fwrite(piece, 1, got, batch->out) != got) {
            write_failed(batch);
            return false;
        }
        left -= got;
    }
    return true;
}

static bool is_finished(const struct batch *batch)
{
    return batch->is_input_over && batch->chunk_count == 0 && !batch->upload &&
           batch->written == batch->count;
}

static bool flush_results(const struct batch *batch)
{
    return batch->out == stdout ? output_flush() : fflush(batch->out) == 0;
}

void batch_write_ready(struct batch *batch)
{
    size_t before = batch->written;

    if (batch->out_error)
        return;
    while (batch->written < batch->count && batch->entries[batch->written]->state == ENTRY_OVER) {
        if (before == batch->written && batch->out == stdout && batch->cli->out.is_terminal)
            batch_clear_line(batch);
        if (!copy_result(batch, batch->entries[batch->written]))
            return;
        batch->written++;
    }
    if (before != batch->written && !flush_results(batch)) {
        write_failed(batch);
        return;
    }
    if (!is_finished(batch))
        return;
    batch_stop(batch, batch->progress.failed > 0 ? CLI_FAILED : CLI_DONE);
    batch->is_whole = batch->code == CLI_DONE || batch->code == CLI_FAILED;
}

/* --- the result of a line --------------------------------------------------------------------- */

static void finish_entry(struct batch *batch, struct entry *entry, const struct buf *result)
{
    entry->state = ENTRY_OVER;
    entry->spool_at = batch->spool_end;
    entry->spool_len = result->len;
    if (fseeko(batch->spool, (off_t)batch->spool_end, SEEK_SET) != 0 ||
        fwrite(result->data, 1, result->len, batch->spool) != result->len ||
        fflush(batch->spool) != 0)
        spool_failed(batch);
    batch->spool_end += (int64_t)result->len;
    batch->progress.done++;
}

static void put_cell(struct buf *out, const json_t *value, bool is_first)
{
    char number[32] = "";
    const char *text = json_string_value(value);

    if (json_is_integer(value))
        snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    csv_put(out, text ? text : number, text ? json_string_length(value) : strlen(number), is_first);
}

static void put_csv(struct buf *out, const json_t *result)
{
    static const char *const names[] = {"line", "id", "state", "text", "finish_reason"};
    const json_t *usage = json_object_get(result, "usage");
    const json_t *error = json_object_get(result, "error");

    for (int i = 0; i < 5; i++)
        put_cell(out, json_object_get(result, names[i]), i == 0);
    put_cell(out, json_object_get(usage, "input_tokens"), false);
    put_cell(out, json_object_get(usage, "output_tokens"), false);
    put_cell(out, json_object_get(result, "cost_usd"), false);
    put_cell(out, json_object_get(error, "type"), false);
    put_cell(out, json_object_get(error, "message"), false);
    csv_end_row(out);
}

/* Takes over result. */
static void spool_result(struct batch *batch, struct entry *entry, json_t *result)
{
    struct buf text;

    buf_init(&text, SIZE_MAX / 2);
    if (batch->is_csv) {
        put_csv(&text, result);
    } else {
        char *line = json_dumps(result, JSON_COMPACT);

        buf_puts(&text, line ? line : "{}");
        buf_putc(&text, '\n');
        free(line);
    }
    finish_entry(batch, entry, &text);
    buf_release(&text);
    json_decref(result);
}

void batch_entry_bad(struct batch *batch, struct entry *entry, const char *code,
                     const char *message)
{
    batch_say(batch, "line %" PRId64 ": %s", entry->line, message);
    batch->bad_lines++;
    batch->progress.failed++;
    spool_result(batch, entry,
                 json_pack("{s:I,s:n,s:s,s:{s:s,s:s}}", "line", (json_int_t)entry->line, "id",
                           "state", "refused", "error", "type", code, "message", message));
}

void batch_entry_accepted(struct batch *batch, struct entry *entry)
{
    char id[ID_TEXT_SIZE];

    entry->state = ENTRY_SUBMITTED;
    if (batch->waits)
        return;
    id_format(entry->job, "job_", id);
    spool_result(batch, entry, json_pack("{s:I,s:s}", "line", (json_int_t)entry->line, "id", id));
}

static json_t *member_or_null(const json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);

    return value ? json_incref(value) : json_null();
}

/* What of a job belongs into its result. */
static void entry_ended(struct batch *batch, struct entry *entry, const json_t *job)
{
    static const char *const members[] = {"id",       "state",    "usage", "cost_usd",
                                          "metadata", "workflow", "error"};
    const json_t *result = json_object_get(job, "result");
    const json_t *text = json_is_object(result) ? result : json_object_get(job, "partial");
    const char *cost = json_string_or_null(job, "cost_usd");
    json_t *line = json_pack("{s:I}", "line", (json_int_t)entry->line);
    int64_t nano;

    for (int i = 0; i < 2; i++)
        json_object_set_new(line, members[i], member_or_null(job, members[i]));
    json_object_set_new(line, "text", member_or_null(text, "text"));
    json_object_set_new(line, "finish_reason", member_or_null(result, "finish_reason"));
    for (int i = 2; i < 7; i++)
        json_object_set_new(line, members[i], member_or_null(job, members[i]));
    if (!str_equal(json_string_or_null(job, "state"), "succeeded"))
        batch->progress.failed++;
    if (cost && money_parse(cost, strlen(cost), &nano))
        batch->progress.cost_nano += nano;
    spool_result(batch, entry, line);
}

/* --- looking ---------------------------------------------------------------------------------- */

static void look_again(struct entry *entry, int64_t pause_ms)
{
    struct batch *batch = entry->batch;

    if (++entry->looks == SLOW_LOOKS)
        batch->active--;
    if (entry->looks >= SLOW_LOOKS && pause_ms < SLOW_PAUSE_MS)
        pause_ms = SLOW_PAUSE_MS;
    if (!heap_insert(&batch->looks, &entry->look, clock_monotonic_us() + pause_ms * US_PER_MS))
        batch_stop(batch, CLI_FAILED);
}

static bool has_ended(const json_t *job)
{
    const char *state = json_string_or_null(job, "state");

    return state && strcmp(state, "queued") != 0 && strcmp(state, "running") != 0;
}

static void take_job(struct entry *entry, const struct api_answer *answer)
{
    struct batch *batch = entry->batch;
    struct err err = {0};
    json_t *job = json_parse(answer->body, answer->body_len, JSON_READ_LENIENT, &err);

    if (has_ended(job)) {
        if (entry->looks < SLOW_LOOKS)
            batch->active--;
        entry_ended(batch, entry, job);
    } else {
        look_again(entry, 0);
    }
    json_decref(job);
}

static void on_looked(const struct api_answer *answer, void *arg)
{
    struct entry *entry = arg;
    struct batch *batch = entry->batch;

    entry->call = NULL;
    batch->looking--;
    if (answer->status == 200) {
        batch_answered(batch);
        take_job(entry, answer);
    } else if (answer->status == 404) {
        if (entry->looks < SLOW_LOOKS)
            batch->active--;
        batch_entry_bad(batch, entry, "not_found", "the job is no longer there");
    } else if (answer->status >= 400 && answer->status < 500 && answer->status != 429) {
        batch_say(batch, "%s (%d %s)", answer->message, answer->status, answer->code);
        batch_stop(batch, CLI_REFUSED);
        return;
    } else {
        look_again(entry, batch_unanswered(batch, answer));
    }
    batch_write_ready(batch);
    batch_look_more(batch);
}

static void look_at(struct entry *entry)
{
    struct batch *batch = entry->batch;
    bool is_patient = batch->looks.count + (size_t)batch->looking < LOOKING_MAX &&
                      batch->is_input_over && batch->chunk_count == 0;
    struct api_request request = {
        .who = WHO_TENANT, .method = "GET", .timeout_ms = LOOK_TIMEOUT_MS};
    char path[128], id[ID_TEXT_SIZE];
    struct err err = {0};

    id_format(entry->job, "job_", id);
    snprintf(path, sizeof(path), "/v1/jobs/%s?wait=%d", id, is_patient ? PATIENCE_S : IMPATIENCE_S);
    request.path = path;
    entry->call = api_start(batch->cli, &request, on_looked, entry, &err);
    if (entry->call) {
        batch->looking++;
    } else {
        batch_say(batch, "%s", err.message);
        batch_stop(batch, CLI_FAILED);
    }
}

/* New ones join in their order while there is room. */
static void admit(struct batch *batch)
{
    for (; batch->next_look < batch->count && batch->active < ACTIVE_MAX; batch->next_look++) {
        struct entry *entry = batch->entries[batch->next_look];

        if (entry->state == ENTRY_READ)
            return;
        if (entry->state == ENTRY_OVER)
            continue;
        batch->active++;
        if (!heap_insert(&batch->looks, &entry->look, clock_monotonic_us()))
            batch_stop(batch, CLI_FAILED);
    }
}

void batch_look_more(struct batch *batch)
{
    struct heap_entry *first;
    int64_t now_us = clock_monotonic_us(), wait_us;

    if (!batch->waits || batch->is_ended)
        return;
    admit(batch);
    while (batch->looking < LOOKING_MAX && (first = heap_min(&batch->looks)) != NULL &&
           first->key <= now_us && !batch->is_ended) {
        heap_remove(&batch->looks, first);
        look_at(HEAP_OWNER(first, struct entry, look));
    }
    first = heap_min(&batch->looks);
    if (!first || batch->looking >= LOOKING_MAX)
        return;
    wait_us = first->key > now_us ? first->key - now_us : 0;
    event_add(batch->look_timer,
              &(struct timeval){.tv_sec = wait_us / US_PER_S, .tv_usec = wait_us % US_PER_S});
}
