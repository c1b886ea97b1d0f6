/* SPDX-License-Identifier: Apache-2.0 */
/* The limits of a tenant or of a key: a document, its sets, and which of them a job is under.
 * Pure. */
#ifndef COMMON_MODEL_LIMITS_H
#define COMMON_MODEL_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/err.h"
#include "common/model/job.h"

struct buf;

/* What a set of limits is about.  A job is under at most one set of each. */
enum limit_scope {
    LIMIT_TENANT,
    LIMIT_KEY,
    LIMIT_WORKFLOW,
    LIMIT_USER,
    LIMIT_MODEL, /* the job's model: a route's name */
    LIMIT_SCOPE_COUNT,
};

enum budget_window { BUDGET_DAY, BUDGET_MONTH, BUDGET_TOTAL, BUDGET_WINDOW_COUNT };

enum budget_policy {
    BUDGET_WAIT, /* a job that does not fit waits */
    BUDGET_FAIL, /* it is refused at submit, and fails later */
};

/* One set; -1: no such limit.  What a limit does is told in producer/README.md. */
struct limit_set {
    int64_t submits_per_minute;  /* intake */
    int64_t requests_per_minute; /* provider calls */
    int64_t tokens_per_minute;
    int64_t max_concurrency;
    int64_t max_queued;     /* intake */
    int64_t max_body_bytes; /* intake */
    int64_t max_job_cost_nano;
    int64_t budget_nano[BUDGET_WINDOW_COUNT];
    bool is_shadow; /* counted and reported, never enforced */
};

enum {
    LIMITS_NAMES_MAX = 1000,           /* sets in each of workflows, users and models */
    LIMITS_DOCUMENT_MAX = 1024 * 1024, /* bytes as JSON */
    TIME_ZONE_MAX = 64,
    LIMIT_SCOPE_TEXT_SIZE = 512, /* of limit_scope_format: names are those of jobs and routes */
};

/* The largest rate and number: far over what is of use, and exact in Lua also times a million. */
#define LIMIT_COUNT_MAX INT64_C(1000000000)

enum limits_owner { LIMITS_OF_TENANT, LIMITS_OF_KEY };

/* A document as PUT took it.  Immutable and counted. */
struct limits;

/* Judges a document whole.  NULL: err has code (invalid_value, unknown_field) and param, the path
 * of the member at fault ("workflows.nightly.budget_usd.day").  Whether a time zone exists is
 * Postgres's to say: here only its form is judged.  A key's document has neither time_zone nor
 * workflows, users and models (null and {} pass). */
struct limits *limits_parse(const json_t *document, enum limits_owner owner,
                            struct err *err) MUST_CHECK;
/* The same from JSON text. */
struct limits *limits_parse_text(const char *text, size_t len, enum limits_owner owner,
                                 struct err *err) MUST_CHECK;
struct limits *limits_ref(struct limits *limits);
void limits_unref(struct limits *limits); /* NULL is fine */

/* The canonical document, all members there, null where there is no limit; limits NULL gives that
 * of an owner without limits.  Names are in order, so that equal documents have equal bytes. */
bool limits_render(const struct limits *limits, struct buf *out) MUST_CHECK;

/* These take NULL for "no document". */
const char *limits_time_zone(const struct limits *limits); /* NULL: none, days are UTC's */
enum budget_policy limits_policy(const struct limits *limits);
/* Is there any limit at all, is there any budget (in shadow or not), anywhere in it? */
bool limits_is_empty(const struct limits *limits);
bool limits_has_budget(const struct limits *limits);
/* Do both have the same accounts: budgets of the same scopes and windows, in the same zone, and the
 * same ones of them in shadow?  The ceilings may differ.  If not, the tenant's book must be summed
 * anew. */
bool limits_same_accounts(const struct limits *a, const struct limits *b);

/* A set that a job is under. */
struct applied_limit {
    enum limit_scope scope;
    const char *name; /* "" for the tenant; borrowed from the arguments of limits_apply */
    const struct limit_set *set; /* borrowed from the document */
};

/* The sets a job is under, in the order of enum limit_scope; sets without any limit are left out.
 * "*" in a map stands for each name that has no set of its own, and its counts are that name's
 * alone.  workflow, user and model may be NULL: no set of theirs; so may both documents.  Returns
 * how many. */
int limits_apply(const struct limits *tenant, const struct limits *key, const char *key_id,
                 const char *workflow, const char *user, const char *model,
                 struct applied_limit out[LIMIT_SCOPE_COUNT]);

/* The set that jobs of this name are under ("*" included); NULL: none.  Of a key's document:
 * LIMIT_TENANT. */
const struct limit_set *limits_set_of(const struct limits *limits, enum limit_scope scope,
                                      const char *name);
/* Visits every set that a name was given to, the document's own first (LIMIT_TENANT, ""); not "*".
 */
typedef void limits_visit_fn(enum limit_scope scope, const char *name, const struct limit_set *set,
                             void *arg);
void limits_each(const struct limits *limits, limits_visit_fn *visit, void *arg);

/* Does the set limit calls, other than by money? */
bool limit_set_has_rates(const struct limit_set *set);

/* Has any of the sets a budget that is enforced? */
bool limits_applied_budget(const struct applied_limit *applied, int count);

const char *limit_scope_name(enum limit_scope scope); /* "workflow" */
/* From "tenant", "key:…", ...; *name points into text.  False: it is none. */
bool limit_scope_parse(const char *text, enum limit_scope *scope, const char **name) MUST_CHECK;
const char *budget_window_name(enum budget_window window); /* "day" */
/* "tenant", "key:…", "workflow:…", "user:…", "model:…": as GET budget says it. */
void limit_scope_format(enum limit_scope scope, const char *name, char out[LIMIT_SCOPE_TEXT_SIZE]);

#endif
