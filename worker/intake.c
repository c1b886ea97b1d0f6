/* SPDX-License-Identifier: Apache-2.0 */
/* Intake: one lane per priority, from tickets and dealt rows to claimed jobs.
 *
 * A lane takes no more tickets than there are slots for them, claims them in one statement, and
 * takes the next when all are answered; so every ticket ends as claimed, as not claimable
 * (dropped), as unreadable (kept aside), or, when Postgres is away, as not taken at all: the lane
 * goes back to before the batch and waits.  Slots are taken before the claim and given back for
 * what was not claimed. */
#include "worker/intake.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/io/kafka.h"
#include "common/io/metrics.h"
#include "common/io/pg.h"
#include "common/model/claim_store.h"
#include "common/model/end_store.h"
#include "common/model/topics.h"
#include "worker/heartbeat.h"
#include "worker/worker.h"

#include <event2/event.h>

enum {
    TICK_MS = 100,
    TAKE_MAX = 100,        /* tickets of one lane in one claim */
    IDLE_MS = 250,         /* this long without a ticket, then it looks for dealt rows */
    DEALT_PAUSE_MS = 1000, /* after a look that found none */
    DEALT_MAX = CLAIM_DEALT_MAX,
    SWEEP_MS = 30000,         /* between looks for runs that nobody here knows of */
    SWEEP_SOON_MS = 1000,     /* after a claim whose answer was lost */
    UNREADABLE_PER_TICK = 10, /* kept; the rest is only counted */
    LEAVE_MS = 2000,
};

static const struct backoff_policy away_policy = {.base_ms = 200, .cap_ms = 5000};

static const struct metric tickets = {
    .name = "nightshift_tickets_total",
    .type = METRIC_COUNTER,
    .help = "Tickets taken, by what became of them; dealt: rows claimed without a ticket.",
    .labels = {"priority", "outcome"},
};
static const struct metric slots_gauge = {
    .name = "nightshift_slots",
    .type = METRIC_GAUGE,
    .help = "Slots of the priority: used now, and its guaranteed share.",
    .labels = {"priority", "kind"},
};
static const struct metric orphans = {
    .name = "nightshift_orphaned_runs_total",
    .type = METRIC_COUNTER,
    .help = "Runs found in the database that their own worker did not know of.",
};

static const struct log_context log_intake = {.component = "intake"};

struct lane {
    struct intake *intake;
    enum priority priority;
    struct kafka_consumer *consumer;
    int outstanding;  /* tickets being claimed */
    bool must_rewind; /* one of them could not be claimed for want of Postgres */
    bool is_settled;  /* nothing taken since the last commit or rewind */
    bool has_joined;
    int reserved;            /* slots held for a claim of dealt rows under way */
    struct id reserved_boot; /* and the boot id it was made under */
    int64_t next_dealt_us;
};

struct intake {
    struct worker *worker;
    struct lane lanes[PRIORITY_COUNT];
    struct event *tick;
    bool is_on;
    bool is_stopped;
    int failures; /* of Postgres, in a row */
    int64_t wait_until_us;
    int64_t next_sweep_us;
    bool is_sweeping;
    struct id sweep_boot;
    int unreadable_budget;
};

static void lane_count(const struct lane *lane, const char *outcome)
{
    metric_add(&tickets, METRIC_LABELS(priority_name(lane->priority), outcome), 1);
}

static void sweep_soon(struct intake *intake)
{
    int64_t soon = clock_monotonic_us() + SWEEP_SOON_MS * US_PER_MS;

    if (intake->next_sweep_us > soon)
        intake->next_sweep_us = soon;
}

static void note_failure(struct intake *intake)
{
    int64_t wait_ms =
        50 + backoff_full_jitter_ms(&away_policy, ++intake->failures, backoff_random());

    intake->wait_until_us = clock_monotonic_us() + wait_ms * US_PER_MS;
    if (intake->failures == 1)
        log_warn(&log_intake, "cannot claim: Postgres away, waiting");
}

static void note_success(struct intake *intake)
{
    if (intake->failures > 0)
        log_info(&log_intake, "claiming again");
    intake->failures = 0;
    intake->wait_until_us = 0;
}

