/* SPDX-License-Identifier: Apache-2.0 */
/* API keys: their form, their checksum, their hash. */
#include "common/model/api_key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/str.h"

static void test_made_key_reads_back(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        char text[API_KEY_SIZE];
        struct api_key made;
        struct api_key read;

        api_key_make(&made, text);
        assert_int_equal(strlen(text), API_KEY_LEN);
        assert_memory_equal(text, "ns_", 3);
        assert_true(api_key_parse(text, strlen(text), &read));
        assert_string_equal(read.id, made.id);
        assert_string_equal(read.secret, made.secret);
        assert_non_null(strstr(text, made.secret));
    }
}

static void test_no_two_keys_are_alike(void **state)
{
    char first[API_KEY_SIZE];
    char second[API_KEY_SIZE];
    struct api_key one;
    struct api_key two;

    (void)state;
    api_key_make(&one, first);
    api_key_make(&two, second);
    assert_string_not_equal(one.id, two.id);
    assert_string_not_equal(one.secret, two.secret);
}

/* The form is a promise to those who hold keys: CRC computed apart (python3 zlib.crc32). */
#define KNOWN "ns_000000000000_00000000000000000000000000000000"
static const char known_key[] = KNOWN "48cxYV";

static void test_any_changed_character_is_noticed(void **state)
{
    struct api_key key;

    (void)state;
    assert_true(api_key_parse(known_key, API_KEY_LEN, &key));
    for (size_t i = 0; i < API_KEY_LEN; i++) {
        char text[API_KEY_SIZE];

        memcpy(text, known_key, sizeof(text));
        text[i] = text[i] == 'a' ? 'b' : 'a';
        assert_false(api_key_parse(text, API_KEY_LEN, &key));
        text[i] = '\0';
        assert_false(api_key_parse(text, API_KEY_LEN, &key));
    }
}

static void test_what_is_no_key_is_refused(void **state)
{
    static const char *const cases[] = {
        "",    "ns_",           "sk-123",
        KNOWN, KNOWN "48cxYV1", "ns_00000000000-_00000000000000000000000000000000",
    };
    struct api_key key;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_false(api_key_parse(cases[i], strlen(cases[i]), &key));
}

static void test_hash_is_hmac_of_the_secret(void **state)
{
    uint8_t pepper[API_KEY_PEPPER_SIZE] = {0};
    uint8_t hash[API_KEY_HASH_SIZE];
    char hex[2 * API_KEY_HASH_SIZE + 1];
    struct api_key key;

    (void)state;
    assert_true(api_key_parse(known_key, API_KEY_LEN, &key));
    api_key_hash(pepper, &key, hash);
    str_hex(hash, sizeof(hash), hex);
    assert_string_equal(hex, "336160767d9249e6516f5d06b1ab86c3178bf5a17a8fe8b4e67ed660297ac6de");
}

static void test_pepper_is_32_bytes_in_base64(void **state)
{
    uint8_t pepper[API_KEY_PEPPER_SIZE];
    struct err err;

    (void)state;
    assert_true(api_key_pepper_parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", pepper, &err));
    assert_int_equal(pepper[31], 31);
    assert_false(api_key_pepper_parse("AAECAwQFBgcICQoLDA0ODw==", pepper, &err));
    assert_false(
        api_key_pepper_parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gIQ==", pepper, &err));
    assert_false(api_key_pepper_parse("hunter2", pepper, &err));
    assert_null(strstr(err.message, "hunter2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_key_reads_back),
        cmocka_unit_test(test_no_two_keys_are_alike),
        cmocka_unit_test(test_any_changed_character_is_noticed),
        cmocka_unit_test(test_what_is_no_key_is_refused),
        cmocka_unit_test(test_hash_is_hmac_of_the_secret),
        cmocka_unit_test(test_pepper_is_32_bytes_in_base64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
