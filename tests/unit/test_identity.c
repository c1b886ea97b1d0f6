/* SPDX-License-Identifier: Apache-2.0 */
/* identity_providers: what the section may say, and what claims are mapped to. */
#include "common/model/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/config.h"
#include "common/model/key_store.h"

#define ISSUER "    issuer: https://idp.example\n"
#define OURS "    audience: nightshift\n"
#define KEYS "    jwks_url: https://idp.example/jwks\n"
#define TENANTS "    tenants: {org-1: acme, org-2: beta}\n"
#define GOOD ISSUER OURS KEYS TENANTS

/* NULL with err for one that is refused. */
static struct identity_settings *load(const char *members, struct err *err)
{
    char text[4096];
    struct config *config;
    struct identity_settings *settings;

    snprintf(text, sizeof(text), "identity_providers:\n  corp:\n%s", members);
    config = config_parse("test.yaml", text, strlen(text), err);
    assert_non_null(config);
    settings = identity_settings_load(config, err);
    config_free(config);
    return settings;
}

static void test_section_has_defaults(void **state)
{
    struct err err = {0};
    struct identity_settings *settings = load(GOOD, &err);
    const struct identity_provider *provider;

    (void)state;
    if (!settings)
        fail_msg("%s", err.message);
    provider = identity_find(settings, "https://idp.example");
    assert_non_null(provider);
    assert_null(identity_find(settings, "https://idp.example/"));
    assert_string_equal(provider->name, "corp");
    assert_string_equal(provider->tenant_claim, "tenant");
    assert_string_equal(provider->scopes_claim, "scope");
    assert_int_equal(provider->leeway_s, 30);
    assert_int_equal(provider->refresh_s, 300);
    assert_int_equal(provider->tenant_count, 2);
    identity_settings_free(settings);
}

static void test_no_section_is_no_provider(void **state)
{
    struct config *config = config_empty();
    struct err err;
    struct identity_settings *settings = identity_settings_load(config, &err);

    (void)state;
    assert_non_null(settings);
    assert_int_equal(settings->count, 0);
    identity_settings_free(settings);
    config_free(config);
}

