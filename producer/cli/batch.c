/* SPDX-License-Identifier: Apache-2.0 */
/* `nightshift batch`: a file of jobs, submitted, awaited, and written out in order. */
#include "producer/cli/batch.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "producer/cli/commands.h"
#include "producer/cli/csv_write.h"

enum {
    DRAW_MS = 200,
    SILENCE_MAX_S = 120,
    PAUSE_BASE_MS = 500,
    PAUSE_MAX_MS = 15000,
};

static const char csv_head[] = "line,id,state,text,finish_reason,input_tokens,output_tokens,"
                               "cost_usd,error_type,error_message\r\n";

/* --- what is seen ----------------------------------------------------------------------------- */

static bool is_shown(const struct batch *batch)
{
    return batch->cli->out.is_error_terminal && !cli_flag(batch->cli, "quiet");
}

void batch_clear_line(struct batch *batch)
{
    if (batch->is_drawn)
        fprintf(stderr, "\r%*s\r", batch->line_len, "");
    batch->is_drawn = false;
}

/* The window may have changed: its width is asked each time. */
static void draw(struct batch *batch)
{
    int width = output_columns(STDERR_FILENO) - 1;
    int64_t now_us = clock_monotonic_us();
    struct buf line;

    rate_note(&batch->rate, now_us, batch->progress.done);
    batch->progress.rate = rate_now(&batch->rate, now_us, batch->progress.done);
    batch->progress.total = (int64_t)batch->count;
    batch->progress.is_total_known = batch->is_input_over;
    if (!is_shown(batch))
        return;
    buf_init(&line, 4096);
    if (progress_line(&batch->progress, width, batch->cli->out.is_utf8, &line)) {
        if (batch->is_drawn && batch->line_len > width)
            fputs("\r\n", stderr); /* the old one is in pieces now */
        else
            batch_clear_line(batch);
        fprintf(stderr, "\r%s", line.data);
        fflush(stderr);
        batch->line_len = width;
        batch->is_drawn = true;
    }
    buf_release(&line);
}

void batch_say(struct batch *batch, const char *fmt, ...)
{
    struct buf text, safe;
    va_list args;

    batch_clear_line(batch);
    buf_init(&text, 64 * 1024);
    buf_init(&safe, 512 * 1024);
    va_start(args, fmt);
    if (buf_vprintf(&text, fmt, args) && output_escape(&safe, text.data, text.len, true))
        fprintf(stderr, "%s\n", safe.data);
    va_end(args);
    buf_release(&safe);
    buf_release(&text);
}

static void on_draw(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    draw(arg);
}

/* --- the end ---------------------------------------------------------------------------------- */

void batch_stop(struct batch *batch, int code)
{
    if (batch->is_ended)
        return;
    batch->is_ended = true;
    batch->code = code;
    event_base_loopbreak(api_base(batch->cli->api));
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    batch_stop(arg, CLI_INTERRUPTED);
}

void batch_answered(struct batch *batch)
{
    batch->failures = 0;
    batch->last_answer_us = clock_monotonic_us();
}

int64_t batch_unanswered(struct batch *batch, const struct api_answer *answer)
{
    int64_t silence_us = clock_monotonic_us() - batch->last_answer_us, pause_ms;

    if (silence_us > SILENCE_MAX_S * US_PER_S) {
        batch_clear_line(batch);
        api_tell(batch->cli, answer);
        batch_stop(batch, CLI_UNREACHABLE);
    } else if (batch->failures == 0) {
        batch_say(batch, "no answer (%s); trying again for two minutes", answer->message);
    }
    if (batch->failures < 10)
        batch->failures++;
    pause_ms = PAUSE_BASE_MS << (batch->failures < 5 ? batch->failures : 5);
    if (answer->retry_after_ms > pause_ms)
        pause_ms = answer->retry_after_ms;
    return pause_ms < PAUSE_MAX_MS ? pause_ms : PAUSE_MAX_MS;
}

