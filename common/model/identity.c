/* SPDX-License-Identifier: Apache-2.0 */
/* Reads identity_providers, and maps the claims of tokens. */
#include "common/model/identity.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/str.h"
#include "common/io/http_client.h"
#include "common/model/jwt.h"
#include "common/model/key_store.h"
#include "common/model/settings_read.h"
#include "common/model/tenant_store.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { LEEWAY_S = 30, REFRESH_S = 300, REFRESH_MIN_S = 5, REFRESH_MAX_S = 86400, CLAIM_MAX = 256 };

const char *const identity_known = "identity_providers.*";

/* --- reading the section ---------------------------------------------------------------------- */

/* Plain http only where whoever could listen is an address that was named. */
static bool check_url(const struct section *section, const struct identity_provider *provider)
{
    struct sockaddr_storage address;
    struct http_url url;
    struct err why;

    if (!provider->jwks_url)
        return true;
    if (!http_url_parse(provider->jwks_url, &url, &why))
        return section_refuse(section, "jwks_url", "%s", why.message);
    if (url.has_userinfo)
        return section_refuse(section, "jwks_url", "expected a URL without user name");
    if (strcmp(url.scheme, "https") != 0 &&
        !(address_from_literal(url.host, &address) &&
          networks_have(provider->allow, provider->allow_count, (const struct sockaddr *)&address)))
        return section_refuse(section, "jwks_url",
                              "expected https (http only to an address of allow_networks)");
    return true;
}

static bool read_source(const struct section *section, struct identity_provider *provider)
{
    const char *url = NULL, *file = NULL;
    char path[SETTINGS_PATH_SIZE];

    if (!section_text(section, "jwks_url", &url) || !section_text(section, "jwks_file", &file))
        return false;
    if (!url == !file)
        return section_refuse(section, NULL, "expected one of jwks_url and jwks_file");
    if (url)
        provider->jwks_url = xstrdup(url);
    section_member_path(section, "jwks_file", path);
    if (file)
        provider->jwks_file = config_resolve(file, config_folder(section->config, path));
    return check_url(section, provider);
}

static bool read_networks(const struct section *section, struct identity_provider *provider)
{
    const json_t *list = json_object_get(section->object, "allow_networks"), *item;
    struct err why;
    size_t i;

    if (!list || json_is_null(list))
        return true;
    if (!json_is_array(list) || json_array_size(list) > IDENTITY_NETWORKS_MAX)
        return section_refuse(section, "allow_networks", "expected a list of up to %d networks",
                              IDENTITY_NETWORKS_MAX);
    json_array_foreach(list, i, item)
    {
        const char *text = json_is_string(item) ? json_string_value(item) : "";

        if (!network_parse(text, &provider->allow[i], &why))
            return section_refuse(section, "allow_networks", "%s", why.message);
        provider->allow_count++;
    }
    return true;
}

/* claim value: tenant */
static bool read_tenants(const struct section *section, struct identity_provider *provider)
{
    const json_t *value = json_object_get(section->object, "tenants");
    json_t *tenant;
    const char *claim;

    if (!json_is_object(value) || json_object_size(value) == 0 ||
        json_object_size(value) > IDENTITY_TENANTS_MAX)
        return section_refuse(section, "tenants",
                              "expected a mapping of 1 to %d values of the claim to tenants",
                              IDENTITY_TENANTS_MAX);
    provider->tenants = xcalloc(json_object_size(value), sizeof(*provider->tenants));
    json_object_foreach((json_t *)(uintptr_t)value, claim, tenant)
    {
        const char *id = json_string_value(tenant);

        if (!id || !tenant_id_is_valid(id))
            return section_refuse(section, "tenants", "%.64s: expected the id of a tenant", claim);
        provider->tenants[provider->tenant_count++] =
            (struct identity_tenant){xstrdup(claim), xstrdup(id)};
    }
    return true;
}

