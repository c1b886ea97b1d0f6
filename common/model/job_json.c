/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the job object: every member always there, in one order, null where it does not apply. */
#include "common/model/job_json.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/money.h"
#include "common/base/str.h"

/* --- values ----------------------------------------------------------------------------------- */

static void put_text(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, ",\"%s\":", name);
    buf_put_json_text(out, text);
}

static void put_time(struct buf *out, const char *name, int64_t us)
{
    char text[CLOCK_RFC3339_SIZE];

    if (us)
        clock_format_rfc3339(us, text);
    put_text(out, name, us ? text : NULL);
}

static void put_money(struct buf *out, const char *name, int64_t nano)
{
    char text[MONEY_TEXT_SIZE];

    money_format(nano, text);
    put_text(out, name, text);
}

static void put_job_id(struct buf *out, const char *name, struct id id)
{
    char text[ID_TEXT_SIZE];

    if (!id_is_zero(id))
        id_format(id, "job_", text);
    put_text(out, name, id_is_zero(id) ? NULL : text);
}

static void put_raw(struct buf *out, const char *name, const char *json, size_t len)
{
    buf_printf(out, ",\"%s\":", name);
    if (json)
        buf_append(out, json, len);
    else
        buf_puts(out, "null");
}

static void put_bool(struct buf *out, const char *name, bool value)
{
    buf_printf(out, ",\"%s\":%s", name, value ? "true" : "false");
}

/* --- parts of the object ---------------------------------------------------------------------- */

static void put_head(const struct job_view *view, struct buf *out)
{
    char id[ID_TEXT_SIZE];

    id_format(view->id, "job_", id);
    buf_printf(out, "{\"id\":\"%s\",\"object\":\"job\"", id);
    put_text(out, "state", job_state_name(view->state));
    put_text(out, "priority", priority_name(view->priority));
    put_text(out, "workflow", view->workflow);
    put_text(out, "user", view->user);
    put_text(out, "purpose", view->purpose);
    put_text(out, "data_class", view->data_class);
    put_raw(out, "metadata", view->metadata, view->metadata ? strlen(view->metadata) : 0);
    put_text(out, "model", view->model);
    put_time(out, "created_at", id_time_us(view->id));
    put_time(out, "started_at", view->started_us);
    put_time(out, "ended_at", view->ended_us);
    put_time(out, "run_at", view->run_at_us);
    put_time(out, "deadline", view->deadline_us);
    buf_printf(out, ",\"attempts\":%d,\"deferrals\":%d,\"crashes\":%d", view->attempts,
               view->deferrals, view->crashes);
    put_bool(out, "cancel_requested", view->cancel_requested);
}

/* What the job may cost at most: its ceiling, or else the worst case of one call. */
static void put_ceiling(const struct job_view *view, struct buf *out)
{
    static const char *const fits[] = {
        [JOB_FIT_UNKNOWN] = "null", [JOB_FITS] = "true", [JOB_FITS_NOT] = "false"};

    if (view->max_cost_nano >= 0)
        put_money(out, "max_cost_usd", view->max_cost_nano);
    else
        put_text(out, "max_cost_usd", NULL);
    if (view->is_full)
        buf_printf(out, JOB_JSON_FITS "%s",
                   fits[view->state == JOB_QUEUED ? view->fits_now : JOB_FIT_UNKNOWN]);
}

static void put_waiting(const struct job_view *view, struct buf *out)
{
    if (view->state != JOB_QUEUED || !view->wait_reason) {
        buf_puts(out, ",\"waiting\":null");
        return;
    }
    buf_puts(out, ",\"waiting\":{\"reason\":");
    buf_put_json_string(out, view->wait_reason, strlen(view->wait_reason));
    put_text(out, "detail", view->wait_detail);
    put_time(out, "until", view->wait_until_us);
    if (view->position > 0)
        buf_printf(out, ",\"position\":%" PRId64 "}", view->position);
    else
        buf_puts(out, ",\"position\":null}");
}

static void put_partial(const struct job_view *view, struct buf *out)
{
    if (view->partial_attempt <= 0 || view->state == JOB_SUCCEEDED) {
        buf_puts(out, ",\"partial\":null");
        return;
    }
    buf_puts(out, ",\"partial\":{\"text\":");
    buf_put_json_string(out, view->partial_text ? view->partial_text : "", view->partial_len);
    buf_printf(out, ",\"attempt\":%d}", view->partial_attempt);
}

/* The first choice's text as a JSON string, or null (an answer of tool calls only).  A provider's
 * answer that was not made by us is read as providers are read. */
static void put_result_text(const char *result, size_t len, struct buf *out)
{
    json_t *root = json_parse(result, len, JSON_READ_LENIENT, NULL);
    const json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
    const json_t *text = json_object_get(json_object_get(choice, "message"), "content");

    if (json_is_string(text))
        buf_put_json_string(out, json_string_value(text), json_string_length(text));
    else
        buf_puts(out, "null");
    json_decref(root);
}

static void put_result(const struct job_view *view, struct buf *out)
{
    char sha256[2 * 32 + 1];

    if (view->state != JOB_SUCCEEDED || !view->result) {
        buf_puts(out, ",\"result\":null");
        return;
    }
    buf_puts(out, ",\"result\":{\"text\":");
    put_result_text(view->result, view->result_len, out);
    put_text(out, "finish_reason", view->finish_reason);
    put_raw(out, "response", view->result, view->result_len);
    if (view->result_sha256)
        str_hex(view->result_sha256, 32, sha256);
    put_text(out, "sha256", view->result_sha256 ? sha256 : NULL);
    buf_putc(out, '}');
}

