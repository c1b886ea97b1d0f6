/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of identity providers: which are believed, and that no other is. */
#include "common/model/jwt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "tests/unit/jwt_fixture.h"

#define NOW 1800000000
#define RSA_HEADER "{\"alg\":\"RS256\",\"kid\":\"rsa\"}"
#define EC_HEADER "{\"alg\":\"ES256\",\"kid\":\"ec\",\"typ\":\"JWT\"}"
#define WHO "\"iss\":\"https://idp.example\",\"aud\":\"nightshift\""
#define CLAIMS "{" WHO ",\"exp\":1800000600}"

static struct jwt_keys *keys;

static int set_up(void **state)
{
    struct err err;
    const char *text = fixture_jwks();

    (void)state;
    keys = jwt_keys_parse(text, strlen(text), &err);
    return keys ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    jwt_keys_free(keys);
    return 0;
}

/* Why the token is refused, "" when it is believed. */
static const char *judge_with(const char *token, const struct jwt_keys *with)
{
    static const struct jwt_rules rules = {"https://idp.example", "nightshift", 30};
    static struct err err;
    struct jwt *jwt;

    err_clear(&err);
    jwt = jwt_read(token, &err);
    if (jwt && jwt_verify(jwt, with, &rules, NOW * US_PER_S, &err))
        err_clear(&err);
    jwt_free(jwt);
    return err.message;
}

static const char *judge(const char *token)
{
    return judge_with(token, keys);
}

/* --- the table -------------------------------------------------------------------------------- */

