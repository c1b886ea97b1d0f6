/* SPDX-License-Identifier: Apache-2.0 */
/* API keys: "ns_<id>_<secret><crc>" in base62, how they are made, read and hashed. */
#include "common/model/api_key.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "common/base/crypto.h"

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

enum {
    BASE = 62,
    FAIR_BYTES = 256 / BASE * BASE, /* a byte from here on would favour the first digits */
    ID_AT = 3,
    SECRET_AT = ID_AT + API_KEY_ID_LEN + 1,
    CRC_AT = SECRET_AT + API_KEY_SECRET_LEN,
};

static void put_random(char *out, size_t len)
{
    uint8_t bytes[64];
    size_t left = 0;

    while (len > 0) {
        if (left == 0) {
            crypto_random(bytes, sizeof(bytes));
            left = sizeof(bytes);
        }
        if (bytes[--left] < FAIR_BYTES) {
            *out++ = digits[bytes[left] % BASE];
            len--;
        }
    }
    crypto_wipe(bytes, sizeof(bytes));
}

/* CRC-32 of all that stands in front of it, so that scanners for leaked keys err rarely. */
static void put_crc(char out[API_KEY_CRC_LEN], const char *text)
{
    unsigned long crc = crc32(0, (const unsigned char *)text, CRC_AT);

    for (int i = API_KEY_CRC_LEN - 1; i >= 0; i--) {
        out[i] = digits[crc % BASE];
        crc /= BASE;
    }
}

void api_key_make(struct api_key *key, char text[API_KEY_SIZE])
{
    put_random(key->id, API_KEY_ID_LEN);
    key->id[API_KEY_ID_LEN] = '\0';
    put_random(key->secret, API_KEY_SECRET_LEN);
    key->secret[API_KEY_SECRET_LEN] = '\0';
    snprintf(text, API_KEY_SIZE, "ns_%s_%s", key->id, key->secret);
    put_crc(text + CRC_AT, text);
    text[API_KEY_LEN] = '\0';
}

static bool is_base62(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\0' || !strchr(digits, text[i]))
            return false;
    }
    return true;
}

bool api_key_parse(const char *text, size_t len, struct api_key *key)
{
    char crc[API_KEY_CRC_LEN];

    if (len != API_KEY_LEN || memcmp(text, "ns_", ID_AT) != 0 || text[SECRET_AT - 1] != '_')
        return false;
    if (!is_base62(text + ID_AT, API_KEY_ID_LEN) ||
        !is_base62(text + SECRET_AT, API_KEY_SECRET_LEN))
        return false;
    put_crc(crc, text);
    if (memcmp(crc, text + CRC_AT, API_KEY_CRC_LEN) != 0)
        return false;
    memcpy(key->id, text + ID_AT, API_KEY_ID_LEN);
    key->id[API_KEY_ID_LEN] = '\0';
    memcpy(key->secret, text + SECRET_AT, API_KEY_SECRET_LEN);
    key->secret[API_KEY_SECRET_LEN] = '\0';
    return true;
}

void api_key_hash(const uint8_t pepper[API_KEY_PEPPER_SIZE], const struct api_key *key,
                  uint8_t hash[API_KEY_HASH_SIZE])
{
    crypto_hmac_sha256(pepper, API_KEY_PEPPER_SIZE, key->secret, API_KEY_SECRET_LEN, hash);
}

bool api_key_pepper_parse(const char *text, uint8_t pepper[API_KEY_PEPPER_SIZE], struct err *err)
{
    size_t len;

    if (crypto_unbase64(text, strlen(text), pepper, API_KEY_PEPPER_SIZE, &len) &&
        len == API_KEY_PEPPER_SIZE)
        return true;
    return err_set(err,
                   "secrets.pepper: expected %d random bytes in base64 (openssl rand -base64 %d)",
                   API_KEY_PEPPER_SIZE, API_KEY_PEPPER_SIZE);
}