static bool may_claim(const struct intake *intake)
{
    const struct worker *worker = intake->worker;

    return intake->is_on && !intake->is_stopped &&
           worker->request_bytes < worker->options->max_request_bytes &&
           clock_monotonic_us() >= intake->wait_until_us && pg_is_ready(worker->intake_pg);
}

/* --- tickets ---------------------------------------------------------------------------------- */

/* The batch is answered: the broker may forget it, or has to show it again. */
static void lane_settle(struct lane *lane)
{
    lane->is_settled = true;
    if (lane->intake->is_stopped)
        return;
    if (lane->must_rewind)
        kafka_consumer_rewind(lane->consumer);
    else
        kafka_consumer_commit(lane->consumer);
    lane->must_rewind = false;
}

static void lane_pump(struct lane *lane);

static void on_ticket(enum claim_outcome outcome, struct claimed_job *job, void *arg)
{
    struct lane *lane = arg;
    struct intake *intake = lane->intake;

    lane->outstanding--;
    switch (outcome) {
    case CLAIM_MINE:
        lane_count(lane, "claimed");
        note_success(intake);
        worker_start_run(intake->worker, job);
        break;
    case CLAIM_NOT:
        lane_count(lane, "dropped");
        note_success(intake);
        break;
    case CLAIM_BAD:
        lane_count(lane, "refused");
        break;
    case CLAIM_UNKNOWN:
        sweep_soon(intake);
        /* fall through */
    case CLAIM_FAILED:
        if (!lane->must_rewind)
            note_failure(intake);
        lane->must_rewind = true;
        break;
    }
    if (outcome != CLAIM_MINE)
        slots_give(&intake->worker->slots, lane->priority);
    if (lane->outstanding > 0)
        return;
    lane_settle(lane);
    lane_pump(lane);
}

static void lane_keep_unreadable(struct lane *lane, const struct kafka_message *message)
{
    struct intake *intake = lane->intake;

    lane_count(lane, "unreadable");
    if (intake->unreadable_budget <= 0)
        return;
    intake->unreadable_budget--;
    log_error(&log_intake, "unreadable ticket kept aside: topic=%s partition=%d offset=%lld",
              topic_name(lane->priority), (int)message->partition, (long long)message->offset);
    claim_keep_unreadable(intake->worker->claims, topic_name(lane->priority), message->partition,
                          message->offset, message->data, message->len);
}

static void lane_claim(struct lane *lane, const struct ticket *ticket)
{
    struct worker *worker = lane->intake->worker;

    slots_take(&worker->slots, lane->priority);
    if (claim_ticket(worker->claims, ticket, on_ticket, lane)) {
        lane->outstanding++;
        return;
    }
    slots_give(&worker->slots, lane->priority);
    lane->must_rewind = true;
    note_failure(lane->intake);
}

/* Takes what there are slots for.  Says whether it stopped for want of slots. */
static bool lane_take(struct lane *lane)
{
    const struct slots *slots = &lane->intake->worker->slots;
    struct kafka_message message;
    struct ticket ticket;

    while (lane->outstanding < TAKE_MAX && slots_room(slots, lane->priority) > 0) {
        if (!kafka_consumer_take(lane->consumer, &message))
            return false;
        lane->is_settled = false;
        if (ticket_read(message.data, message.len, &ticket))
            lane_claim(lane, &ticket);
        else
            lane_keep_unreadable(lane, &message);
    }
    return slots_room(slots, lane->priority) == 0;
}

static void lane_pump(struct lane *lane)
{
    struct worker *worker = lane->intake->worker;

    if (lane->intake->is_stopped)
        return;
    lane->has_joined = lane->has_joined || kafka_consumer_is_assigned(lane->consumer);
    if (!may_claim(lane->intake) || slots_room(&worker->slots, lane->priority) == 0) {
        kafka_consumer_pause(lane->consumer);
        return;
    }
    kafka_consumer_resume(lane->consumer);
    if (lane->outstanding > 0)
        return;
    worker->slots.is_hungry[lane->priority] = lane_take(lane);
    if (lane->outstanding == 0 && !lane->is_settled)
        lane_settle(lane);
}