/* What the token says, how it is signed, and why it is refused: "" when it is believed. */
static const struct token_case {
    const char *name;
    enum fixture_signature signature;
    const char *header, *claims, *refusal;
} token_cases[] = {
    {"RS256", SIGN_RSA, RSA_HEADER, CLAIMS, ""},
    {"ES256", SIGN_EC, EC_HEADER, CLAIMS, ""},
    {"access token", SIGN_EC, "{\"alg\":\"ES256\",\"kid\":\"ec\",\"typ\":\"at+jwt\"}", CLAIMS, ""},
    {"several audiences", SIGN_RSA, RSA_HEADER,
     "{\"iss\":\"https://idp.example\",\"aud\":[\"x\",\"nightshift\"],\"exp\":1800000600}", ""},
    {"just expired, within the leeway", SIGN_RSA, RSA_HEADER, "{" WHO ",\"exp\":1799999971}", ""},
    {"begins within the leeway", SIGN_RSA, RSA_HEADER,
     "{" WHO ",\"exp\":1800000600,\"nbf\":1800000029,\"iat\":1800000029}", ""},
    {"fraction of a second", SIGN_RSA, RSA_HEADER, "{" WHO ",\"exp\":1800000600.5}", ""},

    {"expired", SIGN_RSA, RSA_HEADER, "{" WHO ",\"exp\":1799999970}", "it has expired"},
    {"expired long ago", SIGN_EC, EC_HEADER, "{" WHO ",\"exp\":0}", "it has expired"},
    {"negative expiry", SIGN_EC, EC_HEADER, "{" WHO ",\"exp\":-1e300}", "it has expired"},
    {"no expiry", SIGN_RSA, RSA_HEADER, "{" WHO "}", "it does not say when it expires"},
    {"expiry as text", SIGN_RSA, RSA_HEADER, "{" WHO ",\"exp\":\"1800000600\"}",
     "it does not say when it expires"},
    {"expiry null", SIGN_RSA, RSA_HEADER, "{" WHO ",\"exp\":null}",
     "it does not say when it expires"},
    {"not before", SIGN_RSA, RSA_HEADER, "{" WHO ",\"exp\":1800000600,\"nbf\":1800000031}",
     "it is not valid yet"},
    {"not before as text", SIGN_RSA, RSA_HEADER, "{" WHO ",\"exp\":1800000600,\"nbf\":\"0\"}",
     "it does not say when it expires"},
    {"issued in the future", SIGN_RSA, RSA_HEADER,
     "{" WHO ",\"exp\":1800009999,\"iat\":1800000100}", "it is not valid yet"},

    {"wrong audience", SIGN_RSA, RSA_HEADER,
     "{\"iss\":\"https://idp.example\",\"aud\":\"nightshif\",\"exp\":1800000600}",
     "it is for another audience"},
    {"no audience", SIGN_RSA, RSA_HEADER, "{\"iss\":\"https://idp.example\",\"exp\":1800000600}",
     "it is for another audience"},
    {"empty audiences", SIGN_RSA, RSA_HEADER,
     "{\"iss\":\"https://idp.example\",\"aud\":[],\"exp\":1800000600}",
     "it is for another audience"},
    {"audience of numbers", SIGN_RSA, RSA_HEADER,
     "{\"iss\":\"https://idp.example\",\"aud\":[1,null],\"exp\":1800000600}",
     "it is for another audience"},
    {"audience as an object", SIGN_RSA, RSA_HEADER,
     "{\"iss\":\"https://idp.example\",\"aud\":{\"nightshift\":1},\"exp\":1800000600}",
     "it is for another audience"},
    {"another issuer", SIGN_RSA, RSA_HEADER,
     "{\"iss\":\"https://idp.example/\",\"aud\":\"nightshift\",\"exp\":1800000600}",
     "its issuer is another one"},
    {"no issuer", SIGN_RSA, RSA_HEADER, "{\"aud\":\"nightshift\",\"exp\":1800000600}",
     "it does not name its issuer"},
    {"issuer a list", SIGN_RSA, RSA_HEADER,
     "{\"iss\":[\"https://idp.example\"],\"aud\":\"nightshift\",\"exp\":1800000600}",
     "it does not name its issuer"},

    {"unsigned", SIGN_EMPTY, "{\"alg\":\"none\",\"kid\":\"rsa\"}", CLAIMS, "it is not signed"},
    {"none, with a signature", SIGN_RSA, "{\"alg\":\"none\",\"kid\":\"rsa\"}", CLAIMS,
     "its algorithm is neither"},
    {"None", SIGN_RSA, "{\"alg\":\"None\",\"kid\":\"rsa\"}", CLAIMS, "its algorithm is neither"},
    {"signature cut off", SIGN_EMPTY, RSA_HEADER, CLAIMS, "it is not signed"},
    {"HS256 with the public key", SIGN_HMAC_PEM, "{\"alg\":\"HS256\",\"kid\":\"rsa\"}", CLAIMS,
     "its algorithm is neither"},
    {"HS256 with the modulus", SIGN_HMAC_N, "{\"alg\":\"HS256\",\"kid\":\"rsa\"}", CLAIMS,
     "its algorithm is neither"},
    {"HMAC that calls itself RS256", SIGN_HMAC_PEM, RSA_HEADER, CLAIMS, "its signature is wrong"},
    {"HMAC by the oct key", SIGN_HMAC_N, "{\"alg\":\"HS256\",\"kid\":\"oct\"}", CLAIMS,
     "its algorithm is neither"},
    {"RS512", SIGN_RSA, "{\"alg\":\"RS512\",\"kid\":\"rsa\"}", CLAIMS, "its algorithm is neither"},
    {"PS256", SIGN_RSA, "{\"alg\":\"PS256\",\"kid\":\"rsa\"}", CLAIMS, "its algorithm is neither"},
    {"rs256", SIGN_RSA, "{\"alg\":\"rs256\",\"kid\":\"rsa\"}", CLAIMS, "its algorithm is neither"},
    {"algorithm a list", SIGN_RSA, "{\"alg\":[\"RS256\"],\"kid\":\"rsa\"}", CLAIMS,
     "its algorithm is neither"},
    {"no algorithm", SIGN_RSA, "{\"kid\":\"rsa\"}", CLAIMS, "its algorithm is neither"},
    {"RS256 by the name of the EC key", SIGN_RSA, "{\"alg\":\"RS256\",\"kid\":\"ec\"}", CLAIMS,
     "its issuer has no such key"},
    {"ES256 by the name of the RSA key", SIGN_EC, "{\"alg\":\"ES256\",\"kid\":\"rsa\"}", CLAIMS,
     "its issuer has no such key"},
    {"ES256 as DER", SIGN_EC_DER, EC_HEADER, CLAIMS, "its signature is wrong"},
    {"a stranger's key", SIGN_OTHER_RSA, RSA_HEADER, CLAIMS, "its signature is wrong"},
    {"a stranger's key, brought along", SIGN_OTHER_RSA,
     "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"jwk\":{\"kty\":\"RSA\"},\"jku\":\"https://x/\"}", CLAIMS,
     "its signature is wrong"},
    {"unknown key", SIGN_RSA, "{\"alg\":\"RS256\",\"kid\":\"other\"}", CLAIMS,
     "its issuer has no such key"},
    {"no key named", SIGN_RSA, "{\"alg\":\"RS256\"}", CLAIMS, "it does not name its key"},
    {"empty key name", SIGN_RSA, "{\"alg\":\"RS256\",\"kid\":\"\"}", CLAIMS,
     "it does not name its key"},
    {"key name a number", SIGN_RSA, "{\"alg\":\"RS256\",\"kid\":1}", CLAIMS,
     "it does not name its key"},
    {"weak key", SIGN_RSA, "{\"alg\":\"RS256\",\"kid\":\"weak\"}", CLAIMS,
     "its issuer has no such key"},
    {"encryption key", SIGN_RSA, "{\"alg\":\"RS256\",\"kid\":\"enc\"}", CLAIMS,
     "its issuer has no such key"},
    {"critical extension", SIGN_RSA,
     "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"crit\":[\"b64\"],\"b64\":false}", CLAIMS,
     "it has critical extensions"},
    {"another type", SIGN_RSA, "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"typ\":\"dpop+jwt\"}", CLAIMS,
     "it is a token of another type"},

    {"duplicate claim", SIGN_RSA, RSA_HEADER, "{" WHO ",\"exp\":1,\"exp\":1800000600}",
     "a part of it is no JSON object"},
    {"duplicate issuer", SIGN_RSA, RSA_HEADER, "{\"iss\":\"x\"," WHO ",\"exp\":1800000600}",
     "a part of it is no JSON object"},
    {"duplicate header member", SIGN_RSA, "{\"alg\":\"none\",\"alg\":\"RS256\",\"kid\":\"rsa\"}",
     CLAIMS, "a part of it is no JSON object"},
    {"claims a list", SIGN_RSA, RSA_HEADER, "[]", "a part of it is no JSON object"},
    {"claims empty", SIGN_RSA, RSA_HEADER, "", "a part of it is no JSON object"},
    {"text after the claims", SIGN_RSA, RSA_HEADER, CLAIMS "x", "a part of it is no JSON object"},
    {"NUL in a claim", SIGN_RSA, RSA_HEADER,
     "{\"iss\":\"https://idp.example\\u0000x\",\"aud\":\"nightshift\",\"exp\":1800000600}",
     "a part of it is no JSON object"},
};

