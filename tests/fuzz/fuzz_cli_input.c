/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a batch and text of the server: bodies parse, rows go forward, nothing drives a
 * terminal.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "producer/cli/batch_input.h"
#include "producer/cli/csv_rows.h"
#include "producer/cli/output.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct batch_defaults defaults = {
    .name = "", .model = "fast", .workflow = "wf", .priority = "low"};

static void check_line(const char *text, size_t len)
{
    struct err err = {0};
    struct buf body, line;

    buf_init(&body, BATCH_LINE_MAX);
    buf_init(&line, BATCH_LINE_MAX);
    if (batch_body_of_json(text, len, &defaults, &body, &err)) {
        json_t *root;

        if (!batch_add_key("", 1, &body, &line, &err))
            abort();
        root = json_parse(line.data, line.len, JSON_READ_STRICT, &err);
        if (!json_object_get(root, "idempotency_key") || !json_object_get(root, "request"))
            abort();
        json_decref(root);
    } else if (!*err.message) {
        abort();
    }
    buf_release(&line);
    buf_release(&body);
}

/* Broken rows are passed, and none is read twice. */
static void check_rows(const char *text, size_t len)
{
    FILE *file = fmemopen((void *)(uintptr_t)text, len, "r");
    struct csv_rows *rows = file ? csv_rows_new(file) : NULL;
    struct csv_row row;
    struct err err = {0};
    int64_t last = 0;

    while (rows && csv_rows_next(rows, &row, &err) != CSV_NO_MORE) {
        if (row.line <= last)
            abort();
        last = row.line;
    }
    csv_rows_free(rows);
    if (file)
        fclose(file);
}

static void check_escape(const char *text, size_t len)
{
    struct buf out;

    buf_init(&out, 1 << 24);
    if (!output_escape(&out, text, len, true))
        abort();
    for (size_t i = 0; i < out.len; i++)
        if ((unsigned char)out.data[i] < 0x20 || out.data[i] == 0x7f)
            abort();
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;

    if (size == 0)
        return 0;
    check_line(text, size);
    check_rows(text, size);
    check_escape(text, size);
    return 0;
}
