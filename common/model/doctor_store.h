/* SPDX-License-Identifier: Apache-2.0 */
/* What `nightshift doctor` asks of the database: one look, blocking, changing nothing. */
#ifndef COMMON_MODEL_DOCTOR_STORE_H
#define COMMON_MODEL_DOCTOR_STORE_H

#include <stdint.h>

#include "common/base/err.h"

struct doctor_server {
    int64_t clock_us;              /* the server's */
    int64_t asked_us, answered_us; /* ours, around the question */
    int version;                   /* 150004 */
    bool is_read_only;             /* a standby, or default_transaction_read_only */
    int64_t connections, connections_max;
    char data_directory[512]; /* "" when we may not know */
};

/* Times are ages by the server's clock; -1: never. */
struct doctor_fleet {
    int64_t workers_alive, workers_silent;
    int64_t newest_beat_ms; /* of any worker that is not alive */
    int64_t leader_beat_ms;
    char leader[128];
    int64_t waiting; /* jobs ready to run that no worker has taken */
};

/* False: it cannot be reached or asked, err says why. */
bool doctor_look_server(const char *database_url, struct doctor_server *out,
                        struct err *err) MUST_CHECK;
/* The schema must fit. */
bool doctor_look_fleet(const char *database_url, struct doctor_fleet *out,
                       struct err *err) MUST_CHECK;

#endif
