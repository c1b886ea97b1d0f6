/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon's configuration: the common options, reading it all, and reading it again on HUP. */
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/daemon_private.h"
#include "common/io/http_server.h"

#define FIELD(member) offsetof(struct daemon_settings, member)

static const struct option common_options[DAEMON_COMMON_OPTIONS] = {
    {.name = "database_url",
     .type = OPTION_SECRET,
     .offset = FIELD(database_url),
     .env = "DATABASE_URL",
     .help = "Postgres, as postgresql://user:password@host:port/database."},
    {.name = "redis_url",
     .type = OPTION_SECRET,
     .offset = FIELD(redis_url),
     .env = "REDIS_URL",
     .help = "Redis, as redis://[user:password@]host:port[/db] or unix:///path."},
    {.name = "kafka_brokers",
     .type = OPTION_STRING,
     .offset = FIELD(kafka_brokers),
     .env = "KAFKA_BROKERS",
     .help = "Kafka bootstrap servers, as host:port,host:port."},
    {.name = "broker_profile",
     .type = OPTION_STRING,
     .offset = FIELD(broker_profile),
     .fallback = "kafka",
     .env = "BROKER_PROFILE",
     .help = "kafka, or embedded for the in-memory broker of the one-machine stack."},
    {.name = "metrics_listen",
     .type = OPTION_STRING,
     .offset = FIELD(metrics_listen),
     .fallback = "127.0.0.1:0",
     .env = "METRICS_LISTEN",
     .help = "Where /metrics, /healthz and /readyz are served."},
    {.name = "log_level",
     .type = OPTION_STRING,
     .offset = FIELD(log_level),
     .fallback = "info",
     .env = "LOG_LEVEL",
     .is_reloadable = true,
     .help = "debug, info, warn or error."},
    {.name = "processes",
     .type = OPTION_INT,
     .offset = FIELD(processes),
     .fallback = "0",
     .min = 0,
     .max = DAEMON_PROCESSES_MAX,
     .help = "Processes to fork; 0: one per core."},
    {.name = "drain_ms",
     .type = OPTION_INT,
     .offset = FIELD(drain_ms),
     .fallback = "30000",
     .unit = "ms",
     .min = 0,
     .max = 3600000,
     .is_reloadable = true,
     .help = "After SIGTERM, how long running work may take to finish before it is handed back."},
};

/* One configuration file may serve all programs: each leaves the others' sections alone. */
static const char *const shared_sections[] = {"producer.*",  "worker.*",   "scheduler.*",
                                              "providers.*", "routes.*",   "prices.*",
                                              "secrets.*",   "webhooks.*", "identity_providers.*"};

enum { SHARED_SECTIONS = sizeof(shared_sections) / sizeof(shared_sections[0]) };

static const struct {
    const char *program, *listen;
} metrics_listeners[] = {
    {"nightshift-producer", "127.0.0.1:9101"},
    {"nightshift-worker", "127.0.0.1:9102"},
    {"nightshift-scheduler", "127.0.0.1:9103"},
};

void daemon_options_init(struct daemon *daemon)
{
    memcpy(daemon->common_options, common_options, sizeof(common_options));
    for (size_t i = 0; i < sizeof(metrics_listeners) / sizeof(metrics_listeners[0]); i++) {
        if (strcmp(metrics_listeners[i].program, daemon->spec->name) != 0)
            continue;
        for (int k = 0; k < DAEMON_COMMON_OPTIONS; k++)
            if (daemon->common_options[k].offset == FIELD(metrics_listen))
                daemon->common_options[k].fallback = metrics_listeners[i].listen;
    }
}

