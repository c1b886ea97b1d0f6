/* SPDX-License-Identifier: Apache-2.0 */
/* The heartbeat thread, and what the loop makes of it.
 *
 * The thread owns the database session and decides nothing: it beats, writes down what it learned
 * under the lock, and rings the eventfd.  The loop decides, from what is written down and from its
 * own clock: a thread that hangs in a dead connection cannot tell that it does. */
#include "worker/heartbeat.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/metrics.h"
#include "common/model/worker_store.h"

#include <event2/event.h>

enum {
    BEAT_MS = 1000,        /* its answer carries cancels, which are to take at most two seconds */
    RETRY_MS = 500,        /* after a failure */
    LOST_AFTER_MS = 5000,  /* without a confirmed beat: before rescue comes, at 6 s */
    LOOP_ALIVE_MS = 1500,  /* a loop that did not turn for so long gets no beat */
    LOOK_MS = 250,         /* how often the loop looks at the clock */
    RENEW_FRESH_MS = 3000, /* a registration older than this when the loop sees it is not used */
};

static const struct metric lost_leases = {
    .name = "nightshift_lost_leases_total",
    .type = METRIC_COUNTER,
    .help = "Times a worker process had to drop all it ran: row gone, or no beat for 5 s.",
};

static const struct log_context log_beat = {.component = "heartbeat"};

struct heartbeat {
    struct heartbeat_options options;
    char *name;
    char *url;
    pthread_t thread;
    pthread_cond_t wake; /* tells the thread */
    int ring;            /* eventfd: tells the loop */

    pthread_mutex_t lock; /* over all of these */
    struct id boot_id;    /* of the row that stands; zero: none */
    int64_t confirmed_us; /* when the last confirmed beat was sent */
    bool must_renew;      /* the loop gave the boot id up */
    bool is_stopping;
    int used[PRIORITY_COUNT];
    bool is_draining;
    struct id cancels[WORKER_BEAT_CANCELS_MAX];
    int cancel_count;

    /* The loop's own. */
    struct id up_id; /* the boot id that the loop works under; zero: none */
    struct event *on_ring;
    struct event *look;
};

/* --- the thread ------------------------------------------------------------------------------- */

struct beater {
    struct heartbeat *heartbeat;
    struct pg_session *session;
    struct id held; /* our row in the database, as far as we know */
    bool has_failed;
};

static void ring(struct heartbeat *heartbeat)
{
    uint64_t one = 1;

    if (write(heartbeat->ring, &one, sizeof(one)) < 0)
        return; /* it is full: the loop will look anyway */
}

static bool loop_is_turning(const struct heartbeat *heartbeat)
{
    const struct heartbeat_options *options = &heartbeat->options;
    int64_t since_us = clock_monotonic_us() - options->last_turn_us(options->last_turn_arg);

    return since_us < LOOP_ALIVE_MS * US_PER_MS;
}

static void beater_failed(struct beater *beater, const struct err *err)
{
    /* Once per outage: the next attempts come every half second. */
    if (!beater->has_failed)
        log_warn(&log_beat, "no beat: %s", err->message);
    beater->has_failed = true;
    pg_session_close(beater->session);
    beater->session = NULL;
}

static bool beater_connect(struct beater *beater, struct err *err)
{
    if (!beater->session)
        beater->session = worker_session_open(beater->heartbeat->url, err);
    return beater->session != NULL;
}

static bool beater_register(struct beater *beater, struct err *err)
{
    struct heartbeat *heartbeat = beater->heartbeat;
    struct worker_row row = {
        .id = id_make(clock_now_us()),
        .name = heartbeat->name,
        .slots = heartbeat->options.slots,
    };
    int64_t sent_us = clock_monotonic_us();

    if (!worker_register(beater->session, &row, beater->held, err))
        return false;
    beater->held = row.id;
    pthread_mutex_lock(&heartbeat->lock);
    heartbeat->boot_id = row.id;
    heartbeat->confirmed_us = sent_us;
    heartbeat->must_renew = false;
    heartbeat->cancel_count = 0;
    pthread_mutex_unlock(&heartbeat->lock);
    ring(heartbeat);
    return true;
}

