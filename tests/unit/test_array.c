/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays that grow by one item at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/array.h"

/* The sanitizers see a write without room. */
static void test_there_is_room_for_one_more_and_what_was_there_stays(void **state)
{
    size_t *items = NULL;

    (void)state;
    for (size_t count = 0; count < 1000; count++) {
        size_t *more = array_grow(items, count, sizeof(*items));

        assert_non_null(more);
        items = more;
        items[count] = count;
    }
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(items[i], i);
    free(items);
}

static void test_it_moves_at_powers_of_two_alone(void **state)
{
    char *items = array_grow(NULL, 0, 1);

    (void)state;
    assert_non_null(items);
    for (size_t count = 1; count < 4; count++)
        assert_ptr_equal(array_grow(items, count, 1), items);
    for (size_t count = 5; count < 8; count++)
        assert_ptr_equal(array_grow(items, count, 1), items);
    free(items);
}

static void test_what_cannot_be_allocated_leaves_the_array_alone(void **state)
{
    char *items = array_grow(NULL, 0, 1);

    (void)state;
    assert_non_null(items);
    items[0] = 'a';
    assert_null(array_grow(items, SIZE_MAX / 4 + 1, 16)); /* the product does not fit */
    assert_int_equal(items[0], 'a');
    free(items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_is_room_for_one_more_and_what_was_there_stays),
        cmocka_unit_test(test_it_moves_at_powers_of_two_alone),
        cmocka_unit_test(test_what_cannot_be_allocated_leaves_the_array_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