static void on_ready(void *arg)
{
    lane_pump(arg);
}

/* --- dealt rows ------------------------------------------------------------------------------- */

static void lane_unreserve(struct lane *lane)
{
    for (; lane->reserved > 0; lane->reserved--)
        slots_give(&lane->intake->worker->slots, lane->priority);
}

static bool lane_wants_dealt(const struct lane *lane)
{
    int64_t now_us = clock_monotonic_us();
    int64_t idle_since_us = kafka_consumer_idle_since_us(lane->consumer);

    return lane->reserved == 0 && lane->outstanding == 0 && now_us >= lane->next_dealt_us &&
           idle_since_us > 0 && now_us - idle_since_us >= IDLE_MS * US_PER_MS &&
           may_claim(lane->intake);
}

static void lane_claim_dealt(struct lane *lane);

static void on_dealt(enum claim_outcome outcome, struct claimed_job **jobs, size_t count, void *arg)
{
    struct lane *lane = arg;
    struct intake *intake = lane->intake;
    bool is_stale = !id_equal(lane->reserved_boot, intake->worker->boot_id);
    bool was_full = (int)count == lane->reserved;

    if (outcome == CLAIM_MINE)
        note_success(intake);
    else
        note_failure(intake);
    if (outcome == CLAIM_UNKNOWN)
        sweep_soon(intake);
    for (size_t i = 0; i < count; i++) {
        if (is_stale) { /* of a boot id that is gone: rescue has or will have it */
            claimed_job_free(jobs[i]);
            continue;
        }
        lane->reserved--; /* the run has it now */
        lane_count(lane, "dealt");
        worker_start_run(intake->worker, jobs[i]);
    }
    lane_unreserve(lane);
    lane->next_dealt_us =
        was_full && outcome == CLAIM_MINE
            ? 0
            : clock_monotonic_us() +
                  backoff_spread_ms(DEALT_PAUSE_MS, 20, backoff_random()) * US_PER_MS;
    intake_kick(intake);
    if (lane_wants_dealt(lane)) /* there may be more where that came from */
        lane_claim_dealt(lane);
}

/* Lost tickets, lumpy partitions, rebalances, a broker that is away: all the same to us. */
static void lane_claim_dealt(struct lane *lane)
{
    struct worker *worker = lane->intake->worker;
    int room = slots_room(&worker->slots, lane->priority);

    if (room > DEALT_MAX)
        room = DEALT_MAX;
    if (room == 0)
        return;
    if (!claim_dealt(worker->claims, lane->priority, room, on_dealt, lane))
        return;
    for (; lane->reserved < room; lane->reserved++)
        slots_take(&worker->slots, lane->priority);
    lane->reserved_boot = worker->boot_id;
}

/* --- runs whose claim was never answered ------------------------------------------------------ */

static void on_run_listed(struct id job, int64_t run_token, void *arg)
{
    struct intake *intake = arg;
    struct worker *worker = intake->worker;
    char name[ID_TEXT_SIZE];

    if (!id_equal(intake->sweep_boot, worker->boot_id) ||
        map_get(worker->runs, &run_token, sizeof(run_token)))
        return;
    id_format(job, "job_", name);
    log_warn(&(struct log_context){.component = "intake", .job = name},
             "run unknown here, given up: run_token=%lld", (long long)run_token);
    metric_add(&orphans, NULL, 1);
    claim_disown(worker->claims, job, run_token);
}

static void on_runs_listed(void *arg)
{
    struct intake *intake = arg;

    intake->is_sweeping = false;
}

static void sweep(struct intake *intake)
{
    intake->next_sweep_us = clock_monotonic_us() + SWEEP_MS * US_PER_MS;
    intake->sweep_boot = intake->worker->boot_id;
    intake->is_sweeping =
        claim_list_runs(intake->worker->claims, on_run_listed, on_runs_listed, intake);
}

/* --- the intake ------------------------------------------------------------------------------- */

