/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a submit body into a job, with an error that names the field for everything it refuses. */
#include "common/model/job_submit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/money.h"
#include "common/base/str.h"
#include "common/model/chat_request.h"
#include "common/model/settings.h"
#include "common/model/webhook_events.h"
#include "common/model/webhook_url.h"
#include "common/model/worst_case.h"

/* idempotency_key is the last: only bulk lines have it. */
static const char *const fields[] = {
    "request",    "priority",     "workflow",  "user",         "purpose",
    "data_class", "metadata",     "run_at",    "deadline",     "window",
    "webhook",    "max_attempts", "timeout_s", "max_cost_usd", "idempotency_key",
};
enum { FIELD_COUNT = sizeof(fields) / sizeof(fields[0]) };

enum { WHEN_CHARS_MAX = 64, MONEY_CHARS_MAX = 32 };

struct reading {
    const char *body;
    size_t len;
    const json_t *root;
    const struct job_rules *rules;
    struct job_new *job;
    struct chat_request chat;
    struct err *err;
};

/* Absent and null are the same everywhere. */
static const json_t *field(const struct reading *reading, const char *name)
{
    const json_t *value = json_object_get(reading->root, name);

    return json_is_null(value) ? NULL : value;
}

static bool copy(const char *text, size_t len, char **out, struct err *err)
{
    *out = malloc(len + 1);
    if (!*out)
        return err_set(err, "read a job: out of memory");
    memcpy(*out, text, len);
    (*out)[len] = '\0';
    return true;
}

/* The member exactly as it is written in the body. */
static bool copy_source(const struct reading *reading, const char *name, char **out, size_t *len)
{
    struct json_slice slice;

    if (!json_member_slice(reading->body, reading->len, name, &slice))
        return err_set(reading->err, "read a job: member %s was lost", name);
    *len = slice.len;
    return copy(slice.text, slice.len, out, reading->err);
}

/* --- the request ------------------------------------------------------------------------------ */

static bool read_request(struct reading *reading)
{
    static const char param[] = "request";
    const json_t *request = field(reading, param);

    if (!request)
        return err_input(reading->err, "missing_field", param, "%s: is required", param);
    if (!json_is_object(request))
        return json_refuse(reading->err, param, "an object", request);
    if (!chat_request_read(request, &reading->chat, reading->err))
        return false;
    return copy(reading->chat.model, strlen(reading->chat.model), &reading->job->model,
                reading->err) &&
           copy_source(reading, param, &reading->job->request, &reading->job->request_len);
}

static bool refuse_model(const struct reading *reading)
{
    static const char param[] = "request.model";
    const char *model = reading->chat.model;
    const char *nearest = settings_nearest_route(reading->rules->settings, model);

    if (nearest)
        return err_input(reading->err, "model_not_found", param,
                         "%s: there is no route %.64s (did you mean %s?)", param, model, nearest);
    return err_input(reading->err, "model_not_found", param, "%s: there is no route %.64s", param,
                     model);
}

/* The route, what the job is expected to take, and whether its ceiling can ever be kept. */
static bool read_route(struct reading *reading)
{
    static const char param[] = "max_cost_usd";
    struct job_new *job = reading->job;
    const struct route *route = NULL;
    struct request_facts facts;
    int64_t least, tokens;
    char need[MONEY_TEXT_SIZE];

    if (reading->rules->settings) {
        route = settings_route(reading->rules->settings, job->model);
        if (!route)
            return refuse_model(reading);
    }
    request_facts_read(job->request, job->request_len, &facts);
    tokens = worst_case_tokens(route ? &route->targets[0] : NULL, &facts);
    job->est_tokens = tokens < INT32_MAX ? tokens : INT32_MAX;
    job->worst_case_nano = route ? worst_case_most_nano(route, &facts) : -1;
    if (!route || job->max_cost_nano < 0)
        return true;
    least = worst_case_least_nano(route, &facts);
    if (least <= job->max_cost_nano)
        return true;
    money_format(least, need);
    return err_input(reading->err, "never_fits", param,
                     "%s: one call may cost up to %s, which never fits", param, need);
}

/* --- labels and metadata ---------------------------------------------------------------------- */

static bool read_label(const struct reading *reading, const char *name, char **out)
{
    const json_t *value = field(reading, name);

    if (!value)
        return true;
    if (!json_is_string(value) ||
        !str_is_label(json_string_value(value), json_string_length(value), JOB_LABEL_MAX))
        return json_refuse(reading->err, name, "1 to 128 of A-Z a-z 0-9 . _ / @ : -", value);
    return copy(json_string_value(value), json_string_length(value), out, reading->err);
}

