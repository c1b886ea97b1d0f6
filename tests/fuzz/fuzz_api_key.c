/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever comes in an authorization header: only whole keys are taken, and they keep their text.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/model/api_key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct api_key key;

    if (!api_key_parse((const char *)data, size, &key))
        return 0;
    if (size != API_KEY_LEN || strlen(key.id) != API_KEY_ID_LEN ||
        strlen(key.secret) != API_KEY_SECRET_LEN ||
        memcmp(data + 3 + API_KEY_ID_LEN + 1, key.secret, API_KEY_SECRET_LEN) != 0)
        abort();
    return 0;
}
