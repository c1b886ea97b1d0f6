/* SPDX-License-Identifier: Apache-2.0 */
/* `nightshift limits`, `budgets`, `usage` and `calls`: who may spend what, and who did. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/money.h"
#include "common/base/str.h"
#include "producer/cli/admin_path.h"
#include "producer/cli/api.h"
#include "producer/cli/commands.h"
#include "producer/cli/listing.h"

enum { DOCUMENT_MAX = 4 * 1024 * 1024 };

/* --- limits get ------------------------------------------------------------------------------- */

static const struct field limit_fields[] = {
    FIELD("scope", "scope"),
    FIELD_AS(FIELD_NUMBER, "submits/min", "submits_per_minute"),
    FIELD_AS(FIELD_NUMBER, "requests/min", "requests_per_minute"),
    FIELD_AS(FIELD_NUMBER, "tokens/min", "tokens_per_minute"),
    FIELD_AS(FIELD_NUMBER, "concurrency", "max_concurrency"),
    FIELD_AS(FIELD_NUMBER, "queued", "max_queued"),
    FIELD_AS(FIELD_NUMBER, "body bytes", "max_body_bytes"),
    FIELD_AS(FIELD_MONEY, "job cost", "max_job_cost_usd"),
    FIELD_AS(FIELD_MONEY, "day", "budget_usd.day"),
    FIELD_AS(FIELD_MONEY, "month", "budget_usd.month"),
    FIELD_AS(FIELD_MONEY, "total", "budget_usd.total"),
    FIELD("policy", "budget_policy"),
    FIELD("time zone", "time_zone"),
    FIELD_AS(FIELD_YES, "shadow", "shadow"),
    FIELD_END,
};

static void add_sets(json_t *rows, const json_t *document, const char *member, const char *word)
{
    const char *name;
    json_t *set;

    json_object_foreach(json_object_get(document, member), name, set)
    {
        json_t *row = json_copy(set);
        char scope[256];

        snprintf(scope, sizeof(scope), "%s %s", word, name);
        json_object_set_new(row, "scope", json_string(scope));
        json_array_append_new(rows, row);
    }
}

/* The document's sets, each a record of what it limits. */
static void show_limits(const struct cli *cli, const json_t *document)
{
    json_t *rows = json_array(), *whole = json_copy((json_t *)(uintptr_t)document), *row;
    size_t i;

    json_object_set_new(whole, "scope", json_string(cli_flag(cli, "key") ? "key" : "tenant"));
    json_array_append_new(rows, whole);
    add_sets(rows, document, "workflows", "workflow");
    add_sets(rows, document, "users", "user");
    add_sets(rows, document, "models", "model");
    json_array_foreach(rows, i, row)
    {
        if (i > 0)
            putchar('\n');
        listing_record(cli, row, limit_fields);
    }
    json_decref(rows);
}

static void limits_path(const struct cli *cli, struct buf *path)
{
    admin_path(path,
               cli_flag(cli, "key") ? "/admin/v1/keys/%/limits" : "/admin/v1/tenants/%/limits",
               cli->arguments);
}

int limits_get_run(struct cli *cli)
{
    struct api_request request = {.who = WHO_ADMIN, .method = "GET"};
    json_t *document = NULL;
    struct buf path;
    int code;

    limits_path(cli, &path);
    request.path = path.data;
    code = api_json(cli, &request, &document);
    if (document)
        show_limits(cli, document);
    json_decref(document);
    buf_release(&path);
    return code;
}

/* --- limits set ------------------------------------------------------------------------------- */

enum limit_kind { LIMIT_COUNT, LIMIT_MONEY, LIMIT_TEXT, LIMIT_YES };

