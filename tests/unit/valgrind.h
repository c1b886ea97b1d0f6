/* SPDX-License-Identifier: Apache-2.0 */
/* What is different for a test under valgrind: programs are slow there, and some calls are not the
 * kernel's own. */
#ifndef TESTS_UNIT_VALGRIND_H
#define TESTS_UNIT_VALGRIND_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* It loads its own malloc into the program. */
static inline bool is_under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");

    return preload && strstr(preload, "vgpreload");
}

/* A deadline that is meant for a program at full speed. */
static inline int patient_ms(int ms)
{
    return is_under_valgrind() ? 10 * ms : ms;
}

#endif
