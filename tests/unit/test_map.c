/* SPDX-License-Identifier: Apache-2.0 */
/* Maps keep what was put, up to their maximum, under any bytes as keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/map.h"

/* One test asks for more memory than there is. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void test_put_get_replace_remove(void **state)
{
    struct map *map = map_new(10);
    int a, b;

    (void)state;
    assert_null(map_get(map, "k", 1));
    assert_true(map_put(map, "k", 1, &a));
    assert_ptr_equal(map_get(map, "k", 1), &a);
    assert_true(map_put(map, "k", 1, &b));
    assert_ptr_equal(map_get(map, "k", 1), &b);
    assert_int_equal(map_count(map), 1);
    assert_ptr_equal(map_remove(map, "k", 1), &b);
    assert_null(map_remove(map, "k", 1));
    assert_int_equal(map_count(map), 0);
    map_free(map);
    map_free(NULL);
}

static void test_keys_are_copied_bytes_of_any_length(void **state)
{
    struct map *map = map_new(100);
    char key[40];
    int values[40];

    (void)state;
    for (size_t len = 0; len < sizeof(key); len++) {
        memset(key, 0, sizeof(key)); /* keys differ in length alone */
        assert_true(map_put(map, len ? key : NULL, len, &values[len]));
    }
    memset(key, 'x', sizeof(key));
    assert_null(map_get(map, key, 5));
    memset(key, 0, sizeof(key));
    for (size_t len = 0; len < sizeof(key); len++)
        assert_ptr_equal(map_get(map, key, len), &values[len]);
    map_free(map);
}

static void test_full_map_refuses_new_keys_only(void **state)
{
    struct map *map = map_new(2);
    struct map *nothing = map_new(0);
    int a;

    (void)state;
    assert_true(map_put(map, "1", 1, &a));
    assert_true(map_put(map, "2", 1, &a));
    assert_false(map_put(map, "3", 1, &a));
    assert_true(map_put(map, "2", 1, NULL));
    assert_int_equal(map_count(map), 2);
    assert_null(map_remove(map, "2", 1));
    assert_true(map_put(map, "3", 1, &a));
    assert_false(map_put(nothing, "1", 1, &a));
    map_free(map);
    map_free(nothing);
}

static bool count_down(const void *key, size_t key_len, void *value, void *arg)
{
    int *left = arg;

    (void)key;
    (void)key_len;
    (void)value;
    return --*left > 0;
}

struct sweep {
    struct map *map;
    int seen;
};

static bool remove_odd(const void *key, size_t key_len, void *value, void *arg)
{
    struct sweep *sweep = arg;
    int number;

    assert_int_equal(key_len, sizeof(number));
    memcpy(&number, key, sizeof(number));
    sweep->seen++;
    if (number % 2)
        assert_ptr_equal(map_remove(sweep->map, key, key_len), value);
    return true;
}

static void test_each_visits_all_and_may_remove(void **state)
{
    enum { MANY = 5000 };
    struct map *map = map_new(MANY);
    struct sweep sweep = {.map = map};
    static char values[MANY];
    int left = 3;

    (void)state;
    for (int i = 0; i < MANY; i++)
        assert_true(map_put(map, &i, sizeof(i), &values[i]));
    map_each(map, remove_odd, &sweep);
    assert_int_equal(sweep.seen, MANY);
    assert_int_equal(map_count(map), MANY / 2);
    for (int i = 0; i < MANY; i++)
        assert_ptr_equal(map_get(map, &i, sizeof(i)), i % 2 ? NULL : &values[i]);
    map_each(map, count_down, &left);
    assert_int_equal(left, 0);
    map_free(map);
}

static void test_memory_that_is_not_there_is_false(void **state)
{
    struct map *map = map_new(10);
    const size_t much = SIZE_MAX / 4;

    (void)state;
    /* The key is never read: the entry cannot be had.  An empty map does not hash it either. */
    assert_false(map_put(map, "", much, map));
    assert_int_equal(map_count(map), 0);
    map_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_get_replace_remove),
        cmocka_unit_test(test_keys_are_copied_bytes_of_any_length),
        cmocka_unit_test(test_full_map_refuses_new_keys_only),
        cmocka_unit_test(test_each_visits_all_and_may_remove),
        cmocka_unit_test(test_memory_that_is_not_there_is_false),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
