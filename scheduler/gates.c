/* SPDX-License-Identifier: Apache-2.0 */
/* Gates against candidates: quotas of a pass, and when those who are stopped come again. */
#include "scheduler/gates.h"

#include <stdlib.h>
#include <string.h>

enum {
    BURST_US = 6000000,     /* a tenth of a minute: what all limits let through at once */
    PACE_PARTS = 4,         /* those put off come faster than the gate's pace, which may rise */
    SHORT_CALL_US = 200000, /* of concurrency nobody knows the pace: enough for calls so short */
    PACE_MIN_US = 1000,
    PACE_MAX_US = 10000
};

/* Who stays in place although stopped.  Of a tenant it is counted at its first gate. */
struct gate_kept {
    size_t first;
    int64_t of_gate[PRIORITY_COUNT];
    int64_t of_tenant[PRIORITY_COUNT];
};

static int compare_key(const struct gate *gate, const char *tenant, enum limit_scope kind,
                       const char *name)
{
    int order = strcmp(gate->tenant, tenant);

    if (order == 0)
        order = (int)gate->kind - (int)kind;
    return order ? order : strcmp(gate->name, name);
}

static int compare(const void *a, const void *b)
{
    const struct gate *other = b;

    return compare_key(a, other->tenant, other->kind, other->name);
}

/* --- quotas ----------------------------------------------------------------------------------- */

static int64_t quota_of(const struct gate *gate)
{
    int64_t burst, passed;

    if (gate->most >= 0)
        return gate->most > gate->in_flight ? gate->most - gate->in_flight : 0;
    if (gate->until_us > 0)
        return 0;
    if (gate->interval_us <= 0)
        return INT64_MAX;
    burst = BURST_US / gate->interval_us;
    passed = -gate->until_us / gate->interval_us + 1;
    burst = burst > 1 ? burst : 1;
    return passed < burst ? passed : burst;
}

bool gates_init(struct gates *gates, const int room[PRIORITY_COUNT], struct gate *all, size_t count)
{
    *gates = (struct gates){.all = all, .count = count};
    for (int p = 0; p < PRIORITY_COUNT; p++)
        gates->kept_max[p] = (room[p] < FEED_GATED_ROWS ? room[p] : FEED_GATED_ROWS) / 2;
    if (count == 0)
        return true;
    gates->quota = calloc(count, sizeof(*gates->quota));
    gates->used = calloc(count, sizeof(*gates->used));
    gates->tail_us = calloc(count, sizeof(*gates->tail_us));
    gates->kept = calloc(count, sizeof(*gates->kept));
    if (!gates->quota || !gates->used || !gates->tail_us || !gates->kept)
        return false;
    qsort(all, count, sizeof(*all), compare);
    for (size_t i = 0; i < count; i++) {
        gates->quota[i] = quota_of(&all[i]);
        gates->tail_us[i] = all[i].tail_us > all[i].until_us ? all[i].tail_us : all[i].until_us;
        if (gates->tail_us[i] < 0)
            gates->tail_us[i] = 0;
        gates->kept[i].first =
            i > 0 && strcmp(all[i - 1].tenant, all[i].tenant) == 0 ? gates->kept[i - 1].first : i;
    }
    return true;
}

void gates_release(struct gates *gates)
{
    free(gates->all);
    free(gates->quota);
    free(gates->used);
    free(gates->tail_us);
    free(gates->kept);
}

/* --- filter ----------------------------------------------------------------------------------- */

static const char *name_of(const struct feed_candidate *candidate, int scope)
{
    switch ((enum limit_scope)scope) {
    case LIMIT_KEY:
        return candidate->key_id;
    case LIMIT_WORKFLOW:
        return candidate->workflow;
    case LIMIT_USER:
        return candidate->end_user;
    case LIMIT_MODEL:
        return candidate->model;
    case LIMIT_TENANT:
    case LIMIT_SCOPE_COUNT:
        break;
    }
    return "";
}

