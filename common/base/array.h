/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays that grow by one item at a time. */
#ifndef COMMON_BASE_ARRAY_H
#define COMMON_BASE_ARRAY_H

#include <stddef.h>

#include "common/base/err.h"

/* Room for one more behind the `count` items (of size bytes each, the first was NULL): how much
 * there is follows from count alone, and doubles at powers of two.  The array may move.  NULL: out
 * of memory, and items are as they were, the caller's to free.  Whoever calls bounds count. */
void *array_grow(void *items, size_t count, size_t size) MUST_CHECK;

#endif
