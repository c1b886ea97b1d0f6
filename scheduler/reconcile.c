/* SPDX-License-Identifier: Apache-2.0 */
/* Holds the books of budgets in Redis to the ledger in Postgres, round after round. */
#include "scheduler/reconcile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/array.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/io/metrics.h"
#include "common/io/redis.h"
#include "common/model/admission.h"
#include "common/model/book_ledger.h"
#include "common/model/book_rebuild.h"
#include "common/model/book_redis.h"
#include "common/model/book_store.h"
#include "common/model/limit_cache.h"
#include "scheduler/alerts.h"
#include "scheduler/leader.h"
#include "scheduler/scheduler.h"

enum {
    VISITS_MAX = 32,       /* books of one pass; not over BOOK_BATCH_MAX */
    CHECK_MS = 15000,      /* a book that does not change is looked at again after so long */
    ENTRIES_MAX = 1000000, /* accounts and records taken of one book */
    PAST_MAX = 100,        /* old accounts of a book taken out in one pass */
    KNOWN_MAX = 1000000,
};

static const struct metric drift = {
    .name = "nightshift_budget_drift_nano_total",
    .type = METRIC_COUNTER,
    .help = "By how much books at rest differed from the ledger, in nano-dollars; must stay 0.",
};

static const struct metric resolved = {
    .name = "nightshift_budget_reservations_resolved_total",
    .type = METRIC_COUNTER,
    .help = "Reservations that nobody settled and the ledger did, by what it said.",
    .labels = {"end"},
};

/* --- what is remembered ----------------------------------------------------------------------- */

/* A book as it was when it was compared with the ledger last. */
struct known {
    int64_t version;
    int64_t checked_us; /* when it agreed; 0: it did not */
    int64_t off;        /* by so much it did not */
    char generation[GENERATION_TEXT_SIZE];
};

/* A comparison that breaks off would tell of a drift, or of none. */
static void *grow(void *items, size_t count, size_t size)
{
    void *more = array_grow(items, count, size);

    if (!more)
        abort();
    return more;
}

struct account {
    char *text;
    int64_t spent, reserved, unknown;
};

struct record {
    struct book_call call;
    bool is_unknown;
};

/* A book that this pass looks at. */
struct visit {
    struct reconcile *reconcile;
    char tenant[JOB_LABEL_MAX + 1];
    char generation[GENERATION_TEXT_SIZE];
    int64_t version;
    struct account *accounts;
    size_t account_count;
    struct record *records; /* those that the ledger is asked about */
    size_t record_count;
    bool is_wanted;  /* it is to be read */
    bool is_steady;  /* read whole, and did not change meanwhile */
    bool has_live;   /* calls are out */
    bool was_mended; /* the ledger knew better of a record */
    bool is_same;    /* after the sums as before */
};

struct reconcile {
    struct map *known; /* by tenant: struct known */
    struct alerts *alerts;
    char **round; /* tenants of this round */
    size_t round_count, round_next;

    /* The pass under way. */
    struct task *task;
    struct visit visits[VISITS_MAX];
    size_t visit_count;
    int outstanding;
    size_t look_visit, look_record; /* what was asked about last */
    struct {
        struct visit *visit;
        struct record *record;
    } asked[BOOK_BATCH_MAX];
    size_t asked_count;
    struct ledger ledger;
};

struct reconcile *reconcile_new(void)
{
    struct reconcile *reconcile = xcalloc(1, sizeof(*reconcile));

    reconcile->known = map_new(KNOWN_MAX);
    reconcile->alerts = alerts_new();
    if (reconcile->known && reconcile->alerts)
        return reconcile;
    reconcile_free(reconcile);
    return NULL;
}

static bool free_value(const void *key, size_t len, void *value, void *arg)
{
    (void)key, (void)len, (void)arg;
    free(value);
    return true;
}

