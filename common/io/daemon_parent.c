/* SPDX-License-Identifier: Apache-2.0 */
/* The parent: binds the listeners, forks the processes, restarts those that die, ends with them. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/daemon_private.h"
#include "common/io/http_server.h"
#include "common/io/metrics.h"

enum {
    QUICK_DEATH_MS = 2000,
    QUICK_DEATHS_MAX = 10,
    RESTART_BASE_MS = 100,
    RESTART_CAP_MS = 5000,
    KILL_AFTER_DRAIN_MS = 15000 /* past drain_ms: a child that hangs is killed */
};

static const struct metric process_deaths = {
    .name = "nightshift_process_deaths_total",
    .type = METRIC_COUNTER,
    .help = "Processes of this daemon that died unasked or had to be killed."};

static const struct metric reload_failures = {.name = "nightshift_reload_failures_total",
                                              .type = METRIC_COUNTER,
                                              .help = "Reloads refused because of a bad "
                                                      "configuration."};

struct child {
    pid_t pid; /* 0: none now */
    int64_t started_us;
    int64_t restart_us; /* when to fork it again */
};

struct parent {
    struct daemon *daemon;
    struct child children[DAEMON_PROCESSES_MAX + 1]; /* from 1 */
    sigset_t signals;
    int quick_deaths; /* in a row */
    bool is_stopping;
    int64_t kill_us; /* when stopping: when patience ends */
    int status;
};

/* Connections need descriptors. */
static void raise_files(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0)
            log_warn(NULL, "raise the limit of open files to %llu: %s",
                     (unsigned long long)files.rlim_max, strerror(errno));
    }
}

static int cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    return CPU_COUNT(&set) < DAEMON_PROCESSES_MAX ? CPU_COUNT(&set) : DAEMON_PROCESSES_MAX;
}

static bool bind_listeners(struct daemon *daemon, struct err *err)
{
    const char *address = daemon->now.common.metrics_listen;
    int port = 0;

    daemon->metrics_listener = http_listen(address, &port, err);
    if (daemon->metrics_listener < 0)
        return err_wrap(err, "metrics_listen");
    log_info(NULL, "metrics on %s (port %d)", address, port);
    return !daemon->spec->bind || daemon->spec->bind(daemon, err);
}

/* --- children --------------------------------------------------------------------------------- */

/* Returns true in the parent; false in the child, whose number is then daemon->process. */
static bool spawn(struct parent *parent, int number)
{
    struct child *child = &parent->children[number];
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        parent->daemon->process = number;
        return false;
    }
    child->started_us = clock_monotonic_us();
    child->pid = pid > 0 ? pid : 0;
    if (pid < 0) {
        log_error(NULL, "fork process %d: %s", number, strerror(errno));
        metric_add(&process_deaths, NULL, 1);
        child->restart_us = child->started_us + RESTART_CAP_MS * US_PER_MS;
    }
    return true;
}

static void signal_children(const struct parent *parent, int signal)
{
    for (int i = 1; i <= parent->daemon->process_count; i++)
        if (parent->children[i].pid)
            kill(parent->children[i].pid, signal);
}

static int living(const struct parent *parent)
{
    int count = 0;

    for (int i = 1; i <= parent->daemon->process_count; i++)
        count += parent->children[i].pid != 0;
    return count;
}

/* Once the processes stop accepting, nobody may: a connection that only the parent's copy of the
 * socket keeps in the backlog would hang. */
static void close_listeners(struct daemon *daemon)
{
    for (int i = 0; i < daemon->listener_count; i++)
        close(daemon->listeners[i]);
    daemon->listener_count = 0;
    close(daemon->metrics_listener);
}

static void stop(struct parent *parent, int status)
{
    int64_t grace_ms = parent->daemon->now.common.drain_ms + KILL_AFTER_DRAIN_MS;

    if (status)
        parent->status = status;
    if (parent->is_stopping) {
        log_warn(NULL, "second request to stop: ending now");
        signal_children(parent, SIGUSR2);
        parent->status = 1;
        return;
    }
    parent->is_stopping = true;
    close_listeners(parent->daemon);
    parent->kill_us = clock_monotonic_us() + grace_ms * US_PER_MS;
    signal_children(parent, SIGTERM);
}

static int64_t restart_wait_ms(int quick_deaths)
{
    int64_t wait = RESTART_BASE_MS;

    if (quick_deaths <= 1)
        return 0;
    for (int i = 2; i < quick_deaths && wait < RESTART_CAP_MS; i++)
        wait *= 2;
    return wait < RESTART_CAP_MS ? wait : RESTART_CAP_MS;
}

