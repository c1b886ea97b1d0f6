/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of limits: what is accepted renders to the same bytes again; what is not names a code.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/model/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_document(const struct limits *limits)
{
    struct applied_limit out[LIMIT_SCOPE_COUNT];
    struct limits *again;
    struct buf first, second;
    struct err err = {0};

    buf_init(&first, 64 * 1024 * 1024);
    buf_init(&second, 64 * 1024 * 1024);
    if (!limits_render(limits, &first))
        abort();
    again = limits_parse_text(first.data, first.len, LIMITS_OF_TENANT, &err);
    if (!again || !limits_render(again, &second))
        abort();
    if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
        abort();
    if (!limits_same_accounts(limits, again))
        abort();
    if (limits_apply(limits, again, "k", "w", "u", "m", out) > 0 && limits_is_empty(limits))
        abort();
    limits_unref(again);
    buf_release(&first);
    buf_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    struct limits *limits = limits_parse_text((const char *)data, size, LIMITS_OF_TENANT, &err);

    if (limits)
        check_document(limits);
    else if (!*err.code)
        abort();
    limits_unref(limits);
    return 0;
}
