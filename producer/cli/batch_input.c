/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a batch's file, NDJSON or CSV, as lines of a bulk upload. */
#include "producer/cli/batch_input.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "producer/cli/csv_rows.h"
#include "producer/cli/request.h"

enum { KEY_BYTES = 20, KEY_SIZE = 64, VALUE_SIZE = 64 };

#define WHOLE_MAX 9007199254740992.0 /* 2^53: below it doubles tell all whole numbers apart */

struct batch_input {
    FILE *file;
    struct batch_defaults defaults;
    struct csv_rows *rows; /* CSV */
    char *columns[CSV_CELLS_MAX];
    int column_count;
    char *text; /* getline's */
    size_t text_cap;
    int64_t number;
};

/* --- a prompt and named values ---------------------------------------------------------------- */

/* Everything that stands in a body beside the prompt has a default from the command line. */
static bool put_defaults(json_t *body, const struct batch_defaults *defaults, struct err *err)
{
    const char *const pairs[][2] = {{"max_tokens", defaults->max_tokens},
                                    {"workflow", defaults->workflow},
                                    {"priority", defaults->priority}};

    for (int i = 0; i < 3; i++)
        if (pairs[i][1] && !request_put(body, pairs[i][0], pairs[i][1], err))
            return false;
    return true;
}

static json_t *begin_body(const struct batch_defaults *defaults, const char *model,
                          const char *system, const char *prompt, struct err *err)
{
    json_t *body;

    if (!model)
        model = defaults->model;
    if (!model) {
        err_set(err, "there is no model in it (--model gives one to all)");
        return NULL;
    }
    body = request_body(model, system ? system : defaults->system, prompt, err);
    if (body && put_defaults(body, defaults, err))
        return body;
    json_decref(body);
    return NULL;
}

static bool dump(json_t *body, struct buf *out, struct err *err)
{
    char *text = json_dumps(body, JSON_COMPACT);
    bool ok = text && buf_puts(out, text);

    free(text);
    return ok || err_set(err, "the line is longer than %d bytes", BATCH_LINE_MAX);
}

/* --- NDJSON ----------------------------------------------------------------------------------- */

/* A number as text: a whole one that is written as a real (5.0) as a whole one, all others as they
 * are written, since the money of 0.1 has one place and the double next to it has seventeen. */
static bool write_number(const json_t *value, const struct json_slice *source, char out[VALUE_SIZE])
{
    double real = json_number_value(value);

    if (json_is_real(value) && real > -WHOLE_MAX && real < WHOLE_MAX &&
        real == (double)(int64_t)real)
        return snprintf(out, VALUE_SIZE, "%" PRId64, (int64_t)real) < VALUE_SIZE;
    return snprintf(out, VALUE_SIZE, "%.*s", (int)source->len, source->text) < VALUE_SIZE;
}

/* A member of the short form: texts and numbers as they are, `metadata` whole. */
static bool put_member(json_t *body, const char *name, json_t *value,
                       const struct json_slice *source, struct err *err)
{
    char number[VALUE_SIZE];

    if (json_is_null(value))
        return true;
    if (strcmp(name, "metadata") == 0)
        return (json_is_object(value) && json_object_set(body, name, value) == 0) ||
               err_set(err, "metadata: expected an object");
    if (json_is_string(value))
        return request_put(body, name, json_string_value(value), err);
    if (!json_is_number(value))
        return err_set(err, "%.64s: expected a text or a number", name);
    if (!write_number(value, source, number))
        return err_set(err, "%.64s: the number is over %d characters", name, VALUE_SIZE - 1);
    return request_put(body, name, number, err);
}

static const char *member_value(const char *name, void *arg)
{
    return json_string_or_null(arg, name);
}

/* {"prompt": ..., "model": ..., ...}, or any members with a template. */
static bool short_form(const char *text, size_t len, json_t *root,
                       const struct batch_defaults *defaults, struct buf *out, struct err *err)
{
    const char *name, *prompt = json_string_or_null(root, "prompt");
    char *made = NULL;
    json_t *body = NULL, *value;
    struct json_slice source;
    bool ok = false;

    if (defaults->prompt_template) {
        made = request_template(defaults->prompt_template, member_value, root, err);
        prompt = made;
        if (!made)
            goto done;
    }
    if (!prompt) {
        err_set(err, "expected a submit body with `request`, or a text `prompt`");
        goto done;
    }
    body = begin_body(defaults, json_string_or_null(root, "model"),
                      json_string_or_null(root, "system"), prompt, err);
    ok = body != NULL;
    json_object_foreach(root, name, value)
    {
        if (!ok || strcmp(name, "prompt") == 0 || strcmp(name, "system") == 0 ||
            strcmp(name, "model") == 0)
            continue;
        if (defaults->prompt_template && !request_knows(name) && strcmp(name, "metadata") != 0)
            continue;
        ok = json_member_slice(text, len, name, &source) &&
             put_member(body, name, value, &source, err);
    }
    ok = ok && dump(body, out, err);
done:
    json_decref(body);
    free(made);
    return ok;
}

