/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and verifies JSON Web Tokens. */
#include "common/model/jwt.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "common/model/jwt_keys.h"

enum { PARTS = 3, ES256_SIZE = 64, SIGNATURE_MAX = 1024 };

struct jwt {
    char text[JWT_SIZE_MAX + 1];
    json_t *header;
    json_t *claims;
    enum jwt_algorithm algorithm;
    const char *kid;
    const char *issuer;
    size_t signature_len;
};

/* --- reading ---------------------------------------------------------------------------------- */

bool jwt_is_like(const char *text)
{
    const char *first = strchr(text, '.');
    const char *second = first ? strchr(first + 1, '.') : NULL;

    return second && !strchr(second + 1, '.');
}

/* A part that is a JSON object without duplicate names. */
static json_t *read_object(const char *text, size_t len, struct err *err)
{
    char bytes[JWT_SIZE_MAX];
    struct err why;
    size_t bytes_len;
    json_t *object = NULL;

    if (jwt_unbase64url(text, len, bytes, sizeof(bytes), &bytes_len))
        object = json_parse(bytes, bytes_len, JSON_READ_STRICT, &why);
    if (json_is_object(object))
        return object;
    json_decref(object);
    err_set(err, "a part of it is no JSON object in base64url");
    return NULL;
}

static bool read_header(struct jwt *jwt, struct err *err)
{
    const json_t *type = json_object_get(jwt->header, "typ");
    const char *algorithm = json_string_or_null(jwt->header, "alg");
    const char *type_name = json_string_value(type);

    if (str_equal(algorithm, "RS256"))
        jwt->algorithm = JWT_RS256;
    else if (str_equal(algorithm, "ES256"))
        jwt->algorithm = JWT_ES256;
    else
        return err_set(err, "its algorithm is neither RS256 nor ES256");
    if (json_object_get(jwt->header, "crit"))
        return err_set(err, "it has critical extensions");
    if (type &&
        (!type_name || (strcasecmp(type_name, "JWT") != 0 && strcasecmp(type_name, "at+jwt") != 0)))
        return err_set(err, "it is a token of another type");
    jwt->kid = json_string_or_null(jwt->header, "kid");
    return (jwt->kid && *jwt->kid && strlen(jwt->kid) <= JWT_KEY_ID_MAX) ||
           err_set(err, "it does not name its key");
}

static bool read_parts(struct jwt *jwt, struct err *err)
{
    const char *header = jwt->text, *claims, *signature;
    char bytes[SIGNATURE_MAX];

    if (!jwt_is_like(jwt->text))
        return err_set(err, "it has not %d parts", PARTS);
    claims = strchr(header, '.') + 1;
    signature = strchr(claims, '.') + 1;
    if (!jwt_unbase64url(signature, strlen(signature), bytes, sizeof(bytes), &jwt->signature_len))
        return err_set(err, "it is not signed");
    jwt->header = read_object(header, (size_t)(claims - 1 - header), err);
    jwt->claims = jwt->header ? read_object(claims, (size_t)(signature - 1 - claims), err) : NULL;
    if (!jwt->claims || !read_header(jwt, err))
        return false;
    jwt->issuer = json_string_or_null(jwt->claims, "iss");
    return jwt->issuer || err_set(err, "it does not name its issuer");
}

struct jwt *jwt_read(const char *text, struct err *err)
{
    size_t len = strlen(text);
    struct jwt *jwt = len <= JWT_SIZE_MAX ? calloc(1, sizeof(*jwt)) : NULL;

    if (!jwt) {
        err_set(err, len > JWT_SIZE_MAX ? "it is longer than 8 KiB" : "out of memory");
        return NULL;
    }
    memcpy(jwt->text, text, len + 1);
    if (read_parts(jwt, err))
        return jwt;
    jwt_free(jwt);
    return NULL;
}

void jwt_free(struct jwt *jwt)
{
    if (!jwt)
        return;
    json_decref(jwt->header);
    json_decref(jwt->claims);
    explicit_bzero(jwt->text, sizeof(jwt->text));
    free(jwt);
}

const char *jwt_issuer(const struct jwt *jwt)
{
    return jwt->issuer;
}

const char *jwt_kid(const struct jwt *jwt)
{
    return jwt->kid;
}

const json_t *jwt_claims(const struct jwt *jwt)
{
    return jwt->claims;
}

/* --- verifying -------------------------------------------------------------------------------- */

/* ES256 is r and s of 32 bytes each: what OpenSSL writes (DER) is longer and refused. */
static bool signature_is_right(const struct jwt *jwt, const struct jwt_keys *keys, struct err *err)
{
    const cjose_jwk_t *key = jwt_keys_get(keys, jwt->kid, jwt->algorithm);
    cjose_jws_t *jws;
    cjose_err why;
    bool ok;

    if (!key)
        return err_set(err, "its issuer has no such key for its algorithm");
    if (jwt->algorithm == JWT_ES256 && jwt->signature_len != ES256_SIZE)
        return err_set(err, "its signature is wrong");
    jws = cjose_jws_import(jwt->text, strlen(jwt->text), &why);
    ok = jws && cjose_jws_verify(jws, key, &why);
    if (jws)
        cjose_jws_release(jws);
    return ok || err_set(err, "its signature is wrong");
}

static bool audience_is_right(const json_t *audience, const char *ours)
{
    const json_t *one;
    size_t i;

    json_array_foreach(audience, i, one)
    {
        if (str_equal(json_string_value(one), ours))
            return true;
    }
    return str_equal(json_string_value(audience), ours);
}

/* Seconds since the epoch.  Absent: true with *is_there false; anything but a number is wrong. */
static bool read_time(const json_t *claims, const char *name, double *out, bool *is_there)
{
    const json_t *value = json_object_get(claims, name);

    *is_there = value != NULL;
    *out = json_number_value(value);
    return !value || json_is_number(value);
}

static bool times_are_right(const json_t *claims, int64_t leeway_s, int64_t now_us, struct err *err)
{
    double now = (double)now_us / (double)US_PER_S, leeway = (double)leeway_s;
    double expires, begins, issued;
    bool has_end, has_begin, has_issued;

    if (!read_time(claims, "exp", &expires, &has_end) ||
        !read_time(claims, "nbf", &begins, &has_begin) ||
        !read_time(claims, "iat", &issued, &has_issued) || !has_end)
        return err_set(err, "it does not say when it expires, or not as a number");
    if (expires + leeway <= now)
        return err_set(err, "it has expired");
    if ((has_begin && begins - leeway > now) || (has_issued && issued - leeway > now))
        return err_set(err, "it is not valid yet");
    return true;
}

bool jwt_verify(const struct jwt *jwt, const struct jwt_keys *keys, const struct jwt_rules *rules,
                int64_t now_us, struct err *err)
{
    int64_t leeway_s = rules->leeway_s < JWT_LEEWAY_MAX_S ? rules->leeway_s : JWT_LEEWAY_MAX_S;

    if (strcmp(jwt->issuer, rules->issuer) != 0)
        return err_set(err, "its issuer is another one");
    if (!signature_is_right(jwt, keys, err))
        return false;
    if (!audience_is_right(json_object_get(jwt->claims, "aud"), rules->audience))
        return err_set(err, "it is for another audience");
    return times_are_right(jwt->claims, leeway_s, now_us, err);
}
