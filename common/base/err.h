/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as values: what was attempted, on what, and why it failed. */
#ifndef COMMON_BASE_ERR_H
#define COMMON_BASE_ERR_H

#include <stdbool.h>

/* Marks a function whose result must be looked at. */
#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

enum { ERR_MESSAGE_MAX = 512, ERR_PARAM_MAX = 192, ERR_CODE_MAX = 48 };

/* A failed call fills one of these.  message is one sentence for a person.  code and param are set
 * only where the failure is the user's input: code is a code of the API's error table
 * ("invalid_value"), param the path of the field at fault ("request.messages[2].role"). */
struct err {
    char message[ERR_MESSAGE_MAX];
    char code[ERR_CODE_MAX];
    char param[ERR_PARAM_MAX];
};

/* All err_* functions accept err == NULL (the caller does not want to know) and return false, so
 * that a failure reads `return err_set(err, "open %s: %s", path, strerror(errno));`.  A message
 * too long is cut at a UTF-8 boundary and ends in "...". */
bool err_set(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* As err_set, for bad input: names the API code and the field. */
bool err_input(struct err *err, const char *code, const char *param, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* Puts "context: " in front of the message already there. */
bool err_wrap(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

void err_clear(struct err *err);

#endif
