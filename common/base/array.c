/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays that grow by one item at a time: no capacity is kept, the count says it. */
#include "common/base/array.h"

#include <stdint.h>
#include <stdlib.h>

enum { FIRST = 4 };

void *array_grow(void *items, size_t count, size_t size)
{
    size_t room = count == 0 ? FIRST : 2 * count;

    if (count != 0 && (count < FIRST || (count & (count - 1)) != 0))
        return items;
    if (count > SIZE_MAX / 2 || room > SIZE_MAX / size)
        return NULL;
    return realloc(items, room * size);
}
