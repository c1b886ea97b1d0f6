/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of limits as JSON: read, each rule with its message, and written. */
#include "common/model/limits_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/base/money.h"
#include "common/base/str.h"

enum { MODEL_NAME_MAX = 256, MONEY_CHARS_MAX = 32, PATH_SIZE = ERR_PARAM_MAX };

static const struct limit_set no_limits = {
    .submits_per_minute = -1,
    .requests_per_minute = -1,
    .tokens_per_minute = -1,
    .max_concurrency = -1,
    .max_queued = -1,
    .max_body_bytes = -1,
    .max_job_cost_nano = -1,
    .budget_nano = {-1, -1, -1},
};

/* --- reading ---------------------------------------------------------------------------------- */

/* Absent and null are the same everywhere. */
static const json_t *member(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    return json_is_null(value) ? NULL : value;
}

static bool read_money(const json_t *object, const char *path, const char *name, int64_t *out,
                       struct err *err)
{
    static const char expected[] = "US dollars as a decimal string like \"12.50\", at most nine "
                                   "places and at most 9000000";
    const json_t *value = member(object, name);
    char full[PATH_SIZE];

    if (!value)
        return true;
    if (json_is_string(value) && json_string_length(value) <= MONEY_CHARS_MAX &&
        money_parse(json_string_value(value), json_string_length(value), out))
        return true;
    json_path(full, sizeof(full), path, name);
    return json_refuse(err, full, expected, value);
}

static bool read_budget(const json_t *object, const char *path, int64_t out[BUDGET_WINDOW_COUNT],
                        struct err *err)
{
    const json_t *budget = member(object, "budget_usd");
    char full[PATH_SIZE];

    if (!budget)
        return true;
    json_path(full, sizeof(full), path, "budget_usd");
    if (!json_is_object(budget))
        return json_refuse(err, full, "an object of day, month and total", budget);
    if (!json_known_members(budget, full, budget_window_names, BUDGET_WINDOW_COUNT, err))
        return false;
    for (int i = 0; i < BUDGET_WINDOW_COUNT; i++)
        if (!read_money(budget, full, budget_window_names[i], &out[i], err))
            return false;
    return true;
}

/* All that a set can have; the object's names are judged by the caller. */
static bool read_set(const json_t *object, const char *path, struct limit_set *out, struct err *err)
{
    *out = no_limits;
    for (size_t i = 0; i < LIMITS_COUNTS; i++) {
        int64_t *count = (int64_t *)(void *)((char *)out + limits_counts[i].offset);

        if (!json_read_i64(object, path, limits_counts[i].name, 0, LIMIT_COUNT_MAX, count, err))
            return false;
    }
    return read_money(object, path, "max_job_cost_usd", &out->max_job_cost_nano, err) &&
           read_budget(object, path, out->budget_nano, err) &&
           json_read_bool(object, path, "shadow", &out->is_shadow, err);
}

/* Models are named by operators, as routes; all else as in a submit. */
static bool check_name(const char *path, const char *name, enum limit_scope scope, struct err *err)
{
    size_t len = strlen(name);
    bool is_good = strcmp(name, limits_any_name) == 0 || str_is_label(name, len, JOB_LABEL_MAX);

    if (scope == LIMIT_MODEL && len >= 1 && str_utf8_count(name, len) <= MODEL_NAME_MAX)
        is_good = true;
    return is_good || err_input(err, "invalid_value", path,
                                "%s: expected \"*\" or names of 1 to 128 of A-Z a-z 0-9 . _ / @ : "
                                "-, got one of %zu bytes",
                                path, len);
}

static bool read_named(const json_t *value, const char *path, const char *name,
                       struct named_set *out, struct err *err)
{
    static const char *const names[] = {
        "submits_per_minute", "requests_per_minute", "tokens_per_minute",
        "max_concurrency",    "max_queued",          "max_body_bytes",
        "max_job_cost_usd",   "budget_usd",          "shadow",
    };
    char full[PATH_SIZE];

    json_path(full, sizeof(full), path, name);
    if (!json_is_object(value))
        return json_refuse(err, full, "an object of limits", value);
    if (!json_known_members(value, full, names, sizeof(names) / sizeof(names[0]), err) ||
        !read_set(value, full, &out->set, err))
        return false;
    out->name = strdup(name);
    return out->name || err_set(err, "read limits: out of memory");
}

static bool read_map(const json_t *document, int kind, struct set_map *out, struct err *err)
{
    const char *path = limits_map_kinds[kind].name, *name;
    const json_t *map = member(document, path);
    json_t *value;

    if (!map)
        return true;
    if (!json_is_object(map))
        return json_refuse(err, path, "an object of names and their limits", map);
    if (json_object_size(map) > LIMITS_NAMES_MAX)
        return err_input(err, "invalid_value", path, "%s: expected at most %d names, got %zu", path,
                         LIMITS_NAMES_MAX, json_object_size(map));
    out->sets = calloc(json_object_size(map) + 1, sizeof(*out->sets));
    if (!out->sets)
        return err_set(err, "read limits: out of memory");
    json_object_foreach((json_t *)(uintptr_t)map, name, value)
    {
        if (json_is_null(value))
            continue;
        if (!check_name(path, name, limits_map_kinds[kind].scope, err) ||
            !read_named(value, path, name, &out->sets[out->count], err))
            return false;
        out->count++;
    }
    qsort(out->sets, out->count, sizeof(*out->sets), limits_compare_names);
    return true;
}

