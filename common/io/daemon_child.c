/* SPDX-License-Identifier: Apache-2.0 */
/* A child: one loop with signals, the tick that measures its lag, health, and the program's parts.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/daemon_private.h"
#include "common/io/health.h"
#include "common/io/metrics.h"

enum { TICK_MS = 250 };

static const struct metric loop_lag = {.name = "nightshift_loop_lag_seconds",
                                       .type = METRIC_HISTOGRAM,
                                       .help = "How late a timer of the event loop ran."};

static void tick_schedule(struct daemon *daemon)
{
    static const struct timeval period = {.tv_usec = TICK_MS * 1000};

    daemon->tick_due_us = clock_monotonic_us() + TICK_MS * US_PER_MS;
    event_add(daemon->tick, &period);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct daemon *daemon = arg;
    int64_t now = clock_monotonic_us();

    (void)fd;
    (void)what;
    atomic_store_explicit(&daemon->last_tick_us, now, memory_order_relaxed);
    metric_observe_us(&loop_lag, NULL, now - daemon->tick_due_us);
    tick_schedule(daemon);
}

/* The parent asks; a process group or a service manager may ask too, at the same time, so being
 * asked twice means nothing here (the parent ends the impatient case with SIGUSR2). */
static void on_drain(evutil_socket_t signal, short what, void *arg)
{
    struct daemon *daemon = arg;

    (void)signal;
    (void)what;
    if (atomic_exchange(&daemon->is_draining, true))
        return;
    log_info(NULL, "draining: drain_ms=%lld", (long long)daemon->now.common.drain_ms);
    if (daemon->spec->drain)
        daemon->spec->drain(daemon);
    else
        daemon_finish(daemon);
}

static void on_reload(evutil_socket_t signal, short what, void *arg)
{
    struct daemon *daemon = arg;
    struct err err = {0};

    (void)signal;
    (void)what;
    if (atomic_load(&daemon->is_draining))
        return;
    if (!daemon_generation_reload(daemon, &err)) {
        log_error(NULL, "configuration not reloaded: %s", err.message);
        return; /* counted by the parent, which read the same files */
    }
    if (daemon->spec->reload)
        daemon->spec->reload(daemon, daemon->now.config, daemon->now.own);
    log_debug(NULL, "configuration reloaded");
}

static void on_end_now(int signal)
{
    (void)signal;
    _exit(1);
}

/* From here on the parent's death is ours; it may have died before we said so. */
static bool follow(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return getppid() == parent;
}

static bool loop_start(struct daemon *daemon, struct err *err)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    static const event_callback_fn callbacks[] = {on_drain, on_drain, on_reload};
    sigset_t none;

    daemon->base = event_base_new();
    if (!daemon->base)
        return err_set(err, "make an event loop: out of memory or descriptors");
    for (int i = 0; i < 3; i++) {
        daemon->signals[i] = evsignal_new(daemon->base, numbers[i], callbacks[i], daemon);
        if (!daemon->signals[i] || event_add(daemon->signals[i], NULL) != 0)
            return err_set(err, "watch signal %d: out of memory", numbers[i]);
    }
    daemon->tick = evtimer_new(daemon->base, on_tick, daemon);
    if (!daemon->tick)
        return err_set(err, "make a timer: out of memory");
    atomic_store(&daemon->last_tick_us, clock_monotonic_us());
    tick_schedule(daemon);
    signal(SIGUSR2, on_end_now);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return true;
}

/* libevent gives the signals their default action back, and the parent's TERM may come when the
 * group's has long been obeyed: it must not look like a death.  It stays pending for good. */
static void deafen(void)
{
    sigset_t all;

    sigfillset(&all);
    sigdelset(&all, SIGUSR2);
    sigprocmask(SIG_BLOCK, &all, NULL);
}

static void loop_stop(struct daemon *daemon)
{
    deafen();
    health_free(daemon->health);
    for (int i = 0; i < 3; i++)
        if (daemon->signals[i])
            event_free(daemon->signals[i]);
    if (daemon->tick)
        event_free(daemon->tick);
    if (!daemon->base)
        return;
    /* What stop and health put off with daemon_defer. */
    event_base_loop(daemon->base, EVLOOP_NONBLOCK);
    event_base_free(daemon->base);
}

static bool start(struct daemon *daemon, struct err *err)
{
    if (!loop_start(daemon, err))
        return false;
    daemon->health = health_new(daemon, daemon->metrics_listener, err);
    return daemon->health && daemon->spec->start(daemon, err);
}

int daemon_child_run(struct daemon *daemon, pid_t parent)
{
    struct err err = {0};
    bool ok;

    if (!follow(parent))
        return 1;
    metrics_attach(daemon->process);
    metric_declare(&loop_lag, NULL);
    ok = start(daemon, &err);
    if (ok) {
        log_info(NULL, "process started: number=%d", daemon->process);
        event_base_dispatch(daemon->base);
        ok = daemon->is_finished;
        if (!ok)
            err_set(&err, "the event loop ended by itself");
    }
    if (!ok)
        log_error(NULL, "process %d: %s", daemon->process, err.message);
    if (daemon->is_finished && daemon->spec->stop)
        daemon->spec->stop(daemon);
    loop_stop(daemon);
    return ok ? 0 : DAEMON_EXIT_NO_START;
}
