/* SPDX-License-Identifier: Apache-2.0 */
/* The table of prices: US dollars per million tokens, taken exactly as written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "common/model/request_facts.h"
#include "common/model/settings_read.h"

enum { TOKENS_MAX = 1000000000, PRICE_MAX_USD = 10000 };

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
    if (text && money_parse_number(text, strlen(text), out)) {
        if (*out <= PRICE_MAX_USD * NANO_PER_USD)
            return true;
        return section_refuse(model, name,
                              "expected at most %d US dollars per million tokens: no model costs "
                              "that (is it the price of one token?)",
                              PRICE_MAX_USD);
    }
    json_describe(value, got, sizeof(got));
    return section_refuse(model, name,
                          "expected US dollars with at most nine places, 0 or more, got %s", got);
}

/* --- priced fields ---------------------------------------------------------------------------- */

static bool refuse_priced(const struct section *model, const char *nearest)
{
    return section_refuse(
        model, "priced_fields", "expected names of request fields, each once%s%s%s",
        nearest ? " (did you mean " : "", nearest ? nearest : "", nearest ? "?)" : "");
}

static bool has_other(const struct target *target, const char *name)
{
    for (int i = 0; i < target->priced_other_count; i++)
        if (strcmp(target->priced_others[i], name) == 0)
            return true;
    return false;
}

/* A provider's own field, which only its name is known of: one that nearly is one that we know is
 * a slip of the pen. */
static bool add_other(const struct section *model, const char *name, struct target *target)
{
    const char *names[PRICED_FIELD_COUNT], *nearest;

    for (int field = 0; field < PRICED_FIELD_COUNT; field++)
        names[field] = priced_field_name((enum priced_field)field);
    nearest = str_nearest(name, names, PRICED_FIELD_COUNT);
    if (nearest || !*name || strlen(name) >= PRICED_NAME_SIZE || has_other(target, name))
        return refuse_priced(model, nearest);
    if (target->priced_other_count == PRICED_OTHERS_MAX)
        return section_refuse(model, "priced_fields",
                              "expected at most %d fields beside those that Nightshift knows",
                              PRICED_OTHERS_MAX);
    snprintf(target->priced_others[target->priced_other_count++], PRICED_NAME_SIZE, "%s", name);
    return true;
}

static bool add_priced(const struct section *model, const char *name, struct target *target)
{
    for (int field = 0; field < PRICED_FIELD_COUNT; field++) {
        if (strcmp(name, priced_field_name((enum priced_field)field)) != 0)
            continue;
        if (target->priced_fields & (1u << field))
            return refuse_priced(model, NULL);
        target->priced_fields |= 1u << field;
        return true;
    }
    return add_other(model, name, target);
}

/* Which of the fields that may change a call's cost the price accounts for. */
static bool read_priced_fields(const struct section *model, struct target *target)
{
    const json_t *value = json_object_get(model->object, "priced_fields"), *item;
    size_t index;

    if (!value || json_is_null(value))
        return true;
    if (!json_is_array(value))
        return section_refuse(model, "priced_fields", "expected a list of names of request fields");
    json_array_foreach(value, index, item)
    {
        if (!json_is_string(item))
            return refuse_priced(model, NULL);
        if (!add_priced(model, json_string_value(item), target))
            return false;
    }
    return true;
}

/* Keeps what both lists have. */
static void keep_priced(struct target *target, const struct target *other)
{
    int kept = 0;

    target->priced_fields &= other->priced_fields;
    for (int i = 0; i < target->priced_other_count; i++)
        if (has_other(other, target->priced_others[i])) {
            memmove(target->priced_others[kept], target->priced_others[i], PRICED_NAME_SIZE);
            kept++;
        }
    target->priced_other_count = kept;
}

/* --- one price -------------------------------------------------------------------------------- */

/* One price of a model; *price stays as it was where there is none. */
static bool read_price(const struct section *model, struct price *price, bool *has_price)
{
    int64_t input, cached, output;

    if (!read_money(model, "input_per_mtok", &input) ||
        !read_money(model, "cached_input_per_mtok", &cached) ||
        !read_money(model, "output_per_mtok", &output))
        return false;
    *has_price = input >= 0 && output >= 0;
    if (!*has_price)
        return true;
    if (input == 0 && output == 0)
        return section_refuse(model, "input_per_mtok",
                              "0 for input and output is no price (say `free: true` on the target "
                              "or its provider if it costs nothing)");
    *price = (struct price){
        .input_nano_per_mtok = input,
        /* Without a figure of its own cached input costs what all input costs. */
        .cached_input_nano_per_mtok = cached >= 0 ? cached : input,
        .output_nano_per_mtok = output,
    };
    return true;
}

static bool read_sizes(const struct section *model, struct target *target)
{
    return section_number(model, "context_tokens", 0, TOKENS_MAX, &target->context_tokens) &&
           section_number(model, "max_output_tokens", 0, TOKENS_MAX, &target->max_output_tokens);
}

static bool read_model(const struct section *model, struct target *target, bool *has_price)
{
    return read_price(model, &target->price, has_price) && read_sizes(model, target) &&
           read_priced_fields(model, target);
}

/* --- versions --------------------------------------------------------------------------------- */

