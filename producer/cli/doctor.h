/* SPDX-License-Identifier: Apache-2.0 */
/* The doctor's checks: each looks at one part and finds what is wrong, and what to do about it. */
#ifndef PRODUCER_CLI_DOCTOR_H
#define PRODUCER_CLI_DOCTOR_H

#include <pthread.h>
#include <stdint.h>

#include "common/base/err.h"

struct cli;
struct config;
struct settings;
struct statvfs;

/* What the checks look at; nobody changes it while they run. */
struct doctor {
    const struct cli *cli;
    const char *const *config_paths;
    int config_count;
    struct config *config;     /* NULL: none was given, or it is broken */
    struct settings *settings; /* providers and routes; NULL: none */
    struct err config_err;     /* why config or settings are missing */
    char *database_url, *redis_url, *kafka_brokers, *broker_profile; /* NULL: not known */
    bool calls_providers;
};

enum finding_state { FINDING_OK, FINDING_WARN, FINDING_BAD, FINDING_SKIPPED };

enum { FINDING_TEXT_MAX = 768, FINDINGS_MAX = 300, DOCTOR_PATIENCE_MS = 8000 };

struct finding {
    enum finding_state state;
    char text[FINDING_TEXT_MAX];   /* what is, or what is wrong and why */
    char remedy[FINDING_TEXT_MAX]; /* what to do; "" when all is well */
};

struct check {
    const char *name;
    void (*run)(const struct doctor *doctor, struct check *check);
    const char *frozen_remedy; /* when it does not come back in time; NULL: that was Postgres */
    struct finding *findings;
    int count;
    const struct doctor *doctor;
    pthread_t thread;
    bool is_running, is_over, is_given_up;
};

/* Findings of the check that runs; the texts are formats. */
void check_ok(struct check *check, const char *fmt, ...) PRINTF_LIKE(2, 3);
void check_skip(struct check *check, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* text and remedy apart by a newline. */
void check_warn(struct check *check, const char *fmt, ...) PRINTF_LIKE(2, 3);
void check_bad(struct check *check, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* doctor_database.c */
void doctor_check_postgres(const struct doctor *doctor, struct check *check);
void doctor_check_schema(const struct doctor *doctor, struct check *check);
void doctor_check_workers(const struct doctor *doctor, struct check *check);
void doctor_check_scheduler(const struct doctor *doctor, struct check *check);
/* doctor_net.c */
void doctor_check_redis(const struct doctor *doctor, struct check *check);
void doctor_check_kafka(const struct doctor *doctor, struct check *check);
/* doctor_http.c */
void doctor_check_producer(const struct doctor *doctor, struct check *check);
void doctor_check_providers(const struct doctor *doctor, struct check *check);
/* doctor_host.c */
void doctor_check_config(const struct doctor *doctor, struct check *check);
void doctor_check_clock(const struct doctor *doctor, struct check *check);
void doctor_check_disk(const struct doctor *doctor, struct check *check);
/* Of a disk (statvfs) that holds what, at path.  True: it is full or filling up, which was told. */
bool doctor_judge_space(struct check *check, const char *what, const char *path,
                        const struct statvfs *disk) MUST_CHECK;

/* Can a TCP connection be made?  False: err says why not. */
bool doctor_connect(const char *host, int port, int timeout_ms, struct err *err) MUST_CHECK;

#endif
