/* SPDX-License-Identifier: Apache-2.0 */
/* Loads, compares and prints what a table of options describes. */
#include "common/base/option.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/config.h"
#include "common/base/json.h"
#include "common/base/str.h"

enum { EXPECTED_SIZE = 128, VALUE_TEXT_MAX = 16 * 1024 };

static void *value_at(const struct option *option, void *settings)
{
    return (char *)settings + option->offset;
}

static const void *const_value_at(const struct option *option, const void *settings)
{
    return (const char *)settings + option->offset;
}

/* --- memory ----------------------------------------------------------------------------------- */

static void text_set(char **at, char *text)
{
    if (*at)
        explicit_bzero(*at, strlen(*at));
    free(*at);
    *at = text;
}

static void list_release(struct option_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->strings[i]);
    memset(list, 0, sizeof(*list));
}

static void option_release(const struct option *option, void *settings)
{
    void *value = value_at(option, settings);

    switch (option->type) {
    case OPTION_STRING:
    case OPTION_SECRET:
        text_set(value, NULL);
        break;
    case OPTION_INT_LIST:
    case OPTION_STRING_LIST:
        list_release(value);
        break;
    case OPTION_INT:
    case OPTION_BOOL:
        break;
    }
}

void options_release(const struct option *table, size_t count, void *settings)
{
    for (size_t i = 0; i < count; i++)
        option_release(&table[i], settings);
}

/* --- setting from a value --------------------------------------------------------------------- */

/* min = max = 0 stands for any number from 0. */
static int64_t max_of(const struct option *option)
{
    return option->min == 0 && option->max == 0 ? INT64_MAX : option->max;
}

static void expected_of(const struct option *option, char out[EXPECTED_SIZE])
{
    bool is_list = option->type == OPTION_INT_LIST;

    switch (option->type) {
    case OPTION_INT:
    case OPTION_INT_LIST:
        if (max_of(option) == INT64_MAX)
            snprintf(out, EXPECTED_SIZE, "%s of at least %" PRId64 "%s%s",
                     is_list ? "a list of integers" : "an integer", option->min,
                     option->unit ? " " : "", option->unit ? option->unit : "");
        else
            snprintf(out, EXPECTED_SIZE, "%s from %" PRId64 " to %" PRId64 "%s%s",
                     is_list ? "a list of integers" : "an integer", option->min, option->max,
                     option->unit ? " " : "", option->unit ? option->unit : "");
        break;
    case OPTION_BOOL:
        snprintf(out, EXPECTED_SIZE, "true or false");
        break;
    case OPTION_STRING:
        snprintf(out, EXPECTED_SIZE, "a string");
        break;
    case OPTION_SECRET:
        snprintf(out, EXPECTED_SIZE, "a string or file:PATH");
        break;
    case OPTION_STRING_LIST:
        snprintf(out, EXPECTED_SIZE, "a list of at most %d strings", OPTION_LIST_MAX);
        break;
    }
}

/* Where a value comes from, for errors and for file: secrets. */
struct origin {
    const struct config *config; /* NULL: environment or default */
    const char *name;            /* of the variable; NULL: default */
    struct err *err;
};

static bool refuse(const struct option *option, const struct origin *origin, const json_t *got)
{
    char expected[EXPECTED_SIZE], what[JSON_DESCRIBE_SIZE];

    expected_of(option, expected);
    json_describe(got, what, sizeof(what));
    if (option->type == OPTION_SECRET && json_is_string(got))
        snprintf(what, sizeof(what), "another one");
    if (origin->config)
        return err_set(origin->err, "%s: %s: expected %s, got %s",
                       config_where(origin->config, option->name), option->name, expected, what);
    return err_set(origin->err, "%s %s: expected %s, got %s",
                   origin->name ? "environment variable" : "default of",
                   origin->name ? origin->name : option->name, expected, what);
}

static bool set_int(const struct option *option, const json_t *value, int64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < option->min ||
        json_integer_value(value) > max_of(option))
        return false;
    *out = json_integer_value(value);
    return true;
}

/* A string, or a number as it was written. */
static const char *text_of(const struct option *option, const json_t *value,
                           const struct origin *origin)
{
    if (json_is_number(value) && origin->config)
        return config_number_text(origin->config, option->name);
    return json_string_value(value);
}