static bool beater_beat(struct beater *beater, const int *used, bool is_draining, struct err *err)
{
    struct heartbeat *heartbeat = beater->heartbeat;
    struct worker_beat beat;
    int64_t sent_us = clock_monotonic_us();

    if (!worker_beat(beater->session, beater->held, used, is_draining, &beat, err))
        return false;
    pthread_mutex_lock(&heartbeat->lock);
    if (beat.is_there) {
        heartbeat->confirmed_us = sent_us;
        heartbeat->cancel_count = beat.cancel_count;
        memcpy(heartbeat->cancels, beat.cancels, (size_t)beat.cancel_count * sizeof(struct id));
    } else {
        memset(&heartbeat->boot_id, 0, sizeof(heartbeat->boot_id));
        memset(&beater->held, 0, sizeof(beater->held));
    }
    pthread_mutex_unlock(&heartbeat->lock);
    if (!beat.is_there || beat.cancel_count > 0)
        ring(heartbeat);
    return true;
}

/* One thing that is due: to register, or to beat.  Says in how many ms to come again. */
static int beater_step(struct beater *beater, bool must_renew, const int *used, bool is_draining)
{
    struct err err = {0};
    bool is_registering = must_renew || id_is_zero(beater->held);
    bool ok;

    if (!loop_is_turning(beater->heartbeat))
        return RETRY_MS;
    ok = beater_connect(beater, &err) &&
         (is_registering ? beater_register(beater, &err)
                         : beater_beat(beater, used, is_draining, &err));
    if (!ok) {
        beater_failed(beater, &err);
        return RETRY_MS;
    }
    if (beater->has_failed)
        log_info(&log_beat, "beating again");
    beater->has_failed = false;
    return id_is_zero(beater->held) ? 0 : BEAT_MS;
}