static void put_usage(const struct job_view *view, struct buf *out)
{
    if (!view->has_usage) {
        buf_puts(out, ",\"usage\":null");
    } else {
        buf_printf(out,
                   ",\"usage\":{\"input_tokens\":%" PRId64 ",\"output_tokens\":%" PRId64
                   ",\"cached_input_tokens\":%" PRId64 ",\"total_tokens\":%" PRId64 "%s}",
                   view->input_tokens, view->output_tokens, view->cached_input_tokens,
                   view->input_tokens + view->output_tokens,
                   view->is_usage_estimated ? ",\"usage_estimated\":true" : "");
    }
    put_money(out, "cost_usd", view->cost_nano);
    put_money(out, "unknown_cost_usd", view->unknown_cost_nano);
}

static void put_error(const struct job_view *view, struct buf *out)
{
    if (!view->error_type) {
        buf_puts(out, ",\"error\":null");
        return;
    }
    buf_puts(out, ",\"error\":{\"type\":");
    buf_put_json_string(out, view->error_type, strlen(view->error_type));
    put_text(out, "code", view->error_code);
    put_text(out, "message", view->error_message);
    put_bool(out, "retryable", view->error_retryable);
    buf_putc(out, '}');
}

/* --- calls ------------------------------------------------------------------------------------ */

static void put_json_text(struct buf *out, const char *name, const json_t *text)
{
    put_text(out, name, json_string_value(text));
}

static void put_json_number(struct buf *out, const char *name, const json_t *number)
{
    if (json_is_integer(number))
        buf_printf(out, ",\"%s\":%" JSON_INTEGER_FORMAT, name, json_integer_value(number));
    else
        buf_printf(out, ",\"%s\":null", name);
}

static void put_call(struct id job, const json_t *call, struct buf *out)
{
    char id[CALL_ID_SIZE];
    int attempt = (int)json_integer_value(json_array_get(call, JOB_CALL_ATTEMPT));

    id_format_call(job, attempt, id);
    buf_printf(out, "{\"id\":\"%s\",\"attempt\":%d", id, attempt);
    put_json_text(out, "provider", json_array_get(call, JOB_CALL_PROVIDER));
    put_json_text(out, "model", json_array_get(call, JOB_CALL_MODEL));
    put_json_text(out, "state", json_array_get(call, JOB_CALL_STATE));
    put_json_number(out, "status", json_array_get(call, JOB_CALL_STATUS));
    put_json_text(out, "error_type", json_array_get(call, JOB_CALL_ERROR_TYPE));
    put_json_text(out, "started_at", json_array_get(call, JOB_CALL_STARTED_AT));
    put_json_number(out, "first_token_ms", json_array_get(call, JOB_CALL_FIRST_TOKEN_MS));
    put_json_number(out, "duration_ms", json_array_get(call, JOB_CALL_DURATION_MS));
    put_json_number(out, "input_tokens", json_array_get(call, JOB_CALL_INPUT_TOKENS));
    put_json_number(out, "output_tokens", json_array_get(call, JOB_CALL_OUTPUT_TOKENS));
    put_json_number(out, "cached_input_tokens", json_array_get(call, JOB_CALL_CACHED_TOKENS));
    put_money(out, "cost_usd", json_integer_value(json_array_get(call, JOB_CALL_COST_NANO)));
    if (json_is_true(json_array_get(call, JOB_CALL_IS_ESTIMATED)))
        buf_puts(out, ",\"usage_estimated\":true");
    buf_putc(out, '}');
}

static void put_calls(const struct job_view *view, struct buf *out)
{
    json_t *calls =
        view->calls ? json_parse(view->calls, strlen(view->calls), JSON_READ_LENIENT, NULL) : NULL;

    buf_puts(out, ",\"calls\":[");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        if (i > 0)
            buf_putc(out, ',');
        put_call(view->id, json_array_get(calls, i), out);
    }
    buf_putc(out, ']');
    json_decref(calls);
}

/* --- the whole -------------------------------------------------------------------------------- */

bool job_json_write(const struct job_view *view, struct buf *out)
{
    put_head(view, out);
    put_ceiling(view, out);
    put_waiting(view, out);
    if (view->is_full) {
        put_partial(view, out);
        put_result(view, out);
    }
    put_usage(view, out);
    put_job_id(out, "replay_of", view->replay_of);
    put_error(view, out);
    if (view->is_full)
        put_calls(view, out);
    if (view->request)
        put_raw(out, "request", view->request, view->request_len);
    buf_putc(out, '}');
    return !out->is_broken;
}

bool job_json_submitted(const struct job_new *job, struct buf *out)
{
    struct job_view view = {
        .id = job->id,
        .state = JOB_QUEUED,
        .priority = job->priority,
        .workflow = job->workflow,
        .user = job->user,
        .purpose = job->purpose,
        .data_class = job->data_class,
        .metadata = job->metadata,
        .model = job->model,
        .run_at_us = job->run_at_us,
        .deadline_us = job->deadline_us,
        .replay_of = job->replay_of,
        .max_cost_nano = job->max_cost_nano >= 0 ? job->max_cost_nano : job->worst_case_nano,
        .is_full = true,
    };

    return job_json_write(&view, out);
}