static const struct {
    const char *option, *member;
    enum limit_kind kind;
    const char *parent; /* the object it stands in; NULL: the set itself */
} limit_members[] = {
    {"submits-per-minute", "submits_per_minute", LIMIT_COUNT, NULL},
    {"requests-per-minute", "requests_per_minute", LIMIT_COUNT, NULL},
    {"tokens-per-minute", "tokens_per_minute", LIMIT_COUNT, NULL},
    {"max-concurrency", "max_concurrency", LIMIT_COUNT, NULL},
    {"max-queued", "max_queued", LIMIT_COUNT, NULL},
    {"max-body-bytes", "max_body_bytes", LIMIT_COUNT, NULL},
    {"max-job-cost", "max_job_cost_usd", LIMIT_MONEY, NULL},
    {"budget-day", "day", LIMIT_MONEY, "budget_usd"},
    {"budget-month", "month", LIMIT_MONEY, "budget_usd"},
    {"budget-total", "total", LIMIT_MONEY, "budget_usd"},
    {"budget-policy", "budget_policy", LIMIT_TEXT, NULL},
    {"time-zone", "time_zone", LIMIT_TEXT, NULL},
    {"shadow", "shadow", LIMIT_YES, NULL},
};

/* NULL: it is none, and that was told. */
static json_t *limit_value(const struct cli *cli, const char *option, const char *text,
                           enum limit_kind kind)
{
    int64_t number;
    char money[MONEY_TEXT_SIZE];

    if (strcmp(text, "none") == 0)
        return json_null();
    if (kind == LIMIT_TEXT)
        return json_string(text);
    if (kind == LIMIT_YES)
        return json_boolean(strcmp(text, "yes") == 0);
    if (kind == LIMIT_COUNT && str_to_i64(text, strlen(text), &number) && number >= 0)
        return json_integer(number);
    if (kind == LIMIT_MONEY && money_parse(text, strlen(text), &number)) {
        money_format(number, money);
        return json_string(money);
    }
    cli_usage(cli, "--%s: expected %s or none, got \"%.64s\"", option,
              kind == LIMIT_COUNT ? "a whole number" : "US dollars with up to nine places", text);
    return NULL;
}

/* The object under a name, made where it is missing or null. */
static json_t *object_at(json_t *object, const char *name)
{
    json_t *member = json_object_get(object, name);

    if (!json_is_object(member)) {
        member = json_object();
        json_object_set_new(object, name, member);
    }
    return member;
}

/* The set that the options are about: the document's own, or one nested in it. */
static json_t *choose_set(const struct cli *cli, json_t *document)
{
    static const char *const scopes[][2] = {
        {"workflow", "workflows"}, {"user", "users"}, {"model", "models"}};
    json_t *set = document;

    for (int i = 0; i < 3; i++) {
        const char *name = cli_option(cli, scopes[i][0]);

        if (!name)
            continue;
        if (set != document) {
            cli_usage(cli, "one of --workflow, --user and --model at a time");
            return NULL;
        }
        set = object_at(object_at(document, scopes[i][1]), name);
    }
    return set;
}

/* Puts what the options say into the document; 0: nothing was said or something was wrong. */
static int change_limits(const struct cli *cli, json_t *document)
{
    json_t *set = choose_set(cli, document);
    int count = 0;

    for (size_t i = 0; set && i < sizeof(limit_members) / sizeof(limit_members[0]); i++) {
        const char *text = cli_option(cli, limit_members[i].option);
        const char *parent = limit_members[i].parent;
        json_t *value;

        if (!text)
            continue;
        value = limit_value(cli, limit_members[i].option, text, limit_members[i].kind);
        if (!value)
            return 0;
        json_object_set_new(parent ? object_at(set, parent) : set, limit_members[i].member, value);
        count++;
    }
    if (set && count == 0)
        cli_usage(cli, "nothing to change");
    return count;
}

static int put_limits(struct cli *cli, const char *path, const char *text, size_t len)
{
    const struct api_request request = {
        .who = WHO_ADMIN, .method = "PUT", .path = path, .body = text, .body_len = len};
    json_t *document = NULL;
    int code = api_json(cli, &request, &document);

    if (document)
        show_limits(cli, document);
    json_decref(document);
    return code;
}

