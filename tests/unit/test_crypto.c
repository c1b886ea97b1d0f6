/* SPDX-License-Identifier: Apache-2.0 */
/* Digests against public vectors (webhook signatures among them), base64 and sealing. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/crypto.h"
#include "common/base/str.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void assert_hex(const uint8_t *bytes, size_t len, const char *expected)
{
    char hex[2 * 64 + 1];

    str_hex(bytes, len, hex);
    assert_string_equal(hex, expected);
}

static void test_sha256_matches_fips_180(void **state)
{
    uint8_t digest[SHA256_SIZE];

    (void)state;
    crypto_sha256("", 0, digest);
    assert_hex(digest, sizeof(digest),
               "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    crypto_sha256("abc", 3, digest);
    assert_hex(digest, sizeof(digest),
               "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_sha256_stream_gives_the_same(void **state)
{
    struct sha256_stream *stream = sha256_stream_new();
    uint8_t whole[SHA256_SIZE], parts[SHA256_SIZE];

    (void)state;
    crypto_sha256("hello world", 11, whole);
    sha256_stream_add(stream, "hello", 5);
    sha256_stream_add(stream, "", 0);
    sha256_stream_add(stream, " world", 6);
    sha256_stream_finish(stream, parts);
    assert_memory_equal(whole, parts, SHA256_SIZE);
    stream = sha256_stream_new();
    sha256_stream_add(stream, "given up", 8);
    sha256_stream_free(stream);
    sha256_stream_free(NULL);
}

/* The signature of Standard Webhooks: HMAC over "id.timestamp.body" with the decoded secret. */
static void sign(const char *secret, const char *id, const char *time, const char *body, char *out)
{
    uint8_t key[64], mac[SHA256_SIZE];
    char text[512];
    size_t key_len = 0;

    assert_true(crypto_unbase64(secret, strlen(secret), key, sizeof(key), &key_len));
    snprintf(text, sizeof(text), "%s.%s.%s", id, time, body);
    crypto_hmac_sha256(key, key_len, text, strlen(text), mac);
    crypto_base64(mac, sizeof(mac), out);
}

