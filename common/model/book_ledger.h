/* SPDX-License-Identifier: Apache-2.0 */
/* What the ledger says of tenants' books: their accounts and reservations as they should be. */
#ifndef COMMON_MODEL_BOOK_LEDGER_H
#define COMMON_MODEL_BOOK_LEDGER_H

#include <stddef.h>
#include <stdint.h>

#include "common/model/book_redis.h"
#include "common/model/limit_cache.h"

struct pg_result;

/* An account with its ceiling, which in shadow refuses nothing. */
struct ledger_account {
    struct book_account book; /* account is owned here */
    enum budget_window window;
    int64_t limit_nano;
    bool is_shadow;
    bool is_found; /* for who compares: another book has it too */
};

/* The book of one tenant by the ledger.  What reaches no budget is not in it; days and months
 * before yesterday are left out. */
struct ledger_book {
    char tenant[JOB_LABEL_MAX + 1];
    char generation[GENERATION_TEXT_SIZE]; /* as Postgres had it in the same snapshot */
    char recent_day[WINDOW_ID_SIZE];       /* windows before these are of no interest any more */
    char recent_month[WINDOW_ID_SIZE];
    bool has_late; /* BOOK_ROW_LATE: of calls under an enforced budget */
    struct ledger_account *accounts;
    size_t account_count;
    struct book_record *records; /* accounts are borrowed from `accounts` */
    size_t record_count;
    size_t live; /* records of calls that are out */
    struct map *by_account;
};

struct ledger {
    struct ledger_book *books; /* one per tenant asked for */
    size_t count;
    struct map *by_tenant;
};

/* Reads a reply of book_sum.  Which budgets a call is under is what limits_apply() says with the
 * documents of cache: the same that admission is asked with.  The caller ledger_release()s *out,
 * also after false (out of memory). */
bool ledger_read(const struct pg_result *result, const struct limit_cache *cache,
                 struct ledger *out) MUST_CHECK;
void ledger_release(struct ledger *ledger);

struct ledger_book *ledger_find(const struct ledger *ledger, const char *tenant); /* or NULL */

/* NULL: nothing of it is in the ledger. */
const struct ledger_account *ledger_book_account(const struct ledger_book *book,
                                                 const char *account);

/* Is the account ("tenant|d20261119") of a window that is over since more than a day? */
bool ledger_book_is_past(const struct ledger_book *book, const char *account);

#endif
