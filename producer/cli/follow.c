/* SPDX-License-Identifier: Apache-2.0 */
/* A job until its end: by its events, or by asking again and again. */
#include "producer/cli/follow.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/number.h"
#include "common/base/sse.h"
#include "common/base/str.h"
#include "producer/cli/api.h"
#include "producer/cli/listing.h"

enum {
    EVENT_MAX = 64 * 1024 * 1024,
    WAIT_TIMEOUT_MS = 90000,
    FAILURES_MAX = 8, /* in a row, about two minutes */
    PAUSE_BASE_MS = 500,
    PAUSE_MAX_MS = 30000,
    PAUSE_SPREAD_PERCENT = 20,
};

struct follow {
    struct cli *cli;
    const char *job;
    bool tells_story;
    struct sse_reader *reader;
    char cursor[SSE_ID_MAX + 1];
    json_t *end;   /* the job, once it has ended */
    bool has_text; /* the attempt's text has begun */
    bool ends_in_newline;
    bool is_broken; /* nobody reads what we print, or the stream is not one */
    int failures;
    int silences; /* good answers in a row that soon ended without an event */
    int64_t asked_us;
    bool is_over; /* this connection */
    int code;
    int64_t pause_ms;
};

/* --- what is shown ---------------------------------------------------------------------------- */

static bool is_ended(const char *state)
{
    return state && strcmp(state, "queued") != 0 && strcmp(state, "running") != 0;
}

int follow_verdict(const struct cli *cli, const json_t *job)
{
    const char *state = json_string_or_null(job, "state");
    const json_t *error = json_object_get(job, "error");
    const char *type = json_string_or_null(error, "type");
    const char *message = json_string_or_null(error, "message");

    if (str_equal(state, "succeeded"))
        return CLI_DONE;
    return cli_fail(cli, CLI_FAILED, "%s %s%s%s%s%s", json_string_or_null(job, "id"),
                    state ? state : "?", type ? ": " : "", type ? type : "", message ? ": " : "",
                    message ? message : "");
}