static void test_hmac_matches_public_webhook_vectors(void **state)
{
    char signature[BASE64_SIZE(SHA256_SIZE)];
    uint8_t mac[SHA256_SIZE];

    (void)state;
    sign("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330",
         "{\"test\": 2432232314}", signature);
    assert_string_equal(signature, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    sign("RdvaYFYUXuIFuEbvZHwMfYFhUf7aMYjYcmM24+Aj40c=", "wh_685c059ae39c8190af8c71ed1022a24d",
         "1750861210",
         "{\"id\": \"evt_685c059ae3a481909bdc86819b066fb6\", \"object\": \"event\", "
         "\"created_at\": 1750861210, \"type\": \"response.completed\", "
         "\"data\": {\"id\": \"resp_123\"}}",
         signature);
    assert_string_equal(signature, "gUAg4R2hWouRZqRQG4uJypNS8YK885G838+EHb4nKBY=");
    crypto_hmac_sha256("It's a Secret to Everybody", 26, "Hello, World!", 13, mac);
    assert_hex(mac, sizeof(mac),
               "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
}

static void test_hmac_matches_rfc_4231(void **state)
{
    uint8_t mac[SHA256_SIZE];
    uint8_t key[131];

    (void)state;
    crypto_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, mac);
    assert_hex(mac, sizeof(mac),
               "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof(key));
    crypto_hmac_sha256(key, sizeof(key), "Test Using Larger Than Block-Size Key - Hash Key First",
                       54, mac);
    assert_hex(mac, sizeof(mac),
               "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void test_hmac_takes_the_empty_key(void **state)
{
    uint8_t mac[SHA256_SIZE];

    (void)state;
    crypto_hmac_sha256("other", 5, "x", 1, mac);
    crypto_hmac_sha256(NULL, 0, "", 0, mac);
    assert_hex(mac, sizeof(mac),
               "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void test_base64_both_ways(void **state)
{
    static const struct {
        const char *plain;
        const char *text;
    } cases[] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xfb\xff\xbf\xff", "+/+//w=="},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t len = strlen(cases[i].plain);
        char text[BASE64_SIZE(8)];
        uint8_t back[8];
        size_t back_len = 99;

        crypto_base64(cases[i].plain, len, text);
        assert_string_equal(text, cases[i].text);
        assert_true(crypto_unbase64(text, strlen(text), back, len, &back_len));
        assert_int_equal(back_len, len);
        assert_memory_equal(back, cases[i].plain, len);
    }
}

static void test_long_base64_is_one_text(void **state)
{
    const size_t len = (4 << 20) + 1;
    uint8_t *data = malloc(len);
    uint8_t *back = malloc(len);
    char *text = malloc(BASE64_SIZE(len));
    size_t back_len = 0;

    (void)state;
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    crypto_base64(data, len, text);
    assert_int_equal(strlen(text), BASE64_SIZE(len) - 1);
    assert_true(crypto_unbase64(text, strlen(text), back, len, &back_len));
    assert_int_equal(back_len, len);
    assert_memory_equal(back, data, len);
    free(data);
    free(back);
    free(text);
}

static void test_only_canonical_base64_is_read(void **state)
{
    static const char *const bad[] = {
        "Z",        "Zg",     "Zg=",  "Zg===", "=",    "====",      "Z===", "Zh==", "Zm9=",
        "Zg==Zg==", "Zm9v\n", " Zm9", "Zm-v",  "Zm_v", "Zm9v\n   ", "Z=9v", "Zm=v", "Zm9v====",
    };
    uint8_t out[16];
    size_t len;

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(crypto_unbase64(bad[i], strlen(bad[i]), out, sizeof(out), &len));
    assert_false(crypto_unbase64("Zm9vYmFy", 8, out, 5, &len));
}

static void test_equal_compares_all_bytes(void **state)
{
    (void)state;
    assert_true(crypto_equal("abcd", "abcx", 3));
    assert_false(crypto_equal("abcd", "abcx", 4));
    assert_false(crypto_equal("xbcd", "abcd", 4));
    assert_true(crypto_equal("a", "b", 0));
}

static void test_random_bytes_differ_and_wipe_clears(void **state)
{
    static const uint8_t zero[1000];
    uint8_t a[1000] = {0};
    uint8_t b[1000] = {0};

    (void)state;
    crypto_random(a, sizeof(a));
    crypto_random(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    crypto_wipe(a, sizeof(a));
    assert_memory_equal(a, zero, sizeof(a));
}

static void test_sealed_bytes_open(void **state)
{
    static const char *const plains[] = {"", "s", "a secret of some length"};
    uint8_t key[CRYPTO_KEY_SIZE];
    struct err err;

    (void)state;
    crypto_random(key, sizeof(key));
    for (size_t i = 0; i < COUNT(plains); i++) {
        size_t len = strlen(plains[i]);
        uint8_t sealed[64 + CRYPTO_SEAL_OVERHEAD], again[64 + CRYPTO_SEAL_OVERHEAD], back[64];

        assert_true(crypto_seal(key, "tenant acme", plains[i], len, sealed, &err));
        assert_true(
            crypto_open(key, "tenant acme", sealed, len + CRYPTO_SEAL_OVERHEAD, back, &err));
        assert_memory_equal(back, plains[i], len);
        assert_true(crypto_seal(key, "tenant acme", plains[i], len, again, &err));
        assert_memory_not_equal(sealed, again, len + CRYPTO_SEAL_OVERHEAD);
    }
}

static void test_what_was_changed_does_not_open(void **state)
{
    static const uint8_t zero[6];
    uint8_t key[CRYPTO_KEY_SIZE] = {1};
    uint8_t sealed[6 + CRYPTO_SEAL_OVERHEAD];
    uint8_t back[6];
    struct err err;

    (void)state;
    assert_true(crypto_seal(key, "acme", "secret", 6, sealed, &err));
    for (size_t i = 0; i < sizeof(sealed); i++) {
        sealed[i] ^= 0x10;
        memset(back, 0, sizeof(back));
        assert_false(crypto_open(key, "acme", sealed, sizeof(sealed), back, &err));
        assert_memory_equal(back, zero, sizeof(back));
        sealed[i] ^= 0x10;
    }
    assert_false(crypto_open(key, "other", sealed, sizeof(sealed), back, &err));
    assert_non_null(strstr(err.message, "wrong key or owner"));
    key[0] = 2;
    assert_false(crypto_open(key, "acme", sealed, sizeof(sealed), back, &err));
    key[0] = 1;
    assert_false(crypto_open(key, "acme", sealed, sizeof(sealed) - 1, back, &err));
    assert_false(crypto_open(key, "acme", sealed, CRYPTO_SEAL_OVERHEAD - 1, back, &err));
    assert_false(crypto_open(key, "acme", sealed, SIZE_MAX, back, &err));
    assert_true(crypto_open(key, "acme", sealed, sizeof(sealed), back, &err));
}

static void test_too_long_is_not_sealed(void **state)
{
    uint8_t key[CRYPTO_KEY_SIZE] = {1};
    uint8_t sealed[CRYPTO_SEAL_OVERHEAD];
    struct err err;

    (void)state;
    assert_false(crypto_seal(key, "acme", "x", INT_MAX, sealed, &err));
    assert_non_null(strstr(err.message, "too long"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_matches_fips_180),
        cmocka_unit_test(test_sha256_stream_gives_the_same),
        cmocka_unit_test(test_hmac_matches_public_webhook_vectors),
        cmocka_unit_test(test_hmac_matches_rfc_4231),
        cmocka_unit_test(test_hmac_takes_the_empty_key),
        cmocka_unit_test(test_base64_both_ways),
        cmocka_unit_test(test_long_base64_is_one_text),
        cmocka_unit_test(test_only_canonical_base64_is_read),
        cmocka_unit_test(test_equal_compares_all_bytes),
        cmocka_unit_test(test_random_bytes_differ_and_wipe_clears),
        cmocka_unit_test(test_sealed_bytes_open),
        cmocka_unit_test(test_what_was_changed_does_not_open),
        cmocka_unit_test(test_too_long_is_not_sealed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
