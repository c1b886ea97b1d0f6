/* SPDX-License-Identifier: Apache-2.0 */
/* JSON lists and objects as tables, records and CSV, by a description of their columns. */
#include "producer/cli/listing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "producer/cli/admin_path.h"
#include "producer/cli/csv_write.h"
#include "producer/cli/table.h"

enum { TEXT_MAX = 512 * 1024 * 1024 };

const json_t *field_value(const json_t *object, const char *path)
{
    while (object && *path) {
        size_t len = strcspn(path, ".");
        char name[64];

        if (len >= sizeof(name))
            return NULL;
        memcpy(name, path, len);
        name[len] = '\0';
        object = json_object_get(object, name);
        path += len + (path[len] == '.');
    }
    return json_is_null(object) ? NULL : object;
}

static void put_ms(struct buf *out, int64_t ms)
{
    int64_t s = ms / 1000;

    if (ms < 1000)
        buf_printf(out, "%" PRId64 " ms", ms);
    else if (s < 60)
        buf_printf(out, "%" PRId64 ".%" PRId64 " s", s, ms % 1000 / 100);
    else if (s < 3600)
        buf_printf(out, "%" PRId64 "m %02" PRId64 "s", s / 60, s % 60);
    else
        buf_printf(out, "%" PRId64 "h %02" PRId64 "m", s / 3600, s / 60 % 60);
}

/* "2026-11-21T03:04:05.678Z" as "2026-11-21 03:04:05". */
static void put_time(struct buf *out, const char *text)
{
    if (strlen(text) < 20 || text[10] != 'T')
        buf_puts(out, text);
    else
        buf_printf(out, "%.10s %.8s", text, text + 11);
}

/* Zeros at the end say nothing; two places stay. */
static void put_money(struct buf *out, const char *text)
{
    const char *point = strchr(text, '.');
    size_t len = strlen(text);

    while (point && len > (size_t)(point - text) + 3 && text[len - 1] == '0')
        len--;
    buf_printf(out, "$%.*s", (int)len, text);
}

static void put_plain(struct buf *out, const json_t *value)
{
    char *text;

    if (json_is_string(value)) {
        buf_append(out, json_string_value(value), json_string_length(value));
        return;
    }
    if (json_is_integer(value)) {
        buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return;
    }
    if (json_is_boolean(value)) {
        buf_puts(out, json_is_true(value) ? "yes" : "no");
        return;
    }
    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            buf_puts(out, i ? "," : "");
            put_plain(out, json_array_get(value, i));
        }
        return;
    }
    text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    buf_puts(out, text ? text : "");
    free(text);
}

void field_format(const json_t *object, const struct field *field, struct buf *out)
{
    const json_t *value = field_value(object, field->path);

    if (!value)
        return;
    if (field->kind == FIELD_MONEY && json_is_string(value))
        put_money(out, json_string_value(value));
    else if (field->kind == FIELD_TIME && json_is_string(value))
        put_time(out, json_string_value(value));
    else if (field->kind == FIELD_MS && json_is_integer(value))
        put_ms(out, json_integer_value(value));
    else
        put_plain(out, value);
}

/* --- a list ----------------------------------------------------------------------------------- */

static void show_csv(const json_t *array, const struct field *fields)
{
    struct buf out, cell;
    size_t i;
    const json_t *object;

    buf_init(&out, TEXT_MAX);
    buf_init(&cell, TEXT_MAX);
    for (int c = 0; fields[c].path; c++)
        csv_put(&out, fields[c].path, strlen(fields[c].path), c == 0);
    csv_end_row(&out);
    json_array_foreach(array, i, object)
    {
        for (int c = 0; fields[c].path; c++) {
            const json_t *value = field_value(object, fields[c].path);

            buf_clear(&cell);
            if (json_is_boolean(value))
                buf_puts(&cell, json_is_true(value) ? "true" : "false");
            else if (value)
                put_plain(&cell, value);
            csv_put(&out, cell.len ? cell.data : "", cell.len, c == 0);
        }
        csv_end_row(&out);
    }
    fwrite(out.data, 1, out.len, stdout);
    buf_release(&cell);
    buf_release(&out);
}

