/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a row of a showing statement into a job_view. */
#include "common/model/job_view.h"

#include "common/model/job_sql.h"

/* Takes the columns one after the other. */
struct columns {
    const struct pg_result *result;
    int row;
    int next;
};

static const char *take_text(struct columns *columns)
{
    return pg_get_text(columns->result, columns->row, columns->next++, NULL);
}

static int64_t take_int(struct columns *columns)
{
    return pg_get_int(columns->result, columns->row, columns->next++);
}

static int64_t take_time(struct columns *columns)
{
    return pg_get_time(columns->result, columns->row, columns->next++);
}

static bool take_bool(struct columns *columns)
{
    return pg_get_bool(columns->result, columns->row, columns->next++);
}

static struct id take_id(struct columns *columns)
{
    return pg_get_uuid(columns->result, columns->row, columns->next++);
}

static void take_submitted(struct columns *columns, struct job_view *out)
{
    out->priority = (enum priority)take_int(columns);
    out->workflow = take_text(columns);
    out->user = take_text(columns);
    out->purpose = take_text(columns);
    out->data_class = take_text(columns);
    out->metadata = take_text(columns);
    out->model = take_text(columns);
    out->started_us = take_time(columns);
    out->ended_us = take_time(columns);
    out->run_at_us = take_time(columns);
    out->deadline_us = take_time(columns);
}

static void take_counters(struct columns *columns, struct job_view *out)
{
    out->attempts = (int)take_int(columns);
    out->deferrals = (int)take_int(columns);
    out->crashes = (int)take_int(columns);
    out->cancel_requested = take_bool(columns);
    out->replay_of = take_id(columns);
}

static int64_t take_nano(struct columns *columns)
{
    bool is_null = pg_is_null(columns->result, columns->row, columns->next);
    int64_t nano = take_int(columns);

    return is_null ? -1 : nano;
}

static void take_ceiling(struct columns *columns, struct job_view *out)
{
    out->max_cost_nano = take_nano(columns);
    out->worst_case_nano = take_nano(columns);
    out->key_id = take_text(columns);
}

static void take_waiting(struct columns *columns, struct job_view *out)
{
    out->wait_reason = take_text(columns);
    out->wait_detail = take_text(columns);
    out->wait_until_us = take_time(columns);
    out->position = take_int(columns);
}

static void take_error(struct columns *columns, struct job_view *out)
{
    out->error_type = take_text(columns);
    out->error_code = take_text(columns);
    out->error_message = take_text(columns);
    out->error_retryable = take_bool(columns);
}

static void take_usage(struct columns *columns, struct job_view *out)
{
    out->has_usage = take_bool(columns);
    out->input_tokens = take_int(columns);
    out->output_tokens = take_int(columns);
    out->cached_input_tokens = take_int(columns);
    out->is_usage_estimated = take_bool(columns);
    out->cost_nano = take_int(columns);
    out->unknown_cost_nano = take_int(columns);
}

bool job_view_of_row(const struct pg_result *result, int row, int first, struct job_view *out)
{
    struct columns columns = {.result = result, .row = row, .next = first};
    const char *state;

    *out = (struct job_view){.id = take_id(&columns)};
    state = take_text(&columns);
    if (!state || !job_state_parse(state, &out->state))
        return false;
    take_submitted(&columns, out);
    take_counters(&columns, out);
    take_ceiling(&columns, out);
    take_waiting(&columns, out);
    take_error(&columns, out);
    take_usage(&columns, out);
    return true;
}
