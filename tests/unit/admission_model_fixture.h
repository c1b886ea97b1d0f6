/* SPDX-License-Identifier: Apache-2.0 */
/* A plain model of what the scripts of admission keep: rates, leases and books, without Redis. */
#ifndef TESTS_UNIT_ADMISSION_MODEL_FIXTURE_H
#define TESTS_UNIT_ADMISSION_MODEL_FIXTURE_H

#include "common/model/admission.h"
#include "common/model/book_redis.h"
#include "common/model/limit_cache.h"

enum {
    TENANTS = 3, /* 0: all limits; 1: budgets only; 2: rates only */
    WORKFLOWS = 2,
    SCOPES = 2,   /* of a question: the tenant and a workflow */
    ACCOUNTS = 3, /* tenant's day and month, workflow's day */
    NAMES = 2048, /* those that are remembered */
    DAYS = 4096,  /* windows there may be */
    PIPELINE = 1000,
    LOOK_EVERY = 10000,
    LEASE_S = 30,
    GRAIN_US = 1 << 20, /* the end of such a lease is rounded up to it */
    LEASES_MAX = 64,
    SPAN_US = 5000000,
    RING = 13,
    MINUTE_US = 60000000,
    EXPECT_MAX = 8,
    REFUSALS = 8, /* kinds from here on */
};

enum ledger { NONE, RESERVED, SENT, UNKNOWN, SETTLED, RELEASED };

/* A call: what the ledger says, what its record in the book is, what it took of the rates. */
struct call {
    int number;
    int tenant, workflow;
    int64_t amount, tokens, cost, used;
    int day;
    enum ledger ledger;
    int generation; /* under which it was reserved */
    bool owes;      /* a settlement that Redis has not taken */
    char owed;      /* S, R, U, X */

    bool has_record, is_unknown;
    bool has_rates;
    int64_t rates_at_us, rates_tokens;
    int64_t request_us[SCOPES], tokens_us[SCOPES];
    bool took_lease[SCOPES];
    int64_t rates_until_us;
};

struct lease {
    int number; /* of its call */
    int64_t until_us;
};

struct scope {
    bool exists;
    int64_t seen_us, requests_tat, tokens_tat;
    bool has_ring;
    int64_t newest;
    int64_t spans[RING];
    struct lease leases[LEASES_MAX];
    int lease_count;
};

struct account {
    bool exists;
    int64_t spent, reserved, unknown;
};

enum book_state { BOOK_NONE, BOOK_BUILDING, BOOK_LIVE };

struct book {
    enum book_state state;
    int generation; /* of what is in Redis */
    int ledger_generation;
    int64_t version, live;
    struct account days[DAYS], months[DAYS], workflow_days[WORKFLOWS][DAYS];
};

struct limits_of {
    struct limit_set tenant, workflow;
};

/* Of the refusal that lasts longest; wait -1: none. */
struct refusal {
    bool is_never;
    int64_t dimension, index, wait, interval, limit, free;
};

/* All that the model remembers. */
extern struct model_state {
    int64_t now_us;
    struct call calls[NAMES];
    struct book books[TENANTS];
    struct scope tenant_scopes[TENANTS], workflow_scopes[TENANTS][WORKFLOWS];
    struct limits_of limits[TENANTS];
} kept;

struct id model_job(int number);
void name_of(const struct call *call, char out[ADMISSION_NAME_SIZE]);
const char *tenant_name(int tenant);
const char *workflow_name(int workflow);
void generation_text(int generation, char out[48]);
void windows_of(int day, struct budget_windows *out);
void accounts_of(const struct call *call, struct account *out[ACCOUNTS]);
void account_names_of(const struct call *call, char out[ACCOUNTS][BOOK_ACCOUNT_SIZE]);
bool has_money(int tenant);
struct scope *scope_of(const struct call *call, int index);
void model_rates(const struct call *call, struct scope scopes[SCOPES], struct call *taken,
                 struct refusal *worst);
void take_rates(struct call *call, const struct scope scopes[SCOPES], const struct call *taken);
void end_rates(struct call *call, int64_t used, bool is_undone);
void model_money(const struct call *call, struct refusal *worst);
void take_money(struct call *call);
bool model_settle_money(struct call *call, char how, int64_t cost);

#endif
