/* SPDX-License-Identifier: Apache-2.0 */
/* A plain model of what the scripts of admission keep: rates, leases and books, without Redis. */
#include "tests/unit/admission_model_fixture.h"

#include "common/base/clock.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct model_state kept;

/* --- names ------------------------------------------------------------------------------------ */

struct id model_job(int number)
{
    struct id id = {.bytes = {[6] = 0x70, [8] = 0x80}};

    memcpy(id.bytes + 12, &number, sizeof(number));
    return id;
}

void name_of(const struct call *call, char out[ADMISSION_NAME_SIZE])
{
    admission_name_format(model_job(call->number), 1, 1, out);
}

const char *tenant_name(int tenant)
{
    static const char *const names[TENANTS] = {"all", "money", "rates"};

    return names[tenant];
}

const char *workflow_name(int workflow)
{
    return workflow == 0 ? "nightly" : "hourly";
}

void generation_text(int generation, char out[48])
{
    snprintf(out, 48, "%d.%d", generation / 10, generation % 10 + 1);
}

void windows_of(int day, struct budget_windows *out)
{
    memset(out, 0, sizeof(*out));
    snprintf(out->id[BUDGET_DAY], WINDOW_ID_SIZE, "d%08d", day);
    snprintf(out->id[BUDGET_MONTH], WINDOW_ID_SIZE, "m%06d", day / 4);
    snprintf(out->id[BUDGET_TOTAL], WINDOW_ID_SIZE, "t");
    out->end_us[BUDGET_DAY] = 5 * US_PER_S;
    out->end_us[BUDGET_MONTH] = 7 * US_PER_S;
    out->end_us[BUDGET_TOTAL] = INT64_MAX;
}

/* The accounts of a call, in the order of its question. */
void accounts_of(const struct call *call, struct account *out[ACCOUNTS])
{
    struct book *book = &kept.books[call->tenant];

    out[0] = &book->days[call->day];
    out[1] = &book->months[call->day / 4];
    out[2] = &book->workflow_days[call->workflow][call->day];
}

void account_names_of(const struct call *call, char out[ACCOUNTS][BOOK_ACCOUNT_SIZE])
{
    struct budget_windows windows;

    windows_of(call->day, &windows);
    book_account_format(LIMIT_TENANT, "", windows.id[BUDGET_DAY], out[0]);
    book_account_format(LIMIT_TENANT, "", windows.id[BUDGET_MONTH], out[1]);
    book_account_format(LIMIT_WORKFLOW, workflow_name(call->workflow), windows.id[BUDGET_DAY],
                        out[2]);
}

bool has_money(int tenant)
{
    return tenant != 2;
}

struct scope *scope_of(const struct call *call, int index)
{
    return index == 0 ? &kept.tenant_scopes[call->tenant]
                      : &kept.workflow_scopes[call->tenant][call->workflow];
}

static const struct limit_set *set_of(int tenant, int index)
{
    return index == 0 ? &kept.limits[tenant].tenant : &kept.limits[tenant].workflow;
}

/* --- the model of the rates ------------------------------------------------------------------- */

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t burst_of(int64_t limit)
{
    return larger(limit / 10, 1);
}

static void scope_read(struct scope *scope, int64_t now_us)
{
    int64_t back = scope->seen_us - now_us;
    int64_t sum = 0;

    if (!scope->exists) {
        *scope = (struct scope){.seen_us = now_us};
        return;
    }
    if (back > 0) {
        scope->requests_tat -= back;
        scope->tokens_tat -= back;
        for (int i = 0; i < RING; i++) {
            sum += scope->spans[i];
            scope->spans[i] = 0;
        }
        scope->newest = now_us / SPAN_US;
        scope->spans[scope->newest % RING] = sum;
    }
    scope->seen_us = now_us;
}

static void scope_turn(struct scope *scope, int64_t now_us)
{
    int64_t newest = now_us / SPAN_US;

    for (int64_t span = scope->has_ring ? scope->newest + 1 : newest - RING + 1; span <= newest;
         span++)
        scope->spans[span % RING] = 0;
    scope->newest = newest;
    scope->has_ring = true;
}

static void refuse(struct refusal *worst, bool is_never, int dimension, int index, int64_t wait,
                   int64_t interval, int64_t limit, int64_t left)
{
    if (is_never)
        wait = INT64_C(1) << 53;
    if (wait > worst->wait)
        *worst = (struct refusal){is_never, dimension, index, wait, interval, limit, left};
}

