/* SPDX-License-Identifier: Apache-2.0 */
/* From rows of the ledger to accounts and reservations, by the same rules as admission. */
#include "common/model/book_ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/array.h"
#include "common/base/map.h"
#include "common/model/book_store.h"

enum {
    ACCOUNTS_MAX = 4 * 1000 * 1000, /* of one tenant */
    DAY_LEN = 10,                   /* "2026-11-21" */
};

/* --- windows ---------------------------------------------------------------------------------- */

/* Ids of the windows that a day lies in: "d20261121", "m202611", "t". */
static void windows_of(const char *day, char ids[BUDGET_WINDOW_COUNT][WINDOW_ID_SIZE])
{
    const char *at = strlen(day) == DAY_LEN ? day : "0000-00-00";

    snprintf(ids[BUDGET_DAY], WINDOW_ID_SIZE, "d%.4s%.2s%.2s", at, at + 5, at + 8);
    snprintf(ids[BUDGET_MONTH], WINDOW_ID_SIZE, "m%.4s%.2s", at, at + 5);
    snprintf(ids[BUDGET_TOTAL], WINDOW_ID_SIZE, "t");
}

static bool is_past(const struct ledger_book *book, const char *window)
{
    return (*window == 'd' && strcmp(window, book->recent_day) < 0) ||
           (*window == 'm' && strcmp(window, book->recent_month) < 0);
}

bool ledger_book_is_past(const struct ledger_book *book, const char *account)
{
    const char *bar = strrchr(account, '|');

    return bar && is_past(book, bar + 1);
}

/* --- accounts --------------------------------------------------------------------------------- */

/* Accounts are found by index + 1, since the array moves as it grows. */
static bool find_account(const struct ledger_book *book, const char *text, size_t *index)
{
    size_t number = (size_t)(uintptr_t)map_get(book->by_account, text, strlen(text));

    *index = number - 1;
    return number > 0;
}

static bool add_account(struct ledger_book *book, const char *text, enum budget_window window,
                        const struct limit_set *set, size_t *index)
{
    struct ledger_account *more =
        array_grow(book->accounts, book->account_count, sizeof(*book->accounts));
    char *copy;

    if (!more)
        return false;
    book->accounts = more;
    copy = strdup(text);
    *index = book->account_count;
    if (!copy || !map_put(book->by_account, text, strlen(text), (void *)(uintptr_t)(*index + 1))) {
        free(copy);
        return false;
    }
    book->accounts[book->account_count++] = (struct ledger_account){
        .book = {.account = copy},
        .window = window,
        .limit_nano = set->budget_nano[window],
        .is_shadow = set->is_shadow,
    };
    return true;
}

/* The accounts that a row is booked in, as indexes.  False: out of memory. */
struct places {
    int count;
    size_t of[BOOK_RECORD_ACCOUNTS_MAX];
};

static bool find_places(struct ledger_book *book, const struct limit_cache *cache,
                        const struct book_row *row, struct places *out)
{
    struct applied_limit applied[LIMIT_SCOPE_COUNT];
    char windows[BUDGET_WINDOW_COUNT][WINDOW_ID_SIZE], text[BOOK_ACCOUNT_SIZE];
    int count = limit_cache_apply(cache, row->tenant, row->key_id ? row->key_id : "", row->workflow,
                                  row->end_user, row->model ? row->model : "", applied);

    out->count = 0;
    windows_of(row->day, windows);
    for (int i = 0; i < count; i++)
        for (int w = 0; w < BUDGET_WINDOW_COUNT; w++) {
            size_t *place = &out->of[out->count];

            if (applied[i].set->budget_nano[w] < 0 || is_past(book, windows[w]))
                continue;
            book_account_format(applied[i].scope, applied[i].name, windows[w], text);
            if (!find_account(book, text, place) &&
                !add_account(book, text, (enum budget_window)w, applied[i].set, place))
                return false;
            out->count++;
        }
    return true;
}

/* --- rows ------------------------------------------------------------------------------------- */

/* By index + 1, as accounts are. */
struct ledger_book *ledger_find(const struct ledger *ledger, const char *tenant)
{
    size_t number = 0;

    if (ledger->by_tenant)
        number = (size_t)(uintptr_t)map_get(ledger->by_tenant, tenant, strlen(tenant));
    return number > 0 ? &ledger->books[number - 1] : NULL;
}

