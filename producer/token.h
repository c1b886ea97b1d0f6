/* SPDX-License-Identifier: Apache-2.0 */
/* Bearer tokens of identity providers: judged by their keys, mapped to a tenant and scopes. */
#ifndef PRODUCER_TOKEN_H
#define PRODUCER_TOKEN_H

#include "common/base/err.h"
#include "common/model/job.h"
#include "producer/routes.h"

struct config;
struct event_base;
struct tokens;

/* Reads identity_providers and begins to fetch their keys.  backends as in jwks_cache.h. */
struct tokens *tokens_new(struct event_base *base, const struct config *config,
                          const char *const *backends, size_t backend_count,
                          struct err *err) MUST_CHECK;
void tokens_free(struct tokens *tokens); /* whoever waits is answered "unavailable" */

/* Is the section of this configuration the one that they were made of? */
bool tokens_fit(const struct tokens *tokens, const struct config *config);
/* Fetches all keys once more; the old ones serve until then. */
void tokens_refresh(struct tokens *tokens);

/* Is any identity provider configured?  Else every token is just no API key. */
bool tokens_are_taken(const struct tokens *tokens);

/* Who a token says its bearer is.  That the tenant exists and is not disabled is yet to be asked
 * of the database. */
struct token_holder {
    struct caller caller; /* key_id is "jwt:" and the identity provider's name */
    unsigned scopes;      /* of enum key_scopes */
};

/* err as in auth_done_fn: invalid_key, unavailable.  Called exactly once, possibly from inside. */
typedef void token_done_fn(const struct token_holder *holder, const struct err *err, void *arg);
void token_check(struct tokens *tokens, const char *text, token_done_fn *done, void *arg);

#endif
