/* SPDX-License-Identifier: Apache-2.0 */
/* Tables for people: columns that fit the window, or records where it is too narrow.  Pure. */
#include "producer/cli/table.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "common/base/buf.h"
#include "common/base/str.h"
#include "producer/cli/output.h"

enum { GAP = 2 };

static const char ellipsis[] = "\xe2\x80\xa6";

struct table {
    struct table_column columns[TABLE_COLUMNS_MAX];
    int column_count;
    char **cells;
    size_t cell_count, cell_cap;
};

struct table *table_new(const struct table_column *columns, int count)
{
    struct table *table = xcalloc(1, sizeof(*table));

    if (count > TABLE_COLUMNS_MAX)
        count = TABLE_COLUMNS_MAX;
    memcpy(table->columns, columns, (size_t)count * sizeof(*columns));
    table->column_count = count;
    return table;
}

void table_free(struct table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->cell_count; i++)
        free(table->cells[i]);
    free(table->cells);
    free(table);
}

void table_add(struct table *table, const char *text)
{
    struct buf cell;

    if (table->cell_count == table->cell_cap) {
        size_t cap = table->cell_cap ? table->cell_cap * 2 : 64;
        char **cells = xcalloc(cap, sizeof(*cells));

        if (table->cells)
            memcpy(cells, table->cells, table->cell_count * sizeof(*cells));
        free(table->cells);
        table->cells = cells;
        table->cell_cap = cap;
    }
    buf_init(&cell, SIZE_MAX / 2);
    output_escape(&cell, text, strlen(text), true);
    table->cells[table->cell_count++] = xstrdup(cell.len ? cell.data : "");
    buf_release(&cell);
}

int table_rows(const struct table *table)
{
    return (int)(table->cell_count / (size_t)table->column_count);
}

/* --- widths ----------------------------------------------------------------------------------- */

/* The next character: its bytes, and its columns (0 for combining ones). */
static size_t next_char(const char *text, size_t len, int *columns)
{
    mbstate_t state = {0};
    wchar_t wide = L'\0';
    size_t size = mbrtowc(&wide, text, len, &state);

    if (size == 0 || size > len) { /* no character of this locale: a byte is a column */
        *columns = 1;
        return 1;
    }
    *columns = wcwidth(wide);
    if (*columns < 0)
        *columns = 1;
    return size;
}

int text_width(const char *text, size_t len)
{
    int width = 0, columns;

    for (size_t at = 0; at < len; width += columns)
        at += next_char(text + at, len - at, &columns);
    return width;
}

size_t text_prefix(const char *text, size_t len, int columns)
{
    size_t at = 0;

    while (at < len) {
        int width;
        size_t size = next_char(text + at, len - at, &width);

        if (width > columns)
            break;
        columns -= width;
        at += size;
    }
    return at;
}

/* Which columns are shown, and how wide. */
struct layout {
    int columns[TABLE_COLUMNS_MAX];
    int widths[TABLE_COLUMNS_MAX]; /* by column of the table */
    int count;
};

/* Optional columns in which nothing stands are left out where there is not all the room. */
static void measure(const struct table *table, bool hides_empty, struct layout *layout)
{
    bool is_used[TABLE_COLUMNS_MAX] = {false};

    memset(layout, 0, sizeof(*layout));
    for (int c = 0; c < table->column_count; c++) {
        const char *title = table->columns[c].title;

        layout->widths[c] = text_width(title, strlen(title));
    }
    for (size_t i = 0; i < table->cell_count; i++) {
        int c = (int)(i % (size_t)table->column_count);
        int width = text_width(table->cells[i], strlen(table->cells[i]));

        is_used[c] |= width > 0;
        if (width > layout->widths[c])
            layout->widths[c] = width;
    }
    for (int c = 0; c < table->column_count; c++)
        if (is_used[c] || !hides_empty || !table->columns[c].is_optional)
            layout->columns[layout->count++] = c;
}

static int total(const struct layout *layout)
{
    int sum = GAP * (layout->count - 1);

    for (int i = 0; i < layout->count; i++)
        sum += layout->widths[layout->columns[i]];
    return sum;
}