void daemon_print_help(const struct daemon *daemon, FILE *out)
{
    const struct daemon_spec *spec = daemon->spec;

    fprintf(out,
            "%s: %s\n\n"
            "Usage: %s [--config FILE]... [--log-level LEVEL]\n"
            "       %s --check-config FILE\n\n"
            "  --config FILE        YAML; several are laid over each other in order\n"
            "  --check-config FILE  print what was understood, or what is wrong, and exit\n"
            "  --log-level LEVEL    debug, info, warn or error; over the configuration's\n"
            "  --help, --version\n\n"
            "Options of the configuration file:\n",
            spec->name, spec->summary, spec->name, spec->name);
    options_print_help(daemon->common_options, DAEMON_COMMON_OPTIONS, out);
    options_print_help(spec->options, spec->option_count, out);
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool one_of(const struct config *config, const char *name, const char *value,
                   const char *const *choices, const char *expected, struct err *err)
{
    for (; *choices; choices++)
        if (strcmp(value, *choices) == 0)
            return true;
    return err_set(err, "%s: %s: expected %s, got \"%s\"", config_where(config, name), name,
                   expected, value);
}

static bool check_common(const struct generation *generation, struct err *err)
{
    static const char *const profiles[] = {"kafka", "embedded", NULL};
    static const char *const levels[] = {"debug", "info", "warn", "error", NULL};

    if (!http_listen_check(generation->common.metrics_listen, err))
        return err_wrap(err, "%s: metrics_listen",
                        config_where(generation->config, "metrics_listen"));
    return one_of(generation->config, "broker_profile", generation->common.broker_profile, profiles,
                  "kafka or embedded", err) &&
           one_of(generation->config, "log_level", generation->common.log_level, levels,
                  "debug, info, warn or error", err);
}

/* Does the program itself name options or paths in this section ("worker.*")? */
static bool is_own_section(const struct daemon_spec *spec, const char *section)
{
    size_t len = strlen(section) - 1; /* with the dot */

    for (size_t i = 0; i < spec->option_count; i++)
        if (strncmp(spec->options[i].name, section, len) == 0)
            return true;
    for (size_t i = 0; i < spec->known_count; i++)
        if (strncmp(spec->known[i], section, len) == 0)
            return true;
    return false;
}

static bool check_unknown(const struct daemon *daemon, const struct config *config, struct err *err)
{
    const struct daemon_spec *spec = daemon->spec;
    size_t count = 0;
    const char **known =
        xcalloc(DAEMON_COMMON_OPTIONS + SHARED_SECTIONS + spec->option_count + spec->known_count,
                sizeof(const char *));
    bool ok;

    for (size_t i = 0; i < DAEMON_COMMON_OPTIONS; i++)
        known[count++] = daemon->common_options[i].name;
    for (size_t i = 0; i < spec->option_count; i++)
        known[count++] = spec->options[i].name;
    for (size_t i = 0; i < spec->known_count; i++)
        known[count++] = spec->known[i];
    for (size_t i = 0; i < SHARED_SECTIONS; i++)
        if (!is_own_section(spec, shared_sections[i]))
            known[count++] = shared_sections[i];
    ok = config_check_unknown(config, known, count, err);
    free(known);
    return ok;
}

static bool fill(const struct daemon *daemon, struct generation *out, struct err *err)
{
    const struct daemon_spec *spec = daemon->spec;

    return options_load(daemon->common_options, DAEMON_COMMON_OPTIONS, out->config, &out->common,
                        err) &&
           options_load(spec->options, spec->option_count, out->config, out->own, err) &&
           check_common(out, err) && check_unknown(daemon, out->config, err);
}

void daemon_generation_free(const struct daemon *daemon, struct generation *generation)
{
    if (!generation->config)
        return;
    options_release(daemon->common_options, DAEMON_COMMON_OPTIONS, &generation->common);
    options_release(daemon->spec->options, daemon->spec->option_count, generation->own);
    free(generation->own);
    config_free(generation->config);
    memset(generation, 0, sizeof(*generation));
}

static bool load(const struct daemon *daemon, struct generation *out, FILE *print, struct err *err)
{
    const struct daemon_spec *spec = daemon->spec;

    memset(out, 0, sizeof(*out));
    out->config = config_load(daemon->paths, daemon->path_count, err);
    if (!out->config)
        return false;
    out->own = xcalloc(1, spec->settings_size + 1);
    if (fill(daemon, out, err)) {
        if (print) {
            options_print(daemon->common_options, DAEMON_COMMON_OPTIONS, &out->common, print);
            options_print(spec->options, spec->option_count, out->own, print);
        }
        if (!spec->check || spec->check(out->config, out->own, print, err))
            return true;
    }
    daemon_generation_free(daemon, out);
    return false;
}

bool daemon_generation_load(const struct daemon *daemon, struct generation *out, struct err *err)
{
    return load(daemon, out, NULL, err);
}

int daemon_check_config(struct daemon *daemon)
{
    struct generation generation;
    struct err err = {0};

    if (!load(daemon, &generation, stdout, &err)) {
        fflush(stdout);
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    daemon_generation_free(daemon, &generation);
    return fflush(stdout) == 0 ? 0 : 1;
}

void daemon_apply_log_level(const struct daemon *daemon)
{
    const char *name = daemon->log_level ? daemon->log_level : daemon->now.common.log_level;
    enum log_level level;

    if (log_level_parse(name, &level))
        log_set_level(level);
}

/* --- reading again ---------------------------------------------------------------------------- */

static void on_changed(const struct option *option, const char *before, const char *after,
                       void *arg)
{
    const struct daemon *daemon = arg;

    if (daemon->process != 0)
        return; /* the parent tells it once for all */
    if (option->is_reloadable)
        log_info(NULL, "option changed: %s from \"%s\" to \"%s\"", option->name, before, after);
    else
        log_warn(NULL, "option not changed: %s from \"%s\" to \"%s\" needs a restart", option->name,
                 before, after);
}

bool daemon_generation_reload(struct daemon *daemon, struct err *err)
{
    struct generation fresh;
    struct config *config;

    if (!load(daemon, &fresh, NULL, err))
        return false;
    options_reload(daemon->common_options, DAEMON_COMMON_OPTIONS, &daemon->now.common,
                   &fresh.common, on_changed, daemon);
    options_reload(daemon->spec->options, daemon->spec->option_count, daemon->now.own, fresh.own,
                   on_changed, daemon);
    /* fresh now holds the old values and takes the old file along: both may still be borrowed by
     * the program until it has switched over, so they live for one generation more. */
    config = daemon->now.config;
    daemon->now.config = fresh.config;
    fresh.config = config;
    daemon_generation_free(daemon, &daemon->before);
    daemon->before = fresh;
    daemon_apply_log_level(daemon);
    return true;
}
