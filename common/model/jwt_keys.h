/* SPDX-License-Identifier: Apache-2.0 */
/* Inside jwt: the keys of a set, and the base64url that tokens and keys are written in. */
#ifndef COMMON_MODEL_JWT_KEYS_H
#define COMMON_MODEL_JWT_KEYS_H

#include <cjose/cjose.h>

#include "common/model/jwt.h"

enum jwt_algorithm { JWT_RS256, JWT_ES256 };

/* NULL: there is none of that name for that algorithm. */
const cjose_jwk_t *jwt_keys_get(const struct jwt_keys *keys, const char *kid,
                                enum jwt_algorithm algorithm);

/* Strict: no padding, no line breaks, no stray bits.  out holds out_max bytes. */
bool jwt_unbase64url(const char *text, size_t len, void *out, size_t out_max,
                     size_t *out_len) MUST_CHECK;

#endif
