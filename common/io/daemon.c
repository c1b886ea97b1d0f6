/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of every daemon, and what its parts may ask it. */
#include "common/io/daemon.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "common/base/dump.h"
#include "common/base/log.h"
#include "common/io/daemon_private.h"
#include "common/io/http_server.h"

enum { EXIT_USAGE = 2 };

enum command { COMMAND_RUN, COMMAND_CHECK, COMMAND_HELP, COMMAND_VERSION, COMMAND_WRONG };

/* --- the command line ------------------------------------------------------------------------- */

static bool wrong(const struct daemon *daemon, const char *what, const char *which)
{
    fprintf(stderr, "%s: %s %s (see --help)\n", daemon->spec->name, what, which);
    return false;
}

static bool add_path(struct daemon *daemon, const char *path)
{
    if (daemon->path_count == CONFIG_FILES_MAX)
        return wrong(daemon, "too many configuration files:", path);
    daemon->paths[daemon->path_count++] = path;
    return true;
}

static bool set_level(struct daemon *daemon, const char *name)
{
    enum log_level level;

    if (!log_level_parse(name, &level))
        return wrong(daemon, "--log-level: expected debug, info, warn or error, got", name);
    daemon->log_level = name;
    return true;
}

/* The value of argument *at when it is `name VALUE` or `name=VALUE`; moves *at on over VALUE. */
static const char *value_of(const char *name, int *at, int argc, char **argv)
{
    size_t len = strlen(name);

    if (strncmp(argv[*at], name, len) != 0)
        return NULL;
    if (argv[*at][len] == '=')
        return argv[*at] + len + 1;
    if (argv[*at][len] || *at + 1 >= argc)
        return NULL;
    return argv[++*at];
}

static bool parse_argument(struct daemon *daemon, int *at, int argc, char **argv,
                           enum command *command)
{
    const char *value, *argument = argv[*at];

    if (strcmp(argument, "--help") == 0) {
        *command = COMMAND_HELP;
        return true;
    }
    if (strcmp(argument, "--version") == 0) {
        *command = COMMAND_VERSION;
        return true;
    }
    if ((value = value_of("--config", at, argc, argv)))
        return add_path(daemon, value);
    if ((value = value_of("--log-level", at, argc, argv)))
        return set_level(daemon, value);
    if ((value = value_of("--check-config", at, argc, argv))) {
        *command = COMMAND_CHECK;
        return add_path(daemon, value);
    }
    return wrong(daemon, "unknown or incomplete argument", argument);
}

static enum command parse_arguments(struct daemon *daemon, int argc, char **argv)
{
    enum command command = COMMAND_RUN;

    for (int at = 1; at < argc && command != COMMAND_HELP; at++)
        if (!parse_argument(daemon, &at, argc, argv, &command))
            return COMMAND_WRONG;
    return command;
}

static bool require(const char *value, const char *name, const char *env, struct err *err)
{
    return value || err_set(err, "%s: is required (or %s in the environment)", name, env);
}

static bool load_to_run(struct daemon *daemon, struct err *err)
{
    const struct daemon_settings *common = &daemon->now.common;

    return daemon_generation_load(daemon, &daemon->now, err) &&
           require(common->database_url, "database_url", "DATABASE_URL", err) &&
           require(common->redis_url, "redis_url", "REDIS_URL", err) &&
           require(common->kafka_brokers, "kafka_brokers", "KAFKA_BROKERS", err);
}

static int run(struct daemon *daemon)
{
    static const char prefix[] = "nightshift-";
    const char *name = daemon->spec->name;
    struct err err = {0};
    int status = 1;

    if (strncmp(name, prefix, sizeof(prefix) - 1) == 0)
        name += sizeof(prefix) - 1;
    log_setup(name, LOG_INFO);
    if (load_to_run(daemon, &err)) {
        daemon_apply_log_level(daemon);
        status = daemon_parent_run(daemon);
    } else {
        log_error(NULL, "configuration: %s", err.message);
    }
    daemon_generation_free(daemon, &daemon->before);
    daemon_generation_free(daemon, &daemon->now);
    return status;
}

