/* SPDX-License-Identifier: Apache-2.0 */
/* The feeder: deals waiting jobs into the topics, as many as the fleet can take. */
#include "scheduler/feed.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/metrics.h"
#include "common/model/feed_store.h"
#include "scheduler/fair.h"
#include "scheduler/gates.h"
#include "scheduler/scheduler.h"

enum { REPUBLISH_BATCH = 1000, RECALL_BATCH = 1000, SAY_EVERY_S = 60 };

static const struct metric dealt_total = {
    .name = "nightshift_dealt_total",
    .type = METRIC_COUNTER,
    .help = "Jobs that the feeder dealt.",
    .labels = {"priority"},
};

static const struct metric republished_total = {
    .name = "nightshift_republished_total",
    .type = METRIC_COUNTER,
    .help = "Tickets sent again because nobody had claimed their job for a minute.",
    .labels = {"priority"},
};

static const struct metric gates_cut = {
    .name = "nightshift_gates_cut",
    .type = METRIC_GAUGE,
    .help = "1 when more gates may be closed than a pass of the feeder looks at.",
};

static const struct metric put_off_cut = {
    .name = "nightshift_put_off_cut",
    .type = METRIC_GAUGE,
    .help = "1 when more jobs stop at gates than a pass of the feeder puts off.",
};

static const struct log_context log_feed = {.component = "feed"};

/* What a pass looks at, or does, only in part when there is too much of it. */
struct cut {
    const struct metric *metric;
    const char *message;
    int max;
    bool was_cut;
    int64_t said_us;
};

/* Jobs at the gates behind the last are dealt as if those stood open, and come back from workers:
 * slow, but right. */
static struct cut cut_gates = {
    .metric = &gates_cut,
    .message = "more gates may be closed than a pass looks at: gates_max",
    .max = GATES_MAX,
};

/* Jobs behind the last stay in the way of their tenant's others until a later pass. */
static struct cut cut_delays = {
    .metric = &put_off_cut,
    .message = "more jobs stop at gates than a pass puts off: jobs_max",
    .max = GATE_DELAYS_MAX,
};

/* A pass that memory did not suffice for has failed like one that Postgres refused. */
static const struct pg_reply no_memory = {
    .status = PG_FAILED, .sqlstate = "", .message = "out of memory"};

/* --- feed ------------------------------------------------------------------------------------- */

static void publish_rows(struct scheduler *scheduler, const struct pg_result *result,
                         const struct metric *metric)
{
    struct ticket ticket;
    enum priority priority;

    for (int row = 0; row < pg_rows(result); row++) {
        feed_ticket_read(result, row, &ticket, &priority);
        metric_add(metric, METRIC_LABELS(priority_name(priority)), 1);
        scheduler->publish(scheduler, &ticket, priority);
    }
}

/* What the pass knows between its questions. */
struct feed_pass {
    struct task *task;
    int room[PRIORITY_COUNT];
    struct gates gates;
    struct gate_use uses[GATE_USES_MAX]; /* of the statement on its way */
};

/* Said once while it lasts, and no more than once a minute. */
static void tell_cut(struct cut *cut, bool is_cut)
{
    int64_t now = clock_monotonic_us();

    metric_set(cut->metric, NULL, is_cut);
    if (is_cut && !cut->was_cut &&
        (cut->said_us == 0 || now - cut->said_us > SAY_EVERY_S * US_PER_S)) {
        log_warn(&log_feed, "%s=%d", cut->message, cut->max);
        cut->said_us = now;
    }
    cut->was_cut = is_cut;
}

static void pass_end(struct feed_pass *pass, const struct pg_reply *failed)
{
    struct task *task = pass->task;

    task->scheduler->is_full = pass->gates.is_full;
    tell_cut(&cut_delays, pass->gates.is_cut);
    gates_release(&pass->gates);
    free(pass);
    task_end(task, failed, false);
}

static void on_put_off(const struct pg_reply *reply, void *arg)
{
    pass_end(arg, reply->status == PG_OK ? NULL : reply);
}

static void put_off(struct feed_pass *pass)
{
    if (pass->gates.delay_count > 0)
        gate_put_off(pass->task->scheduler->feed_pg, pass->task->epoch, pass->gates.delays,
                     pass->gates.delay_count, on_put_off, pass);
    else
        pass_end(pass, NULL);
}

static void note_uses(struct feed_pass *pass);

static void on_used(const struct pg_reply *reply, void *arg)
{
    if (reply->status == PG_OK)
        note_uses(arg);
    else
        pass_end(arg, reply);
}

static void note_uses(struct feed_pass *pass)
{
    size_t count = gates_next_uses(&pass->gates, pass->uses);

    if (count > 0)
        gate_note_uses(pass->task->scheduler->feed_pg, pass->task->epoch, pass->uses, count,
                       on_used, pass);
    else
        put_off(pass);
}

static void on_dealt(const struct pg_reply *reply, void *arg)
{
    struct feed_pass *pass = arg;

    if (reply->status != PG_OK) {
        pass_end(pass, reply);
        return;
    }
    publish_rows(pass->task->scheduler, reply->result, &dealt_total);
    note_uses(pass);
}

static void deal(struct feed_pass *pass, const struct pg_result *result)
{
    size_t count = (size_t)pg_rows(result);
    struct feed_candidate *candidates = calloc(count, sizeof(*candidates));
    const struct feed_candidate *picks[FEED_BATCH_MAX];
    size_t picked;

    if (!candidates) {
        pass_end(pass, &no_memory);
        return;
    }
    for (size_t row = 0; row < count; row++)
        feed_candidate_read(result, (int)row, &candidates[row]);
    count = gates_filter(&pass->gates, candidates, count);
    picked = fair_pick(candidates, count, pass->room, picks);
    gates_count_uses(&pass->gates, picks, picked);
    if (picked > 0)
        feed_deal(pass->task->scheduler->feed_pg, pass->task->epoch, picks, picked, on_dealt, pass);
    else
        put_off(pass);
    free(candidates);
}