static void end_round(struct reconcile *reconcile)
{
    for (size_t i = 0; i < reconcile->round_count; i++)
        free(reconcile->round[i]);
    reconcile->round_count = reconcile->round_next = 0;
}

static void release_visits(struct reconcile *reconcile)
{
    for (size_t i = 0; i < reconcile->visit_count; i++) {
        struct visit *visit = &reconcile->visits[i];

        for (size_t a = 0; a < visit->account_count; a++)
            free(visit->accounts[a].text);
        free(visit->accounts);
        free(visit->records);
    }
    reconcile->visit_count = 0;
    ledger_release(&reconcile->ledger);
}

void reconcile_free(struct reconcile *reconcile)
{
    if (!reconcile)
        return;
    release_visits(reconcile);
    end_round(reconcile);
    free(reconcile->round);
    if (reconcile->known)
        map_each(reconcile->known, free_value, NULL);
    map_free(reconcile->known);
    alerts_free(reconcile->alerts);
    free(reconcile);
}

static bool add_tenant(const char *tenant, const struct tenant_limits *limits, void *arg)
{
    struct reconcile *reconcile = arg;

    (void)limits;
    reconcile->round = grow(reconcile->round, reconcile->round_count, sizeof(*reconcile->round));
    reconcile->round[reconcile->round_count++] = xstrdup(tenant);
    return true;
}

static void begin_round(struct reconcile *reconcile, struct limit_cache *cache)
{
    end_round(reconcile);
    limit_cache_each_budget(cache, add_tenant, reconcile);
}

/* --- the end of a pass ------------------------------------------------------------------------ */

static void end_pass(struct reconcile *reconcile, const struct pg_reply *failed)
{
    struct task *task = reconcile->task;
    bool has_more = reconcile->round_next < reconcile->round_count;

    release_visits(reconcile);
    reconcile->task = NULL;
    task_end(task, failed, has_more && !failed);
}

static struct known *known_of(struct reconcile *reconcile, const char *tenant)
{
    struct known *known = map_get(reconcile->known, tenant, strlen(tenant));

    if (known)
        return known;
    known = xcalloc(1, sizeof(*known));
    if (map_put(reconcile->known, tenant, strlen(tenant), known))
        return known;
    free(known);
    return NULL;
}

/* Was it off by as much at the last comparison, unchanged since?  Else somebody may just be telling
 * Redis what Postgres has already. */
static bool remember(struct reconcile *reconcile, const struct visit *visit, int64_t off)
{
    struct known *known = known_of(reconcile, visit->tenant);
    bool is_same;

    if (!known)
        return false;
    is_same = known->version == visit->version && known->off == off &&
              strcmp(known->generation, visit->generation) == 0;
    known->version = visit->version;
    known->off = off;
    known->checked_us = off == 0 ? clock_monotonic_us() : 0;
    memcpy(known->generation, visit->generation, sizeof(known->generation));
    return is_same;
}

/* --- alerts ----------------------------------------------------------------------------------- */

static void on_told(const struct pg_reply *failed, void *arg)
{
    end_pass(arg, failed);
}

static void add_alerts(struct reconcile *reconcile, const struct visit *visit,
                       const struct account *account, int64_t now_us)
{
    struct book_account book = {
        .account = account->text,
        .spent_nano = account->spent,
        .reserved_nano = account->reserved,
        .unknown_nano = account->unknown,
    };

    alerts_add(reconcile->alerts, reconcile->task->scheduler->limits, visit->tenant, &book, now_us);
}

static void tell_of_thresholds(struct reconcile *reconcile)
{
    int64_t now_us = clock_db_us();
    struct task *task = reconcile->task;

    for (size_t i = 0; i < reconcile->visit_count; i++)
        for (size_t a = 0; a < reconcile->visits[i].account_count; a++)
            add_alerts(reconcile, &reconcile->visits[i], &reconcile->visits[i].accounts[a], now_us);
    if (!alerts_tell(reconcile->alerts, task->scheduler->books_pg, task->epoch, now_us, on_told,
                     reconcile))
        end_pass(reconcile, NULL);
}

