/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Web Tokens: read, and verified against a key set.  Pure; the signatures are libcjose's. */
#ifndef COMMON_MODEL_JWT_H
#define COMMON_MODEL_JWT_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/err.h"

/* RS256 and ES256 and nothing else: no `none`, no HMAC (so that a public key can never serve as a
 * secret), and a key is used only with the algorithm that its own type and curve allow.  A token's
 * three parts are base64url in the one spelling that encoding gives, its JSON has no duplicate
 * names; key and URL members in its header (jwk, jku, x5c, x5u) are not looked at. */

enum {
    JWT_SIZE_MAX = 8 * 1024, /* of a token */
    JWT_KEYS_SIZE_MAX = 1024 * 1024,
    JWT_KEYS_MAX = 100, /* of a set; RSA keys have 2,048 to 8,192 bits, EC keys are on P-256 */
    JWT_KEY_ID_MAX = 256,
    JWT_LEEWAY_MAX_S = 60,
};

/* --- keys ------------------------------------------------------------------------------------- */

struct jwt_keys;

/* A JWKS document.  Keys that are not for us (another use, type or algorithm, no kid, too weak,
 * private) are left out; a set may be empty.  NULL: it is no key set. */
struct jwt_keys *jwt_keys_parse(const char *text, size_t len, struct err *err) MUST_CHECK;
void jwt_keys_free(struct jwt_keys *keys);
size_t jwt_keys_count(const struct jwt_keys *keys);
bool jwt_keys_have(const struct jwt_keys *keys, const char *kid);

/* --- tokens ----------------------------------------------------------------------------------- */

struct jwt;

/* Does it look like one (so that it is not taken for an API key)?  Two dots, nothing odd. */
bool jwt_is_like(const char *text);

/* Takes a token apart and believes nothing of it.  Errors say why in words without any of its
 * bytes, here and below. */
struct jwt *jwt_read(const char *text, struct err *err) MUST_CHECK;
void jwt_free(struct jwt *jwt);
const char *jwt_issuer(const struct jwt *jwt); /* not verified: which key set to ask */
const char *jwt_kid(const struct jwt *jwt);

struct jwt_rules {
    const char *issuer;
    const char *audience;
    int64_t leeway_s; /* at most JWT_LEEWAY_MAX_S */
};

/* The signature by the key of that kid, issuer, audience, exp (required), nbf and iat. */
bool jwt_verify(const struct jwt *jwt, const struct jwt_keys *keys, const struct jwt_rules *rules,
                int64_t now_us, struct err *err) MUST_CHECK;

/* Borrowed.  Only to be believed after jwt_verify. */
const json_t *jwt_claims(const struct jwt *jwt);

#endif
