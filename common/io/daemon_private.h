/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the daemon share; for daemon*.c alone. */
#ifndef COMMON_IO_DAEMON_PRIVATE_H
#define COMMON_IO_DAEMON_PRIVATE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "common/io/daemon.h"

enum {
    DAEMON_COMMON_OPTIONS = 8,
    DAEMON_PROCESSES_MAX = 63, /* slots of the metrics page without the parent's */
    DAEMON_EXIT_NO_START = 70  /* a child whose start failed */
};

/* One reading of the configuration. */
struct generation {
    struct config *config; /* NULL: none */
    struct daemon_settings common;
    void *own; /* spec->settings_size bytes */
};

struct health;

struct daemon {
    const struct daemon_spec *spec;
    struct option common_options[DAEMON_COMMON_OPTIONS];
    const char *paths[CONFIG_FILES_MAX];
    size_t path_count;
    const char *log_level; /* of the command line; NULL: the option's */
    struct generation now;
    struct generation before; /* what now replaced: still borrowed here and there until the next */

    int listeners[DAEMON_LISTENERS_MAX];
    int listener_count;
    int metrics_listener;
    int process; /* 0 in the parent */
    int process_count;

    /* In a child. */
    struct event_base *base;
    struct event *signals[3]; /* TERM, INT, HUP */
    struct event *tick;
    struct health *health;
    int64_t tick_due_us;
    atomic_int_fast64_t last_tick_us;
    atomic_bool is_draining;
    bool is_finished;
    bool (*ready)(char *why, size_t size, void *arg);
    void *ready_arg;
    void *data;
};

/* daemon_config.c: reads and judges everything into *out, which is zeroed first. */
bool daemon_generation_load(const struct daemon *daemon, struct generation *out,
                            struct err *err) MUST_CHECK;
void daemon_generation_free(const struct daemon *daemon, struct generation *generation);
/* Reads again, whole or not at all; takes over what is reloadable.  The parent logs the difference.
 */
bool daemon_generation_reload(struct daemon *daemon, struct err *err) MUST_CHECK;
void daemon_apply_log_level(const struct daemon *daemon);
void daemon_options_init(struct daemon *daemon);
void daemon_print_help(const struct daemon *daemon, FILE *out);
/* --check-config: the exit status. */
int daemon_check_config(struct daemon *daemon);

/* daemon_parent.c: binds, forks and watches; the exit status.  In a child it runs the child and
 * returns the child's status. */
int daemon_parent_run(struct daemon *daemon);

/* daemon_child.c: the life of a child after the fork. */
int daemon_child_run(struct daemon *daemon, pid_t parent);

#endif
