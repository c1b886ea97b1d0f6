/* SPDX-License-Identifier: Apache-2.0 */
/* Settling: said again and again until Redis has taken it, in a list with an end. */
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/io/metrics.h"
#include "common/model/admission_local.h"
#include "common/model/admission_private.h"
#include "common/model/admission_wire.h"
#include "common/model/overrun.h"

#include <event2/event.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum {
    TICK_MS = 50,
    AGAIN_MS = 100,
    TICK_SENDS_MAX = 200, /* said again in one tick: a Redis that returns or rebuilds has to work */
    FAILURES_MAX = 3,     /* of the script itself, which more tries do not mend */
    KEY_SIZE = ADMISSION_NAME_SIZE + 1,
    ANSWER_REBUILDING = 1,
    ANSWER_OVERRUN = 2,
};

static const struct log_context about = {.component = "admission"};

static const struct metric dropped = {
    .name = "nightshift_admission_settles_dropped_total",
    .type = METRIC_COUNTER,
    .help = "Settlements not told to Redis because too many waited; reconciliation mends them.",
};

/* Sits in waiting or in sent; leaves when Redis has taken it. */
struct settle {
    TAILQ_ENTRY(settle) link;
    struct admission *admission; /* NULL: it is gone, free this at the reply */
    struct script_args args;
    bool is_whole;
    bool is_undo;
    bool counts_overrun;
    int failures;
    int64_t due_us;     /* monotonic, in waiting */
    char key[KEY_SIZE]; /* in undoing, of those that take back */
};

static void settle_free(struct settle *settle)
{
    struct admission *admission = settle->admission;

    if (admission && settle->is_undo)
        map_remove(admission->undoing, settle->key, strlen(settle->key));
    if (admission)
        admission->settle_count--;
    script_args_release(&settle->args);
    free(settle);
}

static void keep(struct settle *settle)
{
    struct admission *admission = settle->admission;

    settle->due_us = clock_monotonic_us() + AGAIN_MS * US_PER_MS;
    TAILQ_INSERT_TAIL(&admission->waiting, settle, link); /* hence in order of due_us */
    if (!event_pending(admission->tick, EV_TIMEOUT, NULL))
        event_add(admission->tick, &(struct timeval){.tv_usec = TICK_MS * US_PER_MS});
}

static void send_settle(struct settle *settle);

/* The script failed: not READONLY, LOADING and the like, which pass. */
static bool is_failure(const struct redis_reply *reply)
{
    return reply->kind == REDIS_ERROR && strncmp(reply->text, "ERR ", 4) == 0;
}

static void on_answer(const struct redis_reply *reply, void *arg)
{
    struct settle *settle = arg;

    if (!settle->admission) {
        settle_free(settle);
        return;
    }
    TAILQ_REMOVE(&settle->admission->sent, settle, link);
    if (script_is_unknown(reply) && !settle->is_whole) {
        settle->is_whole = true;
        send_settle(settle);
        return;
    }
    settle->is_whole = false;
    if (reply->kind == REDIS_INT && reply->number != ANSWER_REBUILDING) {
        settle->admission->is_refused = false;
        if (reply->number == ANSWER_OVERRUN && settle->counts_overrun)
            overrun_count(&about, script_args_get(&settle->args, 1));
        settle_free(settle);
        return;
    }
    settle->admission->is_refused = reply->kind != REDIS_INT && !is_failure(reply);
    if (is_failure(reply) && ++settle->failures >= FAILURES_MAX) {
        log_error(&about, "a settlement failed: %s", reply->text);
        metric_add(&dropped, NULL, 1);
        settle_free(settle);
        return;
    }
    keep(settle);
}

static void send_settle(struct settle *settle)
{
    TAILQ_INSERT_TAIL(&settle->admission->sent, settle, link);
    script_send(settle->admission->redis, SCRIPT_SETTLE, settle->is_whole, &settle->args, on_answer,
                settle);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct admission *admission = arg;
    struct settle *settle;
    int64_t now_us = clock_monotonic_us();
    int left = admission->is_refused ? 1 : TICK_SENDS_MAX; /* one finds out for all */

    (void)fd;
    (void)what;
    while (redis_is_ready(admission->redis) && left-- > 0 &&
           (settle = TAILQ_FIRST(&admission->waiting)) != NULL && settle->due_us <= now_us) {
        TAILQ_REMOVE(&admission->waiting, settle, link);
        send_settle(settle);
    }
    if (!TAILQ_EMPTY(&admission->waiting))
        event_add(admission->tick, &(struct timeval){.tv_usec = TICK_MS * US_PER_MS});
}

