/* SPDX-License-Identifier: Apache-2.0 */
/* An identity provider for tests. */
#include "tests/unit/jwt_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"

enum { PART_MAX = 24 * 1024, EC_BYTES = 32 };

static EVP_PKEY *rsa, *other_rsa, *weak_rsa, *ec;

static void must(int ok)
{
    if (!ok)
        abort();
}

static void make_keys(void)
{
    if (rsa)
        return;
    rsa = EVP_RSA_gen(2048);
    other_rsa = EVP_RSA_gen(2048);
    weak_rsa = EVP_RSA_gen(1024);
    ec = EVP_EC_gen("P-256");
    must(rsa && other_rsa && weak_rsa && ec);
}

static void encode(const void *data, size_t len, char *out)
{
    char *end;

    crypto_base64(data, len, out);
    for (end = out; *end && *end != '='; end++) {
        if (*end == '+')
            *end = '-';
        else if (*end == '/')
            *end = '_';
    }
    *end = '\0';
}

/* --- key sets --------------------------------------------------------------------------------- */

static size_t number_bytes(EVP_PKEY *key, const char *name, int min, uint8_t *out)
{
    BIGNUM *number = NULL;
    int len;

    must(EVP_PKEY_get_bn_param(key, name, &number));
    len = BN_num_bytes(number) > min ? BN_num_bytes(number) : min;
    must(BN_bn2binpad(number, out, len) == len);
    BN_free(number);
    return (size_t)len;
}

static void put_number(EVP_PKEY *key, const char *name, int min, char *out)
{
    uint8_t bytes[1024];

    encode(bytes, number_bytes(key, name, min, bytes), out);
}

const char *fixture_jwks_named(const char *rsa_kid, const char *ec_kid)
{
    static char text[FIXTURE_JWKS_SIZE];
    char n[1024], e[16], weak[1024], x[64], y[64];

    make_keys();
    put_number(rsa, OSSL_PKEY_PARAM_RSA_N, 0, n);
    put_number(rsa, OSSL_PKEY_PARAM_RSA_E, 0, e);
    put_number(weak_rsa, OSSL_PKEY_PARAM_RSA_N, 0, weak);
    put_number(ec, OSSL_PKEY_PARAM_EC_PUB_X, EC_BYTES, x);
    put_number(ec, OSSL_PKEY_PARAM_EC_PUB_Y, EC_BYTES, y);
    snprintf(text, sizeof(text),
             "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"%s\",\"use\":\"sig\",\"alg\":\"RS256\","
             "\"n\":\"%s\",\"e\":\"%s\"},"
             "{\"kty\":\"EC\",\"kid\":\"%s\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"},"
             "{\"kty\":\"RSA\",\"kid\":\"weak\",\"n\":\"%s\",\"e\":\"%s\"},"
             "{\"kty\":\"RSA\",\"kid\":\"enc\",\"use\":\"enc\",\"n\":\"%s\",\"e\":\"%s\"},"
             "{\"kty\":\"RSA\",\"kid\":\"one\",\"n\":\"%s\",\"e\":\"AQ\"},"
             "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"},"
             "{\"kty\":\"EC\",\"kid\":\"off\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"},"
             "{\"kty\":\"oct\",\"kid\":\"oct\",\"k\":\"c2VjcmV0\"}, 7, null]}",
             rsa_kid, n, e, ec_kid, x, y, weak, e, n, e, n, n, e, x, x);
    return text;
}

const char *fixture_jwks(void)
{
    return fixture_jwks_named("rsa", "ec");
}

/* --- tokens ----------------------------------------------------------------------------------- */

static size_t sign(EVP_PKEY *key, const char *text, uint8_t *out, size_t max)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    must(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) &&
         EVP_DigestSign(context, out, &max, (const uint8_t *)text, strlen(text)));
    EVP_MD_CTX_free(context);
    return max;
}

static size_t raw_of_der(const uint8_t *der, size_t len, uint8_t *out)
{
    ECDSA_SIG *signature = d2i_ECDSA_SIG(NULL, &der, (long)len);

    must(signature != NULL);
    BN_bn2binpad(ECDSA_SIG_get0_r(signature), out, EC_BYTES);
    BN_bn2binpad(ECDSA_SIG_get0_s(signature), out + EC_BYTES, EC_BYTES);
    ECDSA_SIG_free(signature);
    return 2 * EC_BYTES;
}

static size_t public_secret(enum fixture_signature signature, uint8_t *out, size_t max)
{
    BIO *bio;
    int len;

    if (signature == SIGN_HMAC_N)
        return number_bytes(rsa, OSSL_PKEY_PARAM_RSA_N, 0, out);
    bio = BIO_new(BIO_s_mem());
    must(bio && PEM_write_bio_PUBKEY(bio, rsa));
    len = BIO_read(bio, out, (int)max);
    BIO_free(bio);
    return (size_t)len;
}

static size_t make_signature(enum fixture_signature signature, const char *text, uint8_t *out,
                             size_t max)
{
    uint8_t bytes[2048];
    size_t len;

    switch (signature) {
    case SIGN_RSA:
        return sign(rsa, text, out, max);
    case SIGN_OTHER_RSA:
        return sign(other_rsa, text, out, max);
    case SIGN_EC_DER:
        return sign(ec, text, out, max);
    case SIGN_EC:
        len = sign(ec, text, bytes, sizeof(bytes));
        return raw_of_der(bytes, len, out);
    case SIGN_HMAC_PEM:
    case SIGN_HMAC_N:
        len = public_secret(signature, bytes, sizeof(bytes));
        crypto_hmac_sha256(bytes, len, text, strlen(text), out);
        return SHA256_SIZE;
    case SIGN_EMPTY:
        break;
    }
    return 0;
}

static void put_part(struct buf *out, const void *data, size_t len)
{
    static char part[PART_MAX * 4 / 3 + 8];

    must(len <= PART_MAX);
    encode(data, len, part);
    buf_puts(out, part);
}

const char *fixture_token(enum fixture_signature signature, const char *header, const char *claims)
{
    static struct buf texts[4];
    static int next;
    struct buf *text = &texts[next++ % 4];
    uint8_t bytes[1024];
    size_t len;

    make_keys();
    text->max = FIXTURE_TOKEN_SIZE;
    buf_clear(text);
    put_part(text, header, strlen(header));
    buf_putc(text, '.');
    put_part(text, claims, strlen(claims));
    must(!text->is_broken);
    len = make_signature(signature, text->data, bytes, sizeof(bytes));
    buf_putc(text, '.');
    put_part(text, bytes, len);
    must(!text->is_broken);
    return text->data;
}

const char *fixture_good_token(const char *tenant, const char *scope)
{
    char claims[1024];

    snprintf(claims, sizeof(claims),
             "{\"iss\":\"https://idp.example\",\"aud\":\"nightshift\",\"exp\":%lld,"
             "\"tenant\":\"%s\",\"scope\":\"%s\"}",
             (long long)clock_now_us() / US_PER_S + 3600, tenant, scope);
    return fixture_token(SIGN_RSA, "{\"alg\":\"RS256\",\"kid\":\"rsa\"}", claims);
}
