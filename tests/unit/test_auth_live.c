/* SPDX-License-Identifier: Apache-2.0 */
/* API keys judged against a real Postgres: who may do what, and how soon a change is felt. */
#include "producer/auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/str.h"
#include "producer/token.h"
#include "tests/unit/jwt_fixture.h"
#include "tests/unit/postgres_fixture.h"
#include "tests/unit/store_fixture.h"

static const uint8_t pepper[API_KEY_PEPPER_SIZE] = {1, 2, 3};
static struct key_store *keys;
static struct auth *auth;
static struct tokens *tokens;

static int set_up(void **state)
{
    fixture_reset(state);
    sql_run("DELETE FROM api_keys");
    keys = key_store_new(fixture_pg[0]);
    auth = auth_new(keys, pepper);
    return keys && auth ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    key_store_free(keys);
    tokens_free(tokens);
    tokens = NULL;
    auth_free(auth);
    return 0;
}

/* A stored key; text is what its owner sends. */
static void make_key(const char *tenant, const char *scopes, char text[API_KEY_SIZE],
                     struct api_key *key)
{
    uint8_t hash[API_KEY_HASH_SIZE];
    char digits[2 * API_KEY_HASH_SIZE + 1];

    api_key_make(key, text);
    api_key_hash(pepper, key, hash);
    str_hex(hash, sizeof(hash), digits);
    sql_run("INSERT INTO api_keys (id, tenant, name, scopes, hash)"
            " VALUES ('%s', %s, 'n', '{%s}', '\\x%s')",
            key->id, tenant, scopes, digits);
}

struct judged {
    bool is_told;
    bool ok;
    struct caller caller;
    struct err err;
};

static void on_judged(bool ok, const struct caller *caller, const struct err *err, void *arg)
{
    struct judged *judged = arg;

    assert_false(judged->is_told);
    judged->is_told = true;
    judged->ok = ok;
    if (caller)
        judged->caller = *caller;
    if (err)
        judged->err = *err;
}

static struct judged judge_headers(const char *authorization, const char *x_api_key,
                                   enum scope scope)
{
    struct judged judged = {0};

    auth_check(auth, authorization, x_api_key, scope, on_judged, &judged);
    await_flag(&judged.is_told);
    return judged;
}

/* The code of the refusal, "" when it may. */
static const char *judge_key(const char *text, enum scope scope)
{
    static struct judged judged;

    judged = judge_headers(NULL, text, scope);
    return judged.ok ? "" : judged.err.code;
}

