/* SPDX-License-Identifier: Apache-2.0 */
/* Asking: the tenant's script and the provider's side by side, and one answer out of both. */
#include "common/model/admission.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/daemon.h"
#include "common/io/metrics.h"
#include "common/model/admission_local.h"
#include "common/model/admission_private.h"
#include "common/model/admission_wire.h"

#include <event2/event.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE_TENANT, SIDE_PROVIDER, SIDE_COUNT, LOCAL_LIMITS_MAX = LIMIT_SCOPE_COUNT + 1 };

static const struct metric shadow_refusals = {
    .name = "nightshift_shadow_refusals_total",
    .type = METRIC_COUNTER,
    .help = "Calls, and submits, that a limit in shadow would have refused.",
    .labels = {"dimension"},
};
static const struct metric limit_waits = {
    .name = "nightshift_limit_waits_total",
    .type = METRIC_COUNTER,
    .help = "Calls told to wait by a limit, by what refused.",
    .labels = {"dimension"},
};
static const struct metric budget_away = {
    .name = "nightshift_budget_away_total",
    .type = METRIC_COUNTER,
    .help = "Calls under a budget that were not made because Redis did not answer.",
};

/* One of the two scripts of a question. */
struct side {
    struct admission_ask *ask;
    struct script_call *call; /* NULL: not asked, or answered */
    bool is_asked;
    bool may_be_held; /* it may have run without our knowing what it said */
    char kind;
    const char *owner; /* borrowed from the ask */
    unsigned parts;    /* of a settlement that takes it back */
    unsigned shadows;
    struct admission_answer answer;
};

struct admission_ask {
    TAILQ_ENTRY(admission_ask) link;
    struct admission *admission; /* NULL: it is gone */
    struct side sides[SIDE_COUNT];
    int pending;
    char name[ADMISSION_NAME_SIZE];
    char *tenant;
    char *provider;
    struct wire_map map;
    struct local_limit local[LOCAL_LIMITS_MAX]; /* for while Redis is away */
    enum limit_scope local_scopes[LOCAL_LIMITS_MAX];
    char *local_texts[LOCAL_LIMITS_MAX];
    int local_count;
    int64_t tokens;
    int64_t lease_us;
    bool is_cancelled;
    admission_done_fn *done;
    void *arg;
};

/* --- the whole -------------------------------------------------------------------------------- */

struct admission *admission_new(struct event_base *base, struct redis *redis)
{
    struct admission *admission = xcalloc(1, sizeof(*admission));

    admission->base = base;
    admission->redis = redis;
    admission->workers = 1;
    admission->local = admission_local_new();
    TAILQ_INIT(&admission->asks);
    TAILQ_INIT(&admission->intakes);
    admission_settles_init(admission);
    metric_declare(&budget_away, NULL);
    return admission;
}

void admission_set_workers(struct admission *admission, int workers)
{
    admission->workers = workers > 1 ? workers : 1;
}

void admission_count_shadows(unsigned shadows)
{
    for (int i = 0; i < ADMISSION_DIMENSION_COUNT; i++)
        if (shadows & 1U << i)
            metric_add(&shadow_refusals,
                       METRIC_LABELS(admission_dimension_name((enum admission_dimension)i)), 1);
}

void admission_count_shadow(const char *dimension)
{
    metric_add(&shadow_refusals, METRIC_LABELS(dimension), 1);
}

static void ask_free(struct admission_ask *ask)
{
    if (ask->admission)
        TAILQ_REMOVE(&ask->admission->asks, ask, link);
    for (int i = 0; i < ask->local_count; i++)
        free(ask->local_texts[i]);
    free(ask->tenant);
    free(ask->provider);
    free(ask);
}

void admission_free(struct admission *admission)
{
    const struct admission_answer away = {.outcome = ADMISSION_AWAY};
    struct admission_ask *ask;

    if (!admission)
        return;
    while ((ask = TAILQ_FIRST(&admission->asks)) != NULL) {
        for (int i = 0; i < SIDE_COUNT; i++)
            if (ask->sides[i].call)
                script_call_cancel(ask->sides[i].call);
        if (!ask->is_cancelled)
            ask->done(&away, ask->arg);
        if (ask->pending == 0) { /* its turn is to come: finish() frees it */
            TAILQ_REMOVE(&admission->asks, ask, link);
            ask->admission = NULL;
        } else {
            ask_free(ask);
        }
    }
    admission_intakes_release(admission);
    admission_settles_release(admission);
    admission_local_free(admission->local);
    free(admission);
}

/* --- one answer out of two -------------------------------------------------------------------- */

static void take_back(struct admission_ask *ask)
{
    for (int i = 0; i < SIDE_COUNT; i++) {
        struct side *side = &ask->sides[i];

        if (side->is_asked && (side->answer.holds || side->may_be_held))
            admission_undo(ask->admission, side->kind, side->owner, ask->name, side->parts);
    }
}

