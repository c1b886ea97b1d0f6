/* SPDX-License-Identifier: Apache-2.0 */
/* All budgets of a tenant and what they hold. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/array.h"
#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/io/pg.h"
#include "common/io/redis.h"
#include "common/model/book_ledger.h"
#include "common/model/book_store.h"
#include "common/model/limit_cache.h"
#include "producer/budget.h"
#include "producer/producer.h"

struct listing {
    struct producer *producer;
    char tenant[JOB_LABEL_MAX + 1];
    struct budget_windows windows;
    struct budget_line **lines;
    size_t count;
    struct map *by_account; /* struct budget_line */
    budget_lines_fn *done;
    void *arg;
};

static void listing_clear(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        free(listing->lines[i]);
    listing->count = 0;
    map_free(listing->by_account);
    listing->by_account = map_new(BUDGET_LINES_MAX);
}

static void listing_free(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        free(listing->lines[i]);
    free(listing->lines);
    map_free(listing->by_account);
    free(listing);
}

/* --- lines ------------------------------------------------------------------------------------ */

static bool keep_line(struct listing *listing, struct budget_line *line)
{
    struct budget_line **lines =
        array_grow(listing->lines, listing->count, sizeof(struct budget_line *));

    if (!lines)
        return false;
    listing->lines = lines;
    if (!map_put(listing->by_account, line->account, strlen(line->account), line))
        return false;
    listing->lines[listing->count++] = line;
    return true;
}

/* The line of an account; made where it is missing.  NULL: memory or room is out. */
static struct budget_line *line_of(struct listing *listing, const char *account,
                                   enum limit_scope scope, const char *name,
                                   enum budget_window window, int64_t limit_nano)
{
    struct budget_line *line;

    line = listing->by_account ? map_get(listing->by_account, account, strlen(account)) : NULL;
    if (line || !listing->by_account)
        return line;
    line = calloc(1, sizeof(*line));
    if (!line)
        return NULL;
    *line = (struct budget_line){.scope = scope,
                                 .window = window,
                                 .limit_nano = limit_nano,
                                 .end_us = listing->windows.end_us[window]};
    snprintf(line->account, sizeof(line->account), "%s", account);
    limit_scope_format(scope, name, line->scope_text);
    if (keep_line(listing, line))
        return line;
    free(line);
    return NULL;
}

/* The set whose ceiling an account has; *name is what the account says, then the set's own.  NULL:
 * none that is enforced. */
static const struct limit_set *set_of(const struct listing *listing, enum limit_scope scope,
                                      const char **name)
{
    const struct limit_cache *cache = listing->producer->limits;
    const struct limit_set *set;

    if (scope == LIMIT_KEY)
        set = limits_set_of(limit_cache_key(cache, *name), LIMIT_TENANT, "");
    else
        set = book_account_set(limit_cache_tenant(cache, listing->tenant)->limits, scope, *name,
                               name);
    return set && !set->is_shadow ? set : NULL;
}

/* "workflow:nightly|d20261121" of a window that is now. */
static void take_account(struct listing *listing, const struct book_account *account)
{
    const char *bar = strrchr(account->account, '|');
    char text[BOOK_ACCOUNT_SIZE];
    const struct limit_set *set;
    struct budget_line *line;
    enum limit_scope scope;
    const char *name;

    if (!bar || (size_t)(bar - account->account) >= sizeof(text))
        return;
    memcpy(text, account->account, (size_t)(bar - account->account));
    text[bar - account->account] = '\0';
    if (!limit_scope_parse(text, &scope, &name))
        return;
    set = set_of(listing, scope, &name);
    for (int i = 0; set && i < BUDGET_WINDOW_COUNT; i++) {
        if (strcmp(bar + 1, listing->windows.id[i]) != 0 || set->budget_nano[i] < 0)
            continue;
        line = line_of(listing, account->account, scope, name, (enum budget_window)i,
                       set->budget_nano[i]);
        if (!line)
            return;
        line->spent_nano = account->spent_nano;
        line->reserved_nano = account->reserved_nano;
        line->unknown_nano = account->unknown_nano;
    }
}

static void add_set(enum limit_scope scope, const char *name, const struct limit_set *set,
                    void *arg)
{
    struct listing *listing = arg;
    char account[BOOK_ACCOUNT_SIZE];

    for (int i = 0; i < BUDGET_WINDOW_COUNT && !set->is_shadow; i++) {
        if (set->budget_nano[i] < 0)
            continue;
        book_account_format(scope, name, listing->windows.id[i], account);
        line_of(listing, account, scope, name, (enum budget_window)i, set->budget_nano[i]);
    }
}

