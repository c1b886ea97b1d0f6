/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures against the public vectors of Standard Webhooks and OpenAI's SDK. */
#include "common/model/webhook_sign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"

static const struct {
    const char *secret, *id;
    int64_t timestamp_s;
    const char *body, *signature;
} vectors[] = {
    {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
     "{\"test\": 2432232314}", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
    {"whsec_RdvaYFYUXuIFuEbvZHwMfYFhUf7aMYjYcmM24+Aj40c=", "wh_685c059ae39c8190af8c71ed1022a24d",
     1750861210,
     "{\"id\": \"evt_685c059ae3a481909bdc86819b066fb6\", \"object\": \"event\", "
     "\"created_at\": 1750861210, \"type\": \"response.completed\", \"data\": {\"id\": "
     "\"resp_123\"}}",
     "v1,gUAg4R2hWouRZqRQG4uJypNS8YK885G838+EHb4nKBY="},
};

static struct webhook_secret secret_of(const char *text)
{
    struct webhook_secret secret;

    assert_true(webhook_secret_parse(text, strlen(text), &secret, NULL));
    return secret;
}

static void sign(const char *id, int64_t timestamp_s, const char *body,
                 const struct webhook_secret *secrets, size_t count, char out[256])
{
    struct buf buf;

    buf_init(&buf, 255);
    assert_true(webhook_sign(id, timestamp_s, body, strlen(body), secrets, count, &buf));
    memcpy(out, buf.data, buf.len + 1);
    buf_release(&buf);
}

static void test_public_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        struct webhook_secret secret = secret_of(vectors[i].secret);
        char signature[256];

        sign(vectors[i].id, vectors[i].timestamp_s, vectors[i].body, &secret, 1, signature);
        assert_string_equal(signature, vectors[i].signature);
    }
}

static void test_github_vector_of_the_mac_itself(void **state)
{
    static const char key[] = "It's a Secret to Everybody";
    static const uint8_t first[] = {0x75, 0x71, 0x07, 0xea, 0x0e, 0xb2, 0x50, 0x9f};
    uint8_t mac[SHA256_SIZE];

    (void)state;
    crypto_hmac_sha256(key, strlen(key), "Hello, World!", 13, mac);
    assert_memory_equal(mac, first, sizeof(first));
}

static void test_anything_changed_changes_the_signature(void **state)
{
    struct webhook_secret secret = secret_of(vectors[0].secret);
    struct webhook_secret other = secret_of(vectors[1].secret);
    char good[256], signature[256];

    (void)state;
    sign("msg_1", 1000, "{}", &secret, 1, good);
    sign("msg_2", 1000, "{}", &secret, 1, signature);
    assert_string_not_equal(signature, good);
    sign("msg_1", 1001, "{}", &secret, 1, signature);
    assert_string_not_equal(signature, good);
    sign("msg_1", 1000, "{ }", &secret, 1, signature);
    assert_string_not_equal(signature, good);
    sign("msg_1", 1000, "{}", &other, 1, signature);
    assert_string_not_equal(signature, good);
    other = secret;
    other.bytes[other.len - 1] ^= 1;
    sign("msg_1", 1000, "{}", &other, 1, signature);
    assert_string_not_equal(signature, good);
}

static void test_rotating_secrets_sign_side_by_side(void **state)
{
    struct webhook_secret both[2] = {secret_of(vectors[1].secret), secret_of(vectors[0].secret)};
    char alone[2][256], expected[512], signature[256];

    (void)state;
    sign("msg_1", 1000, "{}", &both[0], 1, alone[0]);
    sign("msg_1", 1000, "{}", &both[1], 1, alone[1]);
    sign("msg_1", 1000, "{}", both, 2, signature);
    snprintf(expected, sizeof(expected), "%s %s", alone[0], alone[1]);
    assert_string_equal(signature, expected);
}

static void test_nothing_is_signed_without_a_secret(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 255);
    assert_false(webhook_sign("msg_1", 1000, "{}", 2, NULL, 0, &buf));
    buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_public_vectors),
        cmocka_unit_test(test_github_vector_of_the_mac_itself),
        cmocka_unit_test(test_anything_changed_changes_the_signature),
        cmocka_unit_test(test_rotating_secrets_sign_side_by_side),
        cmocka_unit_test(test_nothing_is_signed_without_a_secret),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