/* `from` of a version; -1 when it has none. */
static bool read_from(const struct section *version, int64_t *out)
{
    const char *text = NULL;

    *out = -1;
    if (!section_text(version, "from", &text))
        return false;
    if (!text || clock_parse_rfc3339(text, strlen(text), out))
        return true;
    return section_refuse(version, "from",
                          "expected an RFC 3339 time like 2026-11-21T00:00:00Z, got \"%s\"", text);
}

/* The first one is in force until the second; each later one from its moment on. */
static bool place_version(const struct section *version, int64_t from_us, const struct price *price,
                          size_t index, struct target *target)
{
    if (index == 0) {
        if (from_us > clock_now_us())
            return section_refuse(version, "from",
                                  "expected a time that has come: no price is in force before it");
        target->price = *price;
        return true;
    }
    if (from_us < 0)
        return section_refuse(version, "from", "missing (all versions but the first need it)");
    target->changes[target->change_count++] =
        (struct price_change){.from_us = from_us, .price = *price};
    return true;
}

/* What every version accounts for is accounted for. */
static bool read_version(const struct section *version, size_t index, int64_t *last_us,
                         struct target *target)
{
    struct price price = {0};
    struct target listed = {0};
    bool has_price = false;
    int64_t from_us;

    if (!read_from(version, &from_us) || !read_price(version, &price, &has_price) ||
        !read_sizes(version, target) || !read_priced_fields(version, index == 0 ? target : &listed))
        return false;
    if (!has_price)
        return section_refuse(version, NULL, "expected input_per_mtok and output_per_mtok");
    if (index > 0 && from_us >= 0 && from_us <= *last_us)
        return section_refuse(version, "from",
                              "expected later than the version before: versions are sorted");
    *last_us = from_us;
    if (index > 0)
        keep_priced(target, &listed);
    return place_version(version, from_us, &price, index, target);
}

static bool read_versions(const struct section *models, const char *path, const json_t *list,
                          struct target *target)
{
    char at[SETTINGS_PATH_SIZE];
    struct section version;
    int64_t last_us = -1;
    const json_t *item;
    size_t index;

    if (json_array_size(list) == 0 || json_array_size(list) > PRICE_CHANGES_MAX + 1)
        return section_refuse(models, target->model, "expected a price, or a list of 1 to %d",
                              PRICE_CHANGES_MAX + 1);
    json_array_foreach(list, index, item)
    {
        if (snprintf(at, sizeof(at), "%s[%zu]", path, index) >= (int)sizeof(at))
            return section_refuse(models, target->model, "the name is too long");
        if (!section_open(&version, models->config, item, at, models->err) ||
            !read_version(&version, index, &last_us, target))
            return false;
    }
    return true;
}

struct price target_price(const struct target *target, int64_t at_us)
{
    struct price price = target->price;

    for (int i = 0; i < target->change_count && target->changes[i].from_us <= at_us; i++)
        price = target->changes[i].price;
    return price;
}

static int64_t dearer(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

struct price target_dearest_price(const struct target *target, int64_t from_us, int64_t to_us)
{
    struct price most = target_price(target, from_us);

    for (int i = 0; i < target->change_count; i++) {
        const struct price *price = &target->changes[i].price;

        if (target->changes[i].from_us <= from_us || target->changes[i].from_us > to_us)
            continue;
        most.input_nano_per_mtok = dearer(most.input_nano_per_mtok, price->input_nano_per_mtok);
        most.cached_input_nano_per_mtok =
            dearer(most.cached_input_nano_per_mtok, price->cached_input_nano_per_mtok);
        most.output_nano_per_mtok = dearer(most.output_nano_per_mtok, price->output_nano_per_mtok);
    }
    return most;
}

/* --- the table -------------------------------------------------------------------------------- */

/* The entry of the target's model: one price, or a list of versions. */
static bool read_entry(const struct section *models, const json_t *value, struct target *target,
                       bool *has_price)
{
    char path[SETTINGS_PATH_SIZE];
    struct section model;

    section_member_path(models, target->model, path);
    if (json_is_array(value)) {
        *has_price = true;
        return read_versions(models, path, value, target);
    }
    return section_open(&model, models->config, value, path, models->err) &&
           read_model(&model, target, has_price);
}

bool price_table_apply(const struct price_table *table, const struct section *section, bool is_free,
                       struct target *target)
{
    const struct provider *provider = target->provider;
    const json_t *value = json_object_get(table->root, provider->prices);
    char path[SETTINGS_PATH_SIZE];
    struct section models;
    bool has_price = false;

    if (value) {
        snprintf(path, sizeof(path), "%s%s", table->prefix, provider->prices);
        if (!section_open(&models, table->config, value, path, section->err))
            return false;
        value = json_object_get(value, target->model);
    }
    if (value && !read_entry(&models, value, target, &has_price))
        return false;
    if (is_free) {
        target->price = (struct price){0};
        target->change_count = 0;
    }
    if (is_free || has_price)
        return true;
    return section_refuse(section, "model",
                          "no price for %s in prices.%s (give input_per_mtok and output_per_mtok, "
                          "or say `free: true`)",
                          target->model, provider->prices);
}