/* Adds one of our names to *scopes. */
static bool add_scope(const struct section *section, const json_t *name, unsigned *scopes)
{
    const char *text = json_is_string(name) ? json_string_value(name) : "";

    if (strcmp(text, "jobs:write") == 0)
        *scopes |= KEY_JOBS_WRITE;
    else if (strcmp(text, "jobs:read") == 0)
        *scopes |= KEY_JOBS_READ;
    else
        return section_refuse(section, "scopes", "expected jobs:write or jobs:read (never admin)");
    return true;
}

static bool read_scope(const struct section *section, const json_t *value, unsigned *scopes)
{
    const json_t *one;
    size_t i;

    if (!json_is_array(value))
        return add_scope(section, value, scopes);
    json_array_foreach(value, i, one)
    {
        if (!add_scope(section, one, scopes))
            return false;
    }
    return true;
}

static void put_scope(struct identity_provider *provider, const char *claim, unsigned scopes)
{
    provider->scopes[provider->scope_count++] = (struct identity_scope){xstrdup(claim), scopes};
}

static bool read_scopes(const struct section *section, struct identity_provider *provider)
{
    const json_t *value = json_object_get(section->object, "scopes");
    json_t *ours;
    const char *claim;

    provider->scopes = xcalloc(IDENTITY_SCOPES_MAX, sizeof(*provider->scopes));
    if (!value || json_is_null(value)) {
        put_scope(provider, "jobs:write", KEY_JOBS_WRITE);
        put_scope(provider, "jobs:read", KEY_JOBS_READ);
        return true;
    }
    if (!json_is_object(value) || json_object_size(value) > IDENTITY_SCOPES_MAX)
        return section_refuse(section, "scopes", "expected a mapping of up to %d names to scopes",
                              IDENTITY_SCOPES_MAX);
    json_object_foreach((json_t *)(uintptr_t)value, claim, ours)
    {
        unsigned scopes = 0;

        if (!read_scope(section, ours, &scopes))
            return false;
        put_scope(provider, claim, scopes);
    }
    return true;
}

static bool read_provider(const struct section *section, struct identity_provider *provider)
{
    static const char *const names[] = {"issuer",       "audience",  "jwks_url",      "jwks_file",
                                        "tenant_claim", "tenants",   "scopes_claim",  "scopes",
                                        "leeway_s",     "refresh_s", "allow_networks"};
    const char *issuer, *audience, *tenant_claim = "tenant", *scopes_claim = "scope";

    if (!section_check_members(section, names, COUNT(names)) ||
        !section_text_required(section, "issuer", &issuer) ||
        !section_text_required(section, "audience", &audience) ||
        !section_text(section, "tenant_claim", &tenant_claim) ||
        !section_text(section, "scopes_claim", &scopes_claim))
        return false;
    provider->issuer = xstrdup(issuer);
    provider->audience = xstrdup(audience);
    provider->tenant_claim = xstrdup(tenant_claim);
    provider->scopes_claim = xstrdup(scopes_claim);
    provider->leeway_s = LEEWAY_S;
    provider->refresh_s = REFRESH_S;
    return section_number(section, "leeway_s", 0, JWT_LEEWAY_MAX_S, &provider->leeway_s) &&
           section_number(section, "refresh_s", REFRESH_MIN_S, REFRESH_MAX_S,
                          &provider->refresh_s) &&
           read_networks(section, provider) && read_source(section, provider) &&
           read_tenants(section, provider) && read_scopes(section, provider);
}

static bool add_provider(struct identity_settings *settings, const struct config *config,
                         const char *name, const json_t *value, struct err *err)
{
    struct identity_provider *provider = &settings->providers[settings->count];
    char path[SETTINGS_PATH_SIZE];
    struct section section;

    snprintf(path, sizeof(path), "identity_providers.%.64s", name);
    if (!section_open(&section, config, value, path, err))
        return false;
    if (!str_is_label(name, strlen(name), IDENTITY_NAME_MAX))
        return section_refuse(&section, NULL, "expected a name of 1 to %d of [A-Za-z0-9._/@:-]",
                              IDENTITY_NAME_MAX);
    if (settings->count == IDENTITY_PROVIDERS_MAX - 1)
        return section_refuse(&section, NULL, "expected fewer than %d", IDENTITY_PROVIDERS_MAX);
    settings->count++;
    provider->name = xstrdup(name);
    if (!read_provider(&section, provider))
        return false;
    if (identity_find(settings, provider->issuer) != provider)
        return section_refuse(&section, "issuer", "another provider has this issuer");
    return true;
}

