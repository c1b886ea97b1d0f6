/* SPDX-License-Identifier: Apache-2.0 */
/* What a job is: its states, priorities, limits, and the struct that is submitted. */
#ifndef COMMON_MODEL_JOB_H
#define COMMON_MODEL_JOB_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"

enum priority { PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_LOW, PRIORITY_COUNT };

const char *priority_name(enum priority priority); /* "high" */
bool priority_parse(const char *name, enum priority *out) MUST_CHECK;

enum job_state {
    JOB_QUEUED,  /* a row in queue */
    JOB_RUNNING, /* a row in runs */
    JOB_SUCCEEDED,
    JOB_FAILED,
    JOB_CANCELLED,
    JOB_EXPIRED, /* terminal: jobs.state, for ever */
    JOB_STATE_COUNT,
};

const char *job_state_name(enum job_state state); /* "succeeded" */
bool job_state_parse(const char *name, enum job_state *out) MUST_CHECK;
bool job_state_is_terminal(enum job_state state);
/* The table of legal moves, each with its reason; also printed in ARCHITECTURE.md. */
bool job_may_move(enum job_state from, enum job_state to);

/* Why a job ended without success, or why a call failed: the field's own vocabulary. */
enum error_type {
    ERROR_NONE,
    ERROR_RATE_LIMITED,
    ERROR_OVERLOADED,
    ERROR_TIMEOUT,
    ERROR_NETWORK,
    ERROR_AUTH,
    ERROR_BAD_REQUEST,
    ERROR_CONTEXT_LENGTH,
    ERROR_CONTENT_FILTER,
    ERROR_QUOTA,
    ERROR_PROTOCOL,
    ERROR_WORKER_LOST,
    ERROR_DEADLINE,
    ERROR_BUDGET,
    ERROR_CANCELLED,
    ERROR_TYPE_COUNT,
};
const char *error_type_name(enum error_type type); /* "rate_limited"; NULL for ERROR_NONE */

/* Closing events of a run are written by whoever ends it, who may not know the last seq: they have
 * fixed high ones, in the order in which they can follow each other. */
enum event_closing_seq {
    SEQ_SUPERSEDED = 0x7fff0000,
    SEQ_RETRYING = 0x7fff0001,
    SEQ_ENDED = 0x7fff0002, /* job.succeeded, job.failed, job.cancelled, job.expired */
};

enum {
    JOB_MAX_ATTEMPTS_DEFAULT = 5,
    JOB_MAX_ATTEMPTS_MAX = 20,
    JOB_TIMEOUT_S_DEFAULT = 600,
    JOB_TIMEOUT_S_MAX = 3600,
    JOB_LIFE_DAYS = 14,
    JOB_LABEL_MAX = 128,
    JOB_METADATA_MAX = 16,
    JOB_METADATA_NAME_MAX = 64,
    JOB_METADATA_VALUE_MAX = 512,
    IDEMPOTENCY_KEY_MAX = 255,
    IDEMPOTENCY_DAYS = 15,
    URL_MAX = 2048,
};

/* A job as it is submitted.  Strings are owned; NULL where not given. */
struct job_new {
    struct id id; /* its time is the creation time, of the database's clock */
    char *tenant;
    char *key_id;
    enum priority priority;
    char *workflow, *user, *purpose, *data_class;
    char *metadata; /* JSON text as received, or NULL */
    char *model;    /* the route */
    char *request;  /* JSON text as received */
    size_t request_len;
    int64_t run_at_us;   /* 0: none */
    int64_t deadline_us; /* always set */
    int max_attempts;
    int timeout_s;
    int64_t max_cost_nano; /* -1: none */
    char *webhook_url;
    char *webhook_events; /* comma-separated, NULL: all */
    struct id replay_of;  /* zero: none */
    int64_t est_tokens;   /* input by bytes/3, plus max output */
    /* The most that one call may cost, at the dearest target of its route; -1: no routes known. */
    int64_t worst_case_nano;
    char *idempotency_key;
    uint8_t body_hash[32]; /* of endpoint and body, where there is a key */
};

void job_new_free(struct job_new *job); /* heap-allocated; NULL is fine */

#endif
