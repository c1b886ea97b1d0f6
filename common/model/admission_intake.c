/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of intake, and what providers say of their own accounts. */
#include "common/base/clock.h"
#include "common/base/number.h"
#include "common/base/str.h"
#include "common/io/daemon.h"
#include "common/model/admission_local.h"
#include "common/model/admission_private.h"
#include "common/model/admission_wire.h"
#include "common/model/channels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INTAKE_WORDS = 10, SEEN_WORDS = 8, NEVER = 2 };

static const int64_t closed_max_us = 60 * US_PER_S;

struct intake_ask {
    TAILQ_ENTRY(intake_ask) link;
    struct admission *admission; /* NULL: it is gone */
    int scope_count;
    enum limit_scope scopes[LIMIT_SCOPE_COUNT];
    struct local_limit local[LIMIT_SCOPE_COUNT];
    char *texts[LIMIT_SCOPE_COUNT];
    int64_t submits;
    bool is_whole;
    struct script_args args;
    intake_done_fn *done;
    void *arg;
};

static void intake_free(struct intake_ask *ask)
{
    if (ask->admission)
        TAILQ_REMOVE(&ask->admission->intakes, ask, link);
    for (int i = 0; i < ask->scope_count; i++)
        free(ask->texts[i]);
    script_args_release(&ask->args);
    free(ask);
}

/* Forgotten ones wait for their reply. */
void admission_intakes_release(struct admission *admission)
{
    const struct intake_answer away = {
        .is_away = true, .submits = {.limit = -1}, .tokens = {.limit = -1}};
    struct intake_ask *ask;

    while ((ask = TAILQ_FIRST(&admission->intakes)) != NULL) {
        TAILQ_REMOVE(&admission->intakes, ask, link);
        ask->admission = NULL;
        ask->done(&away, ask->arg);
    }
}

/* Requests are submits here, and tokens none. */
static void ask_local(struct intake_ask *ask, struct intake_answer *answer)
{
    struct local_refusal refusal;

    *answer =
        (struct intake_answer){.is_away = true, .submits = {.limit = -1}, .tokens = {.limit = -1}};
    for (int64_t i = 0; i < ask->submits && !answer->is_refused; i++) {
        if (admission_local_ask(ask->admission->local, "", ask->local, ask->scope_count, 0,
                                ask->admission->workers, clock_monotonic_us(), 0, &refusal))
            continue;
        answer->is_refused = true;
        answer->retry_after_us = refusal.wait_us;
        answer->scope = ask->scopes[refusal.index];
    }
}

static void read_meter(const struct redis_reply *words, struct intake_meter *meter)
{
    meter->limit = words[0].number;
    meter->remaining = words[1].number;
    meter->reset_us = words[2].number;
}

static bool read_answer(const struct intake_ask *ask, const struct redis_reply *reply,
                        struct intake_answer *answer)
{
    int64_t index;

    *answer = (struct intake_answer){.is_away = false};
    if (!wire_is_numbers(reply, INTAKE_WORDS))
        return false;
    index = reply->items[2].number;
    if (index < 0 || index >= (ask->scope_count > 0 ? ask->scope_count : 1))
        return false;
    answer->is_refused = reply->items[0].number != 0;
    answer->is_never = reply->items[0].number == NEVER;
    answer->retry_after_us = answer->is_refused ? reply->items[1].number : 0;
    answer->scope = ask->scopes[index];
    answer->is_shadow_refused = reply->items[3].number != 0;
    read_meter(reply->items + 4, &answer->submits);
    read_meter(reply->items + 7, &answer->tokens);
    return true;
}

static void on_intake(const struct redis_reply *reply, void *arg)
{
    struct intake_ask *ask = arg;
    struct intake_answer answer;

    if (ask->admission && !ask->is_whole && script_is_unknown(reply)) {
        ask->is_whole = true;
        script_send(ask->admission->redis, SCRIPT_INTAKE, true, &ask->args, on_intake, ask);
        return;
    }
    if (ask->admission) {
        if (!read_answer(ask, reply, &answer))
            ask_local(ask, &answer);
        if (answer.is_shadow_refused)
            admission_count_shadow("submits");
        ask->done(&answer, ask->arg);
    }
    intake_free(ask);
}

