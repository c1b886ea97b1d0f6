/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Web Key Sets: which of the keys may verify tokens. */
#include "common/model/jwt_keys.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/base/str.h"

enum {
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 8192,
    EC_BYTES = 32, /* of a coordinate on P-256 */
    BASE64_MAX = JWT_SIZE_MAX + 4
};

struct key {
    char kid[JWT_KEY_ID_MAX + 1];
    enum jwt_algorithm algorithm;
    cjose_jwk_t *jwk;
};

struct jwt_keys {
    size_t count;
    struct key keys[JWT_KEYS_MAX];
};

/* --- base64url -------------------------------------------------------------------------------- */

bool jwt_unbase64url(const char *text, size_t len, void *out, size_t out_max, size_t *out_len)
{
    char plain[BASE64_MAX];
    size_t padding = (4 - len % 4) % 4;

    if (len == 0 || len % 4 == 1 || len + padding > sizeof(plain))
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '+' || c == '/' || c == '=')
            return false;
        plain[i] = (char)(c == '-' ? '+' : c == '_' ? '/' : c);
    }
    memset(plain + len, '=', padding);
    return crypto_unbase64(plain, len + padding, out, out_max, out_len);
}

/* --- one key ---------------------------------------------------------------------------------- */

/* A member of exactly `want` bytes, or of any number when want is 0. */
static bool read_bytes(const json_t *jwk, const char *name, size_t want, uint8_t *out, size_t max,
                       size_t *len)
{
    const char *text = json_string_or_null(jwk, name);

    return text && jwt_unbase64url(text, strlen(text), out, max, len) &&
           (want == 0 || *len == want);
}

static size_t bit_count(const uint8_t *bytes, size_t len)
{
    size_t bits;

    while (len > 0 && *bytes == 0)
        bytes++, len--;
    bits = len * 8;
    for (uint8_t top = len > 0 ? *bytes : 0x80; !(top & 0x80); top = (uint8_t)(top << 1))
        bits--;
    return bits;
}

/* Odd, of a fair length, with an odd exponent over 1 that fits 32 bits (verifying stays cheap). */
static bool rsa_is_fit(const json_t *jwk)
{
    uint8_t n[RSA_BITS_MAX / 8 + 1], e[4];
    size_t n_len, e_len;

    if (!read_bytes(jwk, "n", 0, n, sizeof(n), &n_len) ||
        !read_bytes(jwk, "e", 0, e, sizeof(e), &e_len))
        return false;
    return bit_count(n, n_len) >= RSA_BITS_MIN && bit_count(n, n_len) <= RSA_BITS_MAX &&
           (n[n_len - 1] & 1) && (e[e_len - 1] & 1) && bit_count(e, e_len) >= 2;
}

/* That the point is on the curve is judged by the library. */
static bool ec_is_fit(const json_t *jwk)
{
    uint8_t coordinate[EC_BYTES];
    size_t len;

    return str_equal(json_string_or_null(jwk, "crv"), "P-256") &&
           read_bytes(jwk, "x", EC_BYTES, coordinate, sizeof(coordinate), &len) &&
           read_bytes(jwk, "y", EC_BYTES, coordinate, sizeof(coordinate), &len);
}

/* An absent member says nothing against the key. */
static bool member_allows(const json_t *jwk, const char *name, const char *value)
{
    const json_t *member = json_object_get(jwk, name);

    return !member || str_equal(json_string_value(member), value);
}

static bool operations_allow(const json_t *jwk)
{
    const json_t *operations = json_object_get(jwk, "key_ops"), *operation;
    size_t i;

    json_array_foreach(operations, i, operation)
    {
        if (str_equal(json_string_value(operation), "verify"))
            return true;
    }
    return !operations;
}

/* The public members alone: what else stands there is none of the library's business. */
static cjose_jwk_t *import(const json_t *jwk, const char *const *members, size_t count)
{
    json_t *public = json_object();
    char *text;
    cjose_jwk_t *key = NULL;
    cjose_err why;

    for (size_t i = 0; i < count; i++)
        json_object_set(public, members[i], json_object_get(jwk, members[i]));
    text = json_dumps(public, JSON_COMPACT);
    if (text)
        key = cjose_jwk_import(text, strlen(text), &why);
    free(text);
    json_decref(public);
    return key;
}

static bool read_key(const json_t *jwk, struct key *out)
{
    static const char *const rsa[] = {"kty", "n", "e"};
    static const char *const ec[] = {"kty", "crv", "x", "y"};
    const char *kid = json_string_or_null(jwk, "kid");
    const char *type = json_string_or_null(jwk, "kty");

    if (!kid || !*kid || strlen(kid) > JWT_KEY_ID_MAX || json_object_get(jwk, "d") ||
        !member_allows(jwk, "use", "sig") || !operations_allow(jwk))
        return false;
    memcpy(out->kid, kid, strlen(kid) + 1);
    if (str_equal(type, "RSA") && member_allows(jwk, "alg", "RS256") && rsa_is_fit(jwk)) {
        out->algorithm = JWT_RS256;
        out->jwk = import(jwk, rsa, 3);
    } else if (str_equal(type, "EC") && member_allows(jwk, "alg", "ES256") && ec_is_fit(jwk)) {
        out->algorithm = JWT_ES256;
        out->jwk = import(jwk, ec, 4);
    }
    return out->jwk != NULL;
}

/* --- the set ---------------------------------------------------------------------------------- */

struct jwt_keys *jwt_keys_parse(const char *text, size_t len, struct err *err)
{
    json_t *root = len <= JWT_KEYS_SIZE_MAX ? json_parse(text, len, JSON_READ_STRICT, err) : NULL;
    const json_t *array = json_object_get(root, "keys"), *jwk;
    struct jwt_keys *keys = json_is_array(array) ? calloc(1, sizeof(*keys)) : NULL;
    size_t i;

    if (len > JWT_KEYS_SIZE_MAX)
        err_set(err, "a key set of over %d bytes", JWT_KEYS_SIZE_MAX);
    else if (root && !keys)
        err_set(err, "a key set without an array \"keys\"");
    json_array_foreach(array, i, jwk)
    {
        if (keys && keys->count < JWT_KEYS_MAX && read_key(jwk, &keys->keys[keys->count]))
            keys->count++;
    }
    json_decref(root);
    return keys;
}

void jwt_keys_free(struct jwt_keys *keys)
{
    if (!keys)
        return;
    for (size_t i = 0; i < keys->count; i++)
        cjose_jwk_release(keys->keys[i].jwk);
    free(keys);
}

size_t jwt_keys_count(const struct jwt_keys *keys)
{
    return keys->count;
}

bool jwt_keys_have(const struct jwt_keys *keys, const char *kid)
{
    return jwt_keys_get(keys, kid, JWT_RS256) || jwt_keys_get(keys, kid, JWT_ES256);
}

const cjose_jwk_t *jwt_keys_get(const struct jwt_keys *keys, const char *kid,
                                enum jwt_algorithm algorithm)
{
    for (size_t i = 0; i < keys->count; i++)
        if (keys->keys[i].algorithm == algorithm && strcmp(keys->keys[i].kid, kid) == 0)
            return keys->keys[i].jwk;
    return NULL;
}
