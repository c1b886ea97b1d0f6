/* SPDX-License-Identifier: Apache-2.0 */
/* `nightshift doctor`: all checks at once, each with a deadline; causes and remedies. */
#include "producer/cli/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "common/base/buf.h"
#include "common/base/config.h"
#include "common/base/crypto.h"
#include "common/base/option.h"
#include "common/base/str.h"
#include "common/model/settings.h"
#include "producer/cli/api.h"
#include "producer/cli/commands.h"

static const char usual_config[] = "/etc/nightshift/nightshift.yaml";

static const struct check table[] = {
    {.name = "config",
     .run = doctor_check_config,
     .frozen_remedy = "reading it takes so long: is it on a network file system?"},
    {.name = "producer",
     .run = doctor_check_producer,
     .frozen_remedy = "the producer is frozen or overloaded: look at its log, restart "
                      "nightshift-producer"},
    {.name = "postgres",
     .run = doctor_check_postgres,
     .frozen_remedy = "Postgres takes connections but does not answer: is it stopped (kill -CONT), "
                      "out of disk, or waiting for locks?  Look at its log; restart it"},
    {.name = "schema", .run = doctor_check_schema},
    {.name = "redis",
     .run = doctor_check_redis,
     .frozen_remedy = "Redis does not answer: is it stopped, or busy with a slow command?"},
    {.name = "kafka",
     .run = doctor_check_kafka,
     .frozen_remedy = "Kafka does not answer: is the broker stopped?  Look at its log; restart it"},
    {.name = "workers", .run = doctor_check_workers},
    {.name = "scheduler", .run = doctor_check_scheduler},
    {.name = "providers",
     .run = doctor_check_providers,
     .frozen_remedy = "look the names up by hand: does the resolver of this machine answer?"},
    {.name = "clock", .run = doctor_check_clock},
    {.name = "disk", .run = doctor_check_disk},
};
enum { CHECKS = sizeof(table) / sizeof(table[0]) };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* --- findings --------------------------------------------------------------------------------- */

static void add(struct check *check, enum finding_state state, const char *fmt, va_list args)
    PRINTF_LIKE(3, 0);

static void add(struct check *check, enum finding_state state, const char *fmt, va_list args)
{
    struct finding *finding;
    char text[2 * FINDING_TEXT_MAX];
    char *newline;

    vsnprintf(text, sizeof(text), fmt, args);
    newline = strchr(text, '\n');
    if (newline)
        *newline = '\0';
    pthread_mutex_lock(&lock);
    if (check->count < FINDINGS_MAX && !check->is_given_up) {
        finding = &check->findings[check->count++];
        finding->state = state;
        snprintf(finding->text, sizeof(finding->text), "%.*s", FINDING_TEXT_MAX - 1, text);
        snprintf(finding->remedy, sizeof(finding->remedy), "%.*s", FINDING_TEXT_MAX - 1,
                 newline ? newline + 1 : "");
    }
    pthread_mutex_unlock(&lock);
}

void check_ok(struct check *check, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    add(check, FINDING_OK, fmt, args);
    va_end(args);
}

void check_skip(struct check *check, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    add(check, FINDING_SKIPPED, fmt, args);
    va_end(args);
}

void check_warn(struct check *check, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    add(check, FINDING_WARN, fmt, args);
    va_end(args);
}

void check_bad(struct check *check, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    add(check, FINDING_BAD, fmt, args);
    va_end(args);
}

/* --- what is looked at ------------------------------------------------------------------------ */

struct addresses {
    char *database_url, *redis_url, *kafka_brokers, *broker_profile;
};

/* As the daemons read them (common/io/daemon_config.c). */
static const struct option address_options[] = {
    {.name = "database_url",
     .type = OPTION_SECRET,
     .offset = offsetof(struct addresses, database_url),
     .env = "DATABASE_URL"},
    {.name = "redis_url",
     .type = OPTION_SECRET,
     .offset = offsetof(struct addresses, redis_url),
     .env = "REDIS_URL"},
    {.name = "kafka_brokers",
     .type = OPTION_STRING,
     .offset = offsetof(struct addresses, kafka_brokers),
     .env = "KAFKA_BROKERS"},
    {.name = "broker_profile",
     .type = OPTION_STRING,
     .offset = offsetof(struct addresses, broker_profile),
     .fallback = "kafka",
     .env = "BROKER_PROFILE"},
};
enum { ADDRESS_OPTIONS = sizeof(address_options) / sizeof(address_options[0]) };

static void take_addresses(struct doctor *doctor)
{
    struct config *config = doctor->config ? doctor->config : config_empty();
    struct addresses addresses = {0};
    struct err err = {0};

    if (options_load(address_options, ADDRESS_OPTIONS, config, &addresses, &err)) {
        doctor->database_url = addresses.database_url;
        doctor->redis_url = addresses.redis_url;
        doctor->kafka_brokers = addresses.kafka_brokers;
        doctor->broker_profile = addresses.broker_profile;
    } else if (!*doctor->config_err.message) {
        doctor->config_err = err;
    }
    if (!doctor->config)
        config_free(config);
}

/* Reads the configuration as far as it can be read: what is broken is the config check's to tell,
 * and what is there is looked at all the same. */
static void doctor_init(struct doctor *doctor, struct cli *cli, const char **paths)
{
    const char *path;

    doctor->cli = cli;
    doctor->calls_providers = !cli_flag(cli, "no-providers");
    doctor->config_paths = paths;
    for (int i = 0; (path = cli_option_at(cli, "config", i)) && i < CONFIG_FILES_MAX; i++)
        paths[doctor->config_count++] = path;
    if (doctor->config_count == 0 && access(usual_config, R_OK) == 0)
        paths[doctor->config_count++] = usual_config;
    if (doctor->config_count > 0)
        doctor->config = config_load(paths, (size_t)doctor->config_count, &doctor->config_err);
    if (doctor->config)
        doctor->settings = settings_load(doctor->config, &doctor->config_err);
    take_addresses(doctor);
}

