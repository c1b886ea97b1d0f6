/* SPDX-License-Identifier: Apache-2.0 */
/* HMAC-SHA256 over "id.timestamp.body". */
#include "common/model/webhook_sign.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "common/base/buf.h"

enum { FRAME_MAX = 256 };

bool webhook_sign(const char *id, int64_t timestamp_s, const void *body, size_t len,
                  const struct webhook_secret *secrets, size_t count, struct buf *out)
{
    struct buf text;
    bool ok;

    assert(!strchr(id, '.') && strlen(id) < FRAME_MAX / 2);
    buf_init(&text, len + FRAME_MAX);
    buf_printf(&text, "%s.%" PRId64 ".", id, timestamp_s);
    ok = buf_append(&text, body, len) && count > 0;
    for (size_t i = 0; ok && i < count; i++) {
        uint8_t mac[SHA256_SIZE];
        char base64[BASE64_SIZE(SHA256_SIZE)];

        crypto_hmac_sha256(secrets[i].bytes, secrets[i].len, text.data, text.len, mac);
        crypto_base64(mac, sizeof(mac), base64);
        ok = buf_printf(out, "%sv1,%s", i > 0 ? " " : "", base64);
    }
    buf_release(&text);
    return ok;
}
