/* SPDX-License-Identifier: Apache-2.0 */
/* Two GCRAs and a count of leases per scope, and who holds which lease. */
#include "common/model/admission_local.h"

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/number.h"
#include "common/base/str.h"

#include <stdlib.h>
#include <string.h>

enum { HOLD_SCOPES_MAX = LIMIT_SCOPE_COUNT + 1, TEN_PERCENT = 10 };

static const int64_t minute_us = 60 * US_PER_S;

struct scope {
    int64_t requests_tat_us;
    int64_t tokens_tat_us;
    int out; /* leases */
};

/* Leases by the scopes' names: a scope that was forgotten and made anew must not be counted down
 * below zero, a freed one not be touched. */
struct hold {
    char *scopes[HOLD_SCOPES_MAX];
    int count;
    int64_t until_us;
};

struct admission_local {
    struct map *scopes;
    struct map *holds;
};

struct admission_local *admission_local_new(void)
{
    struct admission_local *local = xcalloc(1, sizeof(*local));

    local->scopes = map_new(LOCAL_SCOPES_MAX);
    local->holds = map_new(LOCAL_HOLDS_MAX);
    return local;
}

static void hold_free(struct hold *hold)
{
    for (int i = 0; i < hold->count; i++)
        free(hold->scopes[i]);
    free(hold);
}

static bool drop_scope(const void *key, size_t len, void *value, void *arg)
{
    (void)key;
    (void)len;
    (void)arg;
    free(value);
    return true;
}

static bool drop_hold(const void *key, size_t len, void *value, void *arg)
{
    (void)key;
    (void)len;
    (void)arg;
    hold_free(value);
    return true;
}

void admission_local_free(struct admission_local *local)
{
    if (!local)
        return;
    map_each(local->scopes, drop_scope, NULL);
    map_each(local->holds, drop_hold, NULL);
    map_free(local->scopes);
    map_free(local->holds);
    free(local);
}

static void give_back(struct admission_local *local, const struct hold *hold)
{
    for (int i = 0; i < hold->count; i++) {
        struct scope *scope = map_get(local->scopes, hold->scopes[i], strlen(hold->scopes[i]));

        if (scope && scope->out > 0)
            scope->out--;
    }
}

struct sweep {
    struct admission_local *local;
    int64_t now_us;
};

static bool sweep_hold(const void *key, size_t len, void *value, void *arg)
{
    struct sweep *sweep = arg;
    struct hold *hold = value;

    if (hold->until_us > sweep->now_us)
        return true;
    give_back(sweep->local, hold);
    map_remove(sweep->local->holds, key, len);
    hold_free(hold);
    return true;
}

static bool sweep_scope(const void *key, size_t len, void *value, void *arg)
{
    struct sweep *sweep = arg;
    struct scope *scope = value;

    if (scope->out > 0 || scope->requests_tat_us > sweep->now_us ||
        scope->tokens_tat_us > sweep->now_us)
        return true;
    map_remove(sweep->local->scopes, key, len);
    free(scope);
    return true;
}

static void sweep(struct admission_local *local, int64_t now_us)
{
    struct sweep what = {.local = local, .now_us = now_us};

    map_each(local->holds, sweep_hold, &what);
    map_each(local->scopes, sweep_scope, &what);
}

/* NULL: there is no room, and the scope goes without a limit. */
static struct scope *find_scope(struct admission_local *local, const char *name, int64_t now_us)
{
    struct scope *scope = map_get(local->scopes, name, strlen(name));

    if (scope)
        return scope;
    if (map_count(local->scopes) >= LOCAL_SCOPES_MAX)
        sweep(local, now_us);
    scope = calloc(1, sizeof(*scope));
    if (scope && map_put(local->scopes, name, strlen(name), scope))
        return scope;
    free(scope);
    return NULL;
}

/* One GCRA: the wait, 0 when amount may pass.  More than a burst passes when nothing is owed. */
static int64_t gcra_wait(int64_t tat_us, int64_t amount, int64_t limit, int processes,
                         int64_t now_us, int64_t *cost_us)
{
    double each_us = limit > 0 ? (double)minute_us * processes / (double)limit : 0;
    int64_t burst = larger(limit / TEN_PERCENT / processes, 1);
    int64_t slack_us;

    *cost_us = (int64_t)(each_us * (double)amount);
    if (limit == 0)
        return amount > 0 ? minute_us : 0;
    slack_us = (int64_t)(each_us * (double)burst) - *cost_us;
    return larger(tat_us - (slack_us > 0 ? slack_us : 0) - now_us, 0);
}