/* Waits, the lock given up, until wait_ms have passed or it is time to stop. */
static void beater_wait(struct heartbeat *heartbeat, int wait_ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (wait_ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    while (!heartbeat->is_stopping)
        if (pthread_cond_timedwait(&heartbeat->wake, &heartbeat->lock, &until) == ETIMEDOUT)
            return;
}

static void beater_goodbye(struct beater *beater)
{
    struct err err = {0};

    if (id_is_zero(beater->held))
        return;
    if (!beater_connect(beater, &err) || !worker_unregister(beater->session, beater->held, &err))
        log_warn(&log_beat, "worker row left behind: %s", err.message);
}

static void *beater_main(void *arg)
{
    struct heartbeat *heartbeat = arg;
    struct beater beater = {.heartbeat = heartbeat};
    int used[PRIORITY_COUNT];

    pthread_mutex_lock(&heartbeat->lock);
    while (!heartbeat->is_stopping) {
        bool must_renew = heartbeat->must_renew;
        bool is_draining = heartbeat->is_draining;
        int wait_ms;

        memcpy(used, heartbeat->used, sizeof(used));
        pthread_mutex_unlock(&heartbeat->lock);
        wait_ms = beater_step(&beater, must_renew, used, is_draining);
        pthread_mutex_lock(&heartbeat->lock);
        beater_wait(heartbeat, wait_ms);
    }
    pthread_mutex_unlock(&heartbeat->lock);
    beater_goodbye(&beater);
    pg_session_close(beater.session);
    return NULL;
}

/* --- the loop --------------------------------------------------------------------------------- */

/* What the thread wrote down, taken in one go. */
struct report {
    struct id boot_id;
    bool is_fresh;
    bool is_usable; /* may the loop begin to work under boot_id? */
    int cancel_count;
    struct id cancels[WORKER_BEAT_CANCELS_MAX];
};

static void report_take(struct heartbeat *heartbeat, struct report *out)
{
    int64_t age_us;

    pthread_mutex_lock(&heartbeat->lock);
    age_us = clock_monotonic_us() - heartbeat->confirmed_us;
    out->boot_id = heartbeat->boot_id;
    out->is_fresh = age_us < LOST_AFTER_MS * US_PER_MS;
    out->is_usable =
        !id_is_zero(out->boot_id) && !heartbeat->must_renew && age_us < RENEW_FRESH_MS * US_PER_MS;
    out->cancel_count = heartbeat->cancel_count;
    memcpy(out->cancels, heartbeat->cancels, (size_t)out->cancel_count * sizeof(struct id));
    heartbeat->cancel_count = 0;
    pthread_mutex_unlock(&heartbeat->lock);
}

/* Whatever the thread still confirms of this boot id, the loop has let go of what ran under it. */
static void lose(struct heartbeat *heartbeat, bool is_gone)
{
    pthread_mutex_lock(&heartbeat->lock);
    if (id_equal(heartbeat->boot_id, heartbeat->up_id))
        heartbeat->must_renew = true;
    pthread_mutex_unlock(&heartbeat->lock);
    memset(&heartbeat->up_id, 0, sizeof(heartbeat->up_id));
    metric_add(&lost_leases, NULL, 1);
    log_warn(&log_beat, "lease lost: %s",
             is_gone ? "the worker's row is gone" : "no beat confirmed for 5 s");
    heartbeat->options.on_lost(heartbeat->options.arg);
}

static void look(struct heartbeat *heartbeat)
{
    struct report report;

    report_take(heartbeat, &report);
    if (!id_is_zero(heartbeat->up_id)) {
        bool is_gone = !id_equal(report.boot_id, heartbeat->up_id);

        if (is_gone || !report.is_fresh) {
            lose(heartbeat, is_gone);
            return;
        }
        for (int i = 0; i < report.cancel_count; i++)
            heartbeat->options.on_cancel(report.cancels[i], heartbeat->options.arg);
        return;
    }
    if (report.is_usable) {
        heartbeat->up_id = report.boot_id;
        heartbeat->options.on_up(report.boot_id, heartbeat->options.arg);
    }
}

static void on_ring(evutil_socket_t fd, short what, void *arg)
{
    uint64_t count;

    (void)what;
    if (read(fd, &count, sizeof(count)) < 0)
        return; /* nothing there: the other event was first */
    look(arg);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    look(arg);
}

/* A monotonic condition, and a thread that leaves the signals to the loop. */
static bool thread_start(struct heartbeat *heartbeat, struct err *err)
{
    pthread_condattr_t attributes;
    sigset_t all, before;
    int code;

    pthread_mutex_init(&heartbeat->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&heartbeat->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&heartbeat->thread, NULL, beater_main, heartbeat);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code == 0 || err_set(err, "start the heartbeat thread: %s", strerror(code));
}

static void heartbeat_free(struct heartbeat *heartbeat)
{
    if (heartbeat->on_ring)
        event_free(heartbeat->on_ring);
    if (heartbeat->look)
        event_free(heartbeat->look);
    if (heartbeat->ring >= 0)
        close(heartbeat->ring);
    free(heartbeat->name);
    free(heartbeat->url);
    free(heartbeat);
}

static bool loop_watch(struct heartbeat *heartbeat, struct event_base *base, struct err *err)
{
    struct timeval period = {.tv_usec = LOOK_MS * 1000};

    heartbeat->ring = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (heartbeat->ring < 0)
        return err_set(err, "make an eventfd: %s", strerror(errno));
    heartbeat->on_ring = event_new(base, heartbeat->ring, EV_READ | EV_PERSIST, on_ring, heartbeat);
    heartbeat->look = event_new(base, -1, EV_PERSIST, on_look, heartbeat);
    if (!heartbeat->on_ring || !heartbeat->look || event_add(heartbeat->on_ring, NULL) != 0 ||
        event_add(heartbeat->look, &period) != 0)
        return err_set(err, "watch the heartbeat: out of memory");
    return true;
}

struct heartbeat *heartbeat_start(struct event_base *base, const struct heartbeat_options *options,
                                  struct err *err)
{
    struct heartbeat *heartbeat = calloc(1, sizeof(*heartbeat));

    if (!heartbeat) {
        err_set(err, "start the heartbeat: out of memory");
        return NULL;
    }
    heartbeat->options = *options;
    heartbeat->ring = -1;
    heartbeat->name = strdup(options->name);
    heartbeat->url = strdup(options->database_url);
    metric_declare(&lost_leases, NULL);
    if (heartbeat->name && heartbeat->url && loop_watch(heartbeat, base, err) &&
        thread_start(heartbeat, err))
        return heartbeat;
    heartbeat_free(heartbeat);
    return NULL;
}

void heartbeat_report(struct heartbeat *heartbeat, const int used[PRIORITY_COUNT], bool is_draining)
{
    pthread_mutex_lock(&heartbeat->lock);
    memcpy(heartbeat->used, used, sizeof(heartbeat->used));
    heartbeat->is_draining = is_draining;
    pthread_mutex_unlock(&heartbeat->lock);
}

void heartbeat_stop(struct heartbeat *heartbeat, int wait_ms)
{
    struct timespec until;

    if (!heartbeat)
        return;
    pthread_mutex_lock(&heartbeat->lock);
    heartbeat->is_stopping = true;
    pthread_cond_signal(&heartbeat->wake);
    pthread_mutex_unlock(&heartbeat->lock);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (wait_ms % 1000) * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    if (pthread_timedjoin_np(heartbeat->thread, NULL, &until) != 0) {
        /* It hangs in a dead connection and may still read all this: left to the process's end. */
        log_warn(&log_beat, "heartbeat thread still busy, left to itself");
        event_del(heartbeat->on_ring);
        event_del(heartbeat->look);
        return;
    }
    heartbeat_free(heartbeat);
}