static void tell(struct admission_ask *ask, const struct admission_answer *answer)
{
    if (answer->outcome == ADMISSION_WAIT && !ask->is_cancelled)
        metric_add(&limit_waits, METRIC_LABELS(admission_dimension_name(answer->dimension)), 1);
    if (!ask->is_cancelled)
        ask->done(answer, ask->arg);
}

/* Redis is away and no budget applies: the process's own share of the limits. */
static void ask_local(struct admission_ask *ask, struct admission_answer *answer)
{
    struct local_refusal refusal;

    *answer = (struct admission_answer){.outcome = ADMISSION_GO, .holds = ADMISSION_HOLDS_LOCAL};
    if (ask->is_cancelled ||
        admission_local_ask(ask->admission->local, ask->name, ask->local, ask->local_count,
                            ask->tokens, ask->admission->workers, clock_monotonic_us(),
                            ask->lease_us, &refusal))
        return;
    answer->outcome = ADMISSION_WAIT;
    answer->holds = 0;
    answer->dimension = refusal.dimension;
    answer->wait_us = refusal.wait_us;
    answer->interval_us = refusal.interval_us;
    answer->scope = ask->local_scopes[refusal.index];
    answer->is_provider = ask->local_scopes[refusal.index] == LIMIT_SCOPE_COUNT;
    if (answer->is_provider)
        answer->scope = LIMIT_TENANT;
    answer->limit = refusal.dimension == ADMISSION_REQUESTS ? ask->local[refusal.index].requests
                    : refusal.dimension == ADMISSION_TOKENS ? ask->local[refusal.index].tokens
                                                            : ask->local[refusal.index].leases;
    wire_detail(answer, strchr(ask->local_texts[refusal.index], '\n') + 1);
}

/* The longest wait; never over all. */
static const struct admission_answer *worse(const struct admission_answer *a,
                                            const struct admission_answer *b)
{
    static const int ranks[] = {
        [ADMISSION_GO] = 0,    [ADMISSION_WAIT] = 1, [ADMISSION_NEVER] = 2,
        [ADMISSION_STALE] = 3, [ADMISSION_AWAY] = 4,
    };

    if (ranks[a->outcome] != ranks[b->outcome])
        return ranks[a->outcome] > ranks[b->outcome] ? a : b;
    return a->wait_us >= b->wait_us ? a : b;
}

static void finish(void *arg)
{
    struct admission_ask *ask = arg;
    const struct side *tenant = &ask->sides[SIDE_TENANT];
    const struct side *provider = &ask->sides[SIDE_PROVIDER];
    struct admission_answer answer;

    if (!ask->admission) {
        ask_free(ask);
        return;
    }
    answer = *worse(&tenant->answer, &provider->answer);
    if (answer.outcome == ADMISSION_GO) {
        answer.holds = tenant->answer.holds | provider->answer.holds;
        admission_count_shadows(tenant->shadows);
    }
    if (answer.outcome != ADMISSION_GO || ask->is_cancelled)
        take_back(ask);
    if (answer.outcome == ADMISSION_AWAY && !ask->map.has_money)
        ask_local(ask, &answer);
    else if (answer.outcome == ADMISSION_AWAY)
        metric_add(&budget_away, NULL, 1);
    tell(ask, &answer);
    ask_free(ask);
}

/* The question ends in the turn of its last reply, or in one of its own when nothing was asked. */
static void on_side(enum script_result result, const struct redis_reply *reply, bool may_have_run,
                    void *arg)
{
    static const struct log_context about = {.component = "admission"};
    struct side *side = arg;
    struct admission_ask *ask = side->ask;
    bool is_tenant = side == &ask->sides[SIDE_TENANT];
    const struct script_args *texts = script_call_args(side->call);

    side->call = NULL;
    side->answer = (struct admission_answer){.outcome = ADMISSION_AWAY};
    if (result == SCRIPT_OTHER_REDIS) {
        side->answer.outcome = ADMISSION_STALE;
        side->answer.is_other_redis = true;
    } else if (result == SCRIPT_ANSWERED &&
               !wire_answer(reply, texts, is_tenant ? &ask->map : NULL, ask->provider,
                            &side->answer, &side->shadows)) {
        log_error(&about, "a script answered what it should not");
        side->answer = (struct admission_answer){.outcome = ADMISSION_AWAY};
    }
    /* A refusal after a lost reply: the name may hold something of the first time. */
    side->may_be_held = may_have_run && side->answer.outcome != ADMISSION_GO;
    if (--ask->pending == 0)
        finish(ask);
}

/* --- asking ----------------------------------------------------------------------------------- */