int daemon_main(const struct daemon_spec *spec, int argc, char **argv)
{
    struct daemon daemon = {.spec = spec, .metrics_listener = -1};

    dump_forbid(); /* before a secret is read */
    daemon_options_init(&daemon);
    switch (parse_arguments(&daemon, argc, argv)) {
    case COMMAND_RUN:
        return run(&daemon);
    case COMMAND_CHECK:
        return daemon_check_config(&daemon);
    case COMMAND_HELP:
        daemon_print_help(&daemon, stdout);
        return 0;
    case COMMAND_VERSION:
        printf("%s %s\n", spec->name, NIGHTSHIFT_VERSION);
        return 0;
    case COMMAND_WRONG:
        break;
    }
    return EXIT_USAGE;
}

/* --- for the program's parts ------------------------------------------------------------------ */

struct event_base *daemon_base(const struct daemon *daemon)
{
    return daemon->base;
}

const void *daemon_settings(const struct daemon *daemon)
{
    return daemon->now.own;
}

const struct daemon_settings *daemon_common(const struct daemon *daemon)
{
    return &daemon->now.common;
}

const struct config *daemon_config(const struct daemon *daemon)
{
    return daemon->now.config;
}

int daemon_process(const struct daemon *daemon)
{
    return daemon->process;
}

int daemon_process_count(const struct daemon *daemon)
{
    return daemon->process_count;
}

void daemon_set_data(struct daemon *daemon, void *data)
{
    daemon->data = data;
}

void *daemon_data(const struct daemon *daemon)
{
    return daemon->data;
}

int daemon_add_listener(struct daemon *daemon, const char *address, struct err *err)
{
    int port = 0, fd;

    if (daemon->listener_count == DAEMON_LISTENERS_MAX) {
        err_set(err, "listen on %s: over %d listeners", address, DAEMON_LISTENERS_MAX);
        return -1;
    }
    fd = http_listen(address, &port, err);
    if (fd < 0)
        return -1;
    log_info(NULL, "listening on %s (port %d)", address, port);
    daemon->listeners[daemon->listener_count] = fd;
    return daemon->listener_count++;
}

int daemon_listener(const struct daemon *daemon, int index)
{
    assert(index >= 0 && index < daemon->listener_count);
    return daemon->listeners[index];
}

bool daemon_is_draining(const struct daemon *daemon)
{
    return atomic_load(&daemon->is_draining);
}

void daemon_finish(struct daemon *daemon)
{
    daemon->is_finished = true;
    event_base_loopexit(daemon->base, NULL);
}

struct deferred {
    void (*fn)(void *arg);
    void *arg;
};

static void run_deferred(evutil_socket_t fd, short what, void *arg)
{
    struct deferred deferred = *(struct deferred *)arg;

    (void)fd;
    (void)what;
    free(arg);
    deferred.fn(deferred.arg);
}

void daemon_defer(struct event_base *base, void (*fn)(void *arg), void *arg)
{
    static const struct timeval now = {0};
    struct deferred *deferred = malloc(sizeof(*deferred));

    if (deferred) {
        *deferred = (struct deferred){.fn = fn, .arg = arg};
        /* Without a wait it is made active at once, behind what is active already. */
        if (event_base_once(base, -1, EV_TIMEOUT, run_deferred, deferred, &now) == 0)
            return;
    }
    /* Neither calling now nor forgetting would be right. */
    log_error(NULL, "defer: out of memory");
    abort();
}

int64_t daemon_last_tick_us(const struct daemon *daemon)
{
    return atomic_load_explicit(&daemon->last_tick_us, memory_order_relaxed);
}

void daemon_set_ready_check(struct daemon *daemon, bool (*fn)(char *why, size_t size, void *arg),
                            void *arg)
{
    daemon->ready = fn;
    daemon->ready_arg = arg;
}

bool daemon_is_ready(const struct daemon *daemon, char *why, size_t size)
{
    if (daemon_is_draining(daemon)) {
        snprintf(why, size, "draining");
        return false;
    }
    return !daemon->ready || daemon->ready(why, size, daemon->ready_arg);
}
