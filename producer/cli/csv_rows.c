/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a CSV file, one at a time; a broken row costs only itself. */
#include "producer/cli/csv_rows.h"

#include <csv.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/buf.h"
#include "common/base/str.h"

/* A line of the file that the present row has taken, or that must be read again. */
struct text_line {
    char *text;
    size_t len;
    int64_t number;
    TAILQ_ENTRY(text_line) link;
};
TAILQ_HEAD(line_list, text_line);

struct csv_rows {
    FILE *file;
    struct csv_parser parser;
    bool is_open; /* parser is */
    int64_t last_number;
    struct line_list taken; /* by the row that is being read */
    struct line_list again; /* before the file goes on */
    size_t taken_bytes;
    char *cells[CSV_CELLS_MAX];
    int count;
    bool is_whole; /* the row's end was seen */
    bool is_over;  /* too many cells */
};

static int never_space(unsigned char c)
{
    (void)c;
    return 0;
}

static void parser_open(struct csv_rows *rows)
{
    if (rows->is_open)
        csv_free(&rows->parser);
    if (csv_init(&rows->parser, CSV_STRICT | CSV_STRICT_FINI | CSV_APPEND_NULL) != 0)
        abort();
    /* White space belongs to a cell. */
    csv_set_space_func(&rows->parser, never_space);
    rows->is_open = true;
}

struct csv_rows *csv_rows_new(FILE *file)
{
    struct csv_rows *rows = xcalloc(1, sizeof(*rows));

    rows->file = file;
    TAILQ_INIT(&rows->taken);
    TAILQ_INIT(&rows->again);
    return rows;
}

static void drop_cells(struct csv_rows *rows)
{
    for (int i = 0; i < rows->count; i++)
        free(rows->cells[i]);
    rows->count = 0;
    rows->is_over = false;
}

static void drop_lines(struct line_list *list)
{
    struct text_line *line;

    while ((line = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, line, link);
        free(line->text);
        free(line);
    }
}

void csv_rows_free(struct csv_rows *rows)
{
    if (!rows)
        return;
    if (rows->is_open)
        csv_free(&rows->parser);
    drop_cells(rows);
    drop_lines(&rows->taken);
    drop_lines(&rows->again);
    free(rows);
}

/* --- lines ------------------------------------------------------------------------------------ */

static struct text_line *next_line(struct csv_rows *rows)
{
    struct text_line *line = TAILQ_FIRST(&rows->again);
    size_t cap = 0;
    ssize_t len;

    if (line) {
        TAILQ_REMOVE(&rows->again, line, link);
        return line;
    }
    line = xcalloc(1, sizeof(*line));
    len = getline(&line->text, &cap, rows->file);
    if (len < 0) {
        free(line->text);
        free(line);
        return NULL;
    }
    line->len = (size_t)len;
    line->number = ++rows->last_number;
    if (line->number == 1 && len >= 3 && memcmp(line->text, "\xef\xbb\xbf", 3) == 0) {
        memmove(line->text, line->text + 3, line->len - 3 + 1);
        line->len -= 3;
    }
    return line;
}

/* All lines of the row but the first come again. */
static void push_back(struct csv_rows *rows)
{
    struct text_line *first = TAILQ_FIRST(&rows->taken), *line;

    if (first) {
        TAILQ_REMOVE(&rows->taken, first, link);
        free(first->text);
        free(first);
    }
    while ((line = TAILQ_LAST(&rows->taken, line_list)) != NULL) {
        TAILQ_REMOVE(&rows->taken, line, link);
        TAILQ_INSERT_HEAD(&rows->again, line, link);
    }
}

/* --- rows ------------------------------------------------------------------------------------- */

static void on_cell(void *text, size_t len, void *arg)
{
    struct csv_rows *rows = arg;
    char *copy;

    if (rows->count == CSV_CELLS_MAX) {
        rows->is_over = true;
        return;
    }
    copy = xcalloc(len + 1, 1);
    if (len > 0)
        memcpy(copy, text, len);
    rows->cells[rows->count++] = copy;
}

static void on_row(int end, void *arg)
{
    struct csv_rows *rows = arg;

    (void)end;
    rows->is_whole = true;
}

static enum csv_outcome broken(struct csv_rows *rows, struct csv_row *row, const char *why,
                               struct err *err)
{
    row->line = TAILQ_FIRST(&rows->taken)->number;
    err_set(err, "%s", why);
    push_back(rows);
    drop_cells(rows);
    return CSV_BROKEN;
}

/* Takes lines until the row is whole; NULL, or what is wrong with it.  *is_end: there was none. */
static const char *take_row(struct csv_rows *rows, bool *is_end)
{
    struct text_line *line;

    while (!rows->is_whole) {
        line = next_line(rows);
        if (!line) {
            *is_end = TAILQ_EMPTY(&rows->taken);
            if (csv_fini(&rows->parser, on_cell, on_row, rows) != 0)
                return "a quote is never closed";
            *is_end = !rows->is_whole;
            return NULL;
        }
        TAILQ_INSERT_TAIL(&rows->taken, line, link);
        rows->taken_bytes += line->len;
        if (rows->taken_bytes > CSV_ROW_MAX)
            return "the row is longer than 16 MiB";
        if (memchr(line->text, '\0', line->len))
            return "there is a NUL byte in it";
        if (csv_parse(&rows->parser, line->text, line->len, on_cell, on_row, rows) != line->len)
            return "a quote where none may be (write \"\" for one, and quotes around the cell)";
        if (line == TAILQ_FIRST(&rows->taken) && strspn(line->text, "\r\n") == line->len)
            drop_lines(&rows->taken); /* blank, and not in the middle of a quoted cell */
    }
    return NULL;
}

enum csv_outcome csv_rows_next(struct csv_rows *rows, struct csv_row *row, struct err *err)
{
    bool is_end = false;
    const char *why;

    drop_cells(rows);
    drop_lines(&rows->taken);
    rows->taken_bytes = 0;
    rows->is_whole = false;
    parser_open(rows);
    why = take_row(rows, &is_end);
    if (why)
        return broken(rows, row, why, err);
    if (is_end || TAILQ_EMPTY(&rows->taken))
        return CSV_NO_MORE;
    if (rows->is_over)
        return broken(rows, row, "more than 256 cells", err);
    row->line = TAILQ_FIRST(&rows->taken)->number;
    row->cells = rows->cells;
    row->count = rows->count;
    return CSV_ROW;
}
