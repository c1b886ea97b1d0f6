/* SPDX-License-Identifier: Apache-2.0 */
/* One event per line on standard error, with the ids of what it is about. */
#include "common/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/str.h"

/* LINE_END keeps room for "..." and the newline. */
enum { LINE_MAX_BYTES = 4096, LINE_END = LINE_MAX_BYTES - 4, PROGRAM_MAX = 32 };

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
    bool is_cut;
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static char program_name[PROGRAM_MAX] = "nightshift";
static atomic_int lowest_level = LOG_INFO;

static void line_add(struct line *line, const char *text, size_t len)
{
    size_t room = LINE_END - line->len;

    if (line->is_cut)
        return;
    if (len > room) {
        line->is_cut = true;
        len = str_utf8_boundary(text, room);
    }
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void line_puts(struct line *line, const char *text)
{
    line_add(line, text, strlen(text));
}

/* Bytes of the control character at text: C0, DEL, or a C1 control as UTF-8 (terminals obey those
 * too); 0 when it is none. */
static size_t control_length(const unsigned char *text)
{
    if (text[0] < 0x20 || text[0] == 0x7f)
        return 1;
    return text[0] == 0xc2 && text[1] >= 0x80 && text[1] <= 0x9f ? 2 : 0;
}

static void line_add_escape(struct line *line, unsigned char c)
{
    char text[8];

    if (c == '\n')
        line_puts(line, "\\n");
    else if (c == '\r')
        line_puts(line, "\\r");
    else if (c == '\t')
        line_puts(line, "\\t");
    else
        line_add(line, text, (size_t)snprintf(text, sizeof(text), "\\x%02x", c));
}

/* What comes from outside cannot start a new line or drive the terminal. */
static void line_add_escaped(struct line *line, const char *text)
{
    const char *from = text;
    const char *at = text;

    while (*at) {
        size_t n = control_length((const unsigned char *)at);

        if (!n) {
            at++;
            continue;
        }
        line_add(line, from, (size_t)(at - from));
        for (; n > 0; n--)
            line_add_escape(line, (unsigned char)*at++);
        from = at;
    }
    line_add(line, from, (size_t)(at - from));
}

static void line_add_id(struct line *line, const char *name, const char *value)
{
    if (!value)
        return;
    line_puts(line, name);
    line_add_escaped(line, value);
}

static void line_add_head(struct line *line, enum log_level level,
                          const struct log_context *context)
{
    char when[CLOCK_RFC3339_SIZE];
    char head[CLOCK_RFC3339_SIZE + PROGRAM_MAX + 32];

    clock_format_rfc3339(clock_now_us(), when);
    snprintf(head, sizeof(head), "%s %s %s[%ld]", when, level_names[level], program_name,
             (long)getpid());
    line_puts(line, head);
    if (context) {
        line_add_id(line, " ", context->component);
        line_add_id(line, " job=", context->job);
        line_add_id(line, " tenant=", context->tenant);
        line_add_id(line, " request=", context->request);
    }
    line_puts(line, ": ");
}

/* One write(2) a line, so that lines of several processes do not mix.  What cannot be written is
 * lost: there is nobody left to tell. */
static void line_write(struct line *line)
{
    ssize_t n;

    if (line->is_cut) {
        memcpy(line->text + line->len, "...", 3);
        line->len += 3;
    }
    line->text[line->len++] = '\n';
    do {
        n = write(STDERR_FILENO, line->text, line->len);
    } while (n < 0 && errno == EINTR);
}

void log_setup(const char *program, enum log_level level)
{
    snprintf(program_name, sizeof(program_name), "%s", program);
    log_set_level(level);
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&lowest_level, (int)level, memory_order_relaxed);
}

bool log_level_parse(const char *name, enum log_level *level)
{
    for (int i = LOG_DEBUG; i <= LOG_ERROR; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_is_on(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&lowest_level, memory_order_relaxed);
}

void log_write(enum log_level level, const struct log_context *context, const char *fmt, ...)
{
    int saved_errno = errno; /* callers log between a failure and its handling */
    struct line line;
    char message[LINE_MAX_BYTES + 1] = "";
    va_list args;

    if (!log_is_on(level))
        return;
    line.len = 0;
    line.is_cut = false;
    line_add_head(&line, level, context);
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    line_add_escaped(&line, message);
    line_write(&line);
    errno = saved_errno;
}
