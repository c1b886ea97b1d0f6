/* SPDX-License-Identifier: Apache-2.0 */
/* What limits say of a job, and how two documents of them differ. */
#include "common/model/limits_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char limits_any_name[] = "*";

const struct limits_map_kind limits_map_kinds[LIMITS_MAPS] = {
    {"workflows", LIMIT_WORKFLOW},
    {"users", LIMIT_USER},
    {"models", LIMIT_MODEL},
};

static const char *const scope_names[] = {
    [LIMIT_TENANT] = "tenant", [LIMIT_KEY] = "key",     [LIMIT_WORKFLOW] = "workflow",
    [LIMIT_USER] = "user",     [LIMIT_MODEL] = "model",
};

const char *const budget_window_names[BUDGET_WINDOW_COUNT] = {
    [BUDGET_DAY] = "day",
    [BUDGET_MONTH] = "month",
    [BUDGET_TOTAL] = "total",
};

const struct limits_count limits_counts[LIMITS_COUNTS] = {
    {"submits_per_minute", offsetof(struct limit_set, submits_per_minute)},
    {"requests_per_minute", offsetof(struct limit_set, requests_per_minute)},
    {"tokens_per_minute", offsetof(struct limit_set, tokens_per_minute)},
    {"max_concurrency", offsetof(struct limit_set, max_concurrency)},
    {"max_queued", offsetof(struct limit_set, max_queued)},
    {"max_body_bytes", offsetof(struct limit_set, max_body_bytes)},
};

const int64_t *limits_count_of(const struct limit_set *set, size_t i)
{
    return (const int64_t *)(const void *)((const char *)set + limits_counts[i].offset);
}

const char *limit_scope_name(enum limit_scope scope)
{
    return scope_names[scope];
}

const char *budget_window_name(enum budget_window window)
{
    return budget_window_names[window];
}

void limit_scope_format(enum limit_scope scope, const char *name, char out[LIMIT_SCOPE_TEXT_SIZE])
{
    if (scope == LIMIT_TENANT)
        snprintf(out, LIMIT_SCOPE_TEXT_SIZE, "%s", scope_names[scope]);
    else
        snprintf(out, LIMIT_SCOPE_TEXT_SIZE, "%s:%s", scope_names[scope], name);
}

bool limit_scope_parse(const char *text, enum limit_scope *scope, const char **name)
{
    for (int i = 0; i < LIMIT_SCOPE_COUNT; i++) {
        size_t len = strlen(scope_names[i]);

        if (strncmp(text, scope_names[i], len) != 0 ||
            text[len] != (i == LIMIT_TENANT ? '\0' : ':'))
            continue;
        *scope = (enum limit_scope)i;
        *name = i == LIMIT_TENANT ? "" : text + len + 1;
        return true;
    }
    return false;
}

struct limits *limits_ref(struct limits *limits)
{
    if (limits)
        limits->refs++;
    return limits;
}

void limits_unref(struct limits *limits)
{
    if (!limits || --limits->refs > 0)
        return;
    for (int kind = 0; kind < LIMITS_MAPS; kind++) {
        for (size_t i = 0; i < limits->maps[kind].count; i++)
            free(limits->maps[kind].sets[i].name);
        free(limits->maps[kind].sets);
    }
    free(limits);
}

int limits_compare_names(const void *a, const void *b)
{
    return strcmp(((const struct named_set *)a)->name, ((const struct named_set *)b)->name);
}

/* --- asking ----------------------------------------------------------------------------------- */

const char *limits_time_zone(const struct limits *limits)
{
    return limits && *limits->time_zone ? limits->time_zone : NULL;
}

enum budget_policy limits_policy(const struct limits *limits)
{
    return limits ? limits->policy : BUDGET_WAIT;
}

/* Bit per window that has a budget; those in shadow have bits of their own, because who becomes
 * enforced must have counted all. */
static unsigned accounts_of(const struct limit_set *set)
{
    unsigned windows = 0;

    for (int i = 0; i < BUDGET_WINDOW_COUNT; i++)
        if (set->budget_nano[i] >= 0)
            windows |= 1U << i;
    return set->is_shadow ? windows << BUDGET_WINDOW_COUNT : windows;
}

static bool set_is_empty(const struct limit_set *set)
{
    for (size_t i = 0; i < LIMITS_COUNTS; i++)
        if (*limits_count_of(set, i) >= 0)
            return false;
    for (int i = 0; i < BUDGET_WINDOW_COUNT; i++)
        if (set->budget_nano[i] >= 0)
            return false;
    return set->max_job_cost_nano < 0;
}

