/* SPDX-License-Identifier: Apache-2.0 */
/* Tells tenants of budgets that come near their ceiling: the row and its webhooks, once. */
#ifndef COMMON_MODEL_BUDGET_ALERT_STORE_H
#define COMMON_MODEL_BUDGET_ALERT_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/book_redis.h"
#include "common/model/limit_cache.h"

enum { BUDGET_ALERTS_MAX = 100 }; /* of one statement */

struct budget_alert {
    char tenant[JOB_LABEL_MAX + 1];
    enum limit_scope scope;
    char name[LIMIT_SCOPE_TEXT_SIZE]; /* "" for the tenant */
    enum budget_window window;
    char window_id[WINDOW_ID_SIZE];
    int percent;            /* 50, 80, 100 */
    bool only_if_jobs_wait; /* for this very budget: the gate of the scope says so */
    int64_t limit_nano, spent_nano, reserved_nano, unknown_nano;
    int64_t resets_us; /* 0: never */
};

enum { BUDGET_ALERT_LEVELS = 3 };

/* Which thresholds the account is over at now_us (clock_db_us), if its window is the present one
 * and it has a ceiling: how many alerts were put into out.  What is booked counts: spent and
 * unknown, since reservations come and go.  A ceiling is hardly ever met exactly: over 80 % with
 * nothing out, 100 is told where jobs wait because nothing more fits. */
size_t budget_alerts_due(const struct limit_cache *cache, const char *tenant,
                         const struct book_account *account, int64_t now_us,
                         struct budget_alert out[BUDGET_ALERT_LEVELS]);

/* One transaction of the leader: the rows that are not there yet, and a webhook for each to every
 * endpoint that wants to hear of budget.threshold.  A row for each alert made, for
 * budget_alert_read.  False: out of memory, done will not be called. */
bool budget_alerts_make(struct pg *pg, int64_t epoch, const struct budget_alert *alerts,
                        size_t count, int64_t now_us, pg_done_fn *done, void *arg) MUST_CHECK;
size_t budget_alert_read(const struct pg_result *result, int row); /* index into alerts */

#endif
