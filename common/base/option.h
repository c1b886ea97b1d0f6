/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a program: one table with name, type, unit, default, reload flag and help. */
#ifndef COMMON_BASE_OPTION_H
#define COMMON_BASE_OPTION_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "common/base/err.h"

enum option_type {
    OPTION_INT,
    OPTION_BOOL,
    OPTION_STRING,
    OPTION_SECRET,
    OPTION_INT_LIST,
    OPTION_STRING_LIST
};

enum { OPTION_LIST_MAX = 64 };

/* One option.  name is its path in the configuration file ("worker.slots").  offset is where its
 * value lives in the program's settings struct: int64_t, bool, char * (owned by the struct), or
 * struct option_list for lists. */
struct option {
    const char *name;
    enum option_type type;
    size_t offset;
    const char *fallback; /* default, as text; lists are comma-separated; NULL: none */
    const char *unit;     /* "ms", "bytes", or NULL */
    int64_t min, max;     /* OPTION_INT and OPTION_INT_LIST; both 0: any number from 0 */
    const char *env;      /* environment variable that sets it, or NULL */
    bool is_reloadable;
    const char *help;
};

struct option_list {
    size_t count;
    int64_t numbers[OPTION_LIST_MAX]; /* OPTION_INT_LIST */
    char *strings[OPTION_LIST_MAX];   /* OPTION_STRING_LIST, owned */
};

struct config;

/* Sets every option of the table in *settings, which the caller has zeroed: default, then
 * environment, then the file (what is closest to the process's own command wins: file over
 * environment; a null in the file counts as absent).  Secrets may be "file:PATH".  On failure
 * nothing stays allocated and the error reads "FILE:LINE: path: expected ..., got ...".  What no
 * table names is left to the caller (config_check_unknown). */
bool options_load(const struct option *table, size_t count, const struct config *config,
                  void *settings, struct err *err) MUST_CHECK;
void options_release(const struct option *table, size_t count, void *settings);
void options_print_help(const struct option *table, size_t count, FILE *out);
/* "name=value" lines, secrets shown as "***". */
void options_print(const struct option *table, size_t count, const void *settings, FILE *out);

/* Takes over from fresh what may change at run time: calls changed for every option that differs
 * (values as options_print shows them) and exchanges the reloadable ones, so that *fresh holds the
 * old values of those after; the others stay as they are in *current. */
typedef void option_changed_fn(const struct option *option, const char *before, const char *after,
                               void *arg);
void options_reload(const struct option *table, size_t count, void *current, void *fresh,
                    option_changed_fn *changed, void *arg);

#endif
