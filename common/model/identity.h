/* SPDX-License-Identifier: Apache-2.0 */
/* Identity providers: whose tokens are taken, for which tenants, with which scopes. */
#ifndef COMMON_MODEL_IDENTITY_H
#define COMMON_MODEL_IDENTITY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "common/base/address.h"
#include "common/base/err.h"

struct config;

/* The section identity_providers:
 *
 *     corp:
 *       issuer: https://login.corp.example       # `iss`, to the letter
 *       audience: nightshift                     # `aud` is or holds it
 *       jwks_url: https://login.corp.example/jwks.json    # or jwks_file: keys.json
 *       tenant_claim: org                        # default: tenant
 *       tenants: {org-17: acme, org-18: beta}    # no other value of the claim is taken
 *       scopes_claim: scp                        # default: scope; words in a text, or an array
 *       scopes: {submitter: [jobs:write, jobs:read]}    # default: our own names
 *       leeway_s: 30                             # 0 to 60
 *       refresh_s: 300                           # how old the keys may get
 *       allow_networks: [10.0.0.0/8]             # addresses that jwks_url may have though not
 * public
 */

enum {
    IDENTITY_PROVIDERS_MAX = 16,
    IDENTITY_NAME_MAX = 32,
    IDENTITY_TENANTS_MAX = 10000,
    IDENTITY_SCOPES_MAX = 64,
    IDENTITY_NETWORKS_MAX = 16,
};

struct identity_tenant {
    char *claim; /* what the issuer says */
    char *tenant;
};

struct identity_scope {
    char *claim;
    unsigned scopes; /* of enum key_scopes, never KEY_ADMIN */
};

struct identity_provider {
    char *name;
    char *issuer;
    char *audience;
    char *jwks_url;  /* NULL: jwks_file */
    char *jwks_file; /* as the process can open it */
    char *tenant_claim;
    struct identity_tenant *tenants;
    size_t tenant_count;
    char *scopes_claim;
    struct identity_scope *scopes;
    size_t scope_count;
    int64_t leeway_s;
    int64_t refresh_s;
    struct network allow[IDENTITY_NETWORKS_MAX];
    size_t allow_count;
};

struct identity_settings {
    size_t count;
    struct identity_provider providers[IDENTITY_PROVIDERS_MAX];
};

extern const char *const identity_known; /* the configuration path */

/* Errors name file, line and path.  No section: count is 0. */
struct identity_settings *identity_settings_load(const struct config *config,
                                                 struct err *err) MUST_CHECK;
void identity_settings_free(struct identity_settings *settings);
void identity_settings_print(const struct identity_settings *settings, FILE *out);

/* NULL: nobody we know. */
const struct identity_provider *identity_find(const struct identity_settings *settings,
                                              const char *issuer);

/* What the claims of a verified token allow.  False: its tenant is not registered for this issuer.
 * tenant is borrowed from the provider. */
bool identity_map(const struct identity_provider *provider, const json_t *claims,
                  const char **tenant, unsigned *scopes, struct err *err) MUST_CHECK;

#endif
