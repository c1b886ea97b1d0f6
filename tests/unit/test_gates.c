/* SPDX-License-Identifier: Apache-2.0 */
/* What gates let through in a pass of the feeder, and who is put off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/gates.h"

enum { CANDIDATES = 40 };

static struct feed_candidate candidates[CANDIDATES];
static int room[PRIORITY_COUNT] = {2000, 2000, 2000};

/* All of one tenant and workflow, told apart by dispatch_seq. */
static void wait_for(const char *tenant, const char *workflow)
{
    memset(candidates, 0, sizeof(candidates));
    for (int i = 0; i < CANDIDATES; i++) {
        snprintf(candidates[i].tenant, sizeof(candidates[i].tenant), "%s", tenant);
        snprintf(candidates[i].workflow, sizeof(candidates[i].workflow), "%s", workflow);
        snprintf(candidates[i].key_id, sizeof(candidates[i].key_id), "k1");
        candidates[i].dispatch_seq = i;
    }
}

static struct gate gate_of(const char *tenant, enum limit_scope kind, const char *name)
{
    struct gate gate = {.kind = kind, .most = -1, .tail_us = -1};

    snprintf(gate.tenant, sizeof(gate.tenant), "%s", tenant);
    snprintf(gate.name, sizeof(gate.name), "%s", name);
    return gate;
}

static struct gates *gates_of(const struct gate *all, size_t count)
{
    struct gates *gates = malloc(sizeof(*gates));
    struct gate *copy = calloc(count ? count : 1, sizeof(*copy));

    assert_true(gates && copy);
    if (count > 0)
        memcpy(copy, all, count * sizeof(*all));
    assert_true(gates_init(gates, room, copy, count));
    return gates;
}

static void gates_drop(struct gates *gates)
{
    gates_release(gates);
    free(gates);
}

static size_t passed(const struct gate *gate)
{
    struct gates *gates = gates_of(gate, 1);
    size_t count = gates_filter(gates, candidates, CANDIDATES);

    gates_drop(gates);
    return count;
}

static void test_without_gates_all_may_go(void **state)
{
    struct gates *gates = gates_of(NULL, 0);

    (void)state;
    wait_for("acme", "");
    assert_int_equal(gates_filter(gates, candidates, CANDIDATES), CANDIDATES);
    gates_drop(gates);
}

static const struct {
    int64_t until_us, interval_us, most, in_flight;
    size_t passes;
} quotas[] = {
    {1000, 0, -1, 0, 0},                 /* closed */
    {1000, 1000, -1, 0, 0},              /* closed, metered later */
    {-1, 1000000, -1, 0, 1},             /* just opened: one */
    {-2500000, 1000000, -1, 0, 3},       /* one, and one for each second since */
    {-900000000, 1000000, -1, 0, 6},     /* no more than a tenth of a minute's */
    {-900000000, 60000000, -1, 0, 1},    /* but one always */
    {-1000000, 1000, -1, 0, CANDIDATES}, /* fast */
    {200000, 20000, 8, 5, 3},            /* concurrency: what has room, whatever the time */
    {-1, 20000, 8, 8, 0},
    {-1, 20000, 8, 11, 0},
    {-1, 20000, 0, 0, 0},
};

static void test_a_gate_lets_through_what_its_time_and_room_allow(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(quotas) / sizeof(quotas[0]); i++) {
        struct gate gate = gate_of("acme", LIMIT_TENANT, "");
        size_t count;

        wait_for("acme", "");
        gate.until_us = quotas[i].until_us;
        gate.interval_us = quotas[i].interval_us;
        gate.most = quotas[i].most;
        gate.in_flight = quotas[i].in_flight;
        count = passed(&gate);
        if (count != quotas[i].passes)
            fail_msg("case %zu: %zu passed, not %zu", i, count, quotas[i].passes);
    }
}

static void test_a_gate_stops_nobody_else(void **state)
{
    struct gate gate = gate_of("acme", LIMIT_WORKFLOW, "night");

    (void)state;
    gate.until_us = 1000;
    wait_for("acme", "day");
    assert_int_equal(passed(&gate), CANDIDATES);
    wait_for("acme", "");
    assert_int_equal(passed(&gate), CANDIDATES);
    wait_for("other", "night");
    assert_int_equal(passed(&gate), CANDIDATES);
    wait_for("acme", "night");
    assert_int_equal(passed(&gate), 0);
}

static void test_every_gate_of_a_job_must_let_it(void **state)
{
    struct gate all[] = {gate_of("acme", LIMIT_TENANT, ""), gate_of("acme", LIMIT_KEY, "k1"),
                         gate_of("zeta", LIMIT_TENANT, "")};
    struct gates *gates;

    (void)state;
    wait_for("acme", "");
    all[0].most = 10;
    all[1].interval_us = 1000000;
    all[1].until_us = -2000000;
    gates = gates_of(all, 3);
    assert_int_equal(gates_filter(gates, candidates, CANDIDATES), 3);
    gates_drop(gates);
}