struct identity_settings *identity_settings_load(const struct config *config, struct err *err)
{
    struct identity_settings *settings = xcalloc(1, sizeof(*settings));
    const json_t *root = config_get(config, "identity_providers");
    struct section section;
    const char *name;
    json_t *value;

    if (root && !section_open(&section, config, root, "identity_providers", err))
        goto failed;
    json_object_foreach((json_t *)(uintptr_t)root, name, value)
    {
        if (!add_provider(settings, config, name, value, err))
            goto failed;
    }
    return settings;
failed:
    identity_settings_free(settings);
    return NULL;
}

static void provider_release(struct identity_provider *provider)
{
    for (size_t i = 0; i < provider->tenant_count; i++) {
        free(provider->tenants[i].claim);
        free(provider->tenants[i].tenant);
    }
    for (size_t i = 0; i < provider->scope_count; i++)
        free(provider->scopes[i].claim);
    free(provider->tenants);
    free(provider->scopes);
    free(provider->name);
    free(provider->issuer);
    free(provider->audience);
    free(provider->jwks_url);
    free(provider->jwks_file);
    free(provider->tenant_claim);
    free(provider->scopes_claim);
}

void identity_settings_free(struct identity_settings *settings)
{
    if (!settings)
        return;
    for (size_t i = 0; i < settings->count; i++)
        provider_release(&settings->providers[i]);
    free(settings);
}

void identity_settings_print(const struct identity_settings *settings, FILE *out)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct identity_provider *provider = &settings->providers[i];

        fprintf(out,
                "identity_provider %s: issuer=%s audience=%s keys=%s tenant_claim=%s tenants=%zu "
                "scopes_claim=%s leeway_s=%lld refresh_s=%lld\n",
                provider->name, provider->issuer, provider->audience,
                provider->jwks_url ? provider->jwks_url : provider->jwks_file,
                provider->tenant_claim, provider->tenant_count, provider->scopes_claim,
                (long long)provider->leeway_s, (long long)provider->refresh_s);
    }
}

/* --- tokens ----------------------------------------------------------------------------------- */

const struct identity_provider *identity_find(const struct identity_settings *settings,
                                              const char *issuer)
{
    for (size_t i = 0; i < settings->count; i++)
        if (strcmp(settings->providers[i].issuer, issuer) == 0)
            return &settings->providers[i];
    return NULL;
}

static unsigned map_scope(const struct identity_provider *provider, const char *name, size_t len)
{
    for (size_t i = 0; i < provider->scope_count; i++) {
        const char *claim = provider->scopes[i].claim;

        if (strlen(claim) == len && memcmp(claim, name, len) == 0)
            return provider->scopes[i].scopes;
    }
    return 0;
}

/* Words in a text, or an array of texts; what the map does not know allows nothing. */
static unsigned map_scopes(const struct identity_provider *provider, const json_t *claim)
{
    const char *words = json_string_value(claim);
    unsigned scopes = 0;
    const json_t *one;
    size_t i;

    json_array_foreach(claim, i, one)
    {
        if (json_is_string(one))
            scopes |= map_scope(provider, json_string_value(one), json_string_length(one));
    }
    while (words && *words) {
        size_t len = strcspn(words, " ");

        scopes |= map_scope(provider, words, len);
        words += len + strspn(words + len, " ");
    }
    return scopes;
}

bool identity_map(const struct identity_provider *provider, const json_t *claims,
                  const char **tenant, unsigned *scopes, struct err *err)
{
    const char *claim = json_string_value(json_object_get(claims, provider->tenant_claim));

    *scopes = map_scopes(provider, json_object_get(claims, provider->scopes_claim));
    for (size_t i = 0; claim && i < provider->tenant_count; i++) {
        if (strcmp(provider->tenants[i].claim, claim) != 0)
            continue;
        *tenant = provider->tenants[i].tenant;
        return true;
    }
    return err_set(err, claim ? "its tenant is not registered for its issuer"
                              : "it does not name its tenant");
}