/* --- the comparison --------------------------------------------------------------------------- */

static int64_t distance(int64_t a, int64_t b)
{
    return a > b ? a - b : b - a;
}

static int64_t compare(const struct visit *visit, const char *text, const struct account *found,
                       const struct ledger_account *ledger)
{
    static const struct account no_account;
    static const struct ledger_account no_ledger;
    const struct account *a = found ? found : &no_account;
    const struct book_account *b = ledger ? &ledger->book : &no_ledger.book;
    int64_t off = distance(a->spent, b->spent_nano) + distance(a->reserved, b->reserved_nano) +
                  distance(a->unknown, b->unknown_nano);

    if (off > 0)
        log_warn(&(struct log_context){.component = "reconcile", .tenant = visit->tenant},
                 "the book differs from the ledger, or is late: account=%s spent=%lld/%lld "
                 "reserved=%lld/%lld unknown=%lld/%lld (book/ledger)",
                 text, (long long)a->spent, (long long)b->spent_nano, (long long)a->reserved,
                 (long long)b->reserved_nano, (long long)a->unknown, (long long)b->unknown_nano);
    return off;
}

/* By how much a whole book is off. */
struct difference {
    int64_t all;
    int64_t enforced; /* of it, in accounts that are not in shadow */
};

static void add_difference(struct difference *sum, int64_t off,
                           const struct ledger_account *account)
{
    sum->all += off;
    if (!account || !account->is_shadow)
        sum->enforced += off;
}

/* Needs no memory: a comparison that breaks off would tell of a drift, or of none. */
static struct difference compare_book(const struct visit *visit, struct ledger_book *ledger)
{
    struct difference off = {.all = 0};

    for (size_t i = 0; i < visit->account_count; i++) {
        const struct account *account = &visit->accounts[i];
        const struct ledger_account *other = ledger_book_account(ledger, account->text);

        if (other)
            ledger->accounts[other - ledger->accounts].is_found = true;
        if (!ledger_book_is_past(ledger, account->text))
            add_difference(&off, compare(visit, account->text, account, other), other);
    }
    for (size_t i = 0; i < ledger->account_count; i++) {
        const struct ledger_account *account = &ledger->accounts[i];

        if (!account->is_found)
            add_difference(&off, compare(visit, account->book.account, NULL, account), account);
    }
    return off;
}

static void on_nothing(enum book_outcome outcome, void *arg)
{
    (void)outcome, (void)arg;
}

static void make_anew(struct reconcile *reconcile, const struct visit *visit,
                      enum book_reason reason)
{
    struct scheduler *scheduler = reconcile->task->scheduler;

    book_forget(scheduler->budget_redis, visit->tenant, visit->generation, on_nothing, NULL);
    book_rebuild_want(scheduler->books, visit->tenant, visit->generation, reason);
}

/* The book is off twice by the same: nobody is about to mend it.  Calls that only a shadow budget
 * counts are made without a reservation while Redis is away: what it misses is summed, and is no
 * drift. */
static void mend_book(struct reconcile *reconcile, const struct visit *visit,
                      const struct difference *off)
{
    if (off->enforced == 0) {
        make_anew(reconcile, visit, BOOK_STALE);
        return;
    }
    log_error(&(struct log_context){.component = "reconcile", .tenant = visit->tenant},
              "the book differs from the ledger by %lld nano-dollars: it is made anew",
              (long long)off->enforced);
    metric_add(&drift, NULL, off->enforced);
    make_anew(reconcile, visit, BOOK_DRIFT);
}

/* For up to a second after a budget was set, processes that have not heard of it make calls without
 * reservations: those that the first sum missed make another one needed, and are no drift. */