static void say_end(struct batch *batch)
{
    char time[PROGRESS_TIME_SIZE];

    progress_time((clock_monotonic_us() - batch->begun_us) / US_PER_S, time);
    batch->progress.total = (int64_t)batch->count;
    batch_clear_line(batch);
    if (batch->resumed > 0)
        batch_say(batch, "%" PRId64 " of the jobs had been submitted before", batch->resumed);
    if (batch->is_whole) {
        char cost[PROGRESS_COST_SIZE];

        progress_cost(batch->progress.cost_nano, cost);
        if (batch->waits)
            batch_say(batch,
                      "%zu lines in %s: %" PRId64 " succeeded, %" PRId64 " failed, %" PRId64
                      " bad lines, %s",
                      batch->count, time, batch->progress.done - batch->progress.failed,
                      batch->progress.failed - batch->bad_lines, batch->bad_lines, cost);
        else
            batch_say(batch, "%zu lines in %s: %" PRId64 " submitted, %" PRId64 " bad lines",
                      batch->count, time, batch->submitted, batch->bad_lines);
        return;
    }
    batch_say(batch,
              "%s: %" PRId64 " of %zu%s lines are over, %" PRId64
              " are submitted and go on; the same command takes up where this one stopped",
              batch->code == CLI_INTERRUPTED ? "interrupted" : "stopped", batch->progress.done,
              batch->count, batch->is_input_over ? "" : "+", batch->submitted);
}

/* The results become FILE only when all of them are there. */
static void close_output(struct batch *batch)
{
    const char *path = cli_option(batch->cli, "output");
    bool ok = !batch->out || (fflush(batch->out) == 0 && !ferror(batch->out));

    if (batch->out && batch->out != stdout) {
        if (batch->partial_path && fsync(fileno(batch->out)) != 0)
            ok = false;
        if (fclose(batch->out) != 0)
            ok = false;
        if (ok && batch->is_whole && batch->partial_path)
            ok = rename(batch->partial_path, path) == 0;
    }
    if (!ok && batch->out != stdout) {
        batch_say(batch, "%s: %s", batch->partial_path ? batch->partial_path : path,
                  strerror(batch->out_error ? batch->out_error : errno));
        batch->code = CLI_FAILED;
    }
}

/* --- the beginning ---------------------------------------------------------------------------- */

static bool is_csv_name(const char *path)
{
    size_t len = strlen(path);

    return len > 4 && strcmp(path + len - 4, ".csv") == 0;
}

static bool open_input(struct batch *batch)
{
    const struct cli *cli = batch->cli;
    const char *path = cli->arguments[0], *format = cli_option(cli, "format");
    const char *name = cli_option(cli, "name"), *priority = cli_option(cli, "priority");
    const struct batch_defaults defaults = {
        .name = name ? name : "",
        .is_csv = format ? strcmp(format, "csv") == 0 : is_csv_name(path),
        .model = cli_option(cli, "model"),
        .system = cli_option(cli, "system"),
        .prompt_template = cli_option(cli, "template"),
        .max_tokens = cli_option(cli, "max-tokens"),
        .workflow = cli_option(cli, "workflow"),
        .priority = priority ? priority : "low",
    };
    struct err err = {0};

    batch->input = batch_input_open(path, &defaults, &err);
    if (!batch->input)
        cli_fail(cli, CLI_USAGE, "%s", err.message);
    return batch->input != NULL;
}

static bool is_input(const struct batch *batch, const char *path)
{
    const char *input = batch->cli->arguments[0];
    bool is_stdin = strcmp(input, "-") == 0;
    struct stat in, out;

    return (is_stdin ? fstat(STDIN_FILENO, &in) : stat(input, &in)) == 0 && S_ISREG(in.st_mode) &&
           stat(path, &out) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino;
}

/* A regular file is written beside its place; a pipe or a device is written as it is, and must
 * never be replaced by a file. */
