/* SPDX-License-Identifier: Apache-2.0 */
/* An identity provider for tests: keys of its own, key sets, and tokens good and bad. */
#ifndef TESTS_UNIT_JWT_FIXTURE_H
#define TESTS_UNIT_JWT_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

enum { FIXTURE_TOKEN_SIZE = 32 * 1024, FIXTURE_JWKS_SIZE = 16 * 1024 };

enum fixture_signature {
    SIGN_RSA,       /* RS256 by the provider's RSA key */
    SIGN_EC,        /* ES256, r and s */
    SIGN_EC_DER,    /* the same as OpenSSL writes it */
    SIGN_OTHER_RSA, /* RS256 by a stranger's key */
    SIGN_HMAC_PEM,  /* HS256 with the RSA public key's PEM text as the secret */
    SIGN_HMAC_N,    /* HS256 with the modulus as the secret */
    SIGN_EMPTY,     /* no signature */
};

/* The set of the provider's public keys: RSA 2048 under kid "rsa", P-256 under "ec", and what a
 * careless provider adds: a 1,024-bit RSA key "weak", an encryption key "enc", an "oct" key. */
const char *fixture_jwks(void);
/* The same two keys under other names. */
const char *fixture_jwks_named(const char *rsa_kid, const char *ec_kid);

/* header and claims are JSON text.  Into one of four buffers in turn. */
const char *fixture_token(enum fixture_signature signature, const char *header, const char *claims);

/* A good RS256 token of kid "rsa": issuer https://idp.example, audience nightshift, for an hour. */
const char *fixture_good_token(const char *tenant, const char *scope);

#endif
