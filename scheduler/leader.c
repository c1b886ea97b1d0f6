/* SPDX-License-Identifier: Apache-2.0 */
/* Which scheduler leads: by epoch, quickly by advisory lock, surely by heartbeat. */
#include "scheduler/leader.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/metrics.h"
#include "common/model/leader_store.h"

enum { LOOK_MS = 1000, HOLDER_SIZE = 128 };

static const struct metric leading = {
    .name = "nightshift_leader",
    .type = METRIC_GAUGE,
    .help = "1 while this scheduler leads.",
};

static const struct metric changes = {
    .name = "nightshift_leader_changes_total",
    .type = METRIC_COUNTER,
    .help = "Times this scheduler began or ceased to lead.",
};

static const struct log_context log_leader = {.component = "leader"};

struct leader {
    struct pg *pg;
    struct event *timer;
    char holder[HOLDER_SIZE];
    void (*on_change)(bool is_leading, void *arg);
    void *arg;

    int64_t epoch;        /* 0: not leading */
    int64_t sent_us;      /* when the question under way was sent */
    int64_t confirmed_us; /* when the last confirmed beat was sent */
    bool is_asking;       /* a look, a take or a beat is under way */
    bool is_resigning;
    void (*on_resigned)(void *arg);
    void *resigned_arg;
};

static void change(struct leader *leader, int64_t epoch)
{
    leader->epoch = epoch;
    metric_set(&leading, NULL, epoch != 0);
    metric_add(&changes, NULL, 1);
    leader->on_change(epoch != 0, leader->arg);
}

static void on_unlocked(const struct pg_reply *reply, void *arg)
{
    (void)reply, (void)arg; /* without a connection there is no lock either */
}

static void stop_leading(struct leader *leader, const char *why)
{
    if (leader->epoch == 0 || leader->is_resigning)
        return;
    log_warn(&log_leader, "not leading any more: epoch=%lld: %s", (long long)leader->epoch, why);
    change(leader, 0);
    leader_unlock(leader->pg, on_unlocked, leader);
}

void leader_lost(struct leader *leader, int64_t epoch, const char *why)
{
    if (epoch == leader->epoch)
        stop_leading(leader, why);
}

/* --- following -------------------------------------------------------------------------------- */

static void on_taken(const struct pg_reply *reply, void *arg)
{
    struct leader *leader = arg;

    leader->is_asking = false;
    if (reply->status != PG_OK || pg_rows(reply->result) == 0 || leader->is_resigning) {
        leader_unlock(leader->pg, on_unlocked, leader);
        return;
    }
    leader->confirmed_us = leader->sent_us;
    change(leader, pg_get_int(reply->result, 0, 0));
    log_info(&log_leader, "leading: epoch=%lld", (long long)leader->epoch);
}

static void on_looked(const struct pg_reply *reply, void *arg)
{
    struct leader *leader = arg;
    struct leader_view view;

    leader->is_asking = false;
    if (reply->status != PG_OK || !leader_look_read(reply->result, &view) || !view.may_take ||
        leader->is_resigning)
        return;
    leader->is_asking = true;
    leader->sent_us = clock_monotonic_us();
    leader_take(leader->pg, view.epoch, leader->holder, on_taken, leader);
}

/* --- leading ---------------------------------------------------------------------------------- */

/* A beat that only came too late or failed on its own (a lock, a conflict) is not the end: the next
 * one may come in time. */
static void on_beat(const struct pg_reply *reply, void *arg)
{
    struct leader *leader = arg;

    leader->is_asking = false;
    if (reply->status == PG_UNKNOWN || reply->status == PG_UNAVAILABLE)
        stop_leading(leader, reply->message);
    else if (reply->status == PG_OK && pg_rows(reply->result) == 0)
        stop_leading(leader, "another scheduler leads");
    else if (reply->status == PG_OK)
        leader->confirmed_us = leader->sent_us;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct leader *leader = arg;

    (void)fd, (void)what;
    if (leader->is_asking || leader->is_resigning || !pg_is_ready(leader->pg))
        return;
    leader->is_asking = true;
    leader->sent_us = clock_monotonic_us();
    if (leader->epoch)
        leader_beat(leader->pg, leader->epoch, on_beat, leader);
    else
        leader_look(leader->pg, on_looked, leader);
}

/* The lock went with the old session, and who knows what else happened meanwhile. */
static void on_connect(struct pg *pg, void *arg)
{
    struct leader *leader = arg;

    (void)pg;
    stop_leading(leader, "the connection was lost");
    event_active(leader->timer, EV_TIMEOUT, 0);
}

int64_t leader_epoch(const struct leader *leader)
{
    int64_t since_us = clock_monotonic_us() - leader->confirmed_us;

    return since_us < LEADER_STALE_S * US_PER_S ? leader->epoch : 0;
}

bool leader_is_connected(const struct leader *leader)
{
    return pg_is_ready(leader->pg);
}

/* --- beginning and end ------------------------------------------------------------------------ */

static void on_resigned(const struct pg_reply *reply, void *arg)
{
    struct leader *leader = arg;

    (void)reply; /* if it failed, the others find out by themselves */
    if (leader->on_resigned)
        leader->on_resigned(leader->resigned_arg);
}

void leader_resign(struct leader *leader, void (*done)(void *arg), void *arg)
{
    int64_t epoch = leader->epoch;

    leader->is_resigning = true;
    leader->on_resigned = done;
    leader->resigned_arg = arg;
    if (epoch) {
        log_info(&log_leader, "resigning: epoch=%lld", (long long)epoch);
        change(leader, 0);
        leader_resign_epoch(leader->pg, epoch, on_unlocked, leader);
    }
    leader_unlock(leader->pg, on_resigned, leader);
}

struct leader *leader_new(struct event_base *base, const struct leader_options *options,
                          struct err *err)
{
    static const struct timeval period = {.tv_sec = LOOK_MS / 1000};
    struct leader *leader = calloc(1, sizeof(*leader));
    struct pg_options pg_options = {
        .url = options->url,
        .duty = "leader",
        .keeps_clock = true,
        .on_connect = on_connect,
        .arg = leader,
    };

    if (!leader) {
        err_set(err, "start the leader: out of memory");
        return NULL;
    }
    snprintf(leader->holder, sizeof(leader->holder), "%s", options->holder);
    leader->on_change = options->on_change;
    leader->arg = options->arg;
    metric_declare(&leading, NULL);
    metric_declare(&changes, NULL);
    leader->timer = event_new(base, -1, EV_PERSIST, on_timer, leader);
    leader->pg = pg_new(base, &pg_options, err);
    if (leader->timer && leader->pg && event_add(leader->timer, &period) == 0)
        return leader;
    leader_free(leader);
    return NULL;
}

void leader_free(struct leader *leader)
{
    if (!leader)
        return;
    leader->is_resigning = true; /* answers that come now begin nothing */
    leader->on_resigned = NULL;
    if (leader->pg)
        pg_free(leader->pg);
    if (leader->timer)
        event_free(leader->timer);
    free(leader);
}
