/* SPDX-License-Identifier: Apache-2.0 */
/* Reads YAML through libyaml's events: typed scalars, ${NAME}, positions, and nothing clever. */
#include "common/base/config_yaml.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "common/base/buf.h"
#include "common/base/config.h"
#include "common/base/json.h"

enum { PATH_SIZE_MAX = 4096, VARIABLE_NAME_MAX = 128 };

struct reader {
    yaml_parser_t parser;
    const char *name;
    struct buf path; /* of the value being read */
    int depth;
    config_note_fn *note;
    void *arg;
    struct err *err;
};

static bool fail(struct reader *reader, size_t line, const char *fmt, ...) PRINTF_LIKE(3, 4);
static bool fail(struct reader *reader, size_t line, const char *fmt, ...)
{
    char what[ERR_MESSAGE_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    return err_set(reader->err, "%s:%zu: %s%s%s", reader->name, line,
                   reader->path.len ? reader->path.data : "", reader->path.len ? ": " : "", what);
}

static bool next_event(struct reader *reader, yaml_event_t *event)
{
    const yaml_parser_t *parser = &reader->parser;

    if (yaml_parser_parse(&reader->parser, event))
        return true;
    memset(event, 0, sizeof(*event));
    return fail(reader, parser->problem_mark.line + 1, "column %zu: %s",
                parser->problem_mark.column + 1,
                parser->problem ? parser->problem : "not readable as YAML");
}

static size_t path_push_name(struct reader *reader, const char *name)
{
    size_t before = reader->path.len;

    if (before)
        buf_putc(&reader->path, '.');
    buf_puts(&reader->path, name);
    return before;
}

static size_t path_push_index(struct reader *reader, size_t index)
{
    size_t before = reader->path.len;

    buf_printf(&reader->path, "[%zu]", index);
    return before;
}

static void path_pop(struct reader *reader, size_t before)
{
    reader->path.len = before;
    if (reader->path.data)
        reader->path.data[before] = '\0';
}

static bool is_name_char(char c, bool is_first)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           (!is_first && c >= '0' && c <= '9');
}

/* text stands behind "${"; appends the variable's value and returns the length up to and with "}",
 * or 0. */
static size_t expand_one(struct reader *reader, const char *text, size_t line, struct buf *out)
{
    char name[VARIABLE_NAME_MAX];
    const char *value;
    size_t len = 0;

    while (len < sizeof(name) - 1 && is_name_char(text[len], len == 0)) {
        name[len] = text[len];
        len++;
    }
    name[len] = '\0';
    if (len == 0 || text[len] != '}') {
        fail(reader, line, "expected ${NAME} (write $${ for a plain ${)");
        return 0;
    }
    value = getenv(name);
    if (!value) {
        fail(reader, line, "${%s} is not set in the environment", name);
        return 0;
    }
    buf_puts(out, value);
    return len + 1;
}

/* text has no NUL inside. */
static bool expand(struct reader *reader, const char *text, size_t line, struct buf *out)
{
    while (*text) {
        if (strncmp(text, "$${", 3) == 0) {
            buf_puts(out, "${");
            text += 3;
        } else if (strncmp(text, "${", 2) == 0) {
            size_t used = expand_one(reader, text + 2, line, out);

            if (!used)
                return false;
            text += 2 + used;
        } else {
            buf_putc(out, *text++);
        }
    }
    return !out->is_broken || fail(reader, line, "the value is too long");
}

/* A number by the JSON grammar; all else that YAML 1.1 would call one (0x10, 1_000, 1:30) stays
 * text, so that nobody is surprised. */
static json_t *number_of(const char *text)
{
    json_t *value;

    if (*text != '-' && (*text < '0' || *text > '9'))
        return NULL;
    value = json_parse(text, strlen(text), JSON_READ_STRICT, NULL);
    if (json_is_number(value))
        return value;
    json_decref(value);
    return NULL;
}

static json_t *plain_value(const char *text, bool is_expanded)
{
    json_t *number;

    if (strcmp(text, "true") == 0)
        return json_true();
    if (strcmp(text, "false") == 0)
        return json_false();
    /* What came from the environment is never null: an empty variable is an empty string. */
    if (!is_expanded && (!*text || strcmp(text, "null") == 0 || strcmp(text, "~") == 0))
        return json_null();
    number = number_of(text);
    return number ? number : json_string(text);
}

/* Without anchor and tag. */
static bool is_bare(const yaml_event_t *event)
{
    return !event->data.scalar.anchor && !event->data.scalar.tag;
}

static json_t *read_scalar(struct reader *reader, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t line = event->start_mark.line + 1;
    struct buf expanded;
    const char *full;
    json_t *value = NULL;

    buf_init(&expanded, CONFIG_SIZE_MAX);
    if (!is_bare(event)) {
        fail(reader, line, "anchors and tags are not supported");
        goto done;
    }
    if (strlen(text) != event->data.scalar.length) {
        fail(reader, line, "NUL is not allowed");
        goto done;
    }
    if (!expand(reader, text, line, &expanded))
        goto done;
    full = expanded.data ? expanded.data : "";
    if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        value = plain_value(full, strcmp(full, text) != 0);
    else
        value = json_string(full);
    if (!value) {
        fail(reader, line, "expected valid UTF-8");
    } else if (!reader->note(reader->path.data, line, json_is_number(value) ? full : NULL,
                             reader->arg)) {
        fail(reader, line, "too many values");
        json_decref(value);
        value = NULL;
    }
done:
    buf_release(&expanded);
    return value;
}

static json_t *read_value(struct reader *reader, const yaml_event_t *event);

