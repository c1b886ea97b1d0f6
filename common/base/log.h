/* SPDX-License-Identifier: Apache-2.0 */
/* One event per line on standard error, with the ids of what it is about. */
#ifndef COMMON_BASE_LOG_H
#define COMMON_BASE_LOG_H

#include "common/base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* What a line is about; every member may be NULL.  Borrowed strings. */
struct log_context {
    const char *component; /* "intake", "run" */
    const char *job;
    const char *tenant;
    const char *request;
};

/* Lines look like
 *   2026-11-21T03:04:05.678Z info worker[123] run job=job_0193.. tenant=acme: message
 * Control characters in the message and in the ids are escaped; a line is at most 4 KiB and is
 * written with one write(2).  Prompts, answers and keys are never logged. */
void log_setup(const char *program, enum log_level level);
void log_set_level(enum log_level level);
bool log_level_parse(const char *name, enum log_level *level) MUST_CHECK;

/* context may be NULL. */
void log_write(enum log_level level, const struct log_context *context, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
bool log_is_on(enum log_level level);

#define log_debug(context, ...)                         \
    do {                                                \
        if (log_is_on(LOG_DEBUG))                       \
            log_write(LOG_DEBUG, context, __VA_ARGS__); \
    } while (0)
#define log_info(context, ...) log_write(LOG_INFO, context, __VA_ARGS__)
#define log_warn(context, ...) log_write(LOG_WARN, context, __VA_ARGS__)
#define log_error(context, ...) log_write(LOG_ERROR, context, __VA_ARGS__)

#endif