static void check(struct reconcile *reconcile, const struct visit *visit)
{
    struct scheduler *scheduler = reconcile->task->scheduler;
    struct ledger_book *ledger = ledger_find(&reconcile->ledger, visit->tenant);
    const char *past[PAST_MAX];
    size_t count = 0;
    struct difference off;

    if (!ledger || strcmp(ledger->generation, visit->generation) != 0)
        return;
    off = compare_book(visit, ledger);
    if (off.all > 0 && ledger->has_late) {
        make_anew(reconcile, visit, BOOK_STALE);
        return;
    }
    if (remember(reconcile, visit, off.all) && off.all > 0)
        mend_book(reconcile, visit, &off);
    if (off.all > 0)
        return;
    for (size_t i = 0; i < visit->account_count && count < PAST_MAX; i++)
        if (ledger_book_is_past(ledger, visit->accounts[i].text))
            past[count++] = visit->accounts[i].text;
    if (count > 0)
        book_prune(scheduler->budget_redis, visit->tenant, visit->generation, past, count,
                   on_nothing, NULL);
}

static bool is_at_rest(const struct visit *visit)
{
    return visit->is_steady && !visit->has_live && !visit->was_mended;
}

static void check_all(struct reconcile *reconcile)
{
    for (size_t i = 0; i < reconcile->visit_count; i++)
        if (is_at_rest(&reconcile->visits[i]) && reconcile->visits[i].is_same)
            check(reconcile, &reconcile->visits[i]);
    tell_of_thresholds(reconcile);
}

/* The book after the sums: was it this all the time? */
static void on_head_after(const struct book_head *head, void *arg)
{
    struct visit *visit = arg;

    visit->is_same = !head->is_away && head->version == visit->version &&
                     strcmp(head->generation, visit->generation) == 0;
    if (--visit->reconcile->outstanding == 0)
        check_all(visit->reconcile);
}

static void on_summed(const struct pg_reply *reply, void *arg)
{
    struct reconcile *reconcile = arg;
    struct scheduler *scheduler = reconcile->task->scheduler;

    if (reply->status != PG_OK) {
        end_pass(reconcile, reply);
        return;
    }
    if (!ledger_read(reply->result, scheduler->limits, &reconcile->ledger)) {
        log_error(&(struct log_context){.component = "reconcile"},
                  "books are not compared: out of memory");
        tell_of_thresholds(reconcile);
        return;
    }
    reconcile->outstanding = 1; /* ours: none of the answers ends it before all are asked for */
    for (size_t i = 0; i < reconcile->visit_count; i++)
        if (is_at_rest(&reconcile->visits[i])) {
            reconcile->outstanding++;
            book_head(scheduler->budget_redis, reconcile->visits[i].tenant, on_head_after,
                      &reconcile->visits[i]);
        }
    if (--reconcile->outstanding == 0)
        check_all(reconcile);
}

static void sum(struct reconcile *reconcile)
{
    const char *tenants[VISITS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < reconcile->visit_count; i++)
        if (is_at_rest(&reconcile->visits[i]))
            tenants[count++] = reconcile->visits[i].tenant;
    if (count > 0)
        book_sum(reconcile->task->scheduler->books_pg, tenants, count, on_summed, reconcile);
    else
        tell_of_thresholds(reconcile);
}

/* --- reservations that nobody settled --------------------------------------------------------- */

static void look_up_more(struct reconcile *reconcile);

static const char *const end_names[] = {
    [BOOK_CALL_SETTLED] = "settled",
    [BOOK_CALL_RELEASED] = "released",
    [BOOK_CALL_UNKNOWN] = "unknown",
};

