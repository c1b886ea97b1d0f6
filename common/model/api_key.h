/* SPDX-License-Identifier: Apache-2.0 */
/* API keys: "ns_<id>_<secret><crc>" in base62, how they are made, read and hashed. */
#ifndef COMMON_MODEL_API_KEY_H
#define COMMON_MODEL_API_KEY_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

enum {
    API_KEY_ID_LEN = 12,
    API_KEY_SECRET_LEN = 32, /* 190 bits: a fast hash is enough */
    API_KEY_CRC_LEN = 6,
    API_KEY_LEN = 3 + API_KEY_ID_LEN + 1 + API_KEY_SECRET_LEN + API_KEY_CRC_LEN,
    API_KEY_SIZE = API_KEY_LEN + 1,
    API_KEY_HASH_SIZE = 32,
    API_KEY_PEPPER_SIZE = 32,
};

/* The id is public: it is the row's primary key and may be logged.  The secret is neither stored
 * nor logged; wipe the struct (crypto_wipe) when it has been hashed. */
struct api_key {
    char id[API_KEY_ID_LEN + 1];
    char secret[API_KEY_SECRET_LEN + 1];
};

/* A fresh key, and the text that its owner is shown once. */
void api_key_make(struct api_key *key, char text[API_KEY_SIZE]);

/* False unless text is a whole key with its checksum (so a mistyped key costs no database read). */
bool api_key_parse(const char *text, size_t len, struct api_key *key) MUST_CHECK;

/* HMAC-SHA256(pepper, secret): what is stored, and compared with crypto_equal. */
void api_key_hash(const uint8_t pepper[API_KEY_PEPPER_SIZE], const struct api_key *key,
                  uint8_t hash[API_KEY_HASH_SIZE]);

/* Reads the configured pepper: 32 bytes in base64. */
bool api_key_pepper_parse(const char *text, uint8_t pepper[API_KEY_PEPPER_SIZE],
                          struct err *err) MUST_CHECK;

#endif
