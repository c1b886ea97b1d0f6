/* SPDX-License-Identifier: Apache-2.0 */
/* What every daemon has: options, a parent that forks and restarts, one loop, signals, drain. */
#ifndef COMMON_IO_DAEMON_H
#define COMMON_IO_DAEMON_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/config.h"
#include "common/base/option.h"

struct event_base;
struct daemon;

enum { DAEMON_LISTENERS_MAX = 8 };

/* A program.  main() is `return daemon_main(&spec, argc, argv)`.
 *
 * daemon_main handles --config FILE (repeatable, later files override), --check-config FILE,
 * --help,
 * --version, --log-level; loads the options; in the parent calls bind (listening sockets only, no
 * client handle), maps the metrics page, forks `processes` children, restarts a child that dies (at
 * once the first time, then with backoff up to 5 s; 10 quick deaths in a row end the parent with
 * 1), forwards TERM, INT and HUP, and exits when the last child has.  Children die with the parent
 * (PR_SET_PDEATHSIG and a parent check) and exit 0 after a drain.  database_url, redis_url and
 * kafka_brokers must be set to run.  Sections of the other programs (worker, providers, prices,
 * ...) are left alone unless an option or known path of this one stands in them.
 *
 * In the child: start builds everything on the loop (false ends the child; stop is then not
 * called); drain (on the first TERM/INT) stops taking work and later calls daemon_finish; a second
 * TERM to the parent ends all children at once with 1, and a child that is still there 15 s after
 * drain_ms is killed; reload (HUP) gets the new configuration, already checked with `check`.  At
 * HUP parent and children read the files again, whole or not at all; only reloadable options change
 * in *settings, the rest of the configuration is the program's to take over in reload.  What it
 * borrowed from the previous configuration lives until the next reload. */
struct daemon_spec {
    const char *name;             /* "nightshift-worker" */
    const char *summary;          /* for --help */
    const struct option *options; /* besides the common ones */
    size_t option_count;
    size_t settings_size;
    const char *const *known; /* configuration paths that are not options ("providers.*") */
    size_t known_count;
    /* Judges the whole configuration; also --check-config, which prints what was understood to out
     * (NULL otherwise).  May be NULL. */
    bool (*check)(const struct config *config, const void *settings, FILE *out, struct err *err);
    bool (*bind)(struct daemon *daemon, struct err *err);  /* parent; may be NULL */
    bool (*start)(struct daemon *daemon, struct err *err); /* child */
    void (*drain)(struct daemon *daemon);
    void (*reload)(struct daemon *daemon, const struct config *config, const void *settings);
    void (*stop)(struct daemon *daemon); /* frees what start built; may be NULL */
};

/* Options of every daemon, in struct daemon_settings, reached by daemon_common(). */
struct daemon_settings {
    char *database_url;
    char *redis_url;
    char *kafka_brokers;
    char *broker_profile; /* "kafka" or "embedded" */
    char *metrics_listen;
    char *log_level;
    int64_t processes; /* 0: one per core */
    int64_t drain_ms;  /* grace on TERM */
};

int daemon_main(const struct daemon_spec *spec, int argc, char **argv);

struct event_base *daemon_base(const struct daemon *daemon);
const void *daemon_settings(const struct daemon *daemon); /* the program's own */
const struct daemon_settings *daemon_common(const struct daemon *daemon);
const struct config *daemon_config(const struct daemon *daemon);
int daemon_process(const struct daemon *daemon); /* 1.. in children, 0 in the parent */
int daemon_process_count(const struct daemon *daemon);
void daemon_set_data(struct daemon *daemon, void *data); /* the program's own struct */
void *daemon_data(const struct daemon *daemon);

/* bind: adds a listening socket; children find it at the same index. */
int daemon_add_listener(struct daemon *daemon, const char *address, struct err *err) MUST_CHECK;
int daemon_listener(const struct daemon *daemon, int index);

bool daemon_is_draining(const struct daemon *daemon);
void daemon_finish(struct daemon *daemon); /* leaves the loop; the process exits 0 */

/* Runs fn(arg) at the end of this turn of the loop: for freeing what may be in use by its own
 * callback. */
void daemon_defer(struct event_base *base, void (*fn)(void *arg), void *arg);

/* When the loop last turned (monotonic us), seen every 250 ms; for the heartbeat thread, too. */
int64_t daemon_last_tick_us(const struct daemon *daemon);

/* Readiness, served with /metrics on the metrics listener as /readyz (and by the producer on its
 * own): fn says false and why.  /healthz answers 200 while the loop turns. */
void daemon_set_ready_check(struct daemon *daemon, bool (*fn)(char *why, size_t size, void *arg),
                            void *arg);
bool daemon_is_ready(const struct daemon *daemon, char *why, size_t size);

#endif
