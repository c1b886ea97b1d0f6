/* SPDX-License-Identifier: Apache-2.0 */
/* What a limit says of a job before it is one. */
#include "common/model/limit_judge.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/money.h"
#include "common/model/request_facts.h"
#include "common/model/settings.h"
#include "common/model/worst_case.h"

static bool refuse_body(const struct applied_limit *limit, size_t bytes, struct err *err)
{
    char scope[LIMIT_SCOPE_TEXT_SIZE];

    limit_scope_format(limit->scope, limit->name, scope);
    return err_input(err, "too_large", "",
                     "The body of %zu bytes is over the limit of %" PRId64
                     " bytes (max_body_bytes of %.160s)",
                     bytes, limit->set->max_body_bytes, scope);
}

static bool refuse_tokens_of(int64_t tokens, int64_t per_minute, const char *kind, const char *name,
                             struct err *err)
{
    return err_input(err, "never_fits", "request",
                     "The job may take %" PRId64 " tokens, which never fits into the %" PRId64
                     " of tokens_per_minute of %s%.160s",
                     tokens, per_minute, kind, name);
}

static bool refuse_tokens(const struct applied_limit *limit, int64_t tokens, struct err *err)
{
    char scope[LIMIT_SCOPE_TEXT_SIZE];

    limit_scope_format(limit->scope, limit->name, scope);
    return refuse_tokens_of(tokens, limit->set->tokens_per_minute, "", scope, err);
}

static bool refuse_money(const struct applied_limit *limit, const char *member, int64_t ceiling,
                         int64_t least, struct err *err)
{
    char scope[LIMIT_SCOPE_TEXT_SIZE], need[MONEY_TEXT_SIZE], most[MONEY_TEXT_SIZE];

    limit_scope_format(limit->scope, limit->name, scope);
    money_format(least > 0 ? least : 0, need);
    money_format(ceiling, most);
    return err_input(err, "never_fits", "request",
                     "One call may cost up to %s, which never fits into the %s of %s of %.160s",
                     need, most, member, scope);
}

static bool fits_money(int64_t ceiling, int64_t least)
{
    return ceiling < 0 || (ceiling > 0 && least <= ceiling);
}

static bool fits_body(const struct limit_set *set, const struct limit_facts *facts)
{
    return set->max_body_bytes < 0 || facts->body_bytes <= (size_t)set->max_body_bytes;
}

static bool fits_tokens(const struct limit_set *set, const struct limit_facts *facts)
{
    return set->tokens_per_minute < 0 ||
           (set->tokens_per_minute > 0 && facts->tokens <= set->tokens_per_minute);
}

static bool judge_set(const struct applied_limit *limit, const struct limit_facts *facts,
                      struct err *err)
{
    static const char *const members[] = {
        [BUDGET_DAY] = "budget_usd.day",
        [BUDGET_MONTH] = "budget_usd.month",
        [BUDGET_TOTAL] = "budget_usd.total",
    };
    const struct limit_set *set = limit->set;

    if (!fits_body(set, facts))
        return refuse_body(limit, facts->body_bytes, err);
    if (!fits_tokens(set, facts))
        return refuse_tokens(limit, facts->tokens, err);
    if (!fits_money(set->max_job_cost_nano, facts->least_nano))
        return refuse_money(limit, "max_job_cost_usd", set->max_job_cost_nano, facts->least_nano,
                            err);
    for (int i = 0; i < BUDGET_WINDOW_COUNT; i++)
        if (!fits_money(set->budget_nano[i], facts->least_nano))
            return refuse_money(limit, members[i], set->budget_nano[i], facts->least_nano, err);
    return true;
}

bool limit_judge_job(const struct applied_limit *applied, int count,
                     const struct limit_facts *facts, struct err *err)
{
    for (int i = 0; i < count; i++)
        if (!applied[i].set->is_shadow && !judge_set(&applied[i], facts, err))
            return false;
    return true;
}

static unsigned judge_shadow(const struct limit_set *set, const struct limit_facts *facts)
{
    bool fits = fits_tokens(set, facts);
    unsigned shadows = 0;

    for (int i = 0; i < BUDGET_WINDOW_COUNT; i++)
        fits = fits && fits_money(set->budget_nano[i], facts->least_nano);
    if (!fits)
        shadows |= 1U << LIMIT_SHADOW_NEVER_FITS;
    if (!fits_body(set, facts))
        shadows |= 1U << LIMIT_SHADOW_BODY;
    if (!fits_money(set->max_job_cost_nano, facts->least_nano))
        shadows |= 1U << LIMIT_SHADOW_JOB_COST;
    return shadows;
}

unsigned limit_judge_shadows(const struct applied_limit *applied, int count,
                             const struct limit_facts *facts)
{
    unsigned shadows = 0;

    for (int i = 0; i < count; i++)
        if (applied[i].set->is_shadow)
            shadows |= judge_shadow(applied[i].set, facts);
    return shadows;
}

/* NULL: any size fits some account.  Else the one that has the most. */
static const struct target *roomiest(const struct route *route)
{
    const struct target *most = NULL;

    for (int i = 0; i < route->target_count; i++) {
        const struct target *target = &route->targets[i];

        if (target->provider->tokens_per_minute <= 0)
            return NULL;
        if (!most || target->provider->tokens_per_minute > most->provider->tokens_per_minute)
            most = target;
    }
    return most;
}

bool limit_judge_has_accounts(const struct route *route)
{
    return roomiest(route) != NULL;
}

bool limit_judge_accounts(const struct route *route, const struct request_facts *facts,
                          struct err *err)
{
    const struct target *most = roomiest(route);

    if (!most)
        return true;
    for (int i = 0; i < route->target_count; i++) {
        const struct target *target = &route->targets[i];

        if (worst_case_tokens(target, facts) <= target->provider->tokens_per_minute)
            return true;
    }
    return refuse_tokens_of(worst_case_tokens(most, facts), most->provider->tokens_per_minute,
                            "provider ", most->provider->name, err);
}

int64_t limit_judge_ceiling(const struct applied_limit *applied, int count, int64_t max_cost_nano)
{
    int64_t ceiling = max_cost_nano;

    for (int i = 0; i < count; i++) {
        int64_t most = applied[i].set->max_job_cost_nano;

        if (!applied[i].set->is_shadow && most >= 0 && (ceiling < 0 || most < ceiling))
            ceiling = most;
    }
    return ceiling;
}

bool limit_judge_queues(const struct applied_limit *applied, int count,
                        int64_t most_queued[LIMIT_SCOPE_COUNT])
{
    bool is_any = false;

    for (int i = 0; i < LIMIT_SCOPE_COUNT; i++)
        most_queued[i] = -1;
    for (int i = 0; i < count; i++) {
        if (applied[i].set->is_shadow || applied[i].set->max_queued < 0)
            continue;
        most_queued[applied[i].scope] = applied[i].set->max_queued;
        is_any = true;
    }
    return is_any;
}
