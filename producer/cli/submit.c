/* SPDX-License-Identifier: Apache-2.0 */
/* `nightshift submit` and `replay`: a job is made, and followed if that is wanted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "producer/cli/api.h"
#include "producer/cli/commands.h"
#include "producer/cli/follow.h"
#include "producer/cli/request.h"

enum { TEXT_MAX = 64 * 1024 * 1024 };

/* Options that stand in the body under another name than their own. */
static const struct {
    const char *option, *member;
} members[] = {
    {"max-tokens", "max_tokens"},
    {"temperature", "temperature"},
    {"priority", "priority"},
    {"workflow", "workflow"},
    {"user", "user"},
    {"purpose", "purpose"},
    {"data-class", "data_class"},
    {"run-at", "run_at"},
    {"deadline", "deadline"},
    {"max-attempts", "max_attempts"},
    {"timeout", "timeout_s"},
    {"max-cost", "max_cost_usd"},
};

static bool put_metadata(json_t *body, const char *pair, struct err *err)
{
    const char *equals = strchr(pair, '=');
    char name[128];

    if (!equals || equals == pair || (size_t)(equals - pair) > 64)
        return err_set(err, "--metadata: expected NAME=VALUE, got \"%.64s\"", pair);
    snprintf(name, sizeof(name), "metadata.%.*s", (int)(equals - pair), pair);
    return request_put(body, name, equals + 1, err);
}

static bool put_options(const struct cli *cli, json_t *body, struct err *err)
{
    const char *webhook = cli_option(cli, "webhook"), *pair;

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const char *value = cli_option(cli, members[i].option);

        if (value && !request_put(body, members[i].member, value, err))
            return err_wrap(err, "--%s", members[i].option);
    }
    for (int i = 0; (pair = cli_option_at(cli, "metadata", i)); i++)
        if (!put_metadata(body, pair, err))
            return false;
    if (webhook && json_object_set_new(body, "webhook", json_pack("{s:s}", "url", webhook)) != 0)
        return err_set(err, "--webhook: not UTF-8");
    return true;
}

/* The user's text: the argument, -f FILE, or standard input.  NULL: told already. */
static char *read_text(const struct cli *cli)
{
    const char *argument = cli->argument_count ? cli->arguments[0] : NULL;
    const char *file = cli_option(cli, "file");
    size_t len = 0;
    char *text;

    if (argument && file && strcmp(argument, "-") != 0) {
        cli_usage(cli, "a text and a file: which one?");
        return NULL;
    }
    if (argument && strcmp(argument, "-") != 0)
        return xstrdup(argument);
    if (!argument && !file) {
        cli_usage(cli, "expected a text, -f FILE, or - for standard input");
        return NULL;
    }
    text = cli_read_input(cli, file ? file : "-", TEXT_MAX, &len);
    if (text && strlen(text) != len) {
        cli_fail(cli, CLI_USAGE, "the text holds a NUL byte");
        free(text);
        return NULL;
    }
    return text;
}

/* The body as bytes: built, or a file's own (whose numbers stay as they are).  NULL: told. */
static char *make_body(const struct cli *cli, size_t *len)
{
    const char *file = cli_option(cli, "body"), *model = cli_option(cli, "model");
    struct err err = {0};
    json_t *body = NULL;
    char *text, *bytes = NULL;

    if (file)
        return cli_read_input(cli, file, TEXT_MAX, len);
    if (!model) {
        cli_usage(cli, "--model is missing");
        return NULL;
    }
    text = read_text(cli);
    if (!text)
        return NULL;
    body = request_body(model, cli_option(cli, "system"), text, &err);
    if (body && put_options(cli, body, &err))
        bytes = json_dumps(body, JSON_COMPACT);
    else
        cli_usage(cli, "%s", err.message);
    *len = bytes ? strlen(bytes) : 0;
    json_decref(body);
    free(text);
    return bytes;
}

/* Sends what makes a job, prints its id or follows it. */
static int make_job(struct cli *cli, struct api_request *request)
{
    bool is_followed = cli_flag(cli, "stream") || cli_flag(cli, "wait");
    char key[ID_TEXT_SIZE];
    json_t *job = NULL;
    const char *id;
    int code;

    id_format(id_make(clock_now_us()), "cli_", key);
    if (!request->idempotency_key)
        request->idempotency_key = key;
    request->is_repeatable = true;
    code = is_followed ? api_fetch(cli, request, &job) : api_json(cli, request, &job);
    id = json_string_or_null(job, "id");
    if (code == CLI_DONE && id) {
        if (!is_followed)
            puts(id);
        else if (cli_flag(cli, "stream"))
            code = follow_events(cli, id, NULL, false);
        else
            code = follow_wait(cli, id);
    }
    json_decref(job);
    return code;
}

int submit_run(struct cli *cli)
{
    struct api_request request = {.who = WHO_TENANT, .method = "POST", .path = "/v1/jobs"};
    const char *key = cli_option(cli, "idempotency-key");
    size_t len = 0;
    char *body;
    int code;

    if (key && (strlen(key) > 255 || !str_is_visible_ascii(key, strlen(key))))
        return cli_usage(cli, "--idempotency-key: expected 1 to 255 visible ASCII characters");
    body = make_body(cli, &len);
    if (!body)
        return CLI_USAGE;
    request.body = body;
    request.body_len = len;
    request.idempotency_key = key;
    code = make_job(cli, &request);
    free(body);
    return code;
}

int replay_run(struct cli *cli)
{
    struct api_request request = {.who = WHO_TENANT, .method = "POST"};
    struct buf path;
    int code;

    buf_init(&path, 8192);
    buf_puts(&path, "/v1/jobs/");
    api_put_escaped(&path, cli->arguments[0]);
    buf_puts(&path, "/replay");
    request.path = path.data;
    code = make_job(cli, &request);
    buf_release(&path);
    return code;
}