void admission_settles_init(struct admission *admission)
{
    TAILQ_INIT(&admission->waiting);
    TAILQ_INIT(&admission->sent);
    admission->undoing = map_new(ADMISSION_SETTLES_MAX);
    admission->tick = evtimer_new(admission->base, on_tick, admission);
    overrun_declare();
    metric_declare(&dropped, NULL);
}

void admission_settles_release(struct admission *admission)
{
    struct settle *settle;

    while ((settle = TAILQ_FIRST(&admission->waiting)) != NULL) {
        TAILQ_REMOVE(&admission->waiting, settle, link);
        settle_free(settle);
    }
    while ((settle = TAILQ_FIRST(&admission->sent)) != NULL) {
        TAILQ_REMOVE(&admission->sent, settle, link);
        settle->admission = NULL;
    }
    map_free(admission->undoing);
    if (admission->tick)
        event_free(admission->tick);
}

size_t admission_settles_kept(const struct admission *admission)
{
    return admission->settle_count;
}

bool admission_is_undoing(const struct admission *admission, const char *name)
{
    char key[KEY_SIZE];

    if (map_count(admission->undoing) == 0)
        return false;
    snprintf(key, sizeof(key), "t%s", name);
    if (map_get(admission->undoing, key, strlen(key)))
        return true;
    key[0] = 'p';
    return map_get(admission->undoing, key, strlen(key)) != NULL;
}

/* False: nothing can be kept. */
static bool start(struct admission *admission, const struct settle *like)
{
    struct settle *settle =
        admission->settle_count < ADMISSION_SETTLES_MAX && script_args_ok(&like->args)
            ? malloc(sizeof(*settle))
            : NULL;

    if (!settle)
        return false;
    *settle = *like;
    settle->admission = admission;
    admission->settle_count++;
    if (settle->is_undo && (map_get(admission->undoing, settle->key, strlen(settle->key)) ||
                            !map_put(admission->undoing, settle->key, strlen(settle->key), settle)))
        settle->is_undo = false; /* the first one stands for both */
    /* Older ones may wait (for a rebuild): by name, their order does not matter. */
    if (!admission->is_refused && redis_is_ready(admission->redis))
        send_settle(settle);
    else
        keep(settle);
    return true;
}

/* For one side: kind 't' or 'p'. */
static void settle_side(struct admission *admission, char kind, const char *owner, const char *name,
                        const struct admission_settlement *settlement, unsigned parts)
{
    struct settle settle = {
        .is_undo = settlement->end == ADMISSION_UNDONE,
        .counts_overrun = settlement->counts_overrun,
    };

    if (settle.is_undo)
        snprintf(settle.key, sizeof(settle.key), "%c%s", kind, name);
    script_args_init(&settle.args);
    wire_settle(kind, owner, name, settlement->end, kind == 't' ? settlement->cost_nano : 0,
                settlement->tokens, parts, &settle.args);
    if (start(admission, &settle))
        return;
    metric_add(&dropped, NULL, 1);
    script_args_release(&settle.args);
}

void admission_undo(struct admission *admission, char kind, const char *owner, const char *name,
                    unsigned parts)
{
    settle_side(admission, kind, owner, name,
                &(struct admission_settlement){.end = ADMISSION_UNDONE}, parts);
}

void admission_settle(struct admission *admission, const struct admission_settlement *settlement)
{
    unsigned parts = settlement->holds & (ADMISSION_HOLDS_MONEY | ADMISSION_HOLDS_RATES);
    char name[ADMISSION_NAME_SIZE];

    admission_name_format(settlement->job, settlement->run, settlement->call, name);
    if (settlement->holds & ADMISSION_HOLDS_LOCAL)
        admission_local_settle(admission->local, name);
    if (parts)
        settle_side(admission, 't', settlement->tenant, name, settlement, parts);
    if ((settlement->holds & ADMISSION_HOLDS_PROVIDER) && settlement->provider)
        settle_side(admission, 'p', settlement->provider, name, settlement, ADMISSION_HOLDS_RATES);
}
