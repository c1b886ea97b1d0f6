/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets that sign webhooks: made, shown as "whsec_...", and sealed for the database. */
#ifndef COMMON_MODEL_WEBHOOK_SECRET_H
#define COMMON_MODEL_WEBHOOK_SECRET_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/crypto.h"
#include "common/base/err.h"

enum {
    WEBHOOK_SECRET_MIN = 24, /* bytes, by Standard Webhooks */
    WEBHOOK_SECRET_MAX = 64,
    WEBHOOK_SECRET_MADE = 32, /* bytes of those made here */
    WEBHOOK_SECRET_TEXT_SIZE = 6 + BASE64_SIZE(WEBHOOK_SECRET_MAX),
    WEBHOOK_SEALED_MAX = WEBHOOK_SECRET_MAX + CRYPTO_SEAL_OVERHEAD,
};

/* The HMAC key itself.  Wipe it (crypto_wipe) when it has been used. */
struct webhook_secret {
    uint8_t bytes[WEBHOOK_SECRET_MAX];
    size_t len;
};

void webhook_secret_make(struct webhook_secret *out); /* WEBHOOK_SECRET_MADE random bytes */

/* "whsec_" + base64: what its owner is shown once. */
void webhook_secret_format(const struct webhook_secret *secret, char out[WEBHOOK_SECRET_TEXT_SIZE]);
bool webhook_secret_parse(const char *text, size_t len, struct webhook_secret *out,
                          struct err *err) MUST_CHECK;

/* To and from the bytea columns of tenants and endpoints.  owner_kind is "tenant" or "endpoint",
 * owner its id: a sealed secret opens only for whom it was sealed. */
bool webhook_secret_seal(const uint8_t data_key[CRYPTO_KEY_SIZE], const char *owner_kind,
                         const char *owner, const struct webhook_secret *secret,
                         uint8_t out[WEBHOOK_SEALED_MAX], size_t *out_len,
                         struct err *err) MUST_CHECK;
bool webhook_secret_open(const uint8_t data_key[CRYPTO_KEY_SIZE], const char *owner_kind,
                         const char *owner, const void *sealed, size_t len,
                         struct webhook_secret *out, struct err *err) MUST_CHECK;

/* Reads the configured secrets.data_key: 32 bytes in base64. */
bool webhook_data_key_parse(const char *text, uint8_t data_key[CRYPTO_KEY_SIZE],
                            struct err *err) MUST_CHECK;

#endif