static void add_intake_scopes(struct intake_ask *ask, const struct intake_request *request)
{
    char text[LIMIT_SCOPE_TEXT_SIZE];

    for (int i = 0; i < request->limit_count; i++) {
        const struct limit_set *set = request->limits[i].set;
        size_t size;
        char *joined;

        if (set->submits_per_minute < 0 && set->tokens_per_minute < 0)
            continue;
        wire_scope_format(request->limits[i].scope, request->limits[i].name, text);
        script_args_add(&ask->args, text);
        script_args_add(&ask->args, set->is_shadow ? "1" : "0");
        script_args_add_number(&ask->args, set->submits_per_minute);
        script_args_add_number(&ask->args, set->tokens_per_minute);
        size = strlen(request->tenant) + strlen(text) + 3;
        joined = xcalloc(1, size);
        snprintf(joined, size, "%s\n\n%s", request->tenant, text);
        ask->texts[ask->scope_count] = joined;
        ask->scopes[ask->scope_count] = request->limits[i].scope;
        ask->local[ask->scope_count++] =
            (struct local_limit){.scope = joined,
                                 .requests = set->is_shadow ? -1 : set->submits_per_minute,
                                 .tokens = -1,
                                 .leases = -1};
    }
}

struct intake_ask *admission_intake(struct admission *admission,
                                    const struct intake_request *request, intake_done_fn *done,
                                    void *arg)
{
    struct intake_ask *ask = calloc(1, sizeof(*ask));

    if (!ask)
        return NULL;
    ask->admission = admission;
    ask->submits = request->submits;
    ask->done = done;
    ask->arg = arg;
    script_args_init(&ask->args);
    script_args_add_prefix(&ask->args, 't', request->tenant);
    script_args_add_number(&ask->args, request->submits);
    add_intake_scopes(ask, request);
    TAILQ_INSERT_TAIL(&admission->intakes, ask, link);
    if (!script_args_ok(&ask->args)) {
        intake_free(ask);
        return NULL;
    }
    script_send(admission->redis, SCRIPT_INTAKE, false, &ask->args, on_intake, ask);
    return ask;
}

/* --- the provider's own word ------------------------------------------------------------------ */

static int64_t closed_us(const struct admission_seen *seen)
{
    int64_t wait_us = larger(seen->retry_after_us, 0);

    if (seen->remaining_requests == 0)
        wait_us = larger(wait_us, seen->reset_requests_us);
    if (seen->remaining_tokens == 0)
        wait_us = larger(wait_us, seen->reset_tokens_us);
    return smaller(wait_us, closed_max_us);
}

static void on_learnt(enum script_result result, const struct redis_reply *reply, bool may_have_run,
                      void *arg)
{
    (void)result;
    (void)reply;
    (void)may_have_run;
    (void)arg;
}

void admission_learn(struct admission *admission, const char *provider,
                     const struct admission_seen *seen)
{
    const int64_t numbers[] = {closed_us(seen),          seen->limit_requests,
                               seen->remaining_requests, seen->reset_requests_us,
                               seen->limit_tokens,       seen->remaining_tokens,
                               seen->reset_tokens_us};
    struct script_args args;
    const struct script_spec spec = {.script = SCRIPT_ACCOUNT, .args = &args};

    script_args_init(&args);
    script_args_add_prefix(&args, 'p', provider);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        script_args_add_number(&args, numbers[i]);
    script_args_add(&args, CHANNEL_CLOSED);
    script_call(admission->redis, &spec, on_learnt, NULL);
}

struct seen_ask {
    admission_seen_fn *done;
    void *arg;
};

static void on_seen(enum script_result result, const struct redis_reply *reply, bool may_have_run,
                    void *arg)
{
    struct seen_ask *ask = arg;
    struct admission_seen seen = {.retry_after_us = -1};
    bool ok = result == SCRIPT_ANSWERED && wire_is_numbers(reply, SEEN_WORDS);

    (void)may_have_run;
    if (ok) {
        seen.limit_requests = reply->items[2].number;
        seen.remaining_requests = reply->items[3].number;
        seen.reset_requests_us = reply->items[4].number;
        seen.limit_tokens = reply->items[5].number;
        seen.remaining_tokens = reply->items[6].number;
        seen.reset_tokens_us = reply->items[7].number;
    }
    ask->done(ok, &seen, ok ? reply->items[0].number : -1, ok ? reply->items[1].number : 0,
              ask->arg);
    free(ask);
}

void admission_read_seen(struct redis *redis, const char *provider, admission_seen_fn *done,
                         void *arg)
{
    struct seen_ask *ask = xcalloc(1, sizeof(*ask));
    struct script_args args;
    const struct script_spec spec = {.script = SCRIPT_ACCOUNT, .args = &args};

    ask->done = done;
    ask->arg = arg;
    script_args_init(&args);
    script_args_add_prefix(&args, 'p', provider);
    script_call(redis, &spec, on_seen, ask);
}