static bool set_secret(const struct option *option, const char *text, char **out,
                       const struct origin *origin)
{
    const char *folder = origin->config ? config_folder(origin->config, option->name) : ".";
    char *secret = config_secret(text, folder, origin->err);

    if (secret) {
        text_set(out, secret);
        return true;
    }
    if (origin->config)
        return err_wrap(origin->err, "%s: %s", config_where(origin->config, option->name),
                        option->name);
    return err_wrap(origin->err, "environment variable %s", origin->name ? origin->name : "?");
}

static bool set_list(const struct option *option, const json_t *value, struct option_list *out)
{
    struct option_list list = {0};
    size_t index;
    json_t *item;
    bool ok = json_is_array(value) && json_array_size(value) <= OPTION_LIST_MAX;

    if (!ok)
        return false;
    json_array_foreach((json_t *)(uintptr_t)value, index, item)
    {
        if (option->type == OPTION_INT_LIST)
            ok = ok && set_int(option, item, &list.numbers[index]);
        else if (json_is_string(item))
            list.strings[index] = xstrdup(json_string_value(item));
        else
            ok = false;
        list.count = index + 1;
    }
    list_release(ok ? out : &list);
    if (ok)
        *out = list;
    return ok;
}

static bool option_set(const struct option *option, void *settings, const json_t *value,
                       const struct origin *origin)
{
    void *at = value_at(option, settings);
    const char *text;
    bool ok = true;

    switch (option->type) {
    case OPTION_INT:
        ok = set_int(option, value, at);
        break;
    case OPTION_BOOL:
        ok = json_is_boolean(value);
        if (ok)
            *(bool *)at = json_is_true(value);
        break;
    case OPTION_STRING:
        text = text_of(option, value, origin);
        ok = text != NULL;
        if (ok)
            text_set(at, xstrdup(text));
        break;
    case OPTION_SECRET:
        text = text_of(option, value, origin);
        if (text)
            return set_secret(option, text, at, origin);
        ok = false;
        break;
    case OPTION_INT_LIST:
    case OPTION_STRING_LIST:
        ok = set_list(option, value, at);
        break;
    }
    return ok || refuse(option, origin, value);
}

/* --- setting from a text (defaults, the environment) ------------------------------------------ */

static json_t *scalar_of(enum option_type type, const char *text)
{
    int64_t number;

    if (type == OPTION_BOOL && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0))
        return json_boolean(*text == 't');
    if ((type == OPTION_INT || type == OPTION_INT_LIST) && str_to_i64(text, strlen(text), &number))
        return json_integer(number);
    return json_string(text);
}

static json_t *list_of(enum option_type type, const char *text)
{
    json_t *list = json_array();

    while (*text) {
        size_t len = strcspn(text, ",");
        char *item = xstrdup(text);

        item[len] = '\0';
        json_array_append_new(list, scalar_of(type, item));
        free(item);
        text += len + (text[len] == ',');
    }
    return list;
}

static bool option_set_text(const struct option *option, void *settings, const char *text,
                            const struct origin *origin)
{
    bool is_list = option->type == OPTION_INT_LIST || option->type == OPTION_STRING_LIST;
    json_t *value = is_list ? list_of(option->type, text) : scalar_of(option->type, text);
    bool ok = option_set(option, settings, value, origin);

    json_decref(value);
    return ok;
}

static bool option_load(const struct option *option, const struct config *config, void *settings,
                        struct err *err)
{
    const char *env = option->env ? getenv(option->env) : NULL;
    const json_t *value = config_get(config, option->name);
    struct origin origin = {.err = err};

    if (value) {
        origin.config = config;
        return option_set(option, settings, value, &origin);
    }
    if (env) {
        origin.name = option->env;
        return option_set_text(option, settings, env, &origin);
    }
    return !option->fallback || option_set_text(option, settings, option->fallback, &origin);
}

bool options_load(const struct option *table, size_t count, const struct config *config,
                  void *settings, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!option_load(&table[i], config, settings, err)) {
            options_release(table, count, settings);
            return false;
        }
    }
    return true;
}

/* --- printing --------------------------------------------------------------------------------- */

static const char *type_name(enum option_type type)
{
    static const char *const names[] = {
        [OPTION_INT] = "integer",       [OPTION_BOOL] = "true or false",
        [OPTION_STRING] = "string",     [OPTION_SECRET] = "secret",
        [OPTION_INT_LIST] = "integers", [OPTION_STRING_LIST] = "strings",
    };

    return names[type];
}