/* A text as JSON; the caller frees.  NULL for NULL. */
static char *quote(const char *text)
{
    json_t *string = text ? json_string(text) : NULL;
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;

    json_decref(string);
    return quoted;
}

/* A submit body keeps its bytes; what is missing is spliced in. */
static bool whole_form(const char *text, size_t len, const json_t *root,
                       const struct batch_defaults *defaults, struct buf *out, struct err *err)
{
    const json_t *request_object = json_object_get(root, "request");
    char *model = quote(json_object_get(request_object, "model") ? NULL : defaults->model);
    char *workflow = quote(json_object_get(root, "workflow") ? NULL : defaults->workflow);
    char *priority = quote(json_object_get(root, "priority") ? NULL : defaults->priority);
    struct json_edit edits[3];
    struct json_slice slice;
    struct buf request;
    size_t count = 0;
    bool ok = true;

    buf_init(&request, BATCH_LINE_MAX);
    if (model && json_is_object(request_object) &&
        json_member_slice(text, len, "request", &slice)) {
        const struct json_edit edit = {"model", model};

        ok = json_splice(slice.text, slice.len, &edit, 1, &request, err);
        edits[count++] = (struct json_edit){"request", request.data};
    }
    if (workflow)
        edits[count++] = (struct json_edit){"workflow", workflow};
    if (priority)
        edits[count++] = (struct json_edit){"priority", priority};
    ok = ok && json_splice(text, len, edits, count, out, err);
    buf_release(&request);
    free(model);
    free(workflow);
    free(priority);
    return ok;
}

static const char line_1[] = "line 1, ";

bool batch_body_of_json(const char *text, size_t len, const struct batch_defaults *defaults,
                        struct buf *out, struct err *err)
{
    json_t *root = json_parse(text, len, JSON_READ_STRICT, err);
    bool ok = false;

    if (!root) {
        /* The file's line is told by the caller; here there is but one. */
        if (strncmp(err->message, line_1, sizeof(line_1) - 1) == 0)
            memmove(err->message, err->message + sizeof(line_1) - 1,
                    strlen(err->message + sizeof(line_1) - 1) + 1);
        return false;
    }
    if (!json_is_object(root))
        err_set(err, "expected a JSON object");
    else if (json_object_get(root, "request"))
        ok = whole_form(text, len, root, defaults, out, err);
    else
        ok = short_form(text, len, root, defaults, out, err);
    json_decref(root);
    return ok;
}

/* --- CSV -------------------------------------------------------------------------------------- */

static const char *const special[] = {"prompt", "system", "model"};

struct row_view {
    const struct batch_input *input;
    const struct csv_row *row;
};

static const char *cell_value(const char *name, void *arg)
{
    const struct row_view *view = arg;

    for (int i = 0; i < view->input->column_count && i < view->row->count; i++)
        if (strcmp(view->input->columns[i], name) == 0)
            return view->row->cells[i];
    return NULL;
}

/* An empty cell is one that says nothing. */
static const char *said(const char *name, struct row_view *view)
{
    const char *value = cell_value(name, view);

    return value && *value ? value : NULL;
}

static bool is_special(const char *name)
{
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++)
        if (strcmp(special[i], name) == 0)
            return true;
    return false;
}

/* With a template columns are free: those that name a member are taken, others only fill it. */
static bool put_cells(json_t *body, struct row_view *view, struct err *err)
{
    for (int i = 0; i < view->row->count; i++) {
        const char *name = view->input->columns[i];

        if (is_special(name) || !*view->row->cells[i])
            continue;
        if (view->input->defaults.prompt_template && !request_knows(name))
            continue;
        if (!request_put(body, name, view->row->cells[i], err))
            return false;
    }
    return true;
}

static bool body_of_row(struct row_view *view, struct buf *out, struct err *err)
{
    const struct batch_defaults *defaults = &view->input->defaults;
    char *made = NULL;
    const char *prompt = said("prompt", view);
    json_t *body = NULL;
    bool ok = false;

    if (view->row->count != view->input->column_count)
        return err_set(err, "expected %d cells as in the header, got %d", view->input->column_count,
                       view->row->count);
    if (defaults->prompt_template) {
        made = request_template(defaults->prompt_template, cell_value, view, err);
        if (!made)
            return false;
        prompt = made;
    }
    if (!prompt)
        err_set(err, "the prompt is empty");
    else
        body = begin_body(defaults, said("model", view), said("system", view), prompt, err);
    ok = body && put_cells(body, view, err) && dump(body, out, err);
    json_decref(body);
    free(made);
    return ok;
}

/* Names of columns are checked once, before anything is sent. */
static bool check_columns(const struct batch_input *input, struct err *err)
{
    bool has_prompt = input->defaults.prompt_template != NULL;

    for (int i = 0; i < input->column_count; i++) {
        json_t *body = json_pack("{s:{}}", "request");
        const char *name = input->columns[i];
        bool ok = is_special(name) || input->defaults.prompt_template ||
                  request_put(body, name, "1", err);

        has_prompt |= strcmp(name, "prompt") == 0;
        json_decref(body);
        for (int k = 0; ok && k < i; k++)
            if (strcmp(input->columns[k], name) == 0)
                ok = err_set(err, "two columns are called \"%.64s\"", name);
        if (!ok)
            return err_wrap(err, "header");
    }
    return has_prompt || err_set(err, "header: there is no column `prompt` (or give a --template)");
}

