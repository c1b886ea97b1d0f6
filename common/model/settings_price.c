/* SPDX-License-Identifier: Apache-2.0 */
/* The table of prices: US dollars per million tokens, taken exactly as written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/str.h"
#include "common/model/request_facts.h"
#include "common/model/settings_read.h"

enum { TOKENS_MAX = 1000000000 };

bool price_table_open(struct price_table *table, const struct config *config, struct err *err)
{
    const json_t *value = config_get(config, "prices");
    const char *path;
    char *full;

    *table = (struct price_table){.config = config, .root = value, .prefix = "prices."};
    if (!value || json_is_object(value))
        return true;
    if (!json_is_string(value) || json_string_length(value) == 0)
        return err_set(err, "%s: prices: expected a mapping or the path of a file",
                       config_where(config, "prices"));
    full = config_resolve(json_string_value(value), config_folder(config, "prices"));
    path = full;
    table->file = config_load(&path, 1, err);
    free(full);
    if (!table->file)
        return err_wrap(err, "%s: prices", config_where(config, "prices"));
    table->config = table->file;
    table->root = config_root(table->file);
    table->prefix = "";
    return true;
}

void price_table_close(struct price_table *table)
{
    config_free(table->file);
    *table = (struct price_table){0};
}

/* Absent and null leave *out at -1: "no figure was found". */
static bool read_money(const struct section *model, const char *name, int64_t *out)
{
    const json_t *value = json_object_get(model->object, name);
    char path[SETTINGS_PATH_SIZE], got[JSON_DESCRIBE_SIZE];
    const char *text;

    *out = -1;
    if (!value || json_is_null(value))
        return true;
    section_member_path(model, name, path);
    text =
        json_is_string(value) ? json_string_value(value) : config_number_text(model->config, path);
    if (text && money_parse_number(text, strlen(text), out))
        return true;
    json_describe(value, got, sizeof(got));
    return section_refuse(model, name,
                          "expected US dollars with at most nine places, 0 or more, got %s", got);
}

/* Which of the price-changing fields of a request the price accounts for. */
static bool read_priced_fields(const struct section *model, unsigned *out)
{
    static const char list[] = "priced_fields";
    const json_t *value = json_object_get(model->object, list), *item;
    const char *names[PRICED_FIELD_COUNT], *nearest;
    size_t index;

    if (!value || json_is_null(value))
        return true;
    if (!json_is_array(value))
        return section_refuse(model, list, "expected a list of names of request fields");
    for (int field = 0; field < PRICED_FIELD_COUNT; field++)
        names[field] = priced_field_name((enum priced_field)field);
    json_array_foreach(value, index, item)
    {
        unsigned before = *out;

        for (int field = 0; json_is_string(item) && field < PRICED_FIELD_COUNT; field++)
            if (strcmp(json_string_value(item), names[field]) == 0)
                *out |= 1u << field;
        if (*out != before)
            continue;
        nearest = json_is_string(item)
                      ? str_nearest(json_string_value(item), names, PRICED_FIELD_COUNT)
                      : NULL;
        return section_refuse(model, list, "expected request fields, each once%s%s%s",
                              nearest ? " (did you mean " : "", nearest ? nearest : "",
                              nearest ? "?)" : "");
    }
    return true;
}

static bool read_model(const struct section *model, struct target *target, bool *has_price)
{
    int64_t input, cached, output;

    if (!read_money(model, "input_per_mtok", &input) ||
        !read_money(model, "cached_input_per_mtok", &cached) ||
        !read_money(model, "output_per_mtok", &output) ||
        !section_number(model, "context_tokens", 0, TOKENS_MAX, &target->context_tokens) ||
        !section_number(model, "max_output_tokens", 0, TOKENS_MAX, &target->max_output_tokens) ||
        !read_priced_fields(model, &target->priced_fields))
        return false;
    *has_price = input >= 0 && output >= 0;
    if (*has_price)
        target->price = (struct price){
            .input_nano_per_mtok = input,
            /* Without a figure of its own cached input costs what all input costs. */
            .cached_input_nano_per_mtok = cached >= 0 ? cached : input,
            .output_nano_per_mtok = output,
        };
    return true;
}

bool price_table_apply(const struct price_table *table, const struct section *section, bool is_free,
                       struct target *target)
{
    const struct provider *provider = target->provider;
    const json_t *value = json_object_get(table->root, provider->prices);
    char path[SETTINGS_PATH_SIZE];
    struct section models, model;
    bool has_price = false;

    if (value) {
        snprintf(path, sizeof(path), "%s%s", table->prefix, provider->prices);
        if (!section_open(&models, table->config, value, path, section->err))
            return false;
        value = json_object_get(value, target->model);
    }
    if (value) {
        section_member_path(&models, target->model, path);
        if (!section_open(&model, table->config, value, path, section->err) ||
            !read_model(&model, target, &has_price))
            return false;
    }
    if (is_free)
        target->price = (struct price){0};
    if (is_free || has_price)
        return true;
    return section_refuse(section, "model",
                          "no price for %s in prices.%s (give input_per_mtok and output_per_mtok, "
                          "or say `free: true`)",
                          target->model, provider->prices);
}