static int replace_limits(struct cli *cli, const char *path)
{
    size_t len = 0;
    char *text = cli_read_input(cli, cli_option(cli, "file"), DOCUMENT_MAX, &len);
    int code = text ? put_limits(cli, path, text, len) : CLI_USAGE;

    free(text);
    return code;
}

int limits_set_run(struct cli *cli)
{
    struct api_request request = {.who = WHO_ADMIN, .method = "GET"};
    json_t *document = NULL;
    struct buf path;
    char *text = NULL;
    int code;

    limits_path(cli, &path);
    request.path = path.data;
    if (cli_option(cli, "file")) {
        code = replace_limits(cli, path.data);
    } else {
        code = api_fetch(cli, &request, &document);
        json_object_del(document, "object");
        if (code == CLI_DONE && change_limits(cli, document) == 0)
            code = CLI_USAGE;
        else if (code == CLI_DONE && (text = json_dumps(document, JSON_COMPACT)))
            code = put_limits(cli, path.data, text, strlen(text));
    }
    free(text);
    json_decref(document);
    buf_release(&path);
    return code;
}

/* --- budgets ---------------------------------------------------------------------------------- */

int budgets_run(struct cli *cli)
{
    static const struct field fields[] = {
        FIELD_WIDE("scope", "scope"),
        FIELD("window", "window"),
        FIELD_AS(FIELD_MONEY, "limit", "limit_usd"),
        FIELD_AS(FIELD_MONEY, "spent", "spent_usd"),
        FIELD_AS(FIELD_MONEY, "reserved", "reserved_usd"),
        FIELD_AS(FIELD_MONEY, "unknown", "unknown_usd"),
        FIELD_AS(FIELD_MONEY, "free", "free_usd"),
        FIELD_AS(FIELD_TIME, "resets", "resets_at"),
        FIELD_END,
    };
    struct buf path;
    int code;

    if (cli->argument_count == 0)
        return listing_get(cli, WHO_TENANT, "/v1/budget", fields);
    admin_path(&path, "/admin/v1/tenants/%/budget", cli->arguments);
    code = listing_get(cli, WHO_ADMIN, path.data, fields);
    buf_release(&path);
    return code;
}

/* --- calls of unknown cost -------------------------------------------------------------------- */

static const struct field unknown_fields[] = {
    FIELD("call", "id"),
    FIELD_WIDE("provider", "provider"),
    FIELD_WIDE("model", "model"),
    FIELD_AS(FIELD_TIME, "started", "started_at"),
    FIELD_AS(FIELD_MONEY, "reserved", "cost_usd"),
    FIELD_WIDE("error", "error_type"),
    FIELD_END,
};

int calls_resolve_run(struct cli *cli)
{
    static const char *const names[][2] = {{"input-tokens", "input_tokens"},
                                           {"cached-input-tokens", "cached_input_tokens"},
                                           {"output-tokens", "output_tokens"}};
    static const struct field fields[] = {
        FIELD("call", "id"),
        FIELD("state", "state"),
        FIELD_AS(FIELD_MONEY, "cost", "cost_usd"),
        FIELD("in", "input_tokens"),
        FIELD("out", "output_tokens"),
        FIELD_END,
    };
    const char *cost = cli_option(cli, "cost");
    json_t *body = json_object(), *used = json_object();
    struct buf path;
    int code = CLI_USAGE;

    for (int i = 0; i < 3; i++) {
        int64_t number = -1;

        if (!cli_option_number(cli, names[i][0], 0, INT32_MAX, &number))
            goto done;
        if (number >= 0)
            json_object_set_new(used, names[i][1], json_integer(number));
    }
    if (!cost == (json_object_size(used) == 0)) {
        cli_usage(cli, "expected either --cost or --input-tokens and --output-tokens");
        goto done;
    }
    if (cost)
        json_object_set_new(body, "cost_usd", json_string(cost));
    else
        json_object_set(body, "usage", used);
    admin_path(&path, "/admin/v1/calls/%/resolve", cli->arguments);
    code = listing_post(cli, "POST", path.data, json_incref(body), fields);
    buf_release(&path);
done:
    json_decref(used);
    json_decref(body);
    return code;
}

