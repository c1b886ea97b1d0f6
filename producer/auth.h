/* SPDX-License-Identifier: Apache-2.0 */
/* Who is calling: API keys and tokens, judged from a short-lived cache in front of Postgres. */
#ifndef PRODUCER_AUTH_H
#define PRODUCER_AUTH_H

#include <stdint.h>

#include "common/base/err.h"
#include "common/model/key_store.h"
#include "producer/routes.h"

struct auth;
struct tokens;

/* What was known is believed for so long, so that a revoked key and a disabled tenant are refused
 * everywhere within a second. */
enum { AUTH_FRESH_MS = 800 };

struct auth *auth_new(struct key_store *keys, const uint8_t pepper[API_KEY_PEPPER_SIZE]);
void auth_free(struct auth *auth); /* whoever waits is answered "unavailable" */

/* From now on bearer tokens are judged by these (borrowed; NULL: none are taken). */
void auth_set_tokens(struct auth *auth, struct tokens *tokens);

/* ok: caller is known and has the scope.  Else err has code (missing_key, invalid_key,
 * missing_scope, tenant_disabled, unavailable) and message; caller is NULL, but known all the same
 * when only the scope is missing. */
typedef void auth_done_fn(bool ok, const struct caller *caller, const struct err *err, void *arg);

/* Judges the key in the two headers (NULL where absent), or the token in the first.  done is called
 * exactly once, possibly from inside; the caller must outlive it.  Unknown keys cost the same work
 * as wrong ones. */
void auth_check(struct auth *auth, const char *authorization, const char *x_api_key,
                enum scope scope, auth_done_fn *done, void *arg);

#endif