static void print_range(const struct option *option, FILE *out)
{
    if (option->type != OPTION_INT && option->type != OPTION_INT_LIST)
        return;
    if (max_of(option) == INT64_MAX)
        fprintf(out, " from %" PRId64, option->min);
    else
        fprintf(out, " %" PRId64 "..%" PRId64, option->min, option->max);
}

void options_print_help(const struct option *table, size_t count, FILE *out)
{
    for (size_t i = 0; i < count; i++) {
        const struct option *option = &table[i];

        fprintf(out, "  %s (%s", option->name, type_name(option->type));
        print_range(option, out);
        if (option->unit)
            fprintf(out, " %s", option->unit);
        if (option->fallback)
            fprintf(out, ", default %s", *option->fallback ? option->fallback : "empty");
        if (option->env)
            fprintf(out, ", or $%s", option->env);
        fprintf(out, "%s)\n      %s\n", option->is_reloadable ? ", reloadable" : "", option->help);
    }
}

static void put_list(struct buf *out, const struct option *option, const struct option_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            buf_putc(out, ',');
        if (option->type == OPTION_INT_LIST)
            buf_printf(out, "%" PRId64, list->numbers[i]);
        else
            buf_puts(out, list->strings[i]);
    }
}

/* The value as text, secrets too. */
static void put_value(struct buf *out, const struct option *option, const void *settings)
{
    const void *value = const_value_at(option, settings);
    const char *text;

    switch (option->type) {
    case OPTION_INT:
        buf_printf(out, "%" PRId64, *(const int64_t *)value);
        break;
    case OPTION_BOOL:
        buf_puts(out, *(const bool *)value ? "true" : "false");
        break;
    case OPTION_STRING:
    case OPTION_SECRET:
        text = *(char *const *)value;
        buf_puts(out, text ? text : "");
        break;
    case OPTION_INT_LIST:
    case OPTION_STRING_LIST:
        put_list(out, option, value);
        break;
    }
}

static const char *shown(const struct option *option, const struct buf *value)
{
    if (value->len == 0)
        return "";
    return option->type == OPTION_SECRET ? "***" : value->data;
}

void options_print(const struct option *table, size_t count, const void *settings, FILE *out)
{
    for (size_t i = 0; i < count; i++) {
        struct buf value;

        buf_init(&value, VALUE_TEXT_MAX);
        put_value(&value, &table[i], settings);
        fprintf(out, "%s=%s\n", table[i].name, shown(&table[i], &value));
        buf_release(&value);
    }
}

/* --- reloading -------------------------------------------------------------------------------- */

/* Exchanges the option's value between two settings. */
static void option_swap(const struct option *option, void *a, void *b)
{
    static const size_t sizes[] = {
        [OPTION_INT] = sizeof(int64_t),
        [OPTION_BOOL] = sizeof(bool),
        [OPTION_STRING] = sizeof(char *),
        [OPTION_SECRET] = sizeof(char *),
        [OPTION_INT_LIST] = sizeof(struct option_list),
        [OPTION_STRING_LIST] = sizeof(struct option_list),
    };
    char *left = value_at(option, a), *right = value_at(option, b);

    for (size_t i = 0; i < sizes[option->type]; i++) {
        char c = left[i];

        left[i] = right[i];
        right[i] = c;
    }
}

static void option_compare(const struct option *option, void *current, void *fresh,
                           option_changed_fn *changed, void *arg)
{
    struct buf before, after;
    bool is_same;

    buf_init(&before, VALUE_TEXT_MAX);
    buf_init(&after, VALUE_TEXT_MAX);
    put_value(&before, option, current);
    put_value(&after, option, fresh);
    is_same = before.len == after.len &&
              (before.len == 0 || !memcmp(before.data, after.data, before.len));
    if (!is_same) {
        changed(option, shown(option, &before), shown(option, &after), arg);
        if (option->is_reloadable)
            option_swap(option, current, fresh);
    }
    buf_release(&before);
    buf_release(&after);
}

void options_reload(const struct option *table, size_t count, void *current, void *fresh,
                    option_changed_fn *changed, void *arg)
{
    for (size_t i = 0; i < count; i++)
        option_compare(&table[i], current, fresh, changed, arg);
}
