/* SPDX-License-Identifier: Apache-2.0 */
/* The heap gives the smallest key first, whatever was removed in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/heap.h"

struct waiter {
    int name;
    struct heap_entry entry;
};

enum { MANY = 300 };

static void test_smallest_comes_first(void **state)
{
    static const int64_t keys[] = {5, 3, INT64_MAX, 3, -7, INT64_MIN, 0};
    struct waiter waiters[7];
    struct heap heap;
    int64_t last = INT64_MIN;

    (void)state;
    heap_init(&heap, 7);
    assert_null(heap_min(&heap));
    for (int i = 0; i < 7; i++) {
        waiters[i].name = i;
        heap_entry_init(&waiters[i].entry);
        assert_true(heap_insert(&heap, &waiters[i].entry, keys[i]));
    }
    for (int i = 0; i < 7; i++) {
        struct heap_entry *min = heap_min(&heap);

        assert_true(min->key >= last);
        last = min->key;
        assert_true(keys[HEAP_OWNER(min, struct waiter, entry)->name] == min->key);
        heap_remove(&heap, min);
        assert_int_equal(min->index, -1);
    }
    assert_null(heap_min(&heap));
    heap_release(&heap);
}

static void test_full_heap_refuses(void **state)
{
    struct heap_entry a, b;
    struct heap heap;

    (void)state;
    heap_init(&heap, 1);
    heap_entry_init(&a);
    heap_entry_init(&b);
    assert_true(heap_insert(&heap, &a, 1));
    assert_false(heap_insert(&heap, &b, 0));
    assert_int_equal(b.index, -1);
    heap_remove(&heap, &b); /* not in: nothing happens */
    assert_ptr_equal(heap_min(&heap), &a);
    heap_release(&heap);
    assert_int_equal(a.index, -1);
    heap_init(&heap, 0);
    assert_false(heap_insert(&heap, &a, 1));
    heap_release(&heap);
}

static void assert_heap_order(const struct heap *heap)
{
    for (size_t i = 0; i < heap->count; i++) {
        assert_int_equal(heap->entries[i]->index, i);
        assert_true(heap->entries[(i ? i - 1 : 0) / 2]->key <= heap->entries[i]->key);
    }
}

static void test_order_holds_under_random_inserts_and_removals(void **state)
{
    static struct heap_entry entries[MANY];
    struct heap heap;
    unsigned seed = 12345;

    (void)state;
    heap_init(&heap, MANY);
    for (int i = 0; i < MANY; i++)
        heap_entry_init(&entries[i]);
    for (int step = 0; step < 5000; step++) {
        struct heap_entry *entry = &entries[rand_r(&seed) % MANY];

        if (entry->index >= 0)
            heap_remove(&heap, entry);
        else
            assert_true(heap_insert(&heap, entry, rand_r(&seed) % 100));
        assert_heap_order(&heap);
    }
    heap_release(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smallest_comes_first),
        cmocka_unit_test(test_full_heap_refuses),
        cmocka_unit_test(test_order_holds_under_random_inserts_and_removals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