static void story(struct follow *follow, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* A line of its own on standard error, even in the middle of the text. */
static void story(struct follow *follow, const char *fmt, ...)
{
    struct buf text, safe;
    va_list args;

    if (!follow->tells_story || follow->cli->out.is_json)
        return;
    if (follow->has_text && !follow->ends_in_newline && follow->cli->out.is_terminal) {
        putchar('\n');
        follow->ends_in_newline = true;
    }
    output_flush();
    buf_init(&text, 64 * 1024);
    buf_init(&safe, 512 * 1024);
    va_start(args, fmt);
    if (buf_vprintf(&text, fmt, args) && output_escape(&safe, text.data, text.len, true))
        fprintf(stderr, "%s\n", safe.data);
    va_end(args);
    buf_release(&safe);
    buf_release(&text);
}

static void show_text(struct follow *follow, const json_t *data)
{
    const json_t *text = json_object_get(data, "text");
    size_t len = json_string_length(text);

    if (len == 0)
        return;
    follow->has_text = true;
    follow->ends_in_newline = json_string_value(text)[len - 1] == '\n';
    if (!output_text(&follow->cli->out, json_string_value(text), len) || !output_flush())
        follow->is_broken = true;
}

/* What was printed of a given-up attempt cannot be taken back: it is said, on standard error. */
static void show_superseded(struct follow *follow, const json_t *data)
{
    bool tells = follow->tells_story;

    if (!follow->has_text)
        return;
    follow->tells_story = true;
    story(follow, "-- attempt %d was given up (%s); its text counts to byte %d --",
          (int)json_integer_value(json_object_get(data, "attempt")),
          json_string_or_null(data, "reason"),
          (int)json_integer_value(json_object_get(data, "valid_bytes")));
    follow->tells_story = tells;
    follow->has_text = false;
}

static void show_end(struct follow *follow, const json_t *job)
{
    static const struct field cost = {.path = "cost_usd", .kind = FIELD_MONEY};
    const json_t *usage = json_object_get(job, "usage");
    struct buf text;

    buf_init(&text, 256);
    field_format(job, &cost, &text);
    if (follow->has_text && !follow->ends_in_newline)
        putchar('\n');
    follow->ends_in_newline = true;
    story(follow, "%s: %" JSON_INTEGER_FORMAT " + %" JSON_INTEGER_FORMAT " tokens, %s",
          json_string_or_null(job, "state"),
          json_integer_value(json_object_get(usage, "input_tokens")),
          json_integer_value(json_object_get(usage, "output_tokens")), text.len ? text.data : "$0");
    buf_release(&text);
}

static void show_event(struct follow *follow, const char *name, const json_t *data)
{
    const char *reason = json_string_or_null(data, "reason");

    if (strcmp(name, "output.delta") == 0)
        show_text(follow, data);
    else if (strcmp(name, "attempt.superseded") == 0)
        show_superseded(follow, data);
    else if (strcmp(name, "job.queued") == 0)
        story(follow, "queued");
    else if (strcmp(name, "job.started") == 0)
        story(follow, "attempt %d: %s %s",
              (int)json_integer_value(json_object_get(data, "attempt")),
              json_string_or_null(data, "provider"), json_string_or_null(data, "model"));
    else if (strcmp(name, "job.retrying") == 0)
        story(follow, "back in the queue (%s)", reason ? reason : "?");
    else if (is_ended(json_string_or_null(data, "state")))
        show_end(follow, data);
}

static void print_event(struct follow *follow, const struct sse_event *event)
{
    struct buf line;

    buf_init(&line, EVENT_MAX * 2UL);
    buf_puts(&line, "{\"event\":");
    buf_put_json_string(&line, event->event, strlen(event->event));
    buf_printf(&line, ",\"id\":\"%s\",\"data\":", event->id);
    buf_append(&line, event->data, event->data_len);
    buf_puts(&line, "}\n");
    if (!output_text(&follow->cli->out, line.data, line.len) || !output_flush())
        follow->is_broken = true;
    buf_release(&line);
}

/* --- the stream ------------------------------------------------------------------------------- */

static bool on_event(const struct sse_event *event, void *arg)
{
    struct follow *follow = arg;
    struct err err;
    json_t *data = json_parse(event->data, event->data_len, JSON_READ_LENIENT, &err);
    const char *state = json_string_or_null(data, "state");

    snprintf(follow->cursor, sizeof(follow->cursor), "%s", event->id);
    follow->failures = 0;
    follow->silences = 0;
    if (data && follow->cli->out.is_json)
        print_event(follow, event);
    else if (data)
        show_event(follow, event->event, data);
    if (strncmp(event->event, "job.", 4) == 0 && is_ended(state)) {
        json_decref(follow->end);
        follow->end = json_incref(data);
    }
    json_decref(data);
    return !follow->is_broken && !follow->end;
}

static bool on_data(const char *data, size_t len, void *arg)
{
    struct follow *follow = arg;
    struct err err;

    return sse_reader_feed(follow->reader, data, len, &err);
}

/* Twice as long each time; spread, so that those who were cut off together come back apart. */
static int64_t pause_after(int times)
{
    int64_t ms = (int64_t)PAUSE_BASE_MS << (times < FAILURES_MAX ? times : FAILURES_MAX);

    return backoff_spread_ms(smaller(ms, PAUSE_MAX_MS), PAUSE_SPREAD_PERCENT, backoff_random());
}

/* The server drains, and its sister goes on: soon.  But a proxy may answer for it, and would be
 * asked for ever: as long as nothing comes, more and more seldom. */
static int64_t pause_after_stream(struct follow *follow)
{
    if (clock_monotonic_us() - follow->asked_us >= PAUSE_MAX_MS * US_PER_MS)
        follow->silences = 0;
    return pause_after(follow->silences++);
}

/* 503 and whatever is no answer: again, after a while.  All else is final. */
static void on_closed(const struct api_answer *answer, void *arg)
{
    struct follow *follow = arg;

    follow->is_over = true;
    follow->pause_ms = 0;
    if (follow->end || follow->is_broken)
        return;
    if (answer->status >= 200 && answer->status < 300)
        follow->pause_ms = pause_after_stream(follow);
    else if ((answer->status == 0 || answer->status >= 500) && ++follow->failures < FAILURES_MAX &&
             (*follow->cursor || answer->status >= 500))
        follow->pause_ms = pause_after(follow->failures);
    else
        follow->code = api_tell(follow->cli, answer);
}

static bool follow_once(struct follow *follow)
{
    struct api_request request = {.who = WHO_TENANT,
                                  .method = "GET",
                                  .accept = "text/event-stream",
                                  .is_endless = true,
                                  .on_data = on_data,
                                  .arg = follow,
                                  .last_event_id = *follow->cursor ? follow->cursor : NULL};
    struct err err = {0};
    struct buf path;
    bool ok;

    buf_init(&path, 8192);
    buf_puts(&path, "/v1/jobs/");
    api_put_escaped(&path, follow->job);
    buf_puts(&path, "/events");
    request.path = path.data;
    sse_reader_free(follow->reader);
    follow->reader = sse_reader_new(EVENT_MAX, on_event, follow);
    follow->is_over = false;
    follow->asked_us = clock_monotonic_us();
    ok = api_start(follow->cli, &request, on_closed, follow, &err) != NULL;
    buf_release(&path);
    if (!ok) {
        follow->code = cli_fail(follow->cli, CLI_USAGE, "%s", err.message);
        return false;
    }
    while (!follow->is_over)
        event_base_loop(api_base(follow->cli->api), EVLOOP_ONCE);
    if (follow->pause_ms > 0)
        api_pause(follow->cli->api, follow->pause_ms);
    return follow->pause_ms > 0;
}

int follow_events(struct cli *cli, const char *job, const char *after, bool tells_story)
{
    struct follow follow = {.cli = cli, .job = job, .tells_story = tells_story};

    if (after && strlen(after) > SSE_ID_MAX)
        return cli_usage(cli, "--after: too long for a cursor");
    snprintf(follow.cursor, sizeof(follow.cursor), "%s", after ? after : "");
    while (follow_once(&follow))
        ;
    if (follow.is_broken)
        follow.code = CLI_FAILED;
    else if (follow.end)
        follow.code = follow_verdict(cli, follow.end);
    sse_reader_free(follow.reader);
    json_decref(follow.end);
    return follow.code;
}

/* --- waiting ---------------------------------------------------------------------------------- */

struct read_job {
    json_t *job;
    struct cli *cli;
    char *text; /* as it came */
    size_t len;
};

static void on_job(const struct api_answer *answer, void *arg)
{
    struct read_job *read = arg;
    struct err err;

    read->job = json_parse(answer->body, answer->body_len, JSON_READ_LENIENT, &err);
    read->text = xstrdup(answer->body);
    read->len = strlen(read->text);
}

static void show_result(struct cli *cli, const struct read_job *read)
{
    const json_t *text = json_object_get(json_object_get(read->job, "result"), "text");
    size_t len = json_string_length(text);

    if (cli->out.is_json) {
        output_text(&cli->out, read->text, read->len);
        putchar('\n');
    } else if (len > 0) {
        output_text(&cli->out, json_string_value(text), len);
        if (json_string_value(text)[len - 1] != '\n')
            putchar('\n');
    }
}

int follow_wait(struct cli *cli, const char *job)
{
    struct read_job read = {.cli = cli};
    struct api_request request = {
        .who = WHO_TENANT, .method = "GET", .timeout_ms = WAIT_TIMEOUT_MS, .is_repeatable = true};
    struct buf path;
    int code;

    buf_init(&path, 8192);
    buf_puts(&path, "/v1/jobs/");
    api_put_escaped(&path, job);
    buf_puts(&path, "?wait=60");
    request.path = path.data;
    for (;;) {
        code = api_run(cli, &request, on_job, &read);
        if (code != CLI_DONE || !read.job || is_ended(json_string_or_null(read.job, "state")))
            break;
        json_decref(read.job);
        free(read.text);
        read.job = NULL;
        read.text = NULL;
    }
    if (read.job) {
        show_result(cli, &read);
        code = follow_verdict(cli, read.job);
    }
    json_decref(read.job);
    free(read.text);
    buf_release(&path);
    return code;
}
