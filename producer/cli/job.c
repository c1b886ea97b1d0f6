/* SPDX-License-Identifier: Apache-2.0 */
/* `nightshift get`, `list`, `watch` and `cancel`: jobs that are there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/str.h"
#include "producer/cli/api.h"
#include "producer/cli/commands.h"
#include "producer/cli/follow.h"
#include "producer/cli/listing.h"

enum { PATH_MAX_SIZE = 16 * 1024, PAGE_MAX = 100, LIST_MAX = 100000, LIST_DEFAULT = 20 };

static const struct field job_fields[] = {
    FIELD("id", "id"),
    FIELD("state", "state"),
    FIELD("waits for", "waiting.reason"),
    FIELD("why", "waiting.detail"),
    FIELD_AS(FIELD_TIME, "until", "waiting.until"),
    FIELD_AS(FIELD_NUMBER, "position", "waiting.position"),
    FIELD_AS(FIELD_YES, "fits now", "fits_now"),
    FIELD("model", "model"),
    FIELD("priority", "priority"),
    FIELD("workflow", "workflow"),
    FIELD("user", "user"),
    FIELD("purpose", "purpose"),
    FIELD("data class", "data_class"),
    FIELD("metadata", "metadata"),
    FIELD_AS(FIELD_TIME, "created", "created_at"),
    FIELD_AS(FIELD_TIME, "not before", "run_at"),
    FIELD_AS(FIELD_TIME, "started", "started_at"),
    FIELD_AS(FIELD_TIME, "ended", "ended_at"),
    FIELD_AS(FIELD_TIME, "deadline", "deadline"),
    FIELD_AS(FIELD_NUMBER, "attempts", "attempts"),
    FIELD_AS(FIELD_NUMBER, "tokens in", "usage.input_tokens"),
    FIELD_AS(FIELD_NUMBER, "tokens out", "usage.output_tokens"),
    FIELD_AS(FIELD_MONEY, "cost", "cost_usd"),
    FIELD_AS(FIELD_MONEY, "unknown cost", "unknown_cost_usd"),
    FIELD_AS(FIELD_MONEY, "at most", "max_cost_usd"),
    FIELD("replay of", "replay_of"),
    FIELD("error", "error.type"),
    FIELD("message", "error.message"),
    FIELD_END,
};

static const struct field call_fields[] = {
    FIELD_AS(FIELD_NUMBER, "call", "attempt"),
    FIELD_WIDE("provider", "provider"),
    FIELD_WIDE("model", "model"),
    FIELD("state", "state"),
    FIELD_AS(FIELD_NUMBER, "status", "status"),
    FIELD_WIDE("error", "error_type"),
    FIELD_AS(FIELD_MS, "took", "duration_ms"),
    FIELD_AS(FIELD_NUMBER, "in", "input_tokens"),
    FIELD_AS(FIELD_NUMBER, "out", "output_tokens"),
    FIELD_AS(FIELD_MONEY, "cost", "cost_usd"),
    FIELD_END,
};

static const struct field list_fields[] = {
    FIELD("id", "id"),
    FIELD("state", "state"),
    FIELD_SPARE(FIELD_TEXT, "priority", "priority"),
    FIELD_WIDE("model", "model"),
    FIELD_WIDE("workflow", "workflow"),
    FIELD_AS(FIELD_TIME, "created", "created_at"),
    FIELD_WIDE("waits for", "waiting.reason"),
    FIELD_WIDE("error", "error.type"),
    FIELD_SPARE(FIELD_MONEY, "cost", "cost_usd"),
    FIELD_END,
};

static void job_path(struct buf *path, const char *id, const char *what)
{
    buf_init(path, PATH_MAX_SIZE);
    buf_puts(path, "/v1/jobs/");
    api_put_escaped(path, id);
    buf_puts(path, what);
}

/* The worse of two exit codes, where 0 is the best. */
static int worse(int a, int b)
{
    return a > b ? a : b;
}

/* --- get -------------------------------------------------------------------------------------- */

/* The answer's text, or what there is of it. */
static const json_t *text_of(const json_t *job)
{
    const json_t *text = field_value(job, "result.text");

    return text ? text : field_value(job, "partial.text");
}

static void show_text(const struct cli *cli, const json_t *text)
{
    size_t len = json_string_length(text);

    if (len == 0)
        return;
    output_text(&cli->out, json_string_value(text), len);
    if (json_string_value(text)[len - 1] != '\n')
        putchar('\n');
}

static void show_job(const struct cli *cli, const json_t *job)
{
    const json_t *calls = json_object_get(job, "calls");

    if (cli_flag(cli, "text")) {
        show_text(cli, text_of(job));
        return;
    }
    listing_record(cli, job, job_fields);
    if (json_array_size(calls) > 0) {
        putchar('\n');
        listing_show(cli, calls, call_fields);
    }
    if (json_string_length(text_of(job)) > 0) {
        putchar('\n');
        show_text(cli, text_of(job));
    }
}

static int get_one(struct cli *cli, const char *id)
{
    struct api_request request = {.who = WHO_TENANT, .method = "GET", .is_repeatable = true};
    struct buf path;
    json_t *job = NULL;
    int code;

    if (cli_flag(cli, "wait"))
        return follow_wait(cli, id);
    job_path(&path, id, cli_flag(cli, "request") ? "?include=request" : "");
    request.path = path.data;
    code = api_json(cli, &request, &job);
    if (job)
        show_job(cli, job);
    json_decref(job);
    buf_release(&path);
    return code;
}

