/* SPDX-License-Identifier: Apache-2.0 */
/* Fields in use against the lists of the table of prices. */
#include "common/model/price_guard.h"

#include <stdio.h>
#include <string.h>

#include "common/model/request_fields.h"
#include "common/model/settings.h"

#define REMEDY                                                                          \
    "where a budget or max_cost_usd applies, remove it, or list %s in priced_fields of" \
    " the price of %.128s"

/* Where it is, and what of it costs. */
static const struct {
    const char *param, *what;
} uses[PRICED_FIELD_COUNT] = {
    [PRICED_SERVICE_TIER] = {"request.service_tier", "a tier other than default"},
    [PRICED_TOOLS] = {"request.tools", "a tool that is neither function nor custom, or is cached,"},
    [PRICED_MODALITIES] = {"request.modalities", "an answer in more than text"},
    [PRICED_AUDIO] = {"request.audio", "a spoken answer"},
    [PRICED_INPUT_AUDIO] = {"request.messages", "sound"},
    [PRICED_MESSAGES] = {"request.messages",
                         "a part other than text, image_url and file, or cache_control,"},
    [PRICED_WEB_SEARCH_OPTIONS] = {"request.web_search_options", "a search"},
    [PRICED_PREDICTION] = {"request.prediction", "a prediction"},
};

static bool refuse_use(const struct target *target, enum priced_field field, struct err *err)
{
    return err_input(
        err, "invalid_value", uses[field].param,
        "%s: %s changes what a call costs in a way that the prices do not tell; " REMEDY,
        uses[field].param, uses[field].what, priced_field_name(field), target->model);
}

static bool refuse_unknown(const struct target *target, const char *name, struct err *err)
{
    const char *nearest = request_field_nearest(name);
    char param[ERR_PARAM_MAX];

    if (!*name)
        return err_input(
            err, "invalid_value", "request",
            "request: has a field whose name is empty or of %d bytes or more, which may "
            "change what a call costs; where a budget or max_cost_usd applies, remove it",
            REQUEST_FIELD_SIZE);
    snprintf(param, sizeof(param), "request.%s", name);
    return err_input(
        err, "invalid_value", param,
        "%s: is not among the fields known to leave the price of a call alone%s%s%s; " REMEDY,
        param, nearest ? " (did you mean " : "", nearest ? nearest : "", nearest ? "?)" : "", name,
        target->model);
}

struct judging {
    const struct target *target;
    struct err *err;
};

static bool judge_unknown(const char *name, void *arg)
{
    const struct judging *judging = arg;
    const struct target *target = judging->target;

    for (int i = 0; i < target->priced_other_count; i++)
        if (strcmp(target->priced_others[i], name) == 0)
            return true;
    return refuse_unknown(target, name, judging->err);
}

bool price_guard_target(const struct target *target, const struct request_facts *facts,
                        struct err *err)
{
    struct judging judging = {.target = target, .err = err};

    for (int field = 0; field < PRICED_FIELD_COUNT; field++)
        if (facts->priced & ~target->priced_fields & (1u << field))
            return refuse_use(target, (enum priced_field)field, err);
    return request_facts_unknown(facts, judge_unknown, &judging);
}

bool price_guard_route(const struct route *route, const struct request_facts *facts,
                       struct err *err)
{
    for (int i = 0; i < route->target_count; i++)
        if (!price_guard_target(&route->targets[i], facts, err))
            return false;
    return true;
}
