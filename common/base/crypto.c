/* SPDX-License-Identifier: Apache-2.0 */
/* What we need of OpenSSL: digests, HMAC, AES-256-GCM, base64, random bytes, constant-time compare.
 */
#include "common/base/crypto.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { SEAL_VERSION = 1, NONCE_SIZE = 12, TAG_SIZE = 16 };

struct sha256_stream {
    EVP_MD_CTX *context;
};

/* A wrong digest or a guessable key must not be handed on: better no program. */
static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s failed\n", what);
        abort();
    }
}

void crypto_random(void *out, size_t len)
{
    uint8_t *at = out;

    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            perror("random bytes from the kernel");
            exit(EXIT_FAILURE);
        }
        at += n;
        len -= (size_t)n;
    }
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void crypto_wipe(void *data, size_t len)
{
    OPENSSL_cleanse(data, len);
}

void crypto_sha256(const void *data, size_t len, uint8_t out[SHA256_SIZE])
{
    must(EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL) == 1, "SHA-256");
}

struct sha256_stream *sha256_stream_new(void)
{
    struct sha256_stream *stream = calloc(1, sizeof(*stream));

    if (!stream)
        return NULL;
    stream->context = EVP_MD_CTX_new();
    if (!stream->context || EVP_DigestInit_ex(stream->context, EVP_sha256(), NULL) != 1) {
        sha256_stream_free(stream);
        return NULL;
    }
    return stream;
}

void sha256_stream_free(struct sha256_stream *stream)
{
    if (!stream)
        return;
    EVP_MD_CTX_free(stream->context);
    free(stream);
}

void sha256_stream_add(struct sha256_stream *stream, const void *data, size_t len)
{
    must(EVP_DigestUpdate(stream->context, data, len) == 1, "SHA-256");
}

void sha256_stream_finish(struct sha256_stream *stream, uint8_t out[SHA256_SIZE])
{
    must(EVP_DigestFinal_ex(stream->context, out, NULL) == 1, "SHA-256");
    sha256_stream_free(stream);
}

void crypto_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                        uint8_t out[SHA256_SIZE])
{
    /* OpenSSL takes a NULL key for "the key of before", not for the empty key. */
    const void *real_key = key_len ? key : "";

    must(key_len <= INT_MAX && HMAC(EVP_sha256(), real_key, (int)key_len, data, len, out, NULL),
         "HMAC");
}

void crypto_base64(const void *data, size_t len, char *out)
{
    const size_t step = 3 << 20; /* EVP_EncodeBlock counts in int */
    const uint8_t *at = data;

    *out = '\0';
    while (len > 0) {
        size_t n = len < step ? len : step;

        out += EVP_EncodeBlock((unsigned char *)out, at, (int)n);
        at += n;
        len -= n;
    }
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

/* One group of four with `bytes` bytes in it (1 to 3).  The bits that carry nothing must be 0, so
 * that every byte string has one text. */
static bool decode_group(const char *text, int bytes, uint8_t *out)
{
    uint32_t bits = 0;

    for (int i = 0; i < 4; i++) {
        int digit = i <= bytes ? base64_digit(text[i]) : 0;

        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
    }
    for (int i = 0; i < bytes; i++)
        out[i] = (uint8_t)(bits >> (16 - 8 * i));
    return bytes == 3 || (bits & (0xffffffu >> (8 * bytes))) == 0;
}

bool crypto_unbase64(const char *text, size_t len, void *out, size_t out_max, size_t *out_len)
{
    uint8_t *bytes = out;
    size_t padding = 0;
    size_t total;

    if (len % 4)
        return false;
    if (len && text[len - 1] == '=')
        padding = text[len - 2] == '=' ? 2 : 1;
    total = len / 4 * 3 - padding;
    if (total > out_max)
        return false;
    for (size_t i = 0; i < len; i += 4) {
        int n = i + 4 == len ? 3 - (int)padding : 3;

        if (!decode_group(text + i, n, bytes))
            return false;
        bytes += n;
    }
    *out_len = total;
    return true;
}

/* The plain lengths fit an int, as OpenSSL wants. */
static bool encrypt(EVP_CIPHER_CTX *context, const uint8_t *key, const char *aad, const void *data,
                    int len, uint8_t *out)
{
    uint8_t *nonce = out + 1;
    uint8_t *body = nonce + NONCE_SIZE;
    int n = 0;

    return EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
           EVP_EncryptUpdate(context, NULL, &n, (const uint8_t *)aad, (int)strlen(aad)) == 1 &&
           (len == 0 || EVP_EncryptUpdate(context, body, &n, data, len) == 1) &&
           EVP_EncryptFinal_ex(context, body + len, &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_SIZE, body + len) == 1;
}

bool crypto_seal(const uint8_t key[CRYPTO_KEY_SIZE], const char *aad, const void *data, size_t len,
                 uint8_t *out, struct err *err)
{
    EVP_CIPHER_CTX *context;
    bool ok;

    if (len > INT_MAX - CRYPTO_SEAL_OVERHEAD)
        return err_set(err, "seal %zu bytes: too long", len);
    context = EVP_CIPHER_CTX_new();
    out[0] = SEAL_VERSION;
    crypto_random(out + 1, NONCE_SIZE);
    ok = context && encrypt(context, key, aad, data, (int)len, out);
    EVP_CIPHER_CTX_free(context);
    return ok || err_set(err, "seal %zu bytes: AES-256-GCM is not to be had", len);
}

static bool decrypt(EVP_CIPHER_CTX *context, const uint8_t *key, const char *aad,
                    const uint8_t *sealed, int len, uint8_t *out)
{
    const uint8_t *nonce = sealed + 1;
    const uint8_t *body = nonce + NONCE_SIZE;
    uint8_t tag[TAG_SIZE];
    int n = 0;

    memcpy(tag, body + len, TAG_SIZE); /* OpenSSL's parameter is not const */
    return EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
           EVP_DecryptUpdate(context, NULL, &n, (const uint8_t *)aad, (int)strlen(aad)) == 1 &&
           (len == 0 || EVP_DecryptUpdate(context, out, &n, body, len) == 1) &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_SIZE, tag) == 1 &&
           EVP_DecryptFinal_ex(context, out + len, &n) == 1;
}

bool crypto_open(const uint8_t key[CRYPTO_KEY_SIZE], const char *aad, const uint8_t *sealed,
                 size_t len, uint8_t *out, struct err *err)
{
    EVP_CIPHER_CTX *context;
    size_t plain_len;
    bool ok;

    if (len < CRYPTO_SEAL_OVERHEAD || len > INT_MAX)
        return err_set(err, "open sealed data: %zu bytes cannot be any", len);
    if (sealed[0] != SEAL_VERSION)
        return err_set(err, "open sealed data: unknown version %d", sealed[0]);
    plain_len = len - CRYPTO_SEAL_OVERHEAD;
    context = EVP_CIPHER_CTX_new();
    ok = context && decrypt(context, key, aad, sealed, (int)plain_len, out);
    EVP_CIPHER_CTX_free(context);
    if (ok)
        return true;
    crypto_wipe(out, plain_len); /* unverified bytes are not for anyone */
    return err_set(err, "open sealed data: wrong key or owner, or changed bytes");
}