static void free_secret(char *text)
{
    if (text)
        crypto_wipe(text, strlen(text));
    free(text);
}

static void doctor_release(struct doctor *doctor)
{
    settings_unref(doctor->settings);
    config_free(doctor->config);
    free_secret(doctor->database_url);
    free_secret(doctor->redis_url);
    free(doctor->kafka_brokers);
    free(doctor->broker_profile);
}

/* --- running ---------------------------------------------------------------------------------- */

static void *run_check(void *arg)
{
    struct check *check = arg;

    check->run(check->doctor, check);
    pthread_mutex_lock(&lock);
    check->is_over = true;
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* False: it did not come back.  It keeps what it has in hand, for as long as the program lives. */
static bool await_check(struct check *check, const struct timespec *deadline)
{
    bool is_over;

    if (check->is_running && pthread_timedjoin_np(check->thread, NULL, deadline) == 0)
        return true;
    pthread_mutex_lock(&lock);
    is_over = check->is_over;
    pthread_mutex_unlock(&lock);
    if (!is_over) {
        if (check->frozen_remedy)
            check_bad(check, "no answer within %d s\n%s", DOCTOR_PATIENCE_MS / 1000,
                      check->frozen_remedy);
        else
            check_skip(check, "Postgres cannot be asked");
        pthread_mutex_lock(&lock);
        check->is_given_up = true; /* what it may yet find comes too late */
        pthread_mutex_unlock(&lock);
    }
    return is_over;
}

static bool run_all(const struct doctor *doctor, struct check checks[CHECKS])
{
    struct timespec deadline;
    bool is_whole = true;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += DOCTOR_PATIENCE_MS / 1000;
    memcpy(checks, table, sizeof(table));
    for (int i = 0; i < CHECKS; i++) {
        checks[i].doctor = doctor;
        checks[i].findings = xcalloc(FINDINGS_MAX, sizeof(struct finding));
        checks[i].is_running = pthread_create(&checks[i].thread, NULL, run_check, &checks[i]) == 0;
    }
    for (int i = 0; i < CHECKS; i++)
        is_whole &= await_check(&checks[i], &deadline);
    return is_whole;
}

/* --- the report ------------------------------------------------------------------------------- */

static const char *const state_names[] = {"ok", "warning", "bad", "skipped"};

static void print_json(const struct check *checks, bool is_well)
{
    json_t *rows = json_array(), *report;

    for (int i = 0; i < CHECKS; i++)
        for (int k = 0; k < checks[i].count; k++) {
            const struct finding *finding = &checks[i].findings[k];

            json_array_append_new(rows,
                                  json_pack("{s:s,s:s,s:s,s:s?}", "check", checks[i].name, "state",
                                            state_names[finding->state], "text", finding->text,
                                            "remedy", *finding->remedy ? finding->remedy : NULL));
        }
    report = json_pack("{s:b,s:o}", "ok", (int)is_well, "checks", rows);
    json_dumpf(report, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(report);
}

static void print_finding(const struct output *out, const char *name, const struct finding *finding)
{
    static const enum output_style styles[] = {STYLE_GOOD, STYLE_WARN, STYLE_BAD, STYLE_DIM};
    static const char *const marks[] = {"\xe2\x9c\x93", "!", "\xe2\x9c\x97", "-"};
    static const char *const words[] = {"ok", "!!", "XX", "--"};
    struct buf text;

    buf_init(&text, 16 * 1024);
    output_escape(&text, finding->text, strlen(finding->text), true);
    printf("%s%s%s %-9s  %s\n", output_style(out, styles[finding->state]),
           out->is_utf8 ? marks[finding->state] : words[finding->state],
           output_style(out, STYLE_PLAIN), name, text.len ? text.data : "");
    buf_clear(&text);
    output_escape(&text, finding->remedy, strlen(finding->remedy), true);
    if (text.len)
        printf("  %-9s  %s %s\n", "", out->is_utf8 ? "\xe2\x86\x92" : "->", text.data);
    buf_release(&text);
}

static int report(const struct cli *cli, const struct check *checks)
{
    int bad = 0, warnings = 0;

    for (int i = 0; i < CHECKS; i++)
        for (int k = 0; k < checks[i].count; k++) {
            bad += checks[i].findings[k].state == FINDING_BAD;
            warnings += checks[i].findings[k].state == FINDING_WARN;
        }
    if (cli->out.is_json) {
        print_json(checks, bad == 0);
        return bad ? CLI_FAILED : CLI_DONE;
    }
    for (int i = 0; i < CHECKS; i++)
        for (int k = 0; k < checks[i].count; k++)
            print_finding(&cli->out, checks[i].name, &checks[i].findings[k]);
    if (bad + warnings == 0)
        puts("all is well");
    else
        printf("%d wrong, %d to look at\n", bad, warnings);
    return bad ? CLI_FAILED : CLI_DONE;
}

int doctor_run(struct cli *cli)
{
    static struct doctor doctor; /* outlives this call when a check does not come back */
    static struct check checks[CHECKS];
    static const char *paths[CONFIG_FILES_MAX];
    int code;

    if (!api_of(cli)) /* starts libcurl before there are threads */
        return CLI_FAILED;
    doctor_init(&doctor, cli, paths);
    if (!run_all(&doctor, checks)) {
        code = report(cli, checks);
        output_flush();
        _exit(code);
    }
    code = report(cli, checks);
    for (int i = 0; i < CHECKS; i++)
        free(checks[i].findings);
    doctor_release(&doctor);
    return code;
}