static void add_local(struct admission_ask *ask, enum limit_scope scope, const char *owner,
                      const char *text, int64_t requests, int64_t tokens, int64_t leases)
{
    size_t size = strlen(owner) + strlen(text) + 2;
    char *joined = xcalloc(1, size);

    snprintf(joined, size, "%s\n%s", owner, text);
    ask->local_texts[ask->local_count] = joined;
    ask->local_scopes[ask->local_count] = scope;
    ask->local[ask->local_count++] = (struct local_limit){
        .scope = joined, .requests = requests, .tokens = tokens, .leases = leases};
}

static void note_local(struct admission_ask *ask, const struct admission_request *request)
{
    char text[LIMIT_SCOPE_TEXT_SIZE];

    for (int i = 0; i < request->limit_count; i++) {
        const struct limit_set *set = request->limits[i].set;

        if (set->is_shadow || !limit_set_has_rates(set))
            continue;
        wire_scope_format(request->limits[i].scope, request->limits[i].name, text);
        add_local(ask, request->limits[i].scope, request->tenant, text, set->requests_per_minute,
                  set->tokens_per_minute, set->max_concurrency);
    }
    if (!request->provider)
        return;
    snprintf(text, sizeof(text), "provider %s", request->provider);
    add_local(ask, LIMIT_SCOPE_COUNT, "", text, request->provider_requests_per_minute,
              request->provider_tokens_per_minute, request->provider_max_concurrency);
}

static void ask_side(struct admission_ask *ask, int index, struct script_args *args,
                     const char *run_id)
{
    struct side *side = &ask->sides[index];
    const struct script_spec spec = {.script = SCRIPT_ADMIT, .args = args, .run_id = run_id};

    side->is_asked = true;
    ask->pending++;
    side->call = script_call(ask->admission->redis, &spec, on_side, side);
}

static void ask_tenant(struct admission_ask *ask, const struct admission_request *request)
{
    struct script_args args;

    script_args_init(&args);
    if (wire_tenant(request, &args, &ask->map)) {
        ask->sides[SIDE_TENANT].parts = (ask->map.account_count > 0 ? ADMISSION_HOLDS_MONEY : 0) |
                                        (ask->map.scope_count > 0 ? ADMISSION_HOLDS_RATES : 0);
        /* What is only counted may go by any Redis: the generation says if it counts there. */
        ask_side(ask, SIDE_TENANT, &args, ask->map.has_money ? request->run_id : NULL);
    }
    script_args_release(&args);
}

static void ask_provider(struct admission_ask *ask, const struct admission_request *request)
{
    struct script_args args;

    script_args_init(&args);
    ask->sides[SIDE_PROVIDER].parts = ADMISSION_HOLDS_RATES;
    if (wire_provider(request, &args))
        ask_side(ask, SIDE_PROVIDER, &args, NULL);
    script_args_release(&args);
}

static struct admission_ask *ask_new(struct admission *admission,
                                     const struct admission_request *request,
                                     admission_done_fn *done, void *arg)
{
    struct admission_ask *ask = calloc(1, sizeof(*ask));

    if (!ask)
        return NULL;
    ask->admission = admission;
    ask->done = done;
    ask->arg = arg;
    ask->tokens = request->tokens;
    ask->lease_us = (request->lease_s > 0 ? request->lease_s : WIRE_LEASE_DEFAULT_S) * US_PER_S;
    ask->tenant = xstrdup(request->tenant);
    ask->provider = request->provider ? xstrdup(request->provider) : NULL;
    admission_name_format(request->job, request->run, request->call, ask->name);
    ask->sides[SIDE_TENANT] = (struct side){.ask = ask, .kind = 't', .owner = ask->tenant};
    ask->sides[SIDE_PROVIDER] = (struct side){.ask = ask, .kind = 'p', .owner = ask->provider};
    TAILQ_INSERT_TAIL(&admission->asks, ask, link);
    return ask;
}

static bool has_enforced_budget(const struct admission_request *request)
{
    return limits_applied_budget(request->limits, request->limit_count);
}

/* Nobody knows which window it is; or what the name held is being taken back, which might take what
 * it is given now. */
static bool is_closed_to(const struct admission *admission, const char *name,
                         const struct admission_request *request)
{
    return (has_enforced_budget(request) && !request->windows) ||
           admission_is_undoing(admission, name);
}

struct admission_ask *admission_ask(struct admission *admission,
                                    const struct admission_request *request,
                                    admission_done_fn *done, void *arg)
{
    struct admission_ask *ask = ask_new(admission, request, done, arg);

    if (!ask)
        return NULL;
    if (!has_enforced_budget(request))
        note_local(ask, request);
    if (is_closed_to(admission, ask->name, request)) {
        ask->map.has_money = true;
        ask->sides[SIDE_TENANT].answer.outcome = ADMISSION_AWAY;
    } else {
        ask_tenant(ask, request);
        ask_provider(ask, request);
    }
    if (ask->pending == 0)
        daemon_defer(admission->base, finish, ask);
    return ask;
}

void admission_cancel(struct admission_ask *ask)
{
    ask->is_cancelled = true;
}
