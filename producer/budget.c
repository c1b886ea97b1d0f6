/* SPDX-License-Identifier: Apache-2.0 */
/* Does a call fit into the budgets that it is under? */
#include "producer/budget.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/money.h"
#include "common/io/pg.h"
#include "common/model/book_ledger.h"
#include "common/model/book_store.h"
#include "common/model/limit_cache.h"
#include "producer/producer.h"

enum {
    ACCOUNTS_MAX = LIMIT_SCOPE_COUNT * BUDGET_WINDOW_COUNT,
    SOON_S = 1,            /* when calls under way may leave something */
    NOBODY_KNOWS_S = 3600, /* a total has no end */
    RETRY_MAX_S = 31 * 86400,
};

/* An account that must have room. */
struct budget {
    char account[BOOK_ACCOUNT_SIZE];
    enum limit_scope scope;
    enum budget_window window;
    int64_t limit_nano;
    int64_t end_us;
};

struct asking {
    struct producer *producer;
    char tenant[JOB_LABEL_MAX + 1];
    int64_t nano;
    struct budget budgets[ACCOUNTS_MAX];
    size_t count;
    budget_verdict_fn *done;
    void *arg;
};

static int retry_after_s(const struct budget *budget, bool is_soon)
{
    int64_t left_s = (budget->end_us - clock_db_us()) / US_PER_S + 1;

    if (is_soon)
        return SOON_S;
    if (budget->window == BUDGET_TOTAL)
        return NOBODY_KNOWS_S;
    if (left_s > RETRY_MAX_S)
        return RETRY_MAX_S;
    return left_s > 0 ? (int)left_s : SOON_S;
}

static void refuse(const struct budget *budget, const struct book_account *book, int64_t nano,
                   struct budget_verdict *verdict)
{
    int64_t booked = book->spent_nano + book->unknown_nano;
    int64_t left = budget->limit_nano - booked - book->reserved_nano;
    char need[MONEY_TEXT_SIZE], free_usd[MONEY_TEXT_SIZE], limit[MONEY_TEXT_SIZE];

    money_format(nano, need);
    money_format(left > 0 ? left : 0, free_usd);
    money_format(budget->limit_nano, limit);
    verdict->fit = JOB_FITS_NOT;
    verdict->retry_after_s = retry_after_s(budget, booked + nano <= budget->limit_nano);
    err_input(&verdict->err, "budget_exceeded", "",
              "One call may cost up to %s; of the %s of budget_usd.%s of %.*s only %s are left",
              need, limit, budget_window_name(budget->window),
              (int)strcspn(budget->account, "|") > 160 ? 160 : (int)strcspn(budget->account, "|"),
              budget->account, free_usd);
}

/* Of several that refuse the one that lasts longest is told. */
static void judge(const struct asking *asking, size_t i, const struct book_account *book,
                  struct budget_verdict *verdict)
{
    const struct budget *budget = &asking->budgets[i];
    struct budget_verdict refused = {.fit = JOB_FITS};

    if (book->spent_nano + book->reserved_nano + book->unknown_nano + asking->nano <=
        budget->limit_nano)
        return;
    refuse(budget, book, asking->nano, &refused);
    if (verdict->fit == JOB_FITS || refused.retry_after_s > verdict->retry_after_s)
        *verdict = refused;
}

static void finish(struct asking *asking, const struct budget_verdict *verdict)
{
    asking->done(verdict, asking->arg);
    free(asking);
}

static void on_ledger(const struct pg_reply *reply, void *arg)
{
    static const struct book_account nothing = {.spent_nano = 0};
    struct asking *asking = arg;
    struct budget_verdict verdict = {.fit = JOB_FIT_UNKNOWN};
    const struct ledger_book *book = NULL;
    struct ledger ledger = {.books = NULL};

    if (reply->status == PG_OK && ledger_read(reply->result, asking->producer->limits, &ledger))
        book = ledger_find(&ledger, asking->tenant);
    if (book)
        verdict.fit = JOB_FITS;
    for (size_t i = 0; book && i < asking->count; i++) {
        const struct ledger_account *account =
            ledger_book_account(book, asking->budgets[i].account);

        judge(asking, i, account ? &account->book : &nothing, &verdict);
    }
    ledger_release(&ledger);
    finish(asking, &verdict);
}

static void on_accounts(const struct book_account *values, size_t count, void *arg)
{
    struct asking *asking = arg;
    struct budget_verdict verdict = {.fit = JOB_FITS};
    const char *tenant = asking->tenant;

    if (!values && !asking->producer->limit_redis) {
        verdict.fit = JOB_FIT_UNKNOWN; /* the process stops */
        finish(asking, &verdict);
        return;
    }
    if (!values) {
        book_sum(asking->producer->api_pg, &tenant, 1, on_ledger, asking);
        return;
    }
    for (size_t i = 0; i < count; i++)
        judge(asking, i, &values[i], &verdict);
    finish(asking, &verdict);
}

/* False: no window of it has a budget. */
static bool add_budgets(struct asking *asking, const struct applied_limit *limit,
                        const struct budget_windows *windows)
{
    for (int i = 0; i < BUDGET_WINDOW_COUNT && !limit->set->is_shadow; i++) {
        struct budget *budget = &asking->budgets[asking->count];

        if (limit->set->budget_nano[i] < 0)
            continue;
        *budget = (struct budget){.scope = limit->scope,
                                  .window = (enum budget_window)i,
                                  .limit_nano = limit->set->budget_nano[i],
                                  .end_us = windows->end_us[i]};
        book_account_format(limit->scope, limit->name, windows->id[i], budget->account);
        asking->count++;
    }
    return asking->count > 0;
}

static bool collect(struct asking *asking, const struct budget_question *question)
{
    const struct limit_cache *cache = asking->producer->limits;
    struct applied_limit applied[LIMIT_SCOPE_COUNT];
    struct budget_windows windows;
    int count = limit_cache_apply(cache, question->tenant, question->key_id, question->workflow,
                                  question->user, question->model, applied);
    bool is_any = false;

    if (!limits_applied_budget(applied, count) ||
        !limit_cache_windows(cache, question->tenant, clock_db_us(), &windows))
        return false;
    for (int i = 0; i < count; i++)
        is_any = add_budgets(asking, &applied[i], &windows) || is_any;
    return is_any;
}

bool budget_ask(struct producer *producer, const struct budget_question *question,
                budget_verdict_fn *done, void *arg)
{
    struct asking *asking = calloc(1, sizeof(*asking));
    const char *accounts[ACCOUNTS_MAX];

    if (!producer->limit_redis || !asking) {
        free(asking);
        return false;
    }
    asking->producer = producer;
    asking->nano = question->nano;
    asking->done = done;
    asking->arg = arg;
    snprintf(asking->tenant, sizeof(asking->tenant), "%s", question->tenant);
    if (!collect(asking, question)) {
        free(asking);
        return false;
    }
    for (size_t i = 0; i < asking->count; i++)
        accounts[i] = asking->budgets[i].account;
    book_accounts(producer->limit_redis, limit_cache_run_id(producer->limits), asking->tenant,
                  limit_cache_tenant(producer->limits, asking->tenant)->generation, accounts,
                  asking->count, on_accounts, asking);
    return true;
}
