/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as values: formatting, cutting and wrapping of messages. */
#include "common/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/str.h"

/* Puts text into out, cut at a UTF-8 boundary and marked with "..." when it is too long. */
static void fit(char *out, size_t size, const char *text)
{
    size_t len = strlen(text);

    if (len < size) {
        memcpy(out, text, len + 1);
        return;
    }
    len = str_utf8_boundary(text, size - sizeof("..."));
    memcpy(out, text, len);
    memcpy(out + len, "...", sizeof("..."));
}

/* Formats apart from the target, because the arguments may point into the very error that is being
 * written.  One byte more than fits, so that fit() sees that something was lost. */
static void PRINTF_LIKE(2, 0) set_message(struct err *err, const char *fmt, va_list args)
{
    char text[ERR_MESSAGE_MAX + 1] = "";

    vsnprintf(text, sizeof(text), fmt, args);
    fit(err->message, sizeof(err->message), text);
}

bool err_set(struct err *err, const char *fmt, ...)
{
    va_list args;

    if (!err)
        return false;
    va_start(args, fmt);
    set_message(err, fmt, args);
    va_end(args);
    err->code[0] = '\0';
    err->param[0] = '\0';
    return false;
}

bool err_input(struct err *err, const char *code, const char *param, const char *fmt, ...)
{
    char param_copy[ERR_PARAM_MAX] = ""; /* param may be err->param */
    char code_copy[ERR_CODE_MAX] = "";
    va_list args;

    if (!err)
        return false;
    fit(code_copy, sizeof(code_copy), code);
    fit(param_copy, sizeof(param_copy), param ? param : "");
    va_start(args, fmt);
    set_message(err, fmt, args);
    va_end(args);
    memcpy(err->code, code_copy, sizeof(err->code));
    memcpy(err->param, param_copy, sizeof(err->param));
    return false;
}

bool err_wrap(struct err *err, const char *fmt, ...)
{
    char text[2 * ERR_MESSAGE_MAX] = "";
    va_list args;
    size_t len;

    if (!err)
        return false;
    va_start(args, fmt);
    vsnprintf(text, ERR_MESSAGE_MAX, fmt, args);
    va_end(args);
    len = strlen(text);
    snprintf(text + len, sizeof(text) - len, ": %s", err->message);
    fit(err->message, sizeof(err->message), text);
    return false;
}

void err_clear(struct err *err)
{
    if (err)
        *err = (struct err){.message = ""};
}
