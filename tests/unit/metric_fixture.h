/* SPDX-License-Identifier: Apache-2.0 */
/* What this process's own /metrics would say. */
#ifndef TESTS_UNIT_METRIC_FIXTURE_H
#define TESTS_UNIT_METRIC_FIXTURE_H

#include <stdint.h>

/* The number behind such a name, with its labels if it has any; -1: none. */
int64_t metric_value(const char *name);

#endif
