/* SPDX-License-Identifier: Apache-2.0 */
/* An answer about usage as JSON and as CSV.  Pure. */
#include "producer/usage_write.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/money.h"
#include "common/base/str.h"
#include "producer/admin.h"

static const char *const name_words[USAGE_NAMES] = {
    [USAGE_DAY] = "day",     [USAGE_HOUR] = "hour",         [USAGE_WORKFLOW] = "workflow",
    [USAGE_MODEL] = "model", [USAGE_PROVIDER] = "provider", [USAGE_KEY] = "key",
    [USAGE_USER] = "user",
};

static const char *const sum_words[USAGE_SUMS] = {
    [USAGE_JOBS] = "jobs",
    [USAGE_CALLS] = "calls",
    [USAGE_RETRIES] = "retries",
    [USAGE_ERRORS] = "errors",
    [USAGE_INPUT_TOKENS] = "input_tokens",
    [USAGE_OUTPUT_TOKENS] = "output_tokens",
    [USAGE_CACHED_INPUT_TOKENS] = "cached_input_tokens",
    [USAGE_CACHE_HITS] = "cache_hits",
    [USAGE_COST_NANO] = "cost_usd",
    [USAGE_UNKNOWN_CALLS] = "unknown_calls",
    [USAGE_UNKNOWN_NANO] = "unknown_cost_usd",
    [USAGE_QUEUE_WAIT_MS] = "queue_wait_ms",
};

/* --- names ------------------------------------------------------------------------------------ */

static bool add_name(struct usage_names *names, const char *text, size_t len, struct err *err)
{
    char word[32];
    const char *nearest;

    snprintf(word, sizeof(word), "%.*s", (int)(len < sizeof(word) ? len : sizeof(word) - 1), text);
    for (int i = 0; i < names->count; i++)
        if (strcmp(name_words[names->of[i]], word) == 0)
            return err_input(err, "invalid_value", "group_by", "group_by: %s stands there twice",
                             word);
    for (int name = 0; name < USAGE_NAMES; name++)
        if (strcmp(name_words[name], word) == 0) {
            names->of[names->count++] = (enum usage_name)name;
            return true;
        }
    nearest = str_nearest(word, name_words, USAGE_NAMES);
    return err_input(err, "invalid_value", "group_by",
                     "group_by: expected a comma list of hour, day, workflow, model, provider, key "
                     "and user, got \"%s\"%s%s%s",
                     word, nearest ? " (did you mean \"" : "", nearest ? nearest : "",
                     nearest ? "\"?)" : "");
}

bool usage_names_parse(const char *text, struct usage_names *out, struct err *err)
{
    *out = (struct usage_names){.count = 0};
    if (!text || !*text)
        return true;
    for (;;) {
        size_t len = strcspn(text, ",");

        if (!add_name(out, text, len, err))
            return false;
        if (text[len] == '\0')
            return true;
        text += len + 1;
    }
}

/* --- one value -------------------------------------------------------------------------------- */

/* The text of a name in a row; NULL: none. */
static const char *name_text(const struct usage_row *row, enum usage_name name,
                             char scratch[CLOCK_RFC3339_SIZE])
{
    if (name == USAGE_DAY)
        usage_day_format(row->day, scratch);
    else if (name == USAGE_HOUR)
        clock_format_rfc3339(row->hour_us, scratch);
    else
        return row->names[name];
    return scratch;
}

static bool is_money(int sum)
{
    return sum == USAGE_COST_NANO || sum == USAGE_UNKNOWN_NANO;
}

/* By hand: a year by the hour has 10^5 numbers, and printf would be most of the answer's time. */
static void sum_text(const struct usage_row *row, int sum, char out[MONEY_TEXT_SIZE])
{
    uint64_t left = (uint64_t)row->sums[sum];
    char digits[MONEY_TEXT_SIZE];
    int count = 0;

    if (is_money(sum)) {
        money_format(row->sums[sum], out);
        return;
    }
    if (row->sums[sum] < 0) {
        *out++ = '-';
        left = -left;
    }
    do {
        digits[count++] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    while (count > 0)
        *out++ = digits[--count];
    *out = '\0';
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void put_name(struct buf *out, const char *name)
{
    if (out->len > 0 && out->data[out->len - 1] != '{')
        buf_putc(out, ',');
    buf_putc(out, '"');
    buf_puts(out, name);
    buf_puts(out, "\":");
}

void usage_row_put_json(struct buf *out, const struct usage_names *names,
                        const struct usage_row *row)
{
    char scratch[CLOCK_RFC3339_SIZE], number[MONEY_TEXT_SIZE];

    admin_list_item(out);
    for (int i = 0; i < names->count; i++) {
        put_name(out, name_words[names->of[i]]);
        buf_put_json_text(out, name_text(row, names->of[i], scratch));
    }
    for (int sum = 0; sum < USAGE_SUMS; sum++) {
        sum_text(row, sum, number);
        put_name(out, sum_words[sum]);
        buf_puts(out, is_money(sum) ? "\"" : "");
        buf_puts(out, number);
        buf_puts(out, is_money(sum) ? "\"" : "");
    }
    buf_putc(out, '}');
}

/* --- CSV -------------------------------------------------------------------------------------- */

void csv_put_cell(struct buf *out, const char *text)
{
    bool is_formula = *text && strchr("=+-@\t\r", *text);
    bool is_quoted = text[strcspn(text, ",\"\r\n")] != '\0';

    if (is_quoted)
        buf_putc(out, '"');
    if (is_formula)
        buf_putc(out, '\'');
    for (; *text; text++) {
        if (*text == '"')
            buf_putc(out, '"');
        buf_putc(out, *text);
    }
    if (is_quoted)
        buf_putc(out, '"');
}

void usage_titles_put_csv(struct buf *out, const struct usage_names *names)
{
    for (int i = 0; i < names->count; i++)
        buf_printf(out, "%s,", name_words[names->of[i]]);
    for (int sum = 0; sum < USAGE_SUMS; sum++)
        buf_printf(out, "%s%s", sum_words[sum], sum + 1 < USAGE_SUMS ? "," : "\r\n");
}

void usage_row_put_csv(struct buf *out, const struct usage_names *names,
                       const struct usage_row *row)
{
    char scratch[CLOCK_RFC3339_SIZE], number[MONEY_TEXT_SIZE];

    for (int i = 0; i < names->count; i++) {
        const char *text = name_text(row, names->of[i], scratch);

        csv_put_cell(out, text ? text : "");
        buf_putc(out, ',');
    }
    for (int sum = 0; sum < USAGE_SUMS; sum++) {
        sum_text(row, sum, number);
        buf_puts(out, number);
        buf_puts(out, sum + 1 < USAGE_SUMS ? "," : "\r\n");
    }
}