static void test_scopes_decide_what_a_key_may(void **state)
{
    static const struct {
        const char *tenant, *scopes;
        enum scope scope;
        const char *code;
    } cases[] = {
        {"'acme'", "jobs:read", SCOPE_JOBS_READ, ""},
        {"'acme'", "jobs:read", SCOPE_JOBS_WRITE, "missing_scope"},
        {"'acme'", "jobs:write", SCOPE_JOBS_WRITE, ""},
        {"'acme'", "jobs:write", SCOPE_JOBS_READ, "missing_scope"},
        {"'acme'", "jobs:write,jobs:read", SCOPE_ADMIN, "missing_scope"},
        {"NULL", "admin", SCOPE_ADMIN, ""},
        {"NULL", "admin", SCOPE_JOBS_READ, "missing_scope"},
        {"NULL", "admin,jobs:write", SCOPE_JOBS_WRITE, "missing_scope"},
        {"'acme'", "admin", SCOPE_ADMIN, "missing_scope"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[API_KEY_SIZE];
        struct api_key key;

        make_key(cases[i].tenant, cases[i].scopes, text, &key);
        assert_string_equal(judge_key(text, cases[i].scope), cases[i].code);
    }
}

static void test_key_comes_in_either_header(void **state)
{
    char text[API_KEY_SIZE], bearer[API_KEY_SIZE + 16];
    struct api_key key;
    struct judged judged;

    (void)state;
    make_key("'acme'", "jobs:read", text, &key);
    snprintf(bearer, sizeof(bearer), "bearer %s", text);
    judged = judge_headers(bearer, NULL, SCOPE_JOBS_READ);
    assert_true(judged.ok);
    assert_string_equal(judged.caller.tenant, "acme");
    assert_string_equal(judged.caller.key_id, key.id);
    assert_true(judge_headers("Basic eDp5", text, SCOPE_JOBS_READ).ok);
    assert_string_equal(judge_headers(NULL, NULL, SCOPE_JOBS_READ).err.code, "missing_key");
    assert_string_equal(judge_headers("Basic eDp5", NULL, SCOPE_JOBS_READ).err.code, "missing_key");
    assert_string_equal(judge_headers("Bearer ", NULL, SCOPE_JOBS_READ).err.code, "missing_key");
}

static void test_wrong_keys_are_all_the_same(void **state)
{
    char text[API_KEY_SIZE], unknown[API_KEY_SIZE], forged[API_KEY_SIZE];
    struct api_key key, other;

    (void)state;
    make_key("'acme'", "jobs:read", text, &key);
    api_key_make(&other, unknown);
    assert_string_equal(judge_key(unknown, SCOPE_JOBS_READ), "invalid_key");
    assert_string_equal(judge_key(unknown, SCOPE_JOBS_READ), "invalid_key"); /* now cached */
    assert_string_equal(judge_key("ns_short", SCOPE_JOBS_READ), "invalid_key");
    /* A known id with another secret: the hash in the row is made another one. */
    memcpy(forged, text, sizeof(forged));
    sql_run("UPDATE api_keys SET hash = sha256('x')");
    assert_string_equal(judge_key(forged, SCOPE_JOBS_READ), "invalid_key");
    sql_run("UPDATE api_keys SET hash = ''");
    turn_loop_ms(AUTH_FRESH_MS + 50); /* what is known of the key is old by then: its age is time */
    assert_string_equal(judge_key(forged, SCOPE_JOBS_READ), "invalid_key");
}

/* Turns the loop until the key is judged so; fails when that takes a second. */
static void await_code(const char *text, const char *code)
{
    int64_t since_us = clock_monotonic_us();

    while (strcmp(judge_key(text, SCOPE_JOBS_READ), code) != 0) {
        assert_true(clock_monotonic_us() - since_us < US_PER_S);
        turn_loop_ms(20);
    }
}

static void test_change_is_felt_within_a_second(void **state)
{
    static const struct {
        const char *change, *code;
    } cases[] = {
        {"UPDATE tenants SET is_disabled = true", "tenant_disabled"},
        {"UPDATE tenants SET is_disabled = false", ""},
        {"UPDATE api_keys SET expires_at = now() - interval '1 s'", "invalid_key"},
        {"UPDATE api_keys SET expires_at = now() + interval '1 h'", ""},
        {"UPDATE api_keys SET revoked_at = now()", "invalid_key"},
    };
    char text[API_KEY_SIZE];
    struct api_key key;

    (void)state;
    make_key("'acme'", "jobs:read", text, &key);
    assert_string_equal(judge_key(text, SCOPE_JOBS_READ), "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        sql_run("%s", cases[i].change);
        await_code(text, cases[i].code);
    }
}

static void test_many_requests_of_a_key_share_a_lookup(void **state)
{
    enum { MANY = 500 };
    static struct judged judged[MANY];
    char text[API_KEY_SIZE];
    struct api_key key;

    (void)state;
    make_key("'acme'", "jobs:read", text, &key);
    memset(judged, 0, sizeof(judged));
    for (int i = 0; i < MANY; i++)
        auth_check(auth, NULL, text, i % 2 ? SCOPE_JOBS_WRITE : SCOPE_JOBS_READ, on_judged,
                   &judged[i]);
    assert_int_equal(pg_outstanding(fixture_pg[0]), 0); /* not even sent yet */
    for (int i = 0; i < MANY; i++) {
        await_flag(&judged[i].is_told);
        assert_int_equal(judged[i].ok, i % 2 == 0);
    }
}

static void test_use_is_noted_at_most_once_a_minute(void **state)
{
    char text[API_KEY_SIZE], later_text[API_KEY_SIZE];
    struct api_key key, later;

    (void)state;
    make_key("'acme'", "jobs:read", text, &key);
    for (int i = 0; i < 3; i++)
        assert_string_equal(judge_key(text, SCOPE_JOBS_READ), "");
    for (int i = 0; i < 100 && sql_number("SELECT count(last_used_at) FROM api_keys") == 0; i++)
        turn_loop_ms(20);
    assert_int_equal(sql_number("SELECT count(last_used_at) FROM api_keys"), 1);
    sql_run("UPDATE api_keys SET last_used_at = now() - interval '30 s'");
    key_touch(keys, key.id);
    make_key("'acme'", "jobs:read", later_text, &later);
    key_touch(keys, later.id); /* in the same statement or a later one: the first is through then */
    for (int i = 0; i < 100 && sql_number("SELECT count(last_used_at) FROM api_keys") < 2; i++)
        turn_loop_ms(20);
    assert_int_equal(sql_number("SELECT count(last_used_at) FROM api_keys"), 2);
    assert_int_equal(sql_number("SELECT count(*) FROM api_keys"
                                " WHERE last_used_at < now() - interval '20 s'"),
                     1);
}

static void test_nobody_is_let_in_while_the_database_is_away(void **state)
{
    char text[API_KEY_SIZE];
    struct api_key key;
    struct judged judged = {0};

    (void)state;
    make_key("'acme'", "jobs:read", text, &key);
    auth_check(auth, NULL, text, SCOPE_JOBS_READ, on_judged, &judged);
    key_store_free(keys); /* as at the end of the process */
    keys = NULL;
    assert_true(judged.is_told);
    assert_string_equal(judged.err.code, "unavailable");
}

static void test_any_changed_character_of_a_key_is_refused(void **state)
{
    char text[API_KEY_SIZE];
    struct api_key key;

    (void)state;
    make_key("'acme'", "jobs:read", text, &key);
    for (size_t i = 0; text[i]; i++) {
        char was = text[i];

        text[i] = was == 'A' ? 'B' : 'A';
        assert_string_equal(judge_key(text, SCOPE_JOBS_READ), "invalid_key");
        text[i] = was;
    }
    assert_string_equal(judge_key(text, SCOPE_JOBS_READ), "");
}

/* The same way for both: a hash, one look into the database, one comparison. */
static void test_unknown_key_costs_the_lookup_of_a_known_one(void **state)
{
    char known[API_KEY_SIZE], unknown[API_KEY_SIZE];
    const char *const texts[] = {known, unknown};
    struct api_key key, other;

    (void)state;
    make_key("'acme'", "jobs:read", known, &key);
    api_key_make(&other, unknown);
    for (int i = 0; i < 2; i++) {
        for (int round = 0; round < 2; round++) {
            struct judged judged = {0};

            auth_check(auth, NULL, texts[i], SCOPE_JOBS_READ, on_judged, &judged);
            assert_int_equal(judged.is_told, round == 1); /* from the cache */
            await_flag(&judged.is_told);
            assert_int_equal(judged.ok, i == 0);
        }
    }
}

static void test_key_expires_between_two_lookups(void **state)
{
    char text[API_KEY_SIZE];
    struct api_key key;

    (void)state;
    make_key("'acme'", "jobs:read", text, &key);
    sql_run("UPDATE api_keys SET expires_at = clock_timestamp() + interval '2 s'");
    assert_string_equal(judge_key(text, SCOPE_JOBS_READ), "");
    while (sql_number("SELECT count(*) FROM api_keys WHERE expires_at > clock_timestamp()") > 0)
        turn_loop_ms(10);
    await_code(text, "invalid_key");
}

/* One statement notes them all; a request never waits for it. */
static void test_use_of_many_keys_is_noted_in_a_batch(void **state)
{
    enum { MANY = 50 };
    static char texts[MANY][API_KEY_SIZE];
    static struct judged judged[MANY];
    struct api_key key;

    (void)state;
    memset(judged, 0, sizeof(judged));
    for (int i = 0; i < MANY; i++)
        make_key("'acme'", "jobs:read", texts[i], &key);
    for (int i = 0; i < MANY; i++)
        auth_check(auth, NULL, texts[i], SCOPE_JOBS_READ, on_judged, &judged[i]);
    for (int i = 0; i < MANY; i++)
        await_flag(&judged[i].is_told);
    for (int i = 0; i < 100 && sql_number("SELECT count(last_used_at) FROM api_keys") < MANY; i++)
        turn_loop_ms(20);
    assert_int_equal(sql_number("SELECT count(last_used_at) FROM api_keys"), MANY);
    assert_int_equal(sql_number("SELECT count(DISTINCT last_used_at) FROM api_keys"), 1);
}

/* --- tokens ----------------------------------------------------------------------------------- */

static int set_up_tokens(void **state)
{
    char path[] = "/tmp/nightshift-jwks-XXXXXX", text[1024];
    int fd = mkstemp(path);
    const char *jwks = fixture_jwks();
    struct config *config;
    struct err err;

    if (set_up(state) != 0 || fd < 0 || write(fd, jwks, strlen(jwks)) < 0)
        return -1;
    close(fd);
    snprintf(text, sizeof(text),
             "identity_providers:\n  corp:\n    issuer: https://idp.example\n"
             "    audience: nightshift\n    jwks_file: %s\n"
             "    tenants: {org-1: acme, org-2: nobody}\n",
             path);
    config = config_parse("test.yaml", text, strlen(text), &err);
    tokens = config ? tokens_new(fixture_base, config, NULL, 0, &err) : NULL;
    auth_set_tokens(auth, tokens);
    config_free(config);
    if (tokens)
        tokens_refresh(tokens); /* the file is read when this returns */
    unlink(path);
    return tokens ? 0 : -1;
}

static const char *judge_token(const char *token, enum scope scope)
{
    static struct judged judged;
    static char bearer[FIXTURE_TOKEN_SIZE + 16];

    snprintf(bearer, sizeof(bearer), "Bearer %s", token);
    judged = judge_headers(bearer, NULL, scope);
    if (judged.ok) {
        assert_string_equal(judged.caller.tenant, "acme");
        assert_string_equal(judged.caller.key_id, "jwt:corp");
    }
    return judged.ok ? "" : judged.err.code;
}

static void test_token_is_as_good_as_a_key(void **state)
{
    static const struct {
        const char *tenant, *scopes;
        enum scope scope;
        const char *code;
    } cases[] = {
        {"org-1", "jobs:read", SCOPE_JOBS_READ, ""},
        {"org-1", "openid jobs:write", SCOPE_JOBS_WRITE, ""},
        {"org-1", "jobs:read", SCOPE_JOBS_WRITE, "missing_scope"},
        {"org-1", "", SCOPE_JOBS_READ, "missing_scope"},
        {"org-1", "admin jobs:write jobs:read", SCOPE_ADMIN, "missing_scope"},
        {"org-2", "jobs:read", SCOPE_JOBS_READ, "invalid_key"}, /* registered, but no tenant */
        {"acme", "jobs:read", SCOPE_JOBS_READ, "invalid_key"},  /* a tenant, but not registered */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(
            judge_token(fixture_good_token(cases[i].tenant, cases[i].scopes), cases[i].scope),
            cases[i].code);
    assert_string_equal(judge_token("a.b.c", SCOPE_JOBS_READ), "invalid_key");
    assert_string_equal(
        judge_headers(NULL, fixture_good_token("org-1", "jobs:read"), SCOPE_JOBS_READ).err.code,
        "invalid_key"); /* x-api-key is for keys */
}

static void test_tenant_of_a_token_is_disabled_within_a_second(void **state)
{
    char token[FIXTURE_TOKEN_SIZE];
    int64_t since_us;

    (void)state;
    snprintf(token, sizeof(token), "%s", fixture_good_token("org-1", "jobs:read"));
    assert_string_equal(judge_token(token, SCOPE_JOBS_READ), "");
    sql_run("UPDATE tenants SET is_disabled = true");
    since_us = clock_monotonic_us();
    while (strcmp(judge_token(token, SCOPE_JOBS_READ), "tenant_disabled") != 0) {
        assert_true(clock_monotonic_us() - since_us < US_PER_S);
        turn_loop_ms(20);
    }
}

static void test_key_beside_tokens_is_still_a_key(void **state)
{
    char text[API_KEY_SIZE];
    struct api_key key;

    (void)state;
    make_key("'acme'", "jobs:read", text, &key);
    assert_string_equal(judge_key(text, SCOPE_JOBS_READ), "");
    assert_true(judge_headers("Bearer x", text, SCOPE_JOBS_READ).is_told);
}

static void test_no_token_is_taken_without_a_provider(void **state)
{
    (void)state;
    assert_string_equal(judge_token(fixture_good_token("org-1", "jobs:read"), SCOPE_JOBS_READ),
                        "invalid_key");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_scopes_decide_what_a_key_may, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_key_comes_in_either_header, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_keys_are_all_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_change_is_felt_within_a_second, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_requests_of_a_key_share_a_lookup, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_use_is_noted_at_most_once_a_minute, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_changed_character_of_a_key_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_key_costs_the_lookup_of_a_known_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_key_expires_between_two_lookups, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_use_of_many_keys_is_noted_in_a_batch, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_token_is_as_good_as_a_key, set_up_tokens, tear_down),
        cmocka_unit_test_setup_teardown(test_tenant_of_a_token_is_disabled_within_a_second,
                                        set_up_tokens, tear_down),
        cmocka_unit_test_setup_teardown(test_key_beside_tokens_is_still_a_key, set_up_tokens,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_no_token_is_taken_without_a_provider, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_is_let_in_while_the_database_is_away, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