static void on_candidates(const struct pg_reply *reply, void *arg)
{
    if (reply->status != PG_OK)
        pass_end(arg, reply);
    else if (pg_rows(reply->result) == 0)
        pass_end(arg, NULL);
    else
        deal(arg, reply->result);
}

static bool take_gates(struct feed_pass *pass, const struct pg_result *result)
{
    size_t rows = (size_t)pg_rows(result), count = 0;
    struct gate *all = calloc(rows > 0 ? rows : 1, sizeof(*all));

    if (!all)
        return false;
    tell_cut(&cut_gates, rows == GATES_MAX);
    for (size_t row = 0; row < rows; row++)
        if (gate_read(result, (int)row, &all[count]))
            count++;
    return gates_init(&pass->gates, pass->room, all, count);
}

static void on_gates(const struct pg_reply *reply, void *arg)
{
    struct feed_pass *pass = arg;

    if (reply->status == PG_OK && take_gates(pass, reply->result))
        feed_candidates(pass->task->scheduler->feed_pg, pass->room, true, on_candidates, pass);
    else
        pass_end(pass, reply->status == PG_OK ? &no_memory : reply);
}

static bool has_work(const struct feed_look *look, const int room[PRIORITY_COUNT])
{
    for (int p = 0; p < PRIORITY_COUNT; p++)
        if (room[p] > 0 && look->of[p].has_backlog)
            return true;
    return false;
}

static void on_looked(const struct pg_reply *reply, void *arg)
{
    struct feed_pass *pass = arg;
    struct scheduler *scheduler = pass->task->scheduler;
    struct feed_look look;

    if (reply->status != PG_OK || !feed_look_read(reply->result, &look)) {
        pass_end(pass, reply);
        return;
    }
    scheduler->has_tenants_at_rest = look.has_tenants_at_rest;
    scheduler->has_gates = look.has_gates;
    if (!look.has_gates)
        tell_cut(&cut_gates, false);
    fair_room(&look, pass->room);
    if (!has_work(&look, pass->room))
        pass_end(pass, NULL);
    else if (look.has_gates)
        gate_list(scheduler->feed_pg, on_gates, pass);
    else
        feed_candidates(scheduler->feed_pg, pass->room, false, on_candidates, pass);
}

void feed_run(struct task *task)
{
    struct feed_pass *pass = calloc(1, sizeof(*pass));

    if (!pass) {
        task_end(task, &no_memory, false);
        return;
    }
    pass->task = task;
    feed_look(task->scheduler->feed_pg, on_looked, pass);
}

void feed_place_free(struct scheduler *scheduler)
{
    if (scheduler->is_full && scheduler->tasks)
        tasks_hurry(scheduler->tasks, feed_run);
}

/* --- lanes ------------------------------------------------------------------------------------ */

static void on_task_done(const struct pg_reply *reply, void *arg)
{
    task_end(arg, reply->status == PG_OK ? NULL : reply, false);
}

static void on_lanes_looked(const struct pg_reply *reply, void *arg)
{
    struct task *task = arg;
    int64_t credits[PRIORITY_COUNT];
    struct feed_look look;

    if (reply->status != PG_OK || !feed_look_read(reply->result, &look)) {
        task_end(task, reply, false);
        return;
    }
    fair_credits(&look, credits);
    feed_grant(task->scheduler->feed_pg, task->epoch, credits, on_task_done, task);
}

void feed_lanes_run(struct task *task)
{
    feed_look(task->scheduler->feed_pg, on_lanes_looked, task);
}

/* --- recall and republish --------------------------------------------------------------------- */

static void on_recalled(const struct pg_reply *reply, void *arg)
{
    int rows = reply->status == PG_OK ? pg_rows(reply->result) : 0;

    if (rows > 0)
        log_info(&log_feed, "took back what was dealt of tenants that must wait: jobs=%d", rows);
    task_end(arg, reply->status == PG_OK ? NULL : reply, rows == RECALL_BATCH);
}

void feed_recall_run(struct task *task)
{
    if (task->scheduler->has_tenants_at_rest || task->scheduler->has_gates)
        feed_recall(task->scheduler->feed_pg, task->epoch, RECALL_BATCH, on_recalled, task);
    else
        task_end(task, NULL, false);
}

static void on_swept(const struct pg_reply *reply, void *arg)
{
    task_end(arg, reply->status == PG_OK ? NULL : reply, false);
}

void feed_gates_run(struct task *task)
{
    if (task->scheduler->has_gates)
        gate_sweep(task->scheduler->feed_pg, task->epoch, on_swept, task);
    else
        task_end(task, NULL, false);
}

static void on_republished(const struct pg_reply *reply, void *arg)
{
    struct task *task = arg;
    int rows = reply->status == PG_OK ? pg_rows(reply->result) : 0;

    if (rows > 0) {
        log_info(&log_feed, "sending tickets again: tickets=%d", rows);
        publish_rows(task->scheduler, reply->result, &republished_total);
    }
    task_end(task, reply->status == PG_OK ? NULL : reply, rows == REPUBLISH_BATCH);
}

void feed_republish_run(struct task *task)
{
    feed_republish(task->scheduler->feed_pg, task->epoch, REPUBLISH_BATCH, on_republished, task);
}
