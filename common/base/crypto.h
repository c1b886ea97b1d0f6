/* SPDX-License-Identifier: Apache-2.0 */
/* What we need of OpenSSL: digests, HMAC, AES-256-GCM, base64, random bytes, constant-time compare.
 */
#ifndef COMMON_BASE_CRYPTO_H
#define COMMON_BASE_CRYPTO_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

enum {
    SHA256_SIZE = 32,
    CRYPTO_KEY_SIZE = 32,
    CRYPTO_SEAL_OVERHEAD = 1 + 12 + 16, /* version, nonce, tag */
};

#define BASE64_SIZE(len) ((((len) + 2) / 3) * 4 + 1)

void crypto_random(void *out, size_t len); /* exits the program if the kernel gives none */
bool crypto_equal(const void *a, const void *b, size_t len); /* constant time */
void crypto_wipe(void *data, size_t len);

void crypto_sha256(const void *data, size_t len, uint8_t out[SHA256_SIZE]);
struct sha256_stream *sha256_stream_new(void); /* NULL: out of memory */
void sha256_stream_add(struct sha256_stream *stream, const void *data, size_t len);
void sha256_stream_finish(struct sha256_stream *stream, uint8_t out[SHA256_SIZE]); /* frees it */
void sha256_stream_free(struct sha256_stream *stream);                             /* or give up */
void crypto_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                        uint8_t out[SHA256_SIZE]);

/* Standard base64 with padding; out has BASE64_SIZE(len) bytes.  Decoding takes exactly what
 * encoding gives: no white space, no missing padding, no stray bits. */
void crypto_base64(const void *data, size_t len, char *out);
bool crypto_unbase64(const char *text, size_t len, void *out, size_t out_max,
                     size_t *out_len) MUST_CHECK;

/* AES-256-GCM with a random nonce; aad binds the sealed bytes to their owner.  out has
 * len + CRYPTO_SEAL_OVERHEAD bytes. */
bool crypto_seal(const uint8_t key[CRYPTO_KEY_SIZE], const char *aad, const void *data, size_t len,
                 uint8_t *out, struct err *err) MUST_CHECK;
/* out has len - CRYPTO_SEAL_OVERHEAD bytes. */
bool crypto_open(const uint8_t key[CRYPTO_KEY_SIZE], const char *aad, const uint8_t *sealed,
                 size_t len, uint8_t *out, struct err *err) MUST_CHECK;

#endif