static bool open_file(struct batch *batch, const char *path)
{
    char partial[PATH_MAX];
    struct stat place;

    if (stat(path, &place) == 0 && !S_ISREG(place.st_mode) && !S_ISDIR(place.st_mode)) {
        batch->out = fopen(path, "w");
    } else {
        if (snprintf(partial, sizeof(partial), "%s.partial", path) >= (int)sizeof(partial)) {
            cli_fail(batch->cli, CLI_USAGE, "-o: the path is too long");
            return false;
        }
        batch->partial_path = xstrdup(partial);
        if (is_input(batch, path) || is_input(batch, partial)) {
            cli_fail(batch->cli, CLI_USAGE, "-o %s: would overwrite the input", path);
            return false;
        }
        batch->out = fopen(partial, "w");
    }
    if (!batch->out)
        cli_fail(batch->cli, CLI_USAGE, "%s: %s", batch->partial_path ? batch->partial_path : path,
                 strerror(errno));
    return batch->out != NULL;
}

static bool open_output(struct batch *batch)
{
    const char *path = cli_option(batch->cli, "output");

    batch->is_csv = cli_flag(batch->cli, "csv");
    batch->waits = path || cli_flag(batch->cli, "wait");
    batch->spool = tmpfile();
    batch->out = stdout;
    if (!batch->spool) {
        cli_fail(batch->cli, CLI_USAGE, "temporary file: %s", strerror(errno));
        return false;
    }
    if (path && strcmp(path, "-") != 0 && !open_file(batch, path))
        return false;
    if (batch->is_csv && batch->waits)
        fputs(csv_head, batch->out);
    return true;
}

static void on_submit_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    batch_submit_more(arg);
}

static void on_look_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    batch_look_more(arg);
}

static bool make_events(struct batch *batch)
{
    struct event_base *base = api_base(batch->cli->api);
    const struct timeval draw_every = {.tv_usec = DRAW_MS * 1000};

    batch->submit_timer = evtimer_new(base, on_submit_timer, batch);
    batch->look_timer = evtimer_new(base, on_look_timer, batch);
    batch->draw_timer = event_new(base, -1, EV_PERSIST, on_draw, batch);
    batch->interrupt = evsignal_new(base, SIGINT, on_signal, batch);
    batch->terminate = evsignal_new(base, SIGTERM, on_signal, batch);
    return batch->submit_timer && batch->look_timer && batch->draw_timer && batch->interrupt &&
           batch->terminate && event_add(batch->draw_timer, &draw_every) == 0 &&
           event_add(batch->interrupt, NULL) == 0 && event_add(batch->terminate, NULL) == 0;
}

static void batch_release(struct batch *batch)
{
    struct event *const events[] = {batch->submit_timer, batch->look_timer, batch->draw_timer,
                                    batch->interrupt, batch->terminate};

    api_cancel(batch->upload);
    for (size_t i = 0; i < batch->count; i++) {
        api_cancel(batch->entries[i]->call);
        free(batch->entries[i]);
    }
    for (int i = 0; i < batch->chunk_count; i++)
        free(batch->chunk[i].text);
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
        if (events[i])
            event_free(events[i]);
    heap_release(&batch->looks);
    batch_input_free(batch->input);
    buf_release(&batch->line);
    if (batch->spool)
        fclose(batch->spool);
    free(batch->partial_path);
    free(batch->entries);
    free(batch);
}

int batch_run(struct cli *cli)
{
    struct batch *batch = xcalloc(1, sizeof(*batch));
    int code = CLI_USAGE;

    batch->cli = cli;
    batch->begun_us = batch->last_answer_us = clock_monotonic_us();
    buf_init(&batch->line, BATCH_LINE_MAX);
    heap_init(&batch->looks, BATCH_LINES_MAX);
    if (api_of(cli) && open_input(batch) && open_output(batch) && make_events(batch)) {
        batch_submit_more(batch);
        while (!batch->is_ended)
            event_base_loop(api_base(cli->api), EVLOOP_ONCE);
        batch_write_ready(batch);
        close_output(batch);
        say_end(batch);
        code = batch->code;
    }
    batch_release(batch);
    return code;
}