static bool read_priority(const struct reading *reading)
{
    const json_t *value = field(reading, "priority");

    reading->job->priority = PRIORITY_NORMAL;
    if (!value)
        return true;
    if (json_is_string(value) && priority_parse(json_string_value(value), &reading->job->priority))
        return true;
    return json_refuse(reading->err, "priority", "high, normal or low", value);
}

static bool check_pair(const char *name, const json_t *value, struct err *err)
{
    char param[ERR_PARAM_MAX];
    size_t chars = str_utf8_count(name, strlen(name));

    json_path(param, sizeof(param), "metadata", name);
    if (chars < 1 || chars > JOB_METADATA_NAME_MAX)
        return err_input(err, "invalid_value", "metadata",
                         "metadata: expected names of 1 to %d characters, got one of %zu",
                         JOB_METADATA_NAME_MAX, chars);
    if (!json_is_string(value))
        return json_refuse(err, param, "a string", value);
    if (str_utf8_count(json_string_value(value), json_string_length(value)) >
        JOB_METADATA_VALUE_MAX)
        return json_refuse(err, param, "a string of at most 512 characters", value);
    return true;
}

static bool read_metadata(const struct reading *reading)
{
    static const char param[] = "metadata";
    const json_t *metadata = field(reading, param);
    json_t *value;
    const char *name;
    size_t len;

    if (!metadata)
        return true;
    if (!json_is_object(metadata))
        return json_refuse(reading->err, param, "an object of strings", metadata);
    if (json_object_size(metadata) > JOB_METADATA_MAX)
        return err_input(reading->err, "invalid_value", param,
                         "%s: expected at most %d pairs, got %zu", param, JOB_METADATA_MAX,
                         json_object_size(metadata));
    json_object_foreach((json_t *)(uintptr_t)metadata, name, value)
    {
        if (!check_pair(name, value, reading->err))
            return false;
    }
    return copy_source(reading, param, &reading->job->metadata, &len);
}

/* --- times, limits ---------------------------------------------------------------------------- */

static bool read_time(const struct reading *reading, const char *name, int64_t *us)
{
    const json_t *value = field(reading, name);

    if (!value)
        return true;
    if (json_is_string(value) && json_string_length(value) <= WHEN_CHARS_MAX &&
        clock_parse_rfc3339(json_string_value(value), json_string_length(value), us) && *us > 0)
        return true;
    return json_refuse(reading->err, name, "an RFC 3339 time like \"2026-11-21T03:04:05Z\"", value);
}

static bool read_limits(const struct reading *reading)
{
    static const char param[] = "max_cost_usd";
    struct job_new *job = reading->job;
    const json_t *cost = field(reading, param);
    int64_t attempts = JOB_MAX_ATTEMPTS_DEFAULT, timeout_s = JOB_TIMEOUT_S_DEFAULT;

    if (!json_read_i64(reading->root, "", "max_attempts", 1, JOB_MAX_ATTEMPTS_MAX, &attempts,
                       reading->err) ||
        !json_read_i64(reading->root, "", "timeout_s", 1, JOB_TIMEOUT_S_MAX, &timeout_s,
                       reading->err))
        return false;
    job->max_attempts = (int)attempts;
    job->timeout_s = (int)timeout_s;
    job->max_cost_nano = -1;
    if (!cost)
        return true;
    if (json_is_string(cost) && json_string_length(cost) <= MONEY_CHARS_MAX &&
        money_parse(json_string_value(cost), json_string_length(cost), &job->max_cost_nano))
        return true;
    job->max_cost_nano = -1;
    return json_refuse(reading->err, param, "US dollars as a decimal string like \"0.25\"", cost);
}

/* --- webhook ---------------------------------------------------------------------------------- */

static bool read_webhook(const struct reading *reading)
{
    static const char *const members[] = {"url", "events"};
    static const char param[] = "webhook";
    const json_t *webhook = field(reading, param);
    const char *url = NULL;

    if (!webhook)
        return true;
    if (!json_is_object(webhook))
        return json_refuse(reading->err, param, "an object with a url", webhook);
    if (!json_known_members(webhook, param, members, 2, reading->err) ||
        !json_read_string_required(webhook, param, "url", URL_MAX, &url, reading->err) ||
        !webhook_url_check(url, reading->rules->allow_networks, reading->rules->allow_network_count,
                           "webhook.url", reading->err))
        return false;
    return copy(url, strlen(url), &reading->job->webhook_url, reading->err) &&
           webhook_events_read(json_object_get(webhook, "events"), "webhook.events",
                               &reading->job->webhook_events, reading->err);
}