static bool read_policy(const json_t *document, enum budget_policy *out, struct err *err)
{
    static const char name[] = "budget_policy";
    const json_t *value = member(document, name);
    const char *text = json_string_value(value);

    if (!value)
        return true;
    if (!str_equal(text, "wait") && !str_equal(text, "fail"))
        return json_refuse(err, name, "\"wait\" or \"fail\"", value);
    *out = str_equal(text, "fail") ? BUDGET_FAIL : BUDGET_WAIT;
    return true;
}

static bool read_time_zone(const json_t *document, char out[TIME_ZONE_MAX + 1], struct err *err)
{
    static const char name[] = "time_zone", allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                        "abcdefghijklmnopqrstuvwxyz0123456789_+-/";
    const json_t *value = member(document, name);
    const char *text = json_string_value(value);
    size_t len = text ? json_string_length(value) : 0;

    if (!value)
        return true;
    if (len < 1 || len > TIME_ZONE_MAX || strspn(text, allowed) != len)
        return json_refuse(err, name, "the name of a time zone like \"Europe/Berlin\"", value);
    memcpy(out, text, len + 1);
    return true;
}

/* Days and names are the tenant's: two answers to one question would be one too many. */
static bool check_key_members(const json_t *document, struct err *err)
{
    static const char *const names[] = {"time_zone", "workflows", "users", "models"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const json_t *value = member(document, names[i]);

        if (value && !(json_is_object(value) && json_object_size(value) == 0))
            return json_refuse(err, names[i], "nothing: it is set for the tenant, not for a key",
                               value);
    }
    return true;
}

static bool read_document(const json_t *document, enum limits_owner owner, struct limits *out,
                          struct err *err)
{
    static const char *const names[] = {
        "submits_per_minute",
        "requests_per_minute",
        "tokens_per_minute",
        "max_concurrency",
        "max_queued",
        "max_body_bytes",
        "max_job_cost_usd",
        "budget_usd",
        "shadow",
        "budget_policy",
        "time_zone",
        "workflows",
        "users",
        "models",
    };

    if (!json_is_object(document))
        return err_input(err, "invalid_value", "", "the limits must be a JSON object");
    if (!json_known_members(document, "", names, sizeof(names) / sizeof(names[0]), err) ||
        (owner == LIMITS_OF_KEY && !check_key_members(document, err)) ||
        !read_set(document, "", &out->set, err) || !read_policy(document, &out->policy, err))
        return false;
    if (owner == LIMITS_OF_KEY)
        return true;
    if (!read_time_zone(document, out->time_zone, err))
        return false;
    for (int kind = 0; kind < LIMITS_MAPS; kind++)
        if (!read_map(document, kind, &out->maps[kind], err))
            return false;
    return true;
}

struct limits *limits_parse(const json_t *document, enum limits_owner owner, struct err *err)
{
    struct limits *limits = calloc(1, sizeof(*limits));

    if (!limits) {
        err_set(err, "read limits: out of memory");
        return NULL;
    }
    limits->refs = 1;
    if (read_document(document, owner, limits, err))
        return limits;
    limits_unref(limits);
    return NULL;
}

struct limits *limits_parse_text(const char *text, size_t len, enum limits_owner owner,
                                 struct err *err)
{
    json_t *document = json_parse(text, len, JSON_READ_STRICT, err);
    struct limits *limits = document ? limits_parse(document, owner, err) : NULL;

    json_decref(document);
    return limits;
}

/* --- rendering -------------------------------------------------------------------------------- */

static void put_money(struct buf *out, const char *name, int64_t nano)
{
    char text[MONEY_TEXT_SIZE];

    if (nano < 0) {
        buf_printf(out, "\"%s\":null", name);
        return;
    }
    money_format(nano, text);
    buf_printf(out, "\"%s\":\"%s\"", name, text);
}

static void put_set(struct buf *out, const struct limit_set *set)
{
    for (size_t i = 0; i < LIMITS_COUNTS; i++) {
        if (*limits_count_of(set, i) < 0)
            buf_printf(out, "\"%s\":null,", limits_counts[i].name);
        else
            buf_printf(out, "\"%s\":%" PRId64 ",", limits_counts[i].name, *limits_count_of(set, i));
    }
    put_money(out, "max_job_cost_usd", set->max_job_cost_nano);
    buf_puts(out, ",\"budget_usd\":{");
    for (int i = 0; i < BUDGET_WINDOW_COUNT; i++) {
        if (i > 0)
            buf_putc(out, ',');
        put_money(out, budget_window_names[i], set->budget_nano[i]);
    }
    buf_printf(out, "},\"shadow\":%s", set->is_shadow ? "true" : "false");
}

static void put_map(struct buf *out, const char *name, const struct set_map *map)
{
    buf_printf(out, ",\"%s\":{", name);
    for (size_t i = 0; i < map->count; i++) {
        if (i > 0)
            buf_putc(out, ',');
        buf_put_json_string(out, map->sets[i].name, strlen(map->sets[i].name));
        buf_puts(out, ":{");
        put_set(out, &map->sets[i].set);
        buf_putc(out, '}');
    }
    buf_putc(out, '}');
}

bool limits_render(const struct limits *limits, struct buf *out)
{
    static const struct limits none = {.set = {.submits_per_minute = 0}};
    const struct limits *what = limits ? limits : &none;

    buf_putc(out, '{');
    put_set(out, limits ? &limits->set : &no_limits);
    buf_printf(out, ",\"budget_policy\":\"%s\"", what->policy == BUDGET_FAIL ? "fail" : "wait");
    if (*what->time_zone)
        buf_printf(out, ",\"time_zone\":\"%s\"", what->time_zone);
    else
        buf_puts(out, ",\"time_zone\":null");
    for (int kind = 0; kind < LIMITS_MAPS; kind++)
        put_map(out, limits_map_kinds[kind].name, &what->maps[kind]);
    return buf_putc(out, '}');
}
