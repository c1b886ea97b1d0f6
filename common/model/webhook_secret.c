/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets that sign webhooks: their making, their text, their sealed form. */
#include "common/model/webhook_secret.h"

#include <stdio.h>
#include <string.h>

static const char prefix[] = "whsec_";
enum { PREFIX_LEN = sizeof(prefix) - 1, OWNER_SIZE = 320 };

void webhook_secret_make(struct webhook_secret *out)
{
    out->len = WEBHOOK_SECRET_MADE;
    crypto_random(out->bytes, out->len);
}

void webhook_secret_format(const struct webhook_secret *secret, char out[WEBHOOK_SECRET_TEXT_SIZE])
{
    memcpy(out, prefix, PREFIX_LEN);
    crypto_base64(secret->bytes, secret->len, out + PREFIX_LEN);
}

bool webhook_secret_parse(const char *text, size_t len, struct webhook_secret *out, struct err *err)
{
    if (len > PREFIX_LEN && memcmp(text, prefix, PREFIX_LEN) == 0 &&
        crypto_unbase64(text + PREFIX_LEN, len - PREFIX_LEN, out->bytes, sizeof(out->bytes),
                        &out->len) &&
        out->len >= WEBHOOK_SECRET_MIN)
        return true;
    crypto_wipe(out, sizeof(*out));
    return err_set(err, "webhook secret: expected \"%s\" and %d to %d bytes in base64", prefix,
                   WEBHOOK_SECRET_MIN, WEBHOOK_SECRET_MAX);
}

/* An owner too long for its place would seal for somebody else's beginning. */
static bool name_owner(const char *kind, const char *owner, char out[OWNER_SIZE], struct err *err)
{
    int len = snprintf(out, OWNER_SIZE, "%s:%s", kind, owner);

    if (len > 0 && len < OWNER_SIZE)
        return true;
    return err_set(err, "webhook secret of a %s: its id is too long", kind);
}

bool webhook_secret_seal(const uint8_t data_key[CRYPTO_KEY_SIZE], const char *owner_kind,
                         const char *owner, const struct webhook_secret *secret,
                         uint8_t out[WEBHOOK_SEALED_MAX], size_t *out_len, struct err *err)
{
    char aad[OWNER_SIZE];

    if (!name_owner(owner_kind, owner, aad, err) ||
        !crypto_seal(data_key, aad, secret->bytes, secret->len, out, err))
        return err_wrap(err, "seal the webhook secret of %s %s", owner_kind, owner);
    *out_len = secret->len + CRYPTO_SEAL_OVERHEAD;
    return true;
}

bool webhook_secret_open(const uint8_t data_key[CRYPTO_KEY_SIZE], const char *owner_kind,
                         const char *owner, const void *sealed, size_t len,
                         struct webhook_secret *out, struct err *err)
{
    char aad[OWNER_SIZE];

    if (len < WEBHOOK_SECRET_MIN + CRYPTO_SEAL_OVERHEAD || len > WEBHOOK_SEALED_MAX)
        return err_set(err, "open the webhook secret of %s %s: %zu bytes cannot be one", owner_kind,
                       owner, len);
    if (!name_owner(owner_kind, owner, aad, err) ||
        !crypto_open(data_key, aad, sealed, len, out->bytes, err))
        return err_wrap(err, "open the webhook secret of %s %s", owner_kind, owner);
    out->len = len - CRYPTO_SEAL_OVERHEAD;
    return true;
}

bool webhook_data_key_parse(const char *text, uint8_t data_key[CRYPTO_KEY_SIZE], struct err *err)
{
    size_t len;

    if (crypto_unbase64(text, strlen(text), data_key, CRYPTO_KEY_SIZE, &len) &&
        len == CRYPTO_KEY_SIZE)
        return true;
    return err_set(err,
                   "secrets.data_key: expected %d random bytes in base64 (openssl rand -base64 %d)",
                   CRYPTO_KEY_SIZE, CRYPTO_KEY_SIZE);
}