bool limits_is_empty(const struct limits *limits)
{
    if (!limits)
        return true;
    for (int kind = 0; kind < LIMITS_MAPS; kind++)
        for (size_t i = 0; i < limits->maps[kind].count; i++)
            if (!set_is_empty(&limits->maps[kind].sets[i].set))
                return false;
    return set_is_empty(&limits->set);
}

static bool map_has_budget(const struct set_map *map)
{
    for (size_t i = 0; i < map->count; i++)
        if (accounts_of(&map->sets[i].set))
            return true;
    return false;
}

bool limits_has_budget(const struct limits *limits)
{
    if (!limits)
        return false;
    for (int kind = 0; kind < LIMITS_MAPS; kind++)
        if (map_has_budget(&limits->maps[kind]))
            return true;
    return accounts_of(&limits->set) != 0;
}

/* Names without a budget matter too: they are out of the accounts of "*". */
static bool maps_same_accounts(const struct set_map *a, const struct set_map *b)
{
    if (!map_has_budget(a) && !map_has_budget(b))
        return true;
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->sets[i].name, b->sets[i].name) != 0 ||
            accounts_of(&a->sets[i].set) != accounts_of(&b->sets[i].set))
            return false;
    return true;
}

bool limits_same_accounts(const struct limits *a, const struct limits *b)
{
    static const struct limits none = {.set = {.budget_nano = {-1, -1, -1}}};

    if (!limits_has_budget(a) && !limits_has_budget(b))
        return true;
    a = a ? a : &none;
    b = b ? b : &none;
    if (strcmp(a->time_zone, b->time_zone) != 0 || accounts_of(&a->set) != accounts_of(&b->set))
        return false;
    for (int kind = 0; kind < LIMITS_MAPS; kind++)
        if (!maps_same_accounts(&a->maps[kind], &b->maps[kind]))
            return false;
    return true;
}

/* --- applying --------------------------------------------------------------------------------- */

static const struct limit_set *map_find(const struct set_map *map, const char *name)
{
    struct named_set wanted = {.name = (char *)(uintptr_t)name};
    const struct named_set *found;

    if (map->count == 0)
        return NULL;
    found = bsearch(&wanted, map->sets, map->count, sizeof(*map->sets), limits_compare_names);
    if (!found) {
        wanted.name = (char *)(uintptr_t)limits_any_name;
        found = bsearch(&wanted, map->sets, map->count, sizeof(*map->sets), limits_compare_names);
    }
    return found ? &found->set : NULL;
}

const struct limit_set *limits_set_of(const struct limits *limits, enum limit_scope scope,
                                      const char *name)
{
    if (!limits || scope == LIMIT_TENANT)
        return limits ? &limits->set : NULL;
    for (int kind = 0; kind < LIMITS_MAPS; kind++)
        if (limits_map_kinds[kind].scope == scope)
            return map_find(&limits->maps[kind], name);
    return NULL;
}

void limits_each(const struct limits *limits, limits_visit_fn *visit, void *arg)
{
    if (!limits)
        return;
    visit(LIMIT_TENANT, "", &limits->set, arg);
    for (int kind = 0; kind < LIMITS_MAPS; kind++) {
        const struct set_map *map = &limits->maps[kind];

        for (size_t i = 0; i < map->count; i++)
            if (strcmp(map->sets[i].name, limits_any_name) != 0)
                visit(limits_map_kinds[kind].scope, map->sets[i].name, &map->sets[i].set, arg);
    }
}

static int apply(struct applied_limit *out, int count, enum limit_scope scope, const char *name,
                 const struct limit_set *set)
{
    if (!set || set_is_empty(set))
        return count;
    out[count] = (struct applied_limit){.scope = scope, .name = name, .set = set};
    return count + 1;
}

int limits_apply(const struct limits *tenant, const struct limits *key, const char *key_id,
                 const char *workflow, const char *user, const char *model,
                 struct applied_limit out[LIMIT_SCOPE_COUNT])
{
    const char *names[LIMITS_MAPS] = {workflow, user, model};
    int count = 0;

    count = apply(out, count, LIMIT_TENANT, "", tenant ? &tenant->set : NULL);
    count = apply(out, count, LIMIT_KEY, key_id, key ? &key->set : NULL);
    for (int kind = 0; kind < LIMITS_MAPS && tenant; kind++)
        if (names[kind])
            count = apply(out, count, limits_map_kinds[kind].scope, names[kind],
                          map_find(&tenant->maps[kind], names[kind]));
    return count;
}

bool limit_set_has_rates(const struct limit_set *set)
{
    return set->requests_per_minute >= 0 || set->tokens_per_minute >= 0 ||
           set->max_concurrency >= 0;
}

bool limits_applied_budget(const struct applied_limit *applied, int count)
{
    for (int i = 0; i < count; i++)
        if (!applied[i].set->is_shadow && accounts_of(applied[i].set))
            return true;
    return false;
}