static void mend(struct visit *visit, const struct record *record, const struct book_fate_row *row)
{
    static const enum admission_end ends[] = {
        [BOOK_CALL_SETTLED] = ADMISSION_SETTLED,
        [BOOK_CALL_RELEASED] = ADMISSION_RELEASED,
        [BOOK_CALL_UNKNOWN] = ADMISSION_UNKNOWN,
    };
    struct admission_settlement settlement = {
        .tenant = visit->tenant,
        .job = record->call.job,
        .run = record->call.run,
        .call = record->call.call,
        .holds = ADMISSION_HOLDS_MONEY | ADMISSION_HOLDS_RATES,
        .end = ends[row->fate],
        .cost_nano = row->nano,
        .tokens = row->tokens,
    };

    visit->was_mended = true;
    metric_add(&resolved, METRIC_LABELS(end_names[row->fate]), 1);
    admission_settle(visit->reconcile->task->scheduler->admission, &settlement);
}

static void on_looked_up(const struct pg_reply *reply, void *arg)
{
    struct reconcile *reconcile = arg;
    struct book_fate_row row;

    if (reply->status != PG_OK) {
        end_pass(reconcile, reply);
        return;
    }
    for (int i = 0; i < pg_rows(reply->result); i++) {
        if (!book_fate_read(reply->result, i, &row) || row.index >= reconcile->asked_count)
            continue;
        if (row.fate == BOOK_CALL_LIVE ||
            (row.fate == BOOK_CALL_UNKNOWN && reconcile->asked[row.index].record->is_unknown))
            continue;
        mend(reconcile->asked[row.index].visit, reconcile->asked[row.index].record, &row);
    }
    look_up_more(reconcile);
}

static void look_up_more(struct reconcile *reconcile)
{
    struct book_call calls[BOOK_BATCH_MAX];

    reconcile->asked_count = 0;
    for (; reconcile->look_visit < reconcile->visit_count; reconcile->look_visit++) {
        struct visit *visit = &reconcile->visits[reconcile->look_visit];

        for (; reconcile->look_record < visit->record_count; reconcile->look_record++) {
            struct record *record = &visit->records[reconcile->look_record];

            if (reconcile->asked_count == BOOK_BATCH_MAX)
                break;
            calls[reconcile->asked_count] = record->call;
            reconcile->asked[reconcile->asked_count].visit = visit;
            reconcile->asked[reconcile->asked_count++].record = record;
        }
        if (reconcile->asked_count == BOOK_BATCH_MAX)
            break;
        reconcile->look_record = 0;
    }
    if (reconcile->asked_count > 0)
        book_look_up(reconcile->task->scheduler->books_pg, calls, reconcile->asked_count,
                     on_looked_up, reconcile);
    else
        sum(reconcile);
}

/* --- reading the books ------------------------------------------------------------------------ */

static void on_account(const struct book_account *found, void *arg)
{
    struct visit *visit = arg;

    if (visit->account_count >= ENTRIES_MAX) {
        visit->has_live = true; /* not to be compared */
        return;
    }
    visit->accounts = grow(visit->accounts, visit->account_count, sizeof(*visit->accounts));
    visit->accounts[visit->account_count++] = (struct account){
        .text = xstrdup(found->account),
        .spent = found->spent_nano,
        .reserved = found->reserved_nano,
        .unknown = found->unknown_nano,
    };
}

static void on_record(const struct book_record_found *found, void *arg)
{
    struct visit *visit = arg;

    visit->has_live = visit->has_live || !found->is_unknown;
    if (visit->record_count >= ENTRIES_MAX ||
        (!found->is_unknown && clock_db_us() - found->at_us < RECONCILE_OLD_MS * US_PER_MS))
        return;
    visit->records = grow(visit->records, visit->record_count, sizeof(*visit->records));
    visit->records[visit->record_count++] = (struct record){
        .call = {.job = found->job,
                 .run = found->run,
                 .call = found->call,
                 .run_token = found->owner},
        .is_unknown = found->is_unknown,
    };
}

static void begin_look_up(struct reconcile *reconcile)
{
    reconcile->look_visit = reconcile->look_record = 0;
    look_up_more(reconcile);
}