static void show_slots(const struct intake *intake)
{
    const struct slots *slots = &intake->worker->slots;

    for (int p = 0; p < PRIORITY_COUNT; p++) {
        const char *name = priority_name((enum priority)p);

        metric_set(&slots_gauge, METRIC_LABELS(name, "used"), slots->used[p]);
        metric_set(&slots_gauge, METRIC_LABELS(name, "share"), slots->share[p]);
    }
    if (intake->worker->heartbeat)
        heartbeat_report(intake->worker->heartbeat, slots->used, intake->worker->is_draining);
}

void intake_kick(struct intake *intake)
{
    for (int p = 0; p < PRIORITY_COUNT; p++)
        lane_pump(&intake->lanes[p]);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct intake *intake = arg;
    int64_t now = clock_monotonic_us();

    (void)fd;
    (void)what;
    intake->unreadable_budget = UNREADABLE_PER_TICK;
    show_slots(intake);
    intake_kick(intake);
    for (int p = 0; p < PRIORITY_COUNT; p++)
        if (lane_wants_dealt(&intake->lanes[p]))
            lane_claim_dealt(&intake->lanes[p]);
    if (!intake->is_sweeping && now >= intake->next_sweep_us && may_claim(intake))
        sweep(intake);
}

static bool lane_start(struct lane *lane, const struct kafka_options *kafka, struct err *err)
{
    lane->is_settled = true;
    lane->consumer = kafka_consumer_new(lane->intake->worker->base, kafka, WORKER_GROUP,
                                        topic_name(lane->priority), err);
    if (!lane->consumer)
        return false;
    kafka_consumer_pause(lane->consumer);
    kafka_consumer_on_ready(lane->consumer, on_ready, lane);
    return true;
}

struct intake *intake_start(struct worker *worker, const struct kafka_options *kafka,
                            struct err *err)
{
    static const struct timeval period = {.tv_usec = TICK_MS * 1000};
    struct intake *intake = calloc(1, sizeof(*intake));

    if (!intake) {
        err_set(err, "start the intake: out of memory");
        return NULL;
    }
    intake->worker = worker;
    intake->next_sweep_us = clock_monotonic_us() + SWEEP_MS * US_PER_MS;
    metric_declare(&orphans, NULL);
    for (int p = 0; p < PRIORITY_COUNT; p++) {
        struct lane *lane = &intake->lanes[p];

        *lane = (struct lane){.intake = intake, .priority = (enum priority)p};
        if (!lane_start(lane, kafka, err)) {
            intake_free(intake);
            return NULL;
        }
    }
    intake->tick = event_new(worker->base, -1, EV_PERSIST, on_tick, intake);
    if (!intake->tick || event_add(intake->tick, &period) != 0) {
        err_set(err, "start the intake: out of memory");
        intake_free(intake);
        return NULL;
    }
    return intake;
}

void intake_resume(struct intake *intake)
{
    intake->is_on = true;
    intake_kick(intake);
}

void intake_suspend(struct intake *intake)
{
    intake->is_on = false;
    intake_kick(intake);
}

void intake_stop(struct intake *intake)
{
    intake->is_on = false;
    intake->is_stopped = true;
    for (int p = 0; p < PRIORITY_COUNT; p++)
        kafka_consumer_leave(intake->lanes[p].consumer);
}

bool intake_is_quiet(const struct intake *intake)
{
    for (int p = 0; p < PRIORITY_COUNT; p++)
        if (intake->lanes[p].outstanding > 0 || intake->lanes[p].reserved > 0)
            return false;
    return true;
}

bool intake_has_joined(const struct intake *intake)
{
    for (int p = 0; p < PRIORITY_COUNT; p++)
        if (!intake->lanes[p].has_joined)
            return false;
    return true;
}

void intake_free(struct intake *intake)
{
    if (!intake)
        return;
    if (intake->tick)
        event_free(intake->tick);
    for (int p = 0; p < PRIORITY_COUNT; p++)
        if (intake->lanes[p].consumer)
            kafka_consumer_leave(intake->lanes[p].consumer);
    for (int p = 0; p < PRIORITY_COUNT; p++)
        kafka_consumer_free(intake->lanes[p].consumer, LEAVE_MS);
    free(intake);
}
