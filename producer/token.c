/* SPDX-License-Identifier: Apache-2.0 */
/* Judges bearer tokens of identity providers. */
#include "producer/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/log.h"
#include "common/model/identity.h"
#include "common/model/jwks_cache.h"
#include "common/model/jwt.h"

static const struct log_context log_token = {.component = "token"};

struct tokens {
    json_t *section; /* as it was configured */
    struct identity_settings *settings;
    struct jwks_cache *keys;
};

/* A token that waits for its issuer's keys. */
struct check {
    const struct identity_provider *provider;
    struct jwt *jwt;
    token_done_fn *done;
    void *arg;
};

struct tokens *tokens_new(struct event_base *base, const struct config *config,
                          const char *const *backends, size_t backend_count, struct err *err)
{
    struct tokens *tokens = calloc(1, sizeof(*tokens));

    if (!tokens) {
        err_set(err, "take tokens of identity providers: out of memory");
        return NULL;
    }
    tokens->settings = identity_settings_load(config, err);
    tokens->keys = tokens->settings
                       ? jwks_cache_new(base, tokens->settings, backends, backend_count, err)
                       : NULL;
    tokens->section = json_deep_copy(config_get(config, "identity_providers"));
    if (tokens->keys)
        return tokens;
    tokens_free(tokens);
    return NULL;
}

void tokens_free(struct tokens *tokens)
{
    if (!tokens)
        return;
    jwks_cache_free(tokens->keys);
    identity_settings_free(tokens->settings);
    json_decref(tokens->section);
    free(tokens);
}

bool tokens_fit(const struct tokens *tokens, const struct config *config)
{
    const json_t *section = config_get(config, "identity_providers");

    return section ? json_equal(section, tokens->section) != 0 : !tokens->section;
}

void tokens_refresh(struct tokens *tokens)
{
    jwks_cache_refresh(tokens->keys);
}

bool tokens_are_taken(const struct tokens *tokens)
{
    return tokens && tokens->settings->count > 0;
}

/* --- one token -------------------------------------------------------------------------------- */

static void refuse(token_done_fn *done, void *arg, const char *why)
{
    struct err err = {{0}, {0}, {0}};

    log_debug(&log_token, "token refused: %s", why);
    err_input(&err, "invalid_key", "", "The token is not accepted: %s", why);
    done(NULL, &err, arg);
}

static bool read_holder(const struct check *check, const struct jwt_keys *keys,
                        struct token_holder *out, struct err *err)
{
    const struct identity_provider *provider = check->provider;
    struct jwt_rules rules = {provider->issuer, provider->audience, provider->leeway_s};
    const char *tenant;

    memset(out, 0, sizeof(*out));
    if (!jwt_verify(check->jwt, keys, &rules, clock_db_us(), err) ||
        !identity_map(provider, jwt_claims(check->jwt), &tenant, &out->scopes, err))
        return false;
    snprintf(out->caller.tenant, sizeof(out->caller.tenant), "%s", tenant);
    snprintf(out->caller.key_id, sizeof(out->caller.key_id), "jwt:%s", provider->name);
    return true;
}

static void on_keys(const struct jwt_keys *keys, void *arg)
{
    struct check check = *(struct check *)arg;
    struct token_holder holder;
    struct err err = {{0}, {0}, {0}};

    free(arg);
    if (!keys) {
        err_input(&err, "unavailable", "",
                  "The token cannot be checked just now: its issuer's keys are not there");
        check.done(NULL, &err, check.arg);
    } else if (read_holder(&check, keys, &holder, &err)) {
        check.done(&holder, NULL, check.arg);
    } else {
        refuse(check.done, check.arg, err.message);
    }
    jwt_free(check.jwt);
}

void token_check(struct tokens *tokens, const char *text, token_done_fn *done, void *arg)
{
    const struct identity_provider *provider;
    struct err err = {{0}, {0}, {0}};
    struct jwt *jwt = jwt_read(text, &err);
    struct check *check;

    if (!jwt) {
        refuse(done, arg, err.message);
        return;
    }
    provider = identity_find(tokens->settings, jwt_issuer(jwt));
    check = provider ? malloc(sizeof(*check)) : NULL;
    if (!check) {
        jwt_free(jwt);
        refuse(done, arg, provider ? "out of memory" : "its issuer is not known");
        return;
    }
    *check = (struct check){provider, jwt, done, arg};
    jwks_cache_find(tokens->keys, provider, jwt_kid(jwt), on_keys, check);
}