static void show_table(const struct cli *cli, const json_t *array, const struct field *fields)
{
    struct table_column columns[TABLE_COLUMNS_MAX];
    struct table *table;
    struct buf text;
    const json_t *object;
    size_t i;
    int count = 0;

    for (; count < TABLE_COLUMNS_MAX && fields[count].path; count++)
        columns[count] = (struct table_column){
            .title = fields[count].title,
            .is_right = fields[count].kind == FIELD_NUMBER || fields[count].kind == FIELD_MONEY ||
                        fields[count].kind == FIELD_MS,
            .is_flexible = fields[count].is_flexible,
            .is_optional = fields[count].is_flexible || fields[count].is_optional};
    table = table_new(columns, count);
    buf_init(&text, TEXT_MAX);
    json_array_foreach(array, i, object)
    {
        for (int c = 0; c < count; c++) {
            buf_clear(&text);
            field_format(object, &fields[c], &text);
            table_add(table, text.len ? text.data : "");
        }
    }
    buf_clear(&text);
    table_print(table, cli->out.width, output_style(&cli->out, STYLE_BOLD),
                output_style(&cli->out, STYLE_PLAIN), &text);
    if (text.len)
        fwrite(text.data, 1, text.len, stdout);
    buf_release(&text);
    table_free(table);
}

void listing_show(const struct cli *cli, const json_t *array, const struct field *fields)
{
    if (cli->out.is_csv)
        show_csv(array, fields);
    else if (json_array_size(array) > 0)
        show_table(cli, array, fields);
    else if (cli->out.is_terminal)
        puts("(none)");
}

void listing_record(const struct cli *cli, const json_t *object, const struct field *fields)
{
    struct buf text, safe;
    int widest = 0;

    buf_init(&text, TEXT_MAX);
    buf_init(&safe, TEXT_MAX);
    for (int i = 0; fields[i].path; i++)
        if (field_value(object, fields[i].path) && (int)strlen(fields[i].title) > widest)
            widest = (int)strlen(fields[i].title);
    for (int i = 0; fields[i].path; i++) {
        buf_clear(&text);
        buf_clear(&safe);
        field_format(object, &fields[i], &text);
        if (text.len == 0)
            continue;
        output_escape(&safe, text.data, text.len, true);
        printf("%s%-*s%s  %s\n", output_style(&cli->out, STYLE_DIM), widest, fields[i].title,
               output_style(&cli->out, STYLE_PLAIN), safe.data);
    }
    buf_release(&safe);
    buf_release(&text);
}

/* --- asked of the server ---------------------------------------------------------------------- */

static const json_t *last_of(const json_t *array)
{
    size_t count = json_array_size(array);

    return count ? json_array_get(array, count - 1) : NULL;
}

int listing_get(struct cli *cli, enum api_who who, const char *path, const struct field *fields)
{
    const struct api_request request = {.who = who, .method = "GET", .path = path};
    json_t *list = NULL;
    int code = api_json(cli, &request, &list);

    if (list)
        listing_show(cli, json_object_get(list, "data"), fields);
    if (json_is_true(json_object_get(list, "has_more")) && !cli->out.is_csv)
        fprintf(stderr, "(there are more: --after %s)\n",
                json_string_or_null(last_of(json_object_get(list, "data")), "id"));
    json_decref(list);
    return code;
}

int listing_of(struct cli *cli, const char *pattern, const struct field *fields)
{
    struct buf path;
    int code;

    admin_path(&path, pattern, cli->arguments);
    code = listing_get(cli, WHO_ADMIN, path.data, fields);
    buf_release(&path);
    return code;
}

int listing_post(struct cli *cli, const char *method, const char *path, json_t *body,
                 const struct field *fields)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    const struct api_request request = {.who = WHO_ADMIN,
                                        .method = method,
                                        .path = path,
                                        .body = text,
                                        .body_len = text ? strlen(text) : 0};
    json_t *object = NULL;
    int code = api_json(cli, &request, &object);

    if (object)
        listing_record(cli, object, fields);
    json_decref(object);
    json_decref(body);
    free(text);
    return code;
}