/* --- the whole -------------------------------------------------------------------------------- */

bool idempotency_key_check(const char *key, const char *param, struct err *err)
{
    size_t len = strlen(key);

    if (len >= 1 && len <= IDEMPOTENCY_KEY_MAX && str_is_visible_ascii(key, len))
        return true;
    return err_input(err, "invalid_value", param, "%s: expected 1 to %d visible ASCII characters",
                     param, IDEMPOTENCY_KEY_MAX);
}

static bool read_idempotency_key(const struct reading *reading)
{
    static const char param[] = "idempotency_key";
    const json_t *key = reading->rules->takes_idempotency_key ? field(reading, param) : NULL;

    if (!key)
        return true;
    if (!json_is_string(key))
        return json_refuse(reading->err, param, "a string", key);
    return idempotency_key_check(json_string_value(key), param, reading->err) &&
           copy(json_string_value(key), json_string_length(key), &reading->job->idempotency_key,
                reading->err);
}

/* Refused, never ignored: a job that ran outside its window would be worse than an error. */
static bool refuse_window(const struct reading *reading)
{
    if (!field(reading, "window"))
        return true;
    return err_input(reading->err, "invalid_value", "window", "window: is not supported yet");
}

static bool read_all(struct reading *reading)
{
    struct job_new *job = reading->job;
    size_t known = reading->rules->takes_idempotency_key ? FIELD_COUNT : FIELD_COUNT - 1;

    return json_known_members(reading->root, "", fields, known, reading->err) &&
           read_request(reading) && read_priority(reading) &&
           read_label(reading, "workflow", &job->workflow) &&
           read_label(reading, "user", &job->user) &&
           read_label(reading, "purpose", &job->purpose) &&
           read_label(reading, "data_class", &job->data_class) && read_metadata(reading) &&
           read_time(reading, "run_at", &job->run_at_us) &&
           read_time(reading, "deadline", &job->deadline_us) && refuse_window(reading) &&
           read_webhook(reading) && read_limits(reading) && read_idempotency_key(reading) &&
           read_route(reading);
}

struct job_new *job_submit_read(const char *body, size_t len, const struct job_rules *rules,
                                struct err *err)
{
    json_t *root = json_parse(body, len, JSON_READ_STRICT, err);
    struct job_new *job = NULL;
    bool ok = false;

    if (!root)
        return NULL;
    if (!json_is_object(root)) {
        err_input(err, "invalid_value", "", "the body must be a JSON object");
        goto done;
    }
    job = calloc(1, sizeof(*job));
    if (!job)
        err_set(err, "read a job: out of memory");
    else
        ok = read_all(&(struct reading){
            .body = body, .len = len, .root = root, .rules = rules, .job = job, .err = err});
done:
    json_decref(root);
    if (ok)
        return job;
    job_new_free(job);
    return NULL;
}

bool job_submit_judge_times(const struct job_new *job, int64_t now_us, struct err *err)
{
    int64_t latest_us = now_us + JOB_LIFE_DAYS * US_PER_DAY;
    int64_t deadline_us = job->deadline_us ? job->deadline_us : latest_us;

    if (deadline_us > latest_us)
        return err_input(err, "invalid_value", "deadline",
                         "deadline: expected a time at most %d days from now", JOB_LIFE_DAYS);
    if (deadline_us <= now_us)
        return err_input(err, "invalid_value", "deadline", "deadline: expected a time to come");
    if (job->run_at_us < deadline_us)
        return true;
    if (job->deadline_us)
        return err_input(err, "invalid_value", "deadline",
                         "deadline: expected a time after run_at");
    return err_input(err, "invalid_value", "run_at",
                     "run_at: expected a time less than %d days from now, when the job expires",
                     JOB_LIFE_DAYS);
}

void job_submit_stamp(struct job_new *job, struct id id)
{
    job->id = id;
    if (!job->deadline_us)
        job->deadline_us = id_time_us(id) + JOB_LIFE_DAYS * US_PER_DAY;
}
