/* SPDX-License-Identifier: Apache-2.0 */
/* A binary min-heap of entries embedded in their owners, with removal from the middle. */
#include "common/base/heap.h"

#include <assert.h>
#include <stdlib.h>

/* The one place that writes the array, so that an entry always knows where it is. */
static void heap_place(struct heap *heap, size_t index, struct heap_entry *entry)
{
    heap->entries[index] = entry;
    entry->index = (ptrdiff_t)index;
}

/* Moves the hole at index towards the root until entry fits in. */
static void sift_up(struct heap *heap, size_t index, struct heap_entry *entry)
{
    while (index > 0) {
        size_t parent = (index - 1) / 2;

        if (heap->entries[parent]->key <= entry->key)
            break;
        heap_place(heap, index, heap->entries[parent]);
        index = parent;
    }
    heap_place(heap, index, entry);
}

/* Moves the hole at index towards the leaves until entry fits in. */
static void sift_down(struct heap *heap, size_t index, struct heap_entry *entry)
{
    size_t child;

    while ((child = 2 * index + 1) < heap->count) {
        if (child + 1 < heap->count && heap->entries[child + 1]->key < heap->entries[child]->key)
            child++;
        if (entry->key <= heap->entries[child]->key)
            break;
        heap_place(heap, index, heap->entries[child]);
        index = child;
    }
    heap_place(heap, index, entry);
}

static bool heap_grow(struct heap *heap)
{
    size_t cap = heap->cap ? heap->cap * 2 : 16;
    struct heap_entry **entries;

    if (heap->count == heap->max)
        return false;
    if (cap > heap->max)
        cap = heap->max;
    entries = reallocarray(heap->entries, cap, sizeof(struct heap_entry *));
    if (!entries)
        return false;
    heap->entries = entries;
    heap->cap = cap;
    return true;
}

void heap_init(struct heap *heap, size_t max)
{
    *heap = (struct heap){.max = max};
}

void heap_release(struct heap *heap)
{
    for (size_t i = 0; i < heap->count; i++)
        heap->entries[i]->index = -1;
    free(heap->entries);
    *heap = (struct heap){.max = heap->max};
}

void heap_entry_init(struct heap_entry *entry)
{
    *entry = (struct heap_entry){.index = -1};
}

bool heap_insert(struct heap *heap, struct heap_entry *entry, int64_t key)
{
    assert(entry->index < 0);
    if (heap->count == heap->cap && !heap_grow(heap))
        return false;
    entry->key = key;
    sift_up(heap, heap->count++, entry);
    return true;
}

struct heap_entry *heap_min(const struct heap *heap)
{
    return heap->count ? heap->entries[0] : NULL;
}

void heap_remove(struct heap *heap, struct heap_entry *entry)
{
    struct heap_entry *last;
    size_t hole;

    if (entry->index < 0)
        return;
    hole = (size_t)entry->index;
    assert(hole < heap->count && heap->entries[hole] == entry);
    entry->index = -1;
    last = heap->entries[--heap->count];
    if (last == entry)
        return;
    if (last->key < entry->key)
        sift_up(heap, hole, last);
    else
        sift_down(heap, hole, last);
}