static void model_requests(struct scope *scope, int64_t limit, int index, int64_t *cost,
                           struct refusal *worst)
{
    int64_t each = (MINUTE_US + limit - 1) / limit;
    int64_t tat = larger(scope->requests_tat, kept.now_us) + each;
    int64_t wait = tat - burst_of(limit) * each - kept.now_us;

    if (wait > 0)
        refuse(worst, false, ADMISSION_REQUESTS, index, wait, each, limit, 0);
    scope->requests_tat = tat;
    *cost = each;
}

static void model_tokens(struct scope *scope, int64_t tokens, int64_t limit, int index,
                         int64_t *cost, struct refusal *worst)
{
    int64_t cap = limit + burst_of(limit);
    int64_t tat = larger(scope->tokens_tat, kept.now_us);
    int64_t slack = burst_of(limit) * MINUTE_US / limit;
    int64_t wait = 0;
    int64_t over = tokens - cap;

    if (tokens > cap) {
        refuse(worst, true, ADMISSION_TOKENS, index, 0, 0, limit, 0);
        return;
    }
    scope_turn(scope, kept.now_us);
    for (int i = 0; i < RING; i++)
        over += scope->spans[i];
    for (int64_t span = scope->newest - RING + 1; over > 0 && span <= scope->newest; span++) {
        over -= scope->spans[span % RING];
        wait = (span + RING) * SPAN_US - kept.now_us;
    }
    *cost = (tokens * MINUTE_US + limit - 1) / limit;
    if (tat > kept.now_us && tat + *cost - slack > kept.now_us)
        wait = larger(wait, tat + (*cost < slack ? *cost - slack : 0) - kept.now_us);
    if (wait > 0)
        refuse(worst, false, ADMISSION_TOKENS, index, wait, *cost, limit, 0);
    scope->tokens_tat = tat + *cost;
    scope->spans[scope->newest % RING] += tokens;
}

/* Those that stay: not this call's, and none that has ended. */
static void drop_leases(struct scope *scope, int number, int64_t now_us)
{
    int count = 0;

    for (int i = 0; i < scope->lease_count; i++)
        if (scope->leases[i].number != number && scope->leases[i].until_us > now_us)
            scope->leases[count++] = scope->leases[i];
    scope->lease_count = count;
}

static void model_leases(const struct call *call, struct scope *scope, int64_t limit, int index,
                         struct refusal *worst)
{
    int64_t until_us = kept.now_us + LEASE_S * US_PER_S + GRAIN_US - 1;

    drop_leases(scope, 0, kept.now_us);
    if (scope->lease_count >= limit)
        refuse(worst, false, ADMISSION_CONCURRENCY, index, 200000, 20000, limit, 0);
    assert_true(scope->lease_count < LEASES_MAX);
    scope->leases[scope->lease_count++] =
        (struct lease){.number = call->number, .until_us = until_us - until_us % GRAIN_US};
}

/* Works on copies: nothing is kept of a refusal. */
void model_rates(const struct call *call, struct scope scopes[SCOPES], struct call *taken,
                 struct refusal *worst)
{
    for (int i = 0; i < SCOPES; i++) {
        const struct limit_set *set = set_of(call->tenant, i);

        scopes[i] = *scope_of(call, i);
        scope_read(&scopes[i], kept.now_us);
        if (set->requests_per_minute >= 0)
            model_requests(&scopes[i], set->requests_per_minute, i, &taken->request_us[i], worst);
        if (set->tokens_per_minute >= 0)
            model_tokens(&scopes[i], call->tokens, set->tokens_per_minute, i, &taken->tokens_us[i],
                         worst);
        if (set->max_concurrency >= 0)
            model_leases(call, &scopes[i], set->max_concurrency, i, worst);
    }
}

void take_rates(struct call *call, const struct scope scopes[SCOPES], const struct call *taken)
{
    call->has_rates = true;
    call->rates_at_us = kept.now_us;
    call->rates_tokens = call->tokens;
    call->rates_until_us = kept.now_us + LEASE_S * US_PER_S;
    for (int i = 0; i < SCOPES; i++) {
        const struct limit_set *set = set_of(call->tenant, i);
        struct scope *scope = scope_of(call, i);

        *scope = scopes[i];
        scope->exists = true;
        call->request_us[i] = taken->request_us[i];
        call->tokens_us[i] = taken->tokens_us[i];
        call->took_lease[i] = set->max_concurrency >= 0;
    }
}