static void test_table_of_tokens(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(token_cases) / sizeof(token_cases[0]); i++) {
        const struct token_case *row = &token_cases[i];
        const char *why = judge(fixture_token(row->signature, row->header, row->claims));

        if (*row->refusal ? strncmp(why, row->refusal, strlen(row->refusal)) != 0 : *why != '\0')
            fail_msg("%s: \"%s\", expected \"%s\"", row->name, why, row->refusal);
    }
}

static void test_any_changed_character_is_refused(void **state)
{
    static const enum fixture_signature signatures[] = {SIGN_RSA, SIGN_EC};
    static const char *const headers[] = {RSA_HEADER, EC_HEADER};
    char token[FIXTURE_TOKEN_SIZE];

    (void)state;
    for (size_t kind = 0; kind < 2; kind++) {
        snprintf(token, sizeof(token), "%s",
                 fixture_token(signatures[kind], headers[kind], CLAIMS));
        for (size_t i = 0; token[i]; i++) {
            char was = token[i];

            token[i] = was == 'A' ? 'B' : 'A';
            assert_true(*judge(token));
            /* The neighbour that differs in the last bit alone, which may be one of no meaning. */
            token[i] = (char)(was ^ 1);
            assert_true(*judge(token));
            token[i] = was;
        }
        assert_string_equal(judge(token), "");
    }
}

