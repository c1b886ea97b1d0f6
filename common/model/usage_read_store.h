/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL that reads usage: sums by any names over any range, and the list of unknown calls. */
#ifndef COMMON_MODEL_USAGE_READ_STORE_H
#define COMMON_MODEL_USAGE_READ_STORE_H

#include "common/base/id.h"
#include "common/model/admin_query.h"
#include "common/model/usage_range.h"

/* --- sums ------------------------------------------------------------------------------------- */

/* What rows can be told apart by, in the order in which they are sorted. */
enum usage_name {
    USAGE_DAY,
    USAGE_HOUR,
    USAGE_WORKFLOW,
    USAGE_MODEL, /* the provider's */
    USAGE_PROVIDER,
    USAGE_KEY,
    USAGE_USER,
    USAGE_NAMES,
};

enum usage_sum {
    USAGE_JOBS,
    USAGE_CALLS,
    USAGE_RETRIES,
    USAGE_ERRORS,
    USAGE_INPUT_TOKENS,
    USAGE_OUTPUT_TOKENS,
    USAGE_CACHED_INPUT_TOKENS,
    USAGE_CACHE_HITS,
    USAGE_COST_NANO,
    USAGE_UNKNOWN_CALLS,
    USAGE_UNKNOWN_NANO,
    USAGE_QUEUE_WAIT_MS,
    USAGE_SUMS,
};

/* A page of rows.  Long answers come in parts: of some days, or of some users, as many as one
 * statement can sum in good time. */
struct usage_question {
    const char *tenant;
    struct usage_range range;
    bool by[USAGE_NAMES];
    const char *after; /* of the page before, or NULL */
};

/* False, with err set: `after` cannot be one of this question's. */
bool usage_read_check(const struct usage_question *question, struct err *err) MUST_CHECK;

/* ADMIN_MISSING: no such tenant.  The question's strings are borrowed until this returns. */
bool usage_read(struct pg *pg, const struct usage_question *question, admin_done_fn *done,
                void *arg) MUST_CHECK;

/* The rest of the answer: is there more, and what `after` asks for it?  Borrows from reply. */
enum { USAGE_AFTER_SIZE = 160 };
bool usage_has_more(const struct usage_question *question, const struct admin_reply *reply,
                    char after[USAGE_AFTER_SIZE]);

/* Strings borrow from reply; NULL: not asked for, or none. */
struct usage_row {
    int32_t day;
    int64_t hour_us;
    const char *names[USAGE_NAMES]; /* those that are text */
    int64_t sums[USAGE_SUMS];
};
/* False: no row (an answer without rows has one such). */
bool usage_row_read(const struct admin_reply *reply, int row, struct usage_row *out) MUST_CHECK;

/* --- unknown calls ---------------------------------------------------------------------------- */

struct unknown_filter {
    const char *tenant;
    bool has_range;
    struct usage_range range;
    struct id after_job; /* zero: the first page */
    int after_call;
    int limit;
};

/* Calls whose outcome nobody knows, the newest job's first. */
bool unknown_calls_list(struct pg *pg, const struct unknown_filter *filter, admin_done_fn *done,
                        void *arg) MUST_CHECK;

struct unknown_call {
    struct id job; /* zero: no row */
    int call;
    const char *route, *provider, *model, *workflow, *end_user, *key_id, *error_type;
    int status; /* 0: none */
    int64_t started_at_us;
    int64_t reserved_nano;
};
void unknown_call_read(const struct admin_reply *reply, int row, struct unknown_call *out);

#endif
