/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever comes as a bearer token, or as a key set: no token is believed that nobody signed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/model/jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The example of RFC 7517. */
static const char jwks[] = "{\"keys\":[{\"kty\":\"EC\",\"kid\":\"ec\",\"crv\":\"P-256\","
                           "\"x\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\","
                           "\"y\":\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\"}]}";

static struct jwt_keys *parse(const char *text, size_t len)
{
    struct err err;

    return jwt_keys_parse(text, len, &err);
}

/* Up to the first line break a token, behind it a key set (ours, where there is none). */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct jwt_rules rules = {"https://idp.example", "nightshift", 60};
    const char *text = (const char *)data;
    const char *end = size ? memchr(text, '\n', size) : NULL;
    size_t len = end ? (size_t)(end - text) : size;
    struct jwt_keys *keys = end ? parse(end + 1, size - len - 1) : parse(jwks, sizeof(jwks) - 1);
    char *token = strndup(text ? text : "", len);
    struct err err;
    struct jwt *jwt = jwt_read(token, &err);

    if (jwt && keys && jwt_verify(jwt, keys, &rules, 1800000000 * US_PER_S, &err) && !end)
        abort();
    jwt_free(jwt);
    jwt_keys_free(keys);
    free(token);
    return 0;
}
