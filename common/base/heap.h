/* SPDX-License-Identifier: Apache-2.0 */
/* A binary min-heap of entries embedded in their owners, with removal from the middle. */
#ifndef COMMON_BASE_HEAP_H
#define COMMON_BASE_HEAP_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

/* Lives inside the thing that waits; use HEAP_OWNER to come back to it.  index is -1 outside. */
struct heap_entry {
    int64_t key;
    ptrdiff_t index;
};

struct heap {
    struct heap_entry **entries;
    size_t count;
    size_t cap;
    size_t max;
};

#define HEAP_OWNER(entry, type, member) ((type *)((char *)(entry)-offsetof(type, member)))

void heap_init(struct heap *heap, size_t max);
void heap_release(struct heap *heap);
void heap_entry_init(struct heap_entry *entry);
bool heap_insert(struct heap *heap, struct heap_entry *entry, int64_t key) MUST_CHECK;
struct heap_entry *heap_min(const struct heap *heap);          /* NULL when empty */
void heap_remove(struct heap *heap, struct heap_entry *entry); /* nothing when it is not in */

#endif
