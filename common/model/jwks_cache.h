/* SPDX-License-Identifier: Apache-2.0 */
/* The key sets of identity providers: fetched, kept fresh, and asked for again for unknown keys. */
#ifndef COMMON_MODEL_JWKS_CACHE_H
#define COMMON_MODEL_JWKS_CACHE_H

#include "common/model/identity.h"
#include "common/model/jwt.h"

struct event_base;
struct jwks_cache;

enum {
    /* A key that is unknown makes a fetch at most so often, whoever asks. */
    JWKS_UNKNOWN_EVERY_S = 60,
    JWKS_RETRY_S = 5, /* after a failure, for a token while there are no keys; else 4 times that */
    JWKS_STALE_MAX_S = 86400, /* old keys serve so long while their source is away */
    JWKS_WAITERS_MAX = 1000,  /* of a provider */
};

/* settings are borrowed, and outlive the cache.  Fetches every set at once, and again each
 * refresh_s: a key that the provider withdrew is refused from then on.  Names resolve to public
 * addresses, or what the provider's allow_networks say; never to this machine's own or those of
 * backends (URLs or HOST:PORT lists). */
struct jwks_cache *jwks_cache_new(struct event_base *base, const struct identity_settings *settings,
                                  const char *const *backends, size_t backend_count,
                                  struct err *err) MUST_CHECK;
void jwks_cache_free(struct jwks_cache *cache); /* whoever waits is told NULL */

/* Fetches every set now; the old ones serve until then. */
void jwks_cache_refresh(struct jwks_cache *cache);

/* keys: the newest set, with that key or without; NULL: there is none.  They live until done
 * returns. */
typedef void jwks_done_fn(const struct jwt_keys *keys, void *arg);

/* Tells the keys of one of the settings' providers: at once, but when kid is not among them and a
 * fetch is due, after that.  done is called exactly once, possibly from inside. */
void jwks_cache_find(struct jwks_cache *cache, const struct identity_provider *provider,
                     const char *kid, jwks_done_fn *done, void *arg);

/* Fetches ever begun for the provider; for tests. */
int jwks_cache_fetches(const struct jwks_cache *cache, const struct identity_provider *provider);

#endif