int get_run(struct cli *cli)
{
    int code = CLI_DONE;

    for (int i = 0; i < cli->argument_count; i++) {
        if (i > 0 && !cli->out.is_json && !cli_flag(cli, "text"))
            putchar('\n');
        code = worse(code, get_one(cli, cli->arguments[i]));
    }
    return code;
}

int watch_run(struct cli *cli)
{
    return follow_events(cli, cli->arguments[0], cli_option(cli, "after"), true);
}

int cancel_run(struct cli *cli)
{
    int code = CLI_DONE;

    for (int i = 0; i < cli->argument_count; i++) {
        struct api_request request = {.who = WHO_TENANT, .method = "POST", .is_repeatable = true};
        struct buf path;
        json_t *job = NULL;

        job_path(&path, cli->arguments[i], "/cancel");
        request.path = path.data;
        code = worse(code, api_json(cli, &request, &job));
        if (job)
            printf("%s %s\n", json_string_or_null(job, "id"),
                   json_is_true(json_object_get(job, "cancel_requested")) &&
                           str_equal(json_string_or_null(job, "state"), "running")
                       ? "cancelling"
                       : json_string_or_null(job, "state"));
        json_decref(job);
        buf_release(&path);
    }
    return code;
}

/* --- list ------------------------------------------------------------------------------------- */

static bool put_metadata(const struct cli *cli, struct buf *path)
{
    const char *pair;

    for (int i = 0; (pair = cli_option_at(cli, "metadata", i)); i++) {
        const char *equals = strchr(pair, '=');
        char name[128];

        if (!equals || equals - pair > 64) {
            cli_usage(cli, "--metadata: expected NAME=VALUE, got \"%.64s\"", pair);
            return false;
        }
        snprintf(name, sizeof(name), "metadata[%.*s]", (int)(equals - pair), pair);
        api_put_query(path, name, equals + 1);
    }
    return true;
}

static bool list_path(const struct cli *cli, struct buf *path)
{
    static const char *const names[][2] = {
        {"state", "state"},         {"priority", "priority"},    {"workflow", "workflow"},
        {"created_after", "since"}, {"created_before", "until"}, {"order", "order"},
    };

    buf_init(path, PATH_MAX_SIZE);
    buf_puts(path, "/v1/jobs");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        api_put_query(path, names[i][0], cli_option(cli, names[i][1]));
    return put_metadata(cli, path);
}

/* A page behind `after`, added to jobs; *after is the next one's, empty at the end. */
static int list_page(struct cli *cli, const struct buf *base, int64_t limit, char after[64],
                     json_t *jobs)
{
    struct api_request request = {.who = WHO_TENANT, .method = "GET", .is_repeatable = true};
    struct buf path;
    json_t *page = NULL;
    char count[16];
    int code;

    buf_init(&path, PATH_MAX_SIZE);
    buf_append(&path, base->data, base->len);
    snprintf(count, sizeof(count), "%d", (int)(limit < PAGE_MAX ? limit : PAGE_MAX));
    api_put_query(&path, "limit", count);
    api_put_query(&path, "after", *after ? after : NULL);
    request.path = path.data;
    code = api_fetch(cli, &request, &page);
    after[0] = '\0';
    if (page) {
        json_array_extend(jobs, json_object_get(page, "data"));
        if (json_is_true(json_object_get(page, "has_more")))
            snprintf(after, 64, "%s", json_string_or_null(page, "last_id"));
    }
    json_decref(page);
    buf_release(&path);
    return code;
}

static void show_list(const struct cli *cli, json_t *jobs, bool has_more)
{
    size_t count = json_array_size(jobs);
    char *text;
    json_t *list;

    if (!cli->out.is_json) {
        listing_show(cli, jobs, list_fields);
        if (has_more && cli->out.is_terminal)
            printf("(there are more: --limit N, or --after %s)\n",
                   json_string_or_null(json_array_get(jobs, count - 1), "id"));
        return;
    }
    list = json_pack("{s:s,s:O,s:O?,s:O?,s:b}", "object", "list", "data", jobs, "first_id",
                     json_object_get(json_array_get(jobs, 0), "id"), "last_id",
                     count ? json_object_get(json_array_get(jobs, count - 1), "id") : NULL,
                     "has_more", (int)has_more);
    text = json_dumps(list, JSON_COMPACT);
    if (text) {
        output_text(&cli->out, text, strlen(text));
        putchar('\n');
    }
    free(text);
    json_decref(list);
}

int list_run(struct cli *cli)
{
    int64_t limit = LIST_DEFAULT;
    const char *after = cli_option(cli, "after");
    json_t *jobs = json_array();
    char next[64] = "";
    struct buf path;
    int code = CLI_USAGE;

    if (cli_option_number(cli, "limit", 1, LIST_MAX, &limit) && list_path(cli, &path)) {
        snprintf(next, sizeof(next), "%s", after ? after : "");
        do
            code = list_page(cli, &path, limit - (int64_t)json_array_size(jobs), next, jobs);
        while (code == CLI_DONE && *next && (int64_t)json_array_size(jobs) < limit);
        if (code == CLI_DONE)
            show_list(cli, jobs, *next != '\0');
        buf_release(&path);
    }
    json_decref(jobs);
    return code;
}