static void test_bad_sections_are_refused_with_their_place(void **state)
{
    static const struct {
        const char *members, *message;
    } cases[] = {
        {OURS KEYS TENANTS, "identity_providers.corp.issuer: missing"},
        {ISSUER KEYS TENANTS, "identity_providers.corp.audience: missing"},
        {ISSUER OURS TENANTS, "expected one of jwks_url and jwks_file"},
        {GOOD "    jwks_file: keys.json\n", "expected one of jwks_url and jwks_file"},
        {ISSUER OURS KEYS, "identity_providers.corp.tenants: expected a mapping"},
        {ISSUER OURS KEYS "    tenants: {}\n",
         "identity_providers.corp.tenants: expected a mapping"},
        {ISSUER OURS KEYS "    tenants: {a: \"no such/id\"}\n", "a: expected the id of a tenant"},
        {ISSUER OURS KEYS "    tenants: {a: 7}\n", "a: expected the id of a tenant"},
        {GOOD "    leeway_s: 61\n", "a whole number from 0 to 60"},
        {GOOD "    refresh_s: 1\n", "a whole number from 5"},
        {GOOD "    scopes: {boss: admin}\n", "expected jobs:write or jobs:read (never admin)"},
        {GOOD "    scopes: {boss: [jobs:read, admin]}\n", "(never admin)"},
        {GOOD "    scopes: {boss: {}}\n", "expected jobs:write or jobs:read"},
        {GOOD "    scopes: [jobs:read]\n", "expected a mapping"},
        {GOOD "    allow_networks: [10.0.0.0/33]\n", "identity_providers.corp.allow_networks"},
        {GOOD "    allow_networks: 10.0.0.0/8\n", "expected a list"},
        {GOOD "    algorithms: [HS256]\n", "unknown option"},
        {ISSUER OURS TENANTS "    jwks_url: http://idp.example/jwks\n", "expected https"},
        {ISSUER OURS TENANTS "    jwks_url: http://127.0.0.1/jwks\n", "expected https"},
        {ISSUER OURS TENANTS "    jwks_url: http://10.0.0.1/jwks\n"
                             "    allow_networks: [127.0.0.0/8]\n",
         "expected https"},
        {ISSUER OURS TENANTS "    jwks_url: https://me:you@idp.example/jwks\n", "user name"},
        {ISSUER OURS TENANTS "    jwks_url: file:///etc/passwd\n", "jwks_url"},
        {GOOD "  other:\n" GOOD, "another provider has this issuer"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = {0};
        struct identity_settings *settings = load(cases[i].members, &err);

        if (settings || !strstr(err.message, cases[i].message) ||
            strncmp(err.message, "test.yaml:", 10) != 0)
            fail_msg("%zu: \"%s\", expected \"%s\"", i, err.message, cases[i].message);
    }
}

static void test_plain_http_is_for_named_addresses(void **state)
{
    struct err err = {0};
    struct identity_settings *settings =
        load(ISSUER OURS TENANTS "    jwks_url: http://127.0.0.1:9/jwks\n"
                                 "    allow_networks: [127.0.0.0/8]\n",
             &err);

    (void)state;
    assert_non_null(settings);
    identity_settings_free(settings);
}

/* --- claims ----------------------------------------------------------------------------------- */

static void test_claims_are_mapped_or_refused(void **state)
{
    static const struct {
        const char *claims, *tenant; /* NULL: refused */
        unsigned scopes;
    } cases[] = {
        {"{\"org\":\"org-1\",\"scp\":\"submit\"}", "acme", KEY_JOBS_WRITE | KEY_JOBS_READ},
        {"{\"org\":\"org-2\",\"scp\":\"openid  look submitted\"}", "beta", KEY_JOBS_READ},
        {"{\"org\":\"org-1\",\"scp\":[\"x\",\"look\",7,null]}", "acme", KEY_JOBS_READ},
        {"{\"org\":\"org-1\",\"scp\":[\"submit look\"]}", "acme", 0},
        {"{\"org\":\"org-1\",\"scp\":\"admin jobs:write\"}", "acme", 0},
        {"{\"org\":\"org-1\",\"scp\":{\"submit\":1}}", "acme", 0},
        {"{\"org\":\"org-1\"}", "acme", 0},
        {"{\"org\":\"acme\",\"scp\":\"submit\"}", NULL, 0}, /* our own name is not theirs */
        {"{\"org\":\"ORG-1\"}", NULL, 0},
        {"{\"org\":\"org-1 \"}", NULL, 0},
        {"{\"org\":\"\"}", NULL, 0},
        {"{\"org\":[\"org-1\"]}", NULL, 0},
        {"{\"org\":1}", NULL, 0},
        {"{\"tenant\":\"org-1\"}", NULL, 0},
    };
    struct err err = {0};
    struct identity_settings *settings =
        load(GOOD "    tenant_claim: org\n    scopes_claim: scp\n"
                  "    scopes: {submit: [jobs:write, jobs:read], look: jobs:read}\n",
             &err);

    (void)state;
    assert_non_null(settings);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *claims = json_loads(cases[i].claims, 0, NULL);
        const char *tenant = NULL;
        unsigned scopes = 0;
        bool ok = identity_map(&settings->providers[0], claims, &tenant, &scopes, &err);

        assert_non_null(claims);
        assert_int_equal(ok, cases[i].tenant != NULL);
        if (ok) {
            assert_string_equal(tenant, cases[i].tenant);
            assert_int_equal(scopes, cases[i].scopes);
        }
        json_decref(claims);
    }
    identity_settings_free(settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_section_has_defaults),
        cmocka_unit_test(test_no_section_is_no_provider),
        cmocka_unit_test(test_bad_sections_are_refused_with_their_place),
        cmocka_unit_test(test_plain_http_is_for_named_addresses),
        cmocka_unit_test(test_claims_are_mapped_or_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
