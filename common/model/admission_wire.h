/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of admission as arguments of scripts, and their replies as answers.  Pure. */
#ifndef COMMON_MODEL_ADMISSION_WIRE_H
#define COMMON_MODEL_ADMISSION_WIRE_H

#include "common/model/admission.h"
#include "common/model/script.h"

enum {
    WIRE_SCOPES_MAX = LIMIT_SCOPE_COUNT,
    WIRE_ACCOUNTS_MAX = LIMIT_SCOPE_COUNT * BUDGET_WINDOW_COUNT,
    WIRE_LEASE_DEFAULT_S = 900,
};

/* Which scope or account stands behind an index of the script. */
struct wire_account {
    enum limit_scope scope;
    enum budget_window window;
    size_t text; /* the argument with its name */
};

struct wire_map {
    int scope_count;
    enum limit_scope scopes[WIRE_SCOPES_MAX];
    size_t scope_texts[WIRE_SCOPES_MAX];
    int account_count;
    struct wire_account accounts[WIRE_ACCOUNTS_MAX];
    bool has_money; /* accounts that are enforced */
};

/* "workflow:nightly"; a name with characters that mean something here, or a long one, as its hash.
 */
void wire_scope_format(enum limit_scope scope, const char *name, char out[LIMIT_SCOPE_TEXT_SIZE]);

/* The tenant's side.  False: there is nothing to ask (args are empty). */
bool wire_tenant(const struct admission_request *request, struct script_args *args,
                 struct wire_map *map);
bool wire_provider(const struct admission_request *request, struct script_args *args);

/* Reads admit's reply; map is NULL for a provider, name its name.  False: not what a script says.
 */
bool wire_answer(const struct redis_reply *reply, const struct script_args *args,
                 const struct wire_map *map, const char *provider, struct admission_answer *answer,
                 unsigned *shadows) MUST_CHECK;

/* A list of so many integers. */
bool wire_is_numbers(const struct redis_reply *reply, size_t count);

/* The sentence that goes with a refusal. */
void wire_detail(struct admission_answer *answer, const char *of);

void wire_settle(char kind, const char *owner, const char *name, enum admission_end end,
                 int64_t cost_nano, int64_t tokens, unsigned parts, struct script_args *args);

#endif