/* Checks and notes a mapping or sequence that starts. */
static bool enter(struct reader *reader, const yaml_event_t *event, bool has_properties)
{
    size_t line = event->start_mark.line + 1;

    if (has_properties)
        return fail(reader, line, "anchors and tags are not supported");
    if (++reader->depth > JSON_DEPTH_MAX)
        return fail(reader, line, "nested deeper than %d levels", JSON_DEPTH_MAX);
    if (reader->path.is_broken)
        return fail(reader, line, "the names down to here are too long");
    if (reader->path.len && !reader->note(reader->path.data, line, NULL, reader->arg))
        return fail(reader, line, "too many values");
    return true;
}

/* Reads the value of the member whose name is in key. */
static bool read_member(struct reader *reader, const yaml_event_t *key, json_t *object)
{
    size_t line = key->start_mark.line + 1;
    const char *name;
    yaml_event_t event;
    json_t *value = NULL;
    size_t before;
    bool ok;

    if (key->type != YAML_SCALAR_EVENT || !is_bare(key))
        return fail(reader, line, "expected a name, without anchor, alias or tag");
    name = (const char *)key->data.scalar.value;
    if (!*name || strlen(name) != key->data.scalar.length)
        return fail(reader, line, "expected a name that is not empty and has no NUL");
    if (json_object_get(object, name))
        return fail(reader, line, "%s is given twice", name);
    before = path_push_name(reader, name);
    if (next_event(reader, &event))
        value = read_value(reader, &event);
    yaml_event_delete(&event);
    path_pop(reader, before);
    ok = value && json_object_set_new(object, name, value) == 0;
    return ok;
}

static json_t *read_mapping(struct reader *reader, const yaml_event_t *start)
{
    json_t *object = json_object();
    bool ok =
        enter(reader, start, start->data.mapping_start.anchor || start->data.mapping_start.tag);

    while (ok) {
        yaml_event_t event;
        bool is_end;

        ok = next_event(reader, &event);
        is_end = event.type == YAML_MAPPING_END_EVENT;
        ok = ok && (is_end || read_member(reader, &event, object));
        yaml_event_delete(&event);
        if (is_end)
            break;
    }
    reader->depth--;
    if (ok)
        return object;
    json_decref(object);
    return NULL;
}

static bool read_item(struct reader *reader, const yaml_event_t *event, json_t *array)
{
    size_t before = path_push_index(reader, json_array_size(array));
    json_t *value = read_value(reader, event);

    path_pop(reader, before);
    return value && json_array_append_new(array, value) == 0;
}

static json_t *read_sequence(struct reader *reader, const yaml_event_t *start)
{
    json_t *array = json_array();
    bool ok =
        enter(reader, start, start->data.sequence_start.anchor || start->data.sequence_start.tag);

    while (ok) {
        yaml_event_t event;
        bool is_end;

        ok = next_event(reader, &event);
        is_end = event.type == YAML_SEQUENCE_END_EVENT;
        ok = ok && (is_end || read_item(reader, &event, array));
        yaml_event_delete(&event);
        if (is_end)
            break;
    }
    reader->depth--;
    if (ok)
        return array;
    json_decref(array);
    return NULL;
}

static json_t *read_value(struct reader *reader, const yaml_event_t *event)
{
    size_t line = event->start_mark.line + 1;

    if (reader->path.is_broken) {
        fail(reader, line, "the names down to here are too long");
        return NULL;
    }
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return read_scalar(reader, event);
    case YAML_MAPPING_START_EVENT:
        return read_mapping(reader, event);
    case YAML_SEQUENCE_START_EVENT:
        return read_sequence(reader, event);
    default:
        fail(reader, line, "aliases are not supported");
        return NULL;
    }
}

/* The root of the first document: a mapping, or nothing at all. */
static json_t *read_root(struct reader *reader, const yaml_event_t *event)
{
    if (event->type == YAML_MAPPING_START_EVENT)
        return read_mapping(reader, event);
    if (event->type == YAML_SCALAR_EVENT && event->data.scalar.length == 0 && is_bare(event) &&
        event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        return json_object();
    fail(reader, event->start_mark.line + 1, "expected `name: value` lines");
    return NULL;
}

/* Moves past one event of the given type. */
static bool pass(struct reader *reader, yaml_event_type_t type, const char *expected)
{
    yaml_event_t event;
    bool ok = next_event(reader, &event);

    if (ok && event.type != type)
        ok = fail(reader, event.start_mark.line + 1, "expected %s", expected);
    yaml_event_delete(&event);
    return ok;
}

static json_t *read_stream(struct reader *reader)
{
    yaml_event_t event;
    json_t *root = NULL;
    bool is_empty;

    if (!pass(reader, YAML_STREAM_START_EVENT, "a stream"))
        return NULL;
    if (!next_event(reader, &event))
        return NULL;
    is_empty = event.type == YAML_STREAM_END_EVENT;
    yaml_event_delete(&event);
    if (is_empty)
        return json_object();
    if (next_event(reader, &event))
        root = read_root(reader, &event);
    yaml_event_delete(&event);
    if (root && pass(reader, YAML_DOCUMENT_END_EVENT, "the end of the document") &&
        pass(reader, YAML_STREAM_END_EVENT, "one document only"))
        return root;
    json_decref(root);
    return NULL;
}

json_t *config_yaml_read(const char *name, const char *text, size_t len, config_note_fn *note,
                         void *arg, struct err *err)
{
    struct reader reader = {.name = name, .note = note, .arg = arg, .err = err};
    json_t *root;

    if (!yaml_parser_initialize(&reader.parser)) {
        err_set(err, "%s: read YAML: out of memory", name);
        return NULL;
    }
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, len);
    buf_init(&reader.path, PATH_SIZE_MAX);
    root = read_stream(&reader);
    buf_release(&reader.path);
    yaml_parser_delete(&reader.parser);
    return root;
}