/* The index of the gate of a scope, or -1. */
static long find(const struct gates *gates, const struct feed_candidate *candidate, int scope)
{
    const char *name = name_of(candidate, scope);
    size_t low = 0, high = gates->count;

    if (scope != LIMIT_TENANT && !*name)
        return -1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order =
            compare_key(&gates->all[middle], candidate->tenant, (enum limit_scope)scope, name);

        if (order == 0)
            return (long)middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

static int64_t pace_of(const struct gate *gate)
{
    int64_t pace_us;

    if (gate->most < 0)
        return gate->interval_us / PACE_PARTS;
    pace_us = gate->most > 0 ? SHORT_CALL_US / gate->most : PACE_MAX_US;
    if (pace_us > PACE_MAX_US)
        return PACE_MAX_US;
    return pace_us > PACE_MIN_US ? pace_us : PACE_MIN_US;
}

/* Priorities apart, as they are looked at: the low ones keep no place of the high ones. */
static bool stays(struct gates *gates, enum priority priority, long index)
{
    struct gate_kept *kept = &gates->kept[index], *first = &gates->kept[kept->first];

    if (gates->all[index].kind == LIMIT_TENANT)
        return true;
    if (kept->of_gate[priority] >= gates->all[index].most ||
        first->of_tenant[priority] >= gates->kept_max[priority])
        return false;
    kept->of_gate[priority]++;
    first->of_tenant[priority]++;
    return true;
}

static void stop(struct gates *gates, const struct feed_candidate *candidate, long index)
{
    struct gate *gate = &gates->all[index];

    gates->is_full = gates->is_full || gate->most > 0;
    if (stays(gates, candidate->priority, index))
        return;
    if (gates->delay_count == GATE_DELAYS_MAX) {
        gates->is_cut = true;
        return;
    }
    gates->tail_us[index] += pace_of(gate);
    gates->delays[gates->delay_count++] = (struct gate_delay){
        .gate = gate,
        .job = candidate->job,
        .dispatch_seq = candidate->dispatch_seq,
        .after_us = gates->tail_us[index] > 0 ? gates->tail_us[index] : 1,
    };
}

/* May it go?  Then it is counted at each of its gates. */
static bool passes(struct gates *gates, const struct feed_candidate *candidate)
{
    long found[LIMIT_SCOPE_COUNT], shut = -1;

    for (int scope = 0; scope < LIMIT_SCOPE_COUNT; scope++) {
        found[scope] = find(gates, candidate, scope);
        if (found[scope] >= 0 && gates->quota[found[scope]] <= 0 && shut < 0)
            shut = found[scope];
    }
    if (shut >= 0) {
        stop(gates, candidate, shut);
        return false;
    }
    for (int scope = 0; scope < LIMIT_SCOPE_COUNT; scope++)
        if (found[scope] >= 0)
            gates->quota[found[scope]]--;
    return true;
}

size_t gates_filter(struct gates *gates, struct feed_candidate *candidates, size_t count)
{
    size_t kept = 0;

    if (gates->count == 0)
        return count;
    for (size_t i = 0; i < count; i++)
        if (passes(gates, &candidates[i])) {
            if (kept != i)
                candidates[kept] = candidates[i];
            kept++;
        }
    return kept;
}

void gates_count_uses(struct gates *gates, const struct feed_candidate *const *picks, size_t count)
{
    for (size_t i = 0; gates->count > 0 && i < count; i++)
        for (int scope = 0; scope < LIMIT_SCOPE_COUNT; scope++) {
            long index = find(gates, picks[i], scope);

            if (index >= 0)
                gates->used[index]++;
        }
}

size_t gates_next_uses(struct gates *gates, struct gate_use *uses)
{
    size_t used = 0;

    for (; gates->told < gates->count && used < GATE_USES_MAX; gates->told++)
        if (gates->used[gates->told] > 0)
            uses[used++] = (struct gate_use){.gate = &gates->all[gates->told],
                                             .jobs = gates->used[gates->told]};
    return used;
}