/* --- usage ------------------------------------------------------------------------------------ */

enum { GROUPS_MAX = 7 };
static const char *const groups[GROUPS_MAX] = {"hour",     "day", "workflow", "model",
                                               "provider", "key", "user"};

static const struct field sum_fields[] = {
    FIELD_AS(FIELD_NUMBER, "jobs", "jobs"),
    FIELD_AS(FIELD_NUMBER, "calls", "calls"),
    FIELD_AS(FIELD_NUMBER, "retries", "retries"),
    FIELD_AS(FIELD_NUMBER, "errors", "errors"),
    FIELD_AS(FIELD_NUMBER, "in", "input_tokens"),
    FIELD_AS(FIELD_NUMBER, "cached", "cached_input_tokens"),
    FIELD_AS(FIELD_NUMBER, "out", "output_tokens"),
    FIELD_AS(FIELD_MONEY, "cost", "cost_usd"),
    FIELD_AS(FIELD_NUMBER, "unknown", "unknown_calls"),
    FIELD_AS(FIELD_MONEY, "unknown cost", "unknown_cost_usd"),
    FIELD_AS(FIELD_MS, "queue wait", "queue_wait_ms"),
};
enum { SUM_FIELDS = sizeof(sum_fields) / sizeof(sum_fields[0]) };

/* The group's columns in the order they were asked for, then the sums. */
static bool usage_fields(const struct cli *cli, struct field out[GROUPS_MAX + SUM_FIELDS + 1])
{
    const char *names = cli_option(cli, "group-by");
    int count = 0;

    while (names && *names) {
        size_t len = strcspn(names, ",");
        const char *found = NULL;

        for (int i = 0; i < GROUPS_MAX; i++)
            if (strlen(groups[i]) == len && strncmp(groups[i], names, len) == 0)
                found = groups[i];
        if (!found || count == GROUPS_MAX) {
            cli_usage(cli,
                      "--group-by: expected hour, day, workflow, model, provider, key or user");
            return false;
        }
        out[count++] = (struct field)FIELD_WIDE(found, found);
        names += len + (names[len] == ',');
    }
    memcpy(out + count, sum_fields, sizeof(sum_fields));
    out[count + SUM_FIELDS] = (struct field)FIELD_END;
    return true;
}

/* The server writes CSV itself: it knows which cells to escape. */
static int usage_csv(struct cli *cli, enum api_who who, const char *path)
{
    struct api_request request = {.who = who, .method = "GET", .path = path, .accept = "text/csv"};
    json_t *none = NULL;
    bool is_json = cli->out.is_json;
    int code;

    cli->out.is_json = true; /* as it comes */
    code = api_json(cli, &request, &none);
    cli->out.is_json = is_json;
    return code;
}

int usage_run(struct cli *cli)
{
    enum api_who who = cli->argument_count ? WHO_ADMIN : WHO_TENANT;
    struct field fields[GROUPS_MAX + SUM_FIELDS + 1];
    bool is_unknown = cli_flag(cli, "unknown");
    struct buf path;
    int code;

    if (!usage_fields(cli, fields))
        return CLI_USAGE;
    admin_path(&path, cli->argument_count ? "/admin/v1/tenants/%/usage" : "/v1/usage",
               cli->arguments);
    api_put_query(&path, "from", cli_option(cli, "from"));
    api_put_query(&path, "to", cli_option(cli, "to"));
    api_put_query(&path, "group_by", cli_option(cli, "group-by"));
    api_put_query(&path, "unknown", is_unknown ? "true" : NULL);
    if (cli->out.is_csv && !cli->out.is_json && !is_unknown)
        code = usage_csv(cli, who, path.data);
    else
        code = listing_get(cli, who, path.data, is_unknown ? unknown_fields : fields);
    buf_release(&path);
    return code;
}