static bool begin_book(struct ledger *ledger, const struct book_row *row)
{
    struct ledger_book *more = array_grow(ledger->books, ledger->count, sizeof(*ledger->books));
    char windows[BUDGET_WINDOW_COUNT][WINDOW_ID_SIZE];
    struct ledger_book *book;

    if (!more)
        return false;
    ledger->books = more;
    book = &ledger->books[ledger->count];
    *book = (struct ledger_book){.by_account = map_new(ACCOUNTS_MAX)};
    if (!book->by_account)
        return false;
    ledger->count++;
    if (!map_put(ledger->by_tenant, row->tenant, strlen(row->tenant),
                 (void *)(uintptr_t)ledger->count))
        return false;
    windows_of(row->recent, windows);
    snprintf(book->tenant, sizeof(book->tenant), "%s", row->tenant);
    snprintf(book->generation, sizeof(book->generation), "%lld.%lld", (long long)row->binding,
             (long long)row->book);
    memcpy(book->recent_day, windows[BUDGET_DAY], WINDOW_ID_SIZE);
    memcpy(book->recent_month, windows[BUDGET_MONTH], WINDOW_ID_SIZE);
    return true;
}

static void add_money(struct ledger_book *book, const struct book_row *row,
                      const struct places *places)
{
    for (int i = 0; i < places->count; i++) {
        struct book_account *account = &book->accounts[places->of[i]].book;

        account->spent_nano += row->nano;
        account->unknown_nano += row->unknown_nano;
    }
}

/* (The texts of accounts stay where they are when the array moves.) */
static bool add_record(struct ledger_book *book, const struct book_row *row,
                       const struct places *places)
{
    struct book_record *more;
    const char **accounts;

    if (places->count == 0)
        return true;
    more = array_grow(book->records, book->record_count, sizeof(*book->records));
    if (!more)
        return false;
    book->records = more;
    accounts = calloc((size_t)places->count, sizeof(*accounts));
    if (!accounts)
        return false;
    for (int i = 0; i < places->count; i++) {
        accounts[i] = book->accounts[places->of[i]].book.account;
        if (!row->is_unknown)
            book->accounts[places->of[i]].book.reserved_nano += row->nano;
    }
    book->live += !row->is_unknown;
    book->records[book->record_count++] = (struct book_record){
        .job = row->job,
        .run = row->run,
        .call = row->call,
        .is_unknown = row->is_unknown,
        .amount_nano = row->nano,
        .at_us = row->started_us,
        .owner = row->run_token,
        .accounts = accounts,
        .account_count = places->count,
    };
    return true;
}

static void note_late(struct ledger_book *book, const struct places *places)
{
    for (int i = 0; i < places->count; i++)
        book->has_late = book->has_late || !book->accounts[places->of[i]].is_shadow;
}

static bool add_row(struct ledger *ledger, const struct limit_cache *cache,
                    const struct book_row *row)
{
    struct ledger_book *book;
    struct places places;

    if (row->kind == BOOK_ROW_TENANT)
        return begin_book(ledger, row);
    book = ledger_find(ledger, row->tenant);
    if (!book || !find_places(book, cache, row, &places))
        return false;
    if (row->kind == BOOK_ROW_OPEN)
        return add_record(book, row, &places);
    if (row->kind == BOOK_ROW_MONEY)
        add_money(book, row, &places);
    else
        note_late(book, &places);
    return true;
}

bool ledger_read(const struct pg_result *result, const struct limit_cache *cache,
                 struct ledger *out)
{
    struct book_row row;

    *out = (struct ledger){.by_tenant = map_new(BOOK_BATCH_MAX)};
    if (!out->by_tenant)
        return false;
    for (int i = 0; i < pg_rows(result); i++) {
        book_row_read(result, i, &row);
        if (!add_row(out, cache, &row))
            return false;
    }
    return true;
}

static void release_book(struct ledger_book *book)
{
    for (size_t i = 0; i < book->record_count; i++)
        free((void *)(uintptr_t)book->records[i].accounts);
    for (size_t i = 0; i < book->account_count; i++)
        free((void *)(uintptr_t)book->accounts[i].book.account);
    free(book->records);
    free(book->accounts);
    map_free(book->by_account);
}

void ledger_release(struct ledger *ledger)
{
    for (size_t i = 0; i < ledger->count; i++)
        release_book(&ledger->books[i]);
    free(ledger->books);
    map_free(ledger->by_tenant);
    *ledger = (struct ledger){.count = 0};
}

const struct ledger_account *ledger_book_account(const struct ledger_book *book,
                                                 const char *account)
{
    size_t index;

    return find_account(book, account, &index) ? &book->accounts[index] : NULL;
}