static void describe_status(int status, char *out, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(out, size, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(out, size, "exit %d", WEXITSTATUS(status));
}

static void on_death(struct parent *parent, int number, int status)
{
    struct child *child = &parent->children[number];
    int64_t now = clock_monotonic_us(), wait_ms;
    bool no_start = WIFEXITED(status) && WEXITSTATUS(status) == DAEMON_EXIT_NO_START;
    char how[64];

    child->pid = 0;
    metrics_forget(number);
    if (parent->is_stopping) {
        if (status != 0)
            parent->status = 1;
        return;
    }
    if (no_start || now - child->started_us < QUICK_DEATH_MS * US_PER_MS)
        parent->quick_deaths++;
    else
        parent->quick_deaths = 0;
    describe_status(status, how, sizeof(how));
    wait_ms = restart_wait_ms(parent->quick_deaths);
    child->restart_us = now + wait_ms * US_PER_MS;
    metric_add(&process_deaths, NULL, 1);
    log_error(NULL, "process died: number=%d %s restart_in_ms=%lld", number, how,
              (long long)wait_ms);
    if (parent->quick_deaths >= QUICK_DEATHS_MAX) {
        log_error(NULL, "%d quick deaths in a row: giving up", parent->quick_deaths);
        stop(parent, 1);
    }
}

static void reap(struct parent *parent)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int i = 1; i <= parent->daemon->process_count; i++)
            if (parent->children[i].pid == pid)
                on_death(parent, i, status);
}

static void reload(struct parent *parent)
{
    struct err err = {0};

    if (daemon_generation_reload(parent->daemon, &err)) {
        log_info(NULL, "configuration reloaded");
        signal_children(parent, SIGHUP);
        return;
    }
    metric_add(&reload_failures, NULL, 1);
    log_error(NULL, "configuration not reloaded: %s", err.message);
}

/* --- the loop --------------------------------------------------------------------------------- */

/* Forks whatever is due.  False in a fresh child. */
static bool restart_due(struct parent *parent)
{
    int64_t now = clock_monotonic_us();

    for (int i = 1; i <= parent->daemon->process_count; i++) {
        struct child *child = &parent->children[i];

        if (!parent->is_stopping && !child->pid && child->restart_us <= now && !spawn(parent, i))
            return false;
    }
    return true;
}

static int64_t next_deadline_us(const struct parent *parent)
{
    int64_t next = INT64_MAX;

    if (parent->is_stopping)
        return parent->kill_us;
    for (int i = 1; i <= parent->daemon->process_count; i++)
        if (!parent->children[i].pid && parent->children[i].restart_us < next)
            next = parent->children[i].restart_us;
    return next;
}

/* The next signal, or 0 when the next deadline has come. */
static int wait_signal(const struct parent *parent)
{
    int64_t deadline = next_deadline_us(parent), wait_us;
    struct timespec timeout;
    int signal;

    if (deadline == INT64_MAX)
        signal = sigwaitinfo(&parent->signals, NULL);
    else {
        wait_us = deadline - clock_monotonic_us();
        if (wait_us < 0)
            wait_us = 0;
        timeout =
            (struct timespec){.tv_sec = wait_us / US_PER_S, .tv_nsec = (wait_us % US_PER_S) * 1000};
        signal = sigtimedwait(&parent->signals, NULL, &timeout);
    }
    return signal > 0 ? signal : 0;
}

static void on_signal(struct parent *parent, int signal)
{
    if (signal == SIGTERM || signal == SIGINT)
        stop(parent, 0);
    else if (signal == SIGHUP && !parent->is_stopping)
        reload(parent);
}

static void kill_if_late(struct parent *parent)
{
    if (!parent->is_stopping || clock_monotonic_us() < parent->kill_us)
        return;
    log_error(NULL, "killing %d processes that did not end in time", living(parent));
    metric_add(&process_deaths, NULL, living(parent));
    parent->status = 1;
    parent->kill_us = INT64_MAX / 2;
    signal_children(parent, SIGKILL);
}

/* False in a fresh child. */
static bool watch(struct parent *parent)
{
    while (!parent->is_stopping || living(parent) > 0) {
        if (!restart_due(parent))
            return false;
        on_signal(parent, wait_signal(parent));
        reap(parent);
        kill_if_late(parent);
    }
    return true;
}

static void block_signals(struct parent *parent)
{
    sigemptyset(&parent->signals);
    sigaddset(&parent->signals, SIGCHLD);
    sigaddset(&parent->signals, SIGTERM);
    sigaddset(&parent->signals, SIGINT);
    sigaddset(&parent->signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &parent->signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    /* Inherited as ignored (nohup, some shells) they would never be delivered. */
    signal(SIGCHLD, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGINT, SIG_DFL);
}

int daemon_parent_run(struct daemon *daemon)
{
    struct parent parent = {.daemon = daemon};
    pid_t self = getpid();
    struct err err = {0};

    raise_files();
    block_signals(&parent);
    daemon->process_count =
        daemon->now.common.processes ? (int)daemon->now.common.processes : cores();
    if (!metrics_setup(&err) || !bind_listeners(daemon, &err)) {
        log_error(NULL, "start: %s", err.message);
        return 1;
    }
    metric_declare(&process_deaths, NULL);
    metric_declare(&reload_failures, NULL);
    log_info(NULL, "started: version=%s processes=%d", NIGHTSHIFT_VERSION, daemon->process_count);
    if (!watch(&parent)) {
        /* The child: the signals that wait for it come as soon as its loop can hear them. */
        return daemon_child_run(daemon, self);
    }
    log_info(NULL, "ended: status=%d", parent.status);
    return parent.status;
}