static void on_read(enum book_outcome outcome, const char *generation, int64_t version, void *arg)
{
    struct visit *visit = arg;

    visit->is_steady = outcome == BOOK_DONE && version == visit->version &&
                       strcmp(generation, visit->generation) == 0;
    if (--visit->reconcile->outstanding == 0)
        begin_look_up(visit->reconcile);
}

static void read_books(struct reconcile *reconcile)
{
    static const struct book_reader reader = {
        .on_account = on_account, .on_record = on_record, .on_end = on_read};

    reconcile->outstanding = 1;
    for (size_t i = 0; i < reconcile->visit_count; i++)
        if (reconcile->visits[i].is_wanted) {
            reconcile->outstanding++;
            book_read(reconcile->task->scheduler->budget_redis, reconcile->visits[i].tenant,
                      &reader, &reconcile->visits[i]);
        }
    if (--reconcile->outstanding == 0)
        begin_look_up(reconcile);
}

/* --- their heads ------------------------------------------------------------------------------ */

static bool is_known(const struct visit *visit, const struct book_head *head)
{
    const struct known *known =
        map_get(visit->reconcile->known, visit->tenant, strlen(visit->tenant));

    return known && head->live == 0 && known->version == head->version &&
           strcmp(known->generation, visit->generation) == 0 &&
           clock_monotonic_us() - known->checked_us < CHECK_MS * US_PER_MS;
}

static void on_head(const struct book_head *head, void *arg)
{
    struct visit *visit = arg;

    if (!head->is_away && strcmp(head->generation, visit->generation) != 0)
        book_rebuild_want(visit->reconcile->task->scheduler->books, visit->tenant,
                          visit->generation, BOOK_STALE);
    else if (!head->is_away && !is_known(visit, head))
        visit->is_wanted = true;
    visit->version = head->version;
    if (--visit->reconcile->outstanding == 0)
        read_books(visit->reconcile);
}

static void begin_visits(struct reconcile *reconcile)
{
    struct scheduler *scheduler = reconcile->task->scheduler;

    while (reconcile->visit_count < VISITS_MAX && reconcile->round_next < reconcile->round_count) {
        const char *tenant = reconcile->round[reconcile->round_next++];
        struct visit *visit = &reconcile->visits[reconcile->visit_count++];

        *visit = (struct visit){.reconcile = reconcile};
        snprintf(visit->tenant, sizeof(visit->tenant), "%s", tenant);
        snprintf(visit->generation, sizeof(visit->generation), "%s",
                 limit_cache_tenant(scheduler->limits, tenant)->generation);
    }
    reconcile->outstanding = (int)reconcile->visit_count;
    for (size_t i = 0; i < reconcile->visit_count; i++)
        book_head(scheduler->budget_redis, reconcile->visits[i].tenant, on_head,
                  &reconcile->visits[i]);
}

static bool is_possible(const struct scheduler *scheduler)
{
    return scheduler->budget_redis && redis_is_ready(scheduler->budget_redis) &&
           limit_cache_is_ready(scheduler->limits) &&
           strcmp(redis_run_id(scheduler->budget_redis), limit_cache_run_id(scheduler->limits)) ==
               0;
}

void reconcile_run(struct task *task)
{
    struct reconcile *reconcile = task->scheduler->reconcile;

    if (!is_possible(task->scheduler)) {
        task_end(task, NULL, false);
        return;
    }
    reconcile->task = task;
    if (reconcile->round_next >= reconcile->round_count)
        begin_round(reconcile, task->scheduler->limits);
    if (reconcile->round_count == 0)
        end_pass(reconcile, NULL);
    else
        begin_visits(reconcile);
}

void reconcile_declare_metrics(void)
{
    metric_declare(&drift, NULL);
    for (size_t end = BOOK_CALL_SETTLED; end <= BOOK_CALL_UNKNOWN; end++)
        metric_declare(&resolved, METRIC_LABELS(end_names[end]));
    alerts_declare_metrics();
}