static bool add_key(const char *key_id, struct limits *limits, void *arg)
{
    add_set(LIMIT_KEY, key_id, limits_set_of(limits, LIMIT_TENANT, ""), arg);
    return true;
}

static int compare_lines(const void *a, const void *b)
{
    const struct budget_line *left = *(struct budget_line *const *)a;
    const struct budget_line *right = *(struct budget_line *const *)b;
    size_t left_len = strcspn(left->account, "|"), right_len = strcspn(right->account, "|");
    int order;

    if (left->scope != right->scope)
        return left->scope < right->scope ? -1 : 1;
    order = memcmp(left->account, right->account, left_len < right_len ? left_len : right_len);
    if (order == 0 && left_len != right_len)
        order = left_len < right_len ? -1 : 1;
    return order ? order : (int)left->window - (int)right->window;
}

/* Budgets in which nothing was spent are no accounts yet, but they are there. */
static void finish(struct listing *listing, bool ok)
{
    static const struct budget_line *const none[1] = {NULL};
    struct limit_cache *cache = listing->producer->limits;

    if (ok) {
        limits_each(limit_cache_tenant(cache, listing->tenant)->limits, add_set, listing);
        limit_cache_each_key(cache, listing->tenant, add_key, listing);
    }
    if (listing->count > 1)
        qsort(listing->lines, listing->count, sizeof(struct budget_line *), compare_lines);
    if (!ok)
        listing->done(NULL, 0, listing->arg);
    else if (listing->count == 0)
        listing->done(none, 0, listing->arg);
    else
        listing->done((const struct budget_line *const *)listing->lines, listing->count,
                      listing->arg);
    listing_free(listing);
}

/* --- asking ----------------------------------------------------------------------------------- */

static void on_ledger(const struct pg_reply *reply, void *arg)
{
    struct listing *listing = arg;
    struct ledger ledger = {.books = NULL};
    const struct ledger_book *book = NULL;

    listing_clear(listing);
    if (reply->status == PG_OK && ledger_read(reply->result, listing->producer->limits, &ledger))
        book = ledger_find(&ledger, listing->tenant);
    for (size_t i = 0; book && i < book->account_count; i++)
        take_account(listing, &book->accounts[i].book);
    ledger_release(&ledger);
    finish(listing, book != NULL);
}

static void on_account(const struct book_account *account, void *arg)
{
    take_account(arg, account);
}

static void on_record(const struct book_record_found *record, void *arg)
{
    (void)record;
    (void)arg;
}

/* A book that changed while it was read is as true as one read a moment later. */
static void on_book_end(enum book_outcome outcome, const char *generation, int64_t version,
                        void *arg)
{
    struct listing *listing = arg;
    struct producer *producer = listing->producer;
    const char *tenant = listing->tenant;
    const char *current, *bound;

    (void)version;
    if (!producer->limit_redis) { /* the process stops */
        finish(listing, false);
        return;
    }
    current = limit_cache_tenant(producer->limits, tenant)->generation;
    bound = limit_cache_run_id(producer->limits);
    if (outcome != BOOK_AWAY && generation && strcmp(generation, current) == 0 && *bound &&
        strcmp(redis_run_id(producer->limit_redis), bound) == 0)
        finish(listing, true);
    else
        book_sum(producer->api_pg, &tenant, 1, on_ledger, listing);
}

static void on_polled(bool ok, void *arg)
{
    static const struct book_reader reader = {
        .on_account = on_account, .on_record = on_record, .on_end = on_book_end};
    struct listing *listing = arg;

    if (ok && limit_cache_windows(listing->producer->limits, listing->tenant, clock_db_us(),
                                  &listing->windows))
        book_read(listing->producer->limit_redis, listing->tenant, &reader, listing);
    else
        finish(listing, false);
}

bool budget_list(struct producer *producer, const char *tenant, budget_lines_fn *done, void *arg)
{
    struct listing *listing = calloc(1, sizeof(*listing));

    if (!listing)
        return false;
    listing->producer = producer;
    listing->done = done;
    listing->arg = arg;
    snprintf(listing->tenant, sizeof(listing->tenant), "%s", tenant);
    listing->by_account = map_new(BUDGET_LINES_MAX);
    /* What was put a moment ago must show. */
    if (listing->by_account && limit_cache_poll(producer->limits, on_polled, listing))
        return true;
    listing_free(listing);
    return false;
}