struct need {
    int64_t requests_us, tokens_us;
};

static void refuse(struct local_refusal *refusal, int index, enum admission_dimension dimension,
                   int64_t wait_us, int64_t interval_us)
{
    if (wait_us > refusal->wait_us)
        *refusal = (struct local_refusal){
            .index = index, .dimension = dimension, .wait_us = wait_us, .interval_us = interval_us};
}

static void check(const struct scope *scope, const struct local_limit *limit, int index,
                  int64_t tokens, int processes, int64_t now_us, struct need *need,
                  struct local_refusal *refusal)
{
    if (limit->requests >= 0) {
        int64_t wait_us = gcra_wait(scope->requests_tat_us, 1, limit->requests, processes, now_us,
                                    &need->requests_us);

        refuse(refusal, index, ADMISSION_REQUESTS, wait_us, need->requests_us);
    }
    if (limit->tokens >= 0) {
        int64_t wait_us = gcra_wait(scope->tokens_tat_us, tokens, limit->tokens, processes, now_us,
                                    &need->tokens_us);

        refuse(refusal, index, ADMISSION_TOKENS, wait_us, need->tokens_us);
    }
    if (limit->leases == 0)
        refuse(refusal, index, ADMISSION_CONCURRENCY, minute_us, 0);
    else if (limit->leases > 0 && scope->out >= larger(limit->leases / processes, 1))
        refuse(refusal, index, ADMISSION_CONCURRENCY, US_PER_S / 5, US_PER_S / 50);
}

static void take(struct scope *scope, const struct local_limit *limit, const struct need *need,
                 int64_t now_us, struct hold *hold)
{
    if (limit->requests >= 0)
        scope->requests_tat_us = larger(scope->requests_tat_us, now_us) + need->requests_us;
    if (limit->tokens >= 0)
        scope->tokens_tat_us = larger(scope->tokens_tat_us, now_us) + need->tokens_us;
    if (limit->leases > 0 && hold && (hold->scopes[hold->count] = strdup(limit->scope))) {
        hold->count++;
        scope->out++;
    }
}

/* NULL: nothing can be held. */
static struct hold *hold_new(struct admission_local *local, const char *name, int64_t now_us,
                             int64_t lease_us)
{
    struct hold *hold;

    if (name[0] == '\0')
        return NULL;
    if (map_count(local->holds) >= LOCAL_HOLDS_MAX)
        sweep(local, now_us);
    hold = calloc(1, sizeof(*hold));
    if (hold)
        hold->until_us = now_us + lease_us;
    if (hold && map_put(local->holds, name, strlen(name), hold))
        return hold;
    free(hold);
    return NULL;
}

bool admission_local_ask(struct admission_local *local, const char *name,
                         const struct local_limit *limits, int count, int64_t tokens, int processes,
                         int64_t now_us, int64_t lease_us, struct local_refusal *refusal)
{
    struct scope *scopes[HOLD_SCOPES_MAX] = {NULL};
    struct need needs[HOLD_SCOPES_MAX] = {{0, 0}};
    struct hold *hold;

    *refusal = (struct local_refusal){.wait_us = 0};
    if (name[0] && map_get(local->holds, name, strlen(name)))
        return true;
    if (processes < 1)
        processes = 1;
    for (int i = 0; i < count && i < HOLD_SCOPES_MAX; i++)
        (void)find_scope(local, limits[i].scope, now_us);
    /* Found again: making room for one may have taken another that was at rest. */
    for (int i = 0; i < count && i < HOLD_SCOPES_MAX; i++) {
        scopes[i] = map_get(local->scopes, limits[i].scope, strlen(limits[i].scope));
        if (scopes[i])
            check(scopes[i], &limits[i], i, tokens, processes, now_us, &needs[i], refusal);
    }
    if (refusal->wait_us > 0)
        return false;
    hold = hold_new(local, name, now_us, lease_us);
    for (int i = 0; i < count && i < HOLD_SCOPES_MAX; i++) {
        scopes[i] = map_get(local->scopes, limits[i].scope, strlen(limits[i].scope));
        if (scopes[i])
            take(scopes[i], &limits[i], &needs[i], now_us, hold);
    }
    return true;
}

void admission_local_settle(struct admission_local *local, const char *name)
{
    struct hold *hold = map_remove(local->holds, name, strlen(name));

    if (!hold)
        return;
    give_back(local, hold);
    hold_free(hold);
}
