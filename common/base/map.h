/* SPDX-License-Identifier: Apache-2.0 */
/* A hash map from byte-string keys to pointers, with a maximum number of entries. */
#ifndef COMMON_BASE_MAP_H
#define COMMON_BASE_MAP_H

#include <stddef.h>

#include "common/base/err.h"

struct map;

/* Keys are copied; values are borrowed (map_free does not free them). */
struct map *map_new(size_t max_entries);
void map_free(struct map *map);

void *map_get(const struct map *map, const void *key, size_t key_len);
/* False when full or out of memory; replaces the value of a key already there. */
bool map_put(struct map *map, const void *key, size_t key_len, void *value) MUST_CHECK;
void *map_remove(struct map *map, const void *key, size_t key_len); /* the value, or NULL */
size_t map_count(const struct map *map);

/* Calls visit on each entry until it returns false.  visit may remove the entry it is given and no
 * other, and must not add. */
typedef bool map_visit_fn(const void *key, size_t key_len, void *value, void *arg);
void map_each(struct map *map, map_visit_fn *visit, void *arg);

#endif
