/* SPDX-License-Identifier: Apache-2.0 */
/* Which tenants are to be told that a budget has passed a threshold. */
#ifndef SCHEDULER_ALERTS_H
#define SCHEDULER_ALERTS_H

#include "common/model/budget_alert_store.h"

struct alerts;
struct pg_reply;

struct alerts *alerts_new(void) MUST_CHECK;
void alerts_free(struct alerts *alerts); /* none may be being told */

/* Notes what is due by an account and was not told before.  What does not fit into one statement
 * comes next time. */
void alerts_add(struct alerts *alerts, const struct limit_cache *cache, const char *tenant,
                const struct book_account *account, int64_t now_us);

/* Tells of what was noted, and forgets it.  done is called once, not from inside; failed is NULL
 * when Postgres has it.  False: there is nothing to tell, and done will not be called. */
typedef void alerts_done_fn(const struct pg_reply *failed, void *arg);
bool alerts_tell(struct alerts *alerts, struct pg *pg, int64_t epoch, int64_t now_us,
                 alerts_done_fn *done, void *arg) MUST_CHECK;

void alerts_declare_metrics(void);

#endif
