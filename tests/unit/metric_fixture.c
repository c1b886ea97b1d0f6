/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/metric_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/io/metrics.h"

int64_t metric_value(const char *name)
{
    struct buf text;
    const char *at;
    int64_t value = -1;

    buf_init(&text, 16 * 1024 * 1024);
    assert_true(metrics_render(&text));
    for (at = strstr(text.data, name); at; at = strstr(at + 1, name))
        if (at == text.data || at[-1] == '\n') {
            value = atoll(strchr(at, ' ') + 1);
            break;
        }
    buf_release(&text);
    return value;
}