static void test_who_is_stopped_by_a_scope_is_put_off_one_behind_the_other(void **state)
{
    struct gate gate = gate_of("acme", LIMIT_WORKFLOW, "night");
    struct gates *gates;

    (void)state;
    wait_for("acme", "night");
    gate.until_us = 500000;
    gate.interval_us = 400000;
    gate.tail_us = 2000000; /* others were put off before */
    gates = gates_of(&gate, 1);
    assert_int_equal(gates_filter(gates, candidates, CANDIDATES), 0);
    assert_int_equal(gates->delay_count, CANDIDATES);
    assert_int_equal(gates->delays[0].dispatch_seq, 0);
    assert_int_equal(gates->delays[0].after_us, 2100000);
    assert_int_equal(gates->delays[1].after_us, 2200000);
    gates_drop(gates);

    gate.tail_us = -1;
    gate.interval_us = 0; /* all at once */
    gates = gates_of(&gate, 1);
    assert_int_equal(gates_filter(gates, candidates, CANDIDATES), 0);
    assert_int_equal(gates->delays[CANDIDATES - 1].after_us, 500000);
    gates_drop(gates);
}

static void test_who_is_stopped_by_the_tenants_own_gate_stays(void **state)
{
    struct gate gate = gate_of("acme", LIMIT_TENANT, "");
    struct gates *gates;

    (void)state;
    wait_for("acme", "night");
    gate.most = 0;
    gates = gates_of(&gate, 1);
    assert_int_equal(gates_filter(gates, candidates, CANDIDATES), 0);
    assert_int_equal(gates->delay_count, 0);
    gates_drop(gates);
}

static size_t put_off_of(const struct gate *gate)
{
    struct gates *gates = gates_of(gate, 1);
    size_t count;

    assert_int_equal(gates_filter(gates, candidates, CANDIDATES), 0);
    count = gates->delay_count;
    gates_drop(gates);
    return count;
}

static void test_at_a_scopes_concurrency_as_many_stay_as_may_run_at_once(void **state)
{
    struct gate gate = gate_of("acme", LIMIT_WORKFLOW, "night");

    (void)state;
    wait_for("acme", "night");
    gate.most = gate.in_flight = 8;
    assert_int_equal(put_off_of(&gate), CANDIDATES - 8);
    gate.most = gate.in_flight = CANDIDATES;
    assert_int_equal(put_off_of(&gate), 0);
    gate.most = gate.in_flight = 0;
    assert_int_equal(put_off_of(&gate), CANDIDATES);
}

/* A look takes as many rows as there is room for: those who stay must not be all of it. */
static void test_where_little_room_is_few_stay(void **state)
{
    struct gate gate = gate_of("acme", LIMIT_WORKFLOW, "night");

    (void)state;
    wait_for("acme", "night");
    gate.most = gate.in_flight = 8;
    room[candidates[0].priority] = 6;
    assert_int_equal(put_off_of(&gate), CANDIDATES - 3);
    room[candidates[0].priority] = 1;
    assert_int_equal(put_off_of(&gate), CANDIDATES);
    room[candidates[0].priority] = 2000;
}

static void test_who_stays_leaves_places_to_other_priorities(void **state)
{
    struct gate gate = gate_of("acme", LIMIT_WORKFLOW, "night");

    (void)state;
    wait_for("acme", "night");
    for (int i = CANDIDATES / 2; i < CANDIDATES; i++)
        candidates[i].priority = PRIORITY_LOW;
    gate.most = gate.in_flight = 8;
    assert_int_equal(put_off_of(&gate), CANDIDATES - 2 * 8);
}

static const struct {
    int64_t most, apart_us;
} paces[] = {{0, 10000}, {1, 10000}, {8, 10000}, {40, 5000}, {100, 2000}, {1000, 1000}};

static void test_the_more_may_run_at_once_the_closer_they_come_again(void **state)
{
    static struct feed_candidate many[2 * FEED_GATED_ROWS];

    (void)state;
    wait_for("acme", "night");
    for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++)
        many[i] = candidates[0];
    for (size_t i = 0; i < sizeof(paces) / sizeof(paces[0]); i++) {
        struct gate gate = gate_of("acme", LIMIT_WORKFLOW, "night");
        struct gates *gates;

        gate.most = gate.in_flight = paces[i].most;
        gates = gates_of(&gate, 1);
        assert_int_equal(gates_filter(gates, many, sizeof(many) / sizeof(many[0])), 0);
        assert_true(gates->delay_count > 1);
        assert_int_equal(gates->delays[1].after_us - gates->delays[0].after_us, paces[i].apart_us);
        gates_drop(gates);
    }
}

/* A tenant's users, each at the concurrency of one: others of the tenant must be seen, too. */
static void test_those_who_stay_fill_no_more_than_half_of_a_look(void **state)
{
    static struct feed_candidate many[2 * FEED_GATED_ROWS];
    static struct gate all[2 * FEED_GATED_ROWS];
    struct gates *gates;

    (void)state;
    for (int i = 0; i < 2 * FEED_GATED_ROWS; i++) {
        char name[16];

        snprintf(name, sizeof(name), "u%d", i);
        all[i] = gate_of(i % 2 ? "acme" : "other", LIMIT_USER, name);
        all[i].most = all[i].in_flight = 1;
        snprintf(many[i].tenant, sizeof(many[i].tenant), "%s", i % 2 ? "acme" : "other");
        snprintf(many[i].end_user, sizeof(many[i].end_user), "%s", name);
    }
    gates = gates_of(all, 2 * FEED_GATED_ROWS);
    assert_int_equal(gates_filter(gates, many, 2 * FEED_GATED_ROWS), 0);
    assert_int_equal(gates->delay_count, FEED_GATED_ROWS);
    assert_false(gates->is_cut);
    gates_drop(gates);
}