/* Takes from the widest flexible column until all fits.  False: it cannot. */
static bool shrink(const struct table *table, struct layout *layout, int width)
{
    for (int over = total(layout) - width; over > 0; over--) {
        int widest = -1;

        for (int i = 0; i < layout->count; i++) {
            int c = layout->columns[i];

            if (table->columns[c].is_flexible && layout->widths[c] > TABLE_CELL_MIN &&
                (widest < 0 || layout->widths[c] > layout->widths[widest]))
                widest = c;
        }
        if (widest < 0)
            return false;
        layout->widths[widest]--;
    }
    return true;
}

/* Takes the last optional column out.  False: there is none. */
static bool drop_column(const struct table *table, struct layout *layout)
{
    for (int i = layout->count; i-- > 0;) {
        if (!table->columns[layout->columns[i]].is_optional)
            continue;
        layout->count--;
        for (; i < layout->count; i++)
            layout->columns[i] = layout->columns[i + 1];
        return true;
    }
    return false;
}

/* False: no table fits. */
static bool fit(const struct table *table, int width, struct layout *layout)
{
    struct layout whole;

    measure(table, width > 0, &whole);
    for (;;) {
        *layout = whole;
        if (width <= 0 || shrink(table, layout, width))
            return true;
        if (!drop_column(table, &whole))
            return false;
    }
}

/* --- printing --------------------------------------------------------------------------------- */

static bool pad(struct buf *out, int columns)
{
    bool ok = true;

    for (; columns > 0 && ok; columns--)
        ok = buf_putc(out, ' ');
    return ok;
}

/* text in exactly `columns` columns; the last one of a row is not filled up. */
static bool put_cell(struct buf *out, const char *text, int columns, bool is_right, bool is_last)
{
    size_t len = strlen(text);
    int width = text_width(text, len);

    if (width > columns) {
        len = text_prefix(text, len, columns - 1);
        width = text_width(text, len);
        return buf_append(out, text, len) && buf_puts(out, ellipsis) &&
               pad(out, is_last ? 0 : columns - 1 - width);
    }
    if (is_right)
        return pad(out, columns - width) && buf_append(out, text, len);
    return buf_append(out, text, len) && pad(out, is_last ? 0 : columns - width);
}

/* cells NULL: the titles. */
static bool put_row(const struct table *table, char *const *cells, const struct layout *layout,
                    struct buf *out)
{
    bool ok = true;

    for (int i = 0; i < layout->count && ok; i++) {
        bool is_last = i + 1 == layout->count;
        int c = layout->columns[i];

        ok = put_cell(out, cells ? cells[c] : table->columns[c].title, layout->widths[c],
                      table->columns[c].is_right, is_last) &&
             pad(out, is_last ? 0 : GAP);
    }
    return ok;
}

/* A row as lines of its own. */
static bool put_record(const struct table *table, char *const *cells, const char *on,
                       const char *off, struct buf *out)
{
    int widest = 0;
    bool ok = true;

    for (int c = 0; c < table->column_count; c++) {
        int width = text_width(table->columns[c].title, strlen(table->columns[c].title));

        widest = width > widest ? width : widest;
    }
    for (int c = 0; c < table->column_count && ok; c++)
        if (*cells[c])
            ok = buf_puts(out, on) &&
                 put_cell(out, table->columns[c].title, widest, false, false) &&
                 buf_puts(out, off) && pad(out, GAP) && buf_puts(out, cells[c]) &&
                 buf_putc(out, '\n');
    return ok;
}

bool table_print(const struct table *table, int width, const char *title_on, const char *title_off,
                 struct buf *out)
{
    struct layout layout;
    int rows = table_rows(table);
    bool is_wide = fit(table, width, &layout), ok = true;

    if (is_wide)
        ok = buf_puts(out, title_on) && put_row(table, NULL, &layout, out) &&
             buf_puts(out, title_off) && buf_putc(out, '\n');
    for (int row = 0; row < rows && ok; row++) {
        char *const *cells = table->cells + (size_t)row * (size_t)table->column_count;

        if (is_wide)
            ok = put_row(table, cells, &layout, out) && buf_putc(out, '\n');
        else
            ok = (row == 0 || buf_putc(out, '\n')) &&
                 put_record(table, cells, title_on, title_off, out);
    }
    return ok;
}
