/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of admission share. */
#ifndef COMMON_MODEL_ADMISSION_PRIVATE_H
#define COMMON_MODEL_ADMISSION_PRIVATE_H

#include "common/model/admission.h"
#include "common/model/script.h"

#include <sys/queue.h>

struct admission_local;
struct intake_ask;
struct map;
struct metric;
struct settle;

TAILQ_HEAD(ask_list, admission_ask);
TAILQ_HEAD(intake_list, intake_ask);
TAILQ_HEAD(settle_list, settle);

struct admission {
    struct event_base *base;
    struct redis *redis;
    int workers;
    struct admission_local *local;
    struct ask_list asks;
    struct intake_list intakes;
    struct settle_list waiting; /* settlements to be said (again) at the next tick */
    struct settle_list sent;
    size_t settle_count; /* of both lists */
    bool is_refused;     /* the last one got an error, or nothing */
    struct map *undoing; /* those that take back, by kind and name */
    struct event *tick;
};

/* Settlements: admission_settle.c. */
void admission_settles_init(struct admission *admission);
void admission_settles_release(struct admission *admission);
/* Takes a reservation back that this process made, or may have made. */
void admission_undo(struct admission *admission, char kind, const char *owner, const char *name,
                    unsigned parts);

bool admission_is_undoing(const struct admission *admission, const char *name);

void admission_count_shadows(unsigned shadows);

/* admission_intake.c: all are told that Redis is away, from inside. */
void admission_intakes_release(struct admission *admission);

#endif