static void test_cut_and_stretched_tokens_are_refused(void **state)
{
    char token[FIXTURE_TOKEN_SIZE];
    size_t len;

    (void)state;
    snprintf(token, sizeof(token), "%s", fixture_token(SIGN_EC, EC_HEADER, CLAIMS));
    len = strlen(token);
    for (size_t cut = 0; cut < len; cut++) {
        char was = token[cut];

        token[cut] = '\0';
        assert_true(*judge(token));
        token[cut] = was;
    }
    for (const char *more = "=A. +/\n"; *more; more++) {
        token[len] = *more;
        token[len + 1] = '\0';
        assert_true(*judge(token));
    }
}

static void test_huge_token_is_refused_unread(void **state)
{
    static char claims[12 * 1024];

    (void)state;
    snprintf(claims, sizeof(claims), "{" WHO ",\"exp\":1800000600,\"x\":\"%05500d\"}", 0);
    assert_string_equal(judge(fixture_token(SIGN_RSA, RSA_HEADER, claims)), "");
    snprintf(claims, sizeof(claims), "{" WHO ",\"exp\":1800000600,\"x\":\"%06100d\"}", 0);
    assert_string_equal(judge(fixture_token(SIGN_RSA, RSA_HEADER, claims)),
                        "it is longer than 8 KiB");
}

static void test_api_keys_do_not_look_like_tokens(void **state)
{
    (void)state;
    assert_true(jwt_is_like("a.b.c"));
    assert_true(jwt_is_like(".."));
    assert_false(jwt_is_like("ns_abcdefghijkl_x"));
    assert_false(jwt_is_like("a.b"));
    assert_false(jwt_is_like("a.b.c.d"));
    assert_false(jwt_is_like(""));
}

/* --- key sets --------------------------------------------------------------------------------- */

static void test_only_keys_that_may_sign_are_taken(void **state)
{
    (void)state;
    assert_int_equal(jwt_keys_count(keys), 2);
    assert_true(jwt_keys_have(keys, "rsa"));
    assert_true(jwt_keys_have(keys, "ec"));
    assert_false(jwt_keys_have(keys, "weak")); /* 1,024 bits */
    assert_false(jwt_keys_have(keys, "enc"));
    assert_false(jwt_keys_have(keys, "one")); /* exponent 1 */
    assert_false(jwt_keys_have(keys, "off")); /* not on the curve */
    assert_false(jwt_keys_have(keys, "oct"));
    assert_false(jwt_keys_have(keys, ""));
}

static void test_broken_key_sets_are_none(void **state)
{
    static const char *const bad[] = {
        "",    "x", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[]}x", "{\"keys\":[],\"keys\":[]}",
        "null"};
    struct err err;
    struct jwt_keys *none;
    char *huge = malloc(JWT_KEYS_SIZE_MAX + 2);

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(jwt_keys_parse(bad[i], strlen(bad[i]), &err));
    memset(huge, ' ', JWT_KEYS_SIZE_MAX + 1);
    assert_null(jwt_keys_parse(huge, JWT_KEYS_SIZE_MAX + 1, &err));
    free(huge);
    none = jwt_keys_parse("{\"keys\":[]}", 11, &err);
    assert_non_null(none);
    assert_true(*judge_with(fixture_token(SIGN_RSA, RSA_HEADER, CLAIMS), none));
    jwt_keys_free(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_of_tokens),
        cmocka_unit_test(test_any_changed_character_is_refused),
        cmocka_unit_test(test_cut_and_stretched_tokens_are_refused),
        cmocka_unit_test(test_huge_token_is_refused_unread),
        cmocka_unit_test(test_api_keys_do_not_look_like_tokens),
        cmocka_unit_test(test_only_keys_that_may_sign_are_taken),
        cmocka_unit_test(test_broken_key_sets_are_none),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
