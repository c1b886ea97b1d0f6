/* SPDX-License-Identifier: Apache-2.0 */
/* What budgets hold: from the book in Redis while it is current, else from the ledger. */
#ifndef PRODUCER_BUDGET_H
#define PRODUCER_BUDGET_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/model/book_redis.h"
#include "common/model/job_view.h"
#include "common/model/limits.h"

struct producer;

/* --- does a call fit? ------------------------------------------------------------------------- */

struct budget_question {
    const char *tenant, *key_id, *workflow, *user, *model; /* workflow and user may be NULL */
    int64_t nano;                                          /* what one call may cost */
};

struct budget_verdict {
    enum job_fit fit; /* JOB_FIT_UNKNOWN: neither Redis nor Postgres could be asked */
    int retry_after_s;
    struct err err; /* JOB_FITS_NOT: budget_exceeded, names the budget */
};
typedef void budget_verdict_fn(const struct budget_verdict *verdict, void *arg);

/* False: no budget applies (or memory is out), done will not be called.  Else done is called
 * exactly once, never from inside. */
bool budget_ask(struct producer *producer, const struct budget_question *question,
                budget_verdict_fn *done, void *arg);

/* --- all of a tenant's ------------------------------------------------------------------------ */

enum { BUDGET_LINES_MAX = 10000 };

struct budget_line {
    char account[BOOK_ACCOUNT_SIZE];
    char scope_text[LIMIT_SCOPE_TEXT_SIZE]; /* as limits name it */
    enum limit_scope scope;
    enum budget_window window;
    int64_t limit_nano, spent_nano, reserved_nano, unknown_nano;
    int64_t end_us; /* INT64_MAX: never */
};

/* In order of scope, name and window; NULL: nobody could be asked.  Lives until the call returns.
 * Names under "*" are those that have spent in the window. */
typedef void budget_lines_fn(const struct budget_line *const *lines, size_t count, void *arg);
/* done is called exactly once, never from inside.  False: out of memory. */
bool budget_list(struct producer *producer, const char *tenant, budget_lines_fn *done,
                 void *arg) MUST_CHECK;

#endif
