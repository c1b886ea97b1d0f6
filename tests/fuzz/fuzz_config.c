/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz: any text is read or refused with a reason that names the file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const known[] = {"providers.*", "worker.slots", "prices"};
    struct err err = {0};
    struct config *config = config_parse("in.yaml", (const char *)data, size, &err);
    bool ok = config && config_check_unknown(config, known, 3, &err);

    if (!ok && strncmp(err.message, "in.yaml:", 8) != 0)
        abort();
    config_free(config);
    return 0;
}