/* What is given back happens at the time the scope was seen last; only what takes more looks at the
 * clock. */

/* Gives tokens back (or takes more) in the span they were taken in, while it is in the window. */
static void end_tokens(struct scope *scope, const struct call *call, int index, int64_t unused)
{
    int64_t span = call->rates_at_us / SPAN_US;

    scope_turn(scope, scope->seen_us);
    if (unused < 0)
        scope->tokens_tat = larger(scope->tokens_tat, scope->seen_us);
    scope->tokens_tat -= (int64_t)floor((double)call->tokens_us[index] /
                                        (double)call->rates_tokens * (double)unused);
    if (span > scope->newest || (unused < 0 && span <= scope->newest - RING))
        span = scope->newest;
    if (span > scope->newest - RING)
        scope->spans[span % RING] = larger(scope->spans[span % RING] - unused, 0);
}

void end_rates(struct call *call, int64_t used, bool is_undone)
{
    for (int i = 0; i < SCOPES; i++) {
        struct scope *scope = scope_of(call, i);
        int64_t unused = used >= 0 && call->tokens_us[i] > 0 ? call->rates_tokens - used : 0;
        int64_t request_back = is_undone ? call->request_us[i] : 0;

        if (unused == 0 && request_back == 0 && !call->took_lease[i])
            continue;
        if (!scope->exists && unused >= 0)
            continue;
        scope_read(scope, unused < 0 ? kept.now_us : scope->seen_us);
        scope->exists = true;
        scope->requests_tat -= request_back;
        if (unused != 0)
            end_tokens(scope, call, i, unused);
        if (call->took_lease[i])
            drop_leases(scope, call->number, scope->seen_us);
    }
    call->has_rates = false;
}

/* --- the model of the book -------------------------------------------------------------------- */

static int64_t budget_of(int tenant, int account)
{
    const struct limit_set *set =
        account == 2 ? &kept.limits[tenant].workflow : &kept.limits[tenant].tenant;

    return set->budget_nano[account == 1 ? BUDGET_MONTH : BUDGET_DAY];
}

void model_money(const struct call *call, struct refusal *worst)
{
    static const int64_t window_waits[ACCOUNTS] = {5000000, 7000000, 5000000};
    struct account *accounts[ACCOUNTS];

    accounts_of(call, accounts);
    for (int i = 0; i < ACCOUNTS; i++) {
        int64_t limit = budget_of(call->tenant, i);
        const struct account *account = accounts[i];
        int64_t taken = account->spent + account->reserved + account->unknown;
        int64_t left = larger(limit - taken, 0);

        if (taken + call->amount <= limit)
            continue;
        if (call->amount > limit)
            refuse(worst, true, ADMISSION_BUDGET, i, 0, 0, limit, left);
        else if (account->reserved > 0 && taken - account->reserved + call->amount <= limit)
            refuse(worst, false, ADMISSION_BUDGET, i, 1000000, 100000, limit, left);
        else
            refuse(worst, false, ADMISSION_BUDGET, i, window_waits[i], 0, limit, left);
    }
}

void take_money(struct call *call)
{
    struct account *accounts[ACCOUNTS];

    accounts_of(call, accounts);
    for (int i = 0; i < ACCOUNTS; i++) {
        accounts[i]->exists = true;
        accounts[i]->reserved += call->amount;
        assert_true(accounts[i]->spent + accounts[i]->reserved + accounts[i]->unknown <=
                    budget_of(call->tenant, i));
    }
    call->has_record = true;
    call->is_unknown = false;
    kept.books[call->tenant].version++;
    kept.books[call->tenant].live++;
}

/* True: Redis takes it. */
bool model_settle_money(struct call *call, char how, int64_t cost)
{
    struct book *book = &kept.books[call->tenant];
    struct account *accounts[ACCOUNTS];

    if (book->state == BOOK_BUILDING)
        return false;
    if (!call->has_record || (how == 'U' && call->is_unknown))
        return true;
    accounts_of(call, accounts);
    for (int i = 0; i < ACCOUNTS; i++) {
        if (!accounts[i]->exists)
            continue;
        *(call->is_unknown ? &accounts[i]->unknown : &accounts[i]->reserved) -= call->amount;
        accounts[i]->unknown += how == 'U' ? call->amount : 0;
        accounts[i]->spent += how == 'S' ? cost : 0;
    }
    book->version++;
    book->live -= !call->is_unknown;
    call->is_unknown = how == 'U';
    call->has_record = how == 'U';
    return true;
}