static void test_who_finds_no_room_to_be_put_off_is_told_of(void **state)
{
    static struct feed_candidate many[GATE_DELAYS_MAX + 1];
    struct gate gate = gate_of("acme", LIMIT_WORKFLOW, "night");
    struct gates *gates;

    (void)state;
    wait_for("acme", "night");
    for (int i = 0; i < GATE_DELAYS_MAX + 1; i++)
        many[i] = candidates[0];
    gate.until_us = 1000;
    gates = gates_of(&gate, 1);
    assert_int_equal(gates_filter(gates, many, GATE_DELAYS_MAX), 0);
    assert_false(gates->is_cut);
    assert_int_equal(gates_filter(gates, many + GATE_DELAYS_MAX, 1), 0);
    assert_true(gates->is_cut);
    assert_int_equal(gates->delay_count, GATE_DELAYS_MAX);
    gates_drop(gates);
}

static void test_only_what_is_dealt_counts_as_used(void **state)
{
    struct gate all[] = {gate_of("acme", LIMIT_TENANT, ""), gate_of("acme", LIMIT_KEY, "k1")};
    const struct feed_candidate *picks[] = {&candidates[0], &candidates[1]};
    struct gate_use uses[GATE_USES_MAX];
    struct gates *gates;

    (void)state;
    wait_for("acme", "");
    all[0].most = all[1].most = 30;
    gates = gates_of(all, 2);
    assert_int_equal(gates_filter(gates, candidates, CANDIDATES), 30);
    gates_count_uses(gates, picks, 2);
    assert_int_equal(gates_next_uses(gates, uses), 2);
    assert_int_equal(uses[0].jobs, 2);
    assert_int_equal(uses[0].gate->kind, LIMIT_TENANT);
    assert_int_equal(uses[1].jobs, 2);
    assert_int_equal(gates_next_uses(gates, uses), 0);
    gates_drop(gates);
}

/* Each job has a gate of its own: more of them than one statement takes. */
static void test_no_use_is_left_out_however_many_gates_there_are(void **state)
{
    static struct feed_candidate many[2 * GATE_USES_MAX + 1];
    static struct gate all[2 * GATE_USES_MAX + 1];
    static const struct feed_candidate *picks[2 * GATE_USES_MAX + 1];
    struct gate_use uses[GATE_USES_MAX];
    struct gates *gates;

    (void)state;
    for (int i = 0; i < 2 * GATE_USES_MAX + 1; i++) {
        char name[16];

        snprintf(name, sizeof(name), "u%d", i);
        all[i] = gate_of("acme", LIMIT_USER, name);
        snprintf(many[i].tenant, sizeof(many[i].tenant), "acme");
        snprintf(many[i].end_user, sizeof(many[i].end_user), "%s", name);
        picks[i] = &many[i];
    }
    gates = gates_of(all, 2 * GATE_USES_MAX + 1);
    gates_count_uses(gates, picks, 2 * GATE_USES_MAX + 1);
    assert_int_equal(gates_next_uses(gates, uses), GATE_USES_MAX);
    assert_int_equal(gates_next_uses(gates, uses), GATE_USES_MAX);
    assert_int_equal(gates_next_uses(gates, uses), 1);
    assert_int_equal(uses[0].jobs, 1);
    assert_int_equal(gates_next_uses(gates, uses), 0);
    gates_drop(gates);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_gates_all_may_go),
        cmocka_unit_test(test_a_gate_lets_through_what_its_time_and_room_allow),
        cmocka_unit_test(test_a_gate_stops_nobody_else),
        cmocka_unit_test(test_every_gate_of_a_job_must_let_it),
        cmocka_unit_test(test_who_is_stopped_by_a_scope_is_put_off_one_behind_the_other),
        cmocka_unit_test(test_who_is_stopped_by_the_tenants_own_gate_stays),
        cmocka_unit_test(test_at_a_scopes_concurrency_as_many_stay_as_may_run_at_once),
        cmocka_unit_test(test_where_little_room_is_few_stay),
        cmocka_unit_test(test_who_stays_leaves_places_to_other_priorities),
        cmocka_unit_test(test_the_more_may_run_at_once_the_closer_they_come_again),
        cmocka_unit_test(test_those_who_stay_fill_no_more_than_half_of_a_look),
        cmocka_unit_test(test_who_finds_no_room_to_be_put_off_is_told_of),
        cmocka_unit_test(test_only_what_is_dealt_counts_as_used),
        cmocka_unit_test(test_no_use_is_left_out_however_many_gates_there_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
