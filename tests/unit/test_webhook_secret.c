/* SPDX-License-Identifier: Apache-2.0 */
/* Webhook secrets: their text, their sealed form, and the options around them. */
#include "common/model/webhook_secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/config.h"
#include "common/model/webhook_options.h"

static const uint8_t key[CRYPTO_KEY_SIZE] = {1, 2, 3};

static void test_made_secret_reads_back(void **state)
{
    struct webhook_secret made, read;
    char text[WEBHOOK_SECRET_TEXT_SIZE];

    (void)state;
    webhook_secret_make(&made);
    webhook_secret_format(&made, text);
    assert_int_equal(strlen(text), 6 + 44);
    assert_true(webhook_secret_parse(text, strlen(text), &read, NULL));
    assert_int_equal(read.len, made.len);
    assert_memory_equal(read.bytes, made.bytes, made.len);
}

static void test_bad_secret_text_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "whsec_",
        "whsec",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa",
        "whsec_!fKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    };
    struct webhook_secret secret;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err err;

        assert_false(webhook_secret_parse(bad[i], strlen(bad[i]), &secret, &err));
        assert_true(strlen(bad[i]) < 10 || !strstr(err.message, bad[i]));
    }
}

static void test_sealed_secret_opens_only_for_its_owner(void **state)
{
    static const uint8_t other_key[CRYPTO_KEY_SIZE] = {1, 2, 4};
    struct webhook_secret secret, opened;
    uint8_t sealed[WEBHOOK_SEALED_MAX];
    size_t len;

    (void)state;
    webhook_secret_make(&secret);
    assert_true(webhook_secret_seal(key, "tenant", "acme", &secret, sealed, &len, NULL));
    assert_int_equal(len, WEBHOOK_SECRET_MADE + CRYPTO_SEAL_OVERHEAD);
    assert_true(webhook_secret_open(key, "tenant", "acme", sealed, len, &opened, NULL));
    assert_int_equal(opened.len, secret.len);
    assert_memory_equal(opened.bytes, secret.bytes, secret.len);
    assert_false(webhook_secret_open(key, "tenant", "acme2", sealed, len, &opened, NULL));
    assert_false(webhook_secret_open(key, "endpoint", "acme", sealed, len, &opened, NULL));
    assert_false(webhook_secret_open(other_key, "tenant", "acme", sealed, len, &opened, NULL));
    assert_false(webhook_secret_open(key, "tenant", "acme", sealed, 10, &opened, NULL));
    sealed[len - 1] ^= 1;
    assert_false(webhook_secret_open(key, "tenant", "acme", sealed, len, &opened, NULL));
}

struct program {
    struct webhook_settings webhooks;
};
static const struct option options[] = {WEBHOOK_OPTIONS(struct program, webhooks)};
enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

static bool read_policy(const char *yaml, struct webhook_policy *out, struct err *err)
{
    struct program program = {.webhooks = {.timeout_ms = 0}};
    struct config *config = config_parse("test.yaml", yaml, strlen(yaml), err);
    bool ok = config && options_load(options, OPTIONS, config, &program, err) &&
              webhook_policy_read(&program.webhooks, out, err);

    options_release(options, OPTIONS, &program);
    config_free(config);
    return ok;
}

#define KEY "secrets: {data_key: AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}\n"

static void test_options_have_defaults(void **state)
{
    struct webhook_policy policy;
    struct err err;

    (void)state;
    if (!read_policy(KEY, &policy, &err))
        fail_msg("%s", err.message);
    assert_int_equal(policy.allow_count, 0);
    assert_int_equal(policy.schedule_count, 10);
    assert_int_equal(policy.schedule_ms[0], 0);
    assert_int_equal(policy.schedule_ms[1], 5000);
    assert_int_equal(policy.schedule_ms[9], 86400000);
    assert_int_equal(policy.timeout_ms, 15000);
    assert_memory_equal(policy.data_key, key, sizeof(key));
}

static void test_options_are_read(void **state)
{
    struct webhook_policy policy;
    struct err err;

    (void)state;
    if (!read_policy(KEY "webhooks: {allow_networks: [127.0.0.0/8, '::1'], schedule_s: [0, 1], "
                         "timeout_ms: 500}\n",
                     &policy, &err))
        fail_msg("%s", err.message);
    assert_int_equal(policy.allow_count, 2);
    assert_int_equal(policy.allow[1].bits, 128);
    assert_int_equal(policy.schedule_count, 2);
    assert_int_equal(policy.timeout_ms, 500);
}

static void test_bad_options_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "secrets: {data_key: AQID}\n",
        KEY "webhooks: {allow_networks: [loopback]}\n",
        KEY "webhooks: {allow_networks: [127.0.0.0/33]}\n",
        KEY "webhooks: {schedule_s: []}\n",
        KEY "webhooks: {schedule_s: [-1]}\n",
        KEY "webhooks: {timeout_ms: 15001}\n",
        KEY "webhooks: {timeout_ms: 0}\n",
    };
    struct webhook_policy policy;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err err;

        if (read_policy(bad[i], &policy, &err))
            fail_msg("taken: %s", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_secret_reads_back),
        cmocka_unit_test(test_bad_secret_text_is_refused),
        cmocka_unit_test(test_sealed_secret_opens_only_for_its_owner),
        cmocka_unit_test(test_options_have_defaults),
        cmocka_unit_test(test_options_are_read),
        cmocka_unit_test(test_bad_options_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
