/* SPDX-License-Identifier: Apache-2.0 */
/* A job as it is shown: what the reading statements give and job_json writes. */
#ifndef COMMON_MODEL_JOB_VIEW_H
#define COMMON_MODEL_JOB_VIEW_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/id.h"
#include "common/model/job.h"

/* What stands where in the arrays of job_view.calls. */
enum job_call_column {
    JOB_CALL_ATTEMPT,
    JOB_CALL_PROVIDER,
    JOB_CALL_MODEL,
    JOB_CALL_STATE,
    JOB_CALL_STATUS,
    JOB_CALL_ERROR_TYPE,
    JOB_CALL_STARTED_AT, /* RFC 3339 */
    JOB_CALL_FIRST_TOKEN_MS,
    JOB_CALL_DURATION_MS,
    JOB_CALL_INPUT_TOKENS,
    JOB_CALL_OUTPUT_TOKENS,
    JOB_CALL_CACHED_TOKENS,
    JOB_CALL_COST_NANO,
    JOB_CALL_IS_ESTIMATED,
};

enum job_fit { JOB_FIT_UNKNOWN, JOB_FITS, JOB_FITS_NOT };

/* Pointers are borrowed from the reply that carries it; NULL and 0 where nothing is known. */
struct job_view {
    struct id id;
    enum job_state state;
    enum priority priority;
    const char *workflow, *user, *purpose, *data_class;
    const char *metadata; /* JSON object, or NULL */
    const char *model;
    int64_t started_us, ended_us, run_at_us, deadline_us;
    int attempts, deferrals, crashes;
    bool cancel_requested;
    struct id replay_of;
    int64_t max_cost_nano; /* asked for, else the worst case of one call; -1: unknown */
    int64_t worst_case_nano;
    const char *key_id;

    /* Queued: why it waits. */
    const char *wait_reason;
    const char *wait_detail;
    int64_t wait_until_us;
    int64_t position; /* 0: unknown */

    /* Ended without success. */
    const char *error_type, *error_code, *error_message;
    bool error_retryable;

    /* Sums over the ledger. */
    bool has_usage;
    bool is_usage_estimated;
    int64_t input_tokens, output_tokens, cached_input_tokens;
    int64_t cost_nano, unknown_cost_nano;

    /* The single-job read only. */
    bool is_full;
    const char *partial_text;
    size_t partial_len;
    int partial_attempt; /* 0: no partial */
    const char *result;  /* the stored chat.completion, exact bytes */
    size_t result_len;
    const char *result_sha256; /* 32 bytes */
    const char *finish_reason;
    enum job_fit fits_now; /* queued: into its budgets */
    const char *calls;     /* JSON array of an array per call; or NULL */
    const char *request;   /* ?include=request: as it came; or NULL */
    size_t request_len;
};

#endif
