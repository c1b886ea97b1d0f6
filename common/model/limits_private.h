/* SPDX-License-Identifier: Apache-2.0 */
/* What the files about documents of limits share: how a document is kept. */
#ifndef COMMON_MODEL_LIMITS_PRIVATE_H
#define COMMON_MODEL_LIMITS_PRIVATE_H

#include "common/model/limits.h"

enum { LIMITS_MAPS = 3, LIMITS_COUNTS = 6 };

struct named_set {
    char *name;
    struct limit_set set;
};

/* Sorted by name; "*" is one of them. */
struct set_map {
    struct named_set *sets;
    size_t count;
};

struct limits {
    int refs;
    enum budget_policy policy;
    char time_zone[TIME_ZONE_MAX + 1];
    struct limit_set set;
    struct set_map maps[LIMITS_MAPS];
};

/* The name that stands for each name without a set of its own. */
extern const char limits_any_name[];

/* What the maps are called and what their names are of. */
struct limits_map_kind {
    const char *name;
    enum limit_scope scope;
};
extern const struct limits_map_kind limits_map_kinds[LIMITS_MAPS];

/* The whole numbers of a set, in the order in which they are written. */
struct limits_count {
    const char *name;
    size_t offset;
};
extern const struct limits_count limits_counts[LIMITS_COUNTS];
const int64_t *limits_count_of(const struct limit_set *set, size_t i);

extern const char *const budget_window_names[BUDGET_WINDOW_COUNT];

int limits_compare_names(const void *a, const void *b); /* of two struct named_set, for qsort */

#endif