static bool read_header(struct batch_input *input, struct err *err)
{
    struct csv_row row;

    switch (csv_rows_next(input->rows, &row, err)) {
    case CSV_NO_MORE:
        return err_set(err, "the file is empty");
    case CSV_BROKEN:
        return err_wrap(err, "header, line %" PRId64, row.line);
    case CSV_ROW:
        break;
    }
    for (int i = 0; i < row.count; i++)
        input->columns[input->column_count++] = xstrdup(row.cells[i]);
    return check_columns(input, err);
}

/* --- lines ------------------------------------------------------------------------------------ */

struct batch_input *batch_input_open(const char *path, const struct batch_defaults *defaults,
                                     struct err *err)
{
    struct batch_input *input = xcalloc(1, sizeof(*input));

    input->defaults = *defaults;
    input->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    if (!input->file) {
        err_set(err, "%s: %s", path, strerror(errno));
    } else if (!defaults->is_csv) {
        return input;
    } else {
        input->rows = csv_rows_new(input->file);
        if (read_header(input, err))
            return input;
        err_wrap(err, "%s", path);
    }
    batch_input_free(input);
    return NULL;
}

void batch_input_free(struct batch_input *input)
{
    if (!input)
        return;
    csv_rows_free(input->rows);
    for (int i = 0; i < input->column_count; i++)
        free(input->columns[i]);
    if (input->file && input->file != stdin)
        fclose(input->file);
    free(input->text);
    free(input);
}

bool batch_add_key(const char *name, int64_t number, const struct buf *body, struct buf *out,
                   struct err *err)
{
    struct json_edit edit = {"idempotency_key", NULL};
    uint8_t digest[SHA256_SIZE];
    char key[KEY_SIZE] = "\"batch_", prefix[64];
    struct json_slice slice;
    struct buf seed;

    if (json_member_slice(body->data, body->len, edit.name, &slice))
        return buf_append(out, body->data, body->len);
    buf_init(&seed, BATCH_LINE_MAX + 4096UL);
    snprintf(prefix, sizeof(prefix), "\n%" PRId64 "\n", number);
    buf_puts(&seed, name);
    buf_puts(&seed, prefix);
    buf_append(&seed, body->data, body->len);
    crypto_sha256(seed.data, seed.len, digest);
    buf_release(&seed);
    str_hex(digest, KEY_BYTES, key + strlen(key));
    key[strlen(key) + 1] = '\0';
    key[strlen(key)] = '"';
    edit.value = key;
    return json_splice(body->data, body->len, &edit, 1, out, err);
}

/* A line break inside a body (JSON may have it between tokens) would end the upload's line. */
static bool take_body(const struct batch_input *input, struct batch_line *line, struct buf *body)
{
    return batch_add_key(input->defaults.name, line->number, body, line->body, &line->err);
}

static bool next_csv(struct batch_input *input, struct batch_line *line, struct buf *body)
{
    struct csv_row row;
    struct row_view view = {input, &row};
    enum csv_outcome outcome = csv_rows_next(input->rows, &row, &line->err);

    if (outcome == CSV_NO_MORE)
        return false;
    line->number = row.line;
    line->is_bad = outcome == CSV_BROKEN || !body_of_row(&view, body, &line->err) ||
                   !take_body(input, line, body);
    return true;
}

static bool next_json(struct batch_input *input, struct batch_line *line, struct buf *body)
{
    ssize_t len;

    do {
        len = getline(&input->text, &input->text_cap, input->file);
        if (len < 0)
            return false;
        input->number++;
    } while (strspn(input->text, " \t\r\n") == (size_t)len);
    while (len > 0 && (input->text[len - 1] == '\n' || input->text[len - 1] == '\r'))
        input->text[--len] = '\0';
    line->number = input->number;
    if (len > BATCH_LINE_MAX / 2)
        line->is_bad = !err_set(&line->err, "the line is longer than %d bytes", BATCH_LINE_MAX / 2);
    else
        line->is_bad =
            !batch_body_of_json(input->text, (size_t)len, &input->defaults, body, &line->err) ||
            !take_body(input, line, body);
    return true;
}

bool batch_input_next(struct batch_input *input, struct batch_line *line, struct err *err)
{
    struct buf body;
    bool is_there;

    err_clear(err);
    err_clear(&line->err);
    buf_init(&body, BATCH_LINE_MAX);
    buf_clear(line->body);
    is_there = input->rows ? next_csv(input, line, &body) : next_json(input, line, &body);
    buf_release(&body);
    if (!is_there && ferror(input->file))
        err_set(err, "reading: %s", strerror(errno));
    return is_there;
}
