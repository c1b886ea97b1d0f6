/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens and money of a finished call. */
#include "worker/outcome.h"

#include "common/base/clock.h"
#include "common/io/metrics.h"

static const struct metric calls_total = {
    .name = "nightshift_calls_total",
    .type = METRIC_COUNTER,
    .help = "Provider calls by outcome: ok, cancelled, or the type of error.",
    .labels = {"provider", "model", "outcome"},
};
static const struct metric call_seconds = {
    .name = "nightshift_call_seconds",
    .type = METRIC_HISTOGRAM,
    .help = "Provider calls from start to end.",
    .labels = {"provider", "model"},
};
static const struct metric first_token_seconds = {
    .name = "nightshift_first_token_seconds",
    .type = METRIC_HISTOGRAM,
    .help = "Provider calls from start to their first output.",
    .labels = {"provider", "model"},
};
static const struct metric tokens_total = {
    .name = "nightshift_tokens_total",
    .type = METRIC_COUNTER,
    .help = "Tokens of settled calls.",
    .labels = {"provider", "model", "direction"},
};
static const struct metric cost_total = {
    .name = "nightshift_cost_nano_usd_total",
    .type = METRIC_COUNTER,
    .help = "Cost of settled calls in nano-dollars.",
    .labels = {"provider", "model"},
};

static void settle(const struct reservation *worst, const struct call_end *end,
                   struct call_outcome *out)
{
    if (end->result.has_usage) {
        out->input_tokens = end->result.usage.input_tokens;
        out->cached_input_tokens = end->result.usage.cached_input_tokens;
        out->output_tokens = end->result.usage.output_tokens;
    } else {
        out->is_usage_estimated = true;
        out->input_tokens = worst->input_tokens;
        out->cached_input_tokens = 0;
        out->output_tokens = reservation_output(worst, end->result.output_bytes);
    }
    out->cost_nano =
        money_cost(&worst->price, out->input_tokens, out->cached_input_tokens, out->output_tokens);
}

struct call_outcome outcome_of_call(const struct reservation *worst, int ordinal,
                                    const struct call_end *end)
{
    struct call_outcome out = {
        .call = ordinal,
        .state = decide_booking(&end->booked),
        .status = end->booked.status,
        .error = end->failure.type,
        .first_token_ms = end->first_token_us < 0 ? -1 : end->first_token_us / US_PER_MS,
        .duration_ms = end->duration_us / US_PER_MS,
        .input_tokens = -1,
        .cached_input_tokens = -1,
        .output_tokens = -1,
    };

    if (out.state == CALL_SETTLED)
        settle(worst, end, &out);
    else if (out.state == CALL_UNKNOWN)
        out.cost_nano = worst->cost_nano;
    return out;
}

void outcome_count(const struct target *target, const struct call_outcome *outcome,
                   const struct call_end *end, const char *name)
{
    const char *provider = target->provider->name, *model = target->model;

    metric_add(&calls_total, METRIC_LABELS(provider, model, name), 1);
    metric_observe_us(&call_seconds, METRIC_LABELS(provider, model), end->duration_us);
    if (end->first_token_us >= 0)
        metric_observe_us(&first_token_seconds, METRIC_LABELS(provider, model),
                          end->first_token_us);
    if (outcome->state != CALL_SETTLED)
        return;
    metric_add(&tokens_total, METRIC_LABELS(provider, model, "input"), outcome->input_tokens);
    metric_add(&tokens_total, METRIC_LABELS(provider, model, "output"), outcome->output_tokens);
    metric_add(&cost_total, METRIC_LABELS(provider, model), outcome->cost_nano);
}
