/* SPDX-License-Identifier: Apache-2.0 */
/* Reads, renders and applies documents of limits. */
#include "common/model/limits.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/base/money.h"
#include "common/base/str.h"

enum { MAPS = 3, MODEL_NAME_MAX = 256, MONEY_CHARS_MAX = 32, PATH_SIZE = ERR_PARAM_MAX };

struct named_set {
    char *name;
    struct limit_set set;
};

/* Sorted by name; "*" is one of them. */
struct set_map {
    struct named_set *sets;
    size_t count;
};

struct limits {
    int refs;
    enum budget_policy policy;
    char time_zone[TIME_ZONE_MAX + 1];
    struct limit_set set;
    struct set_map maps[MAPS];
};

static const char any_name[] = "*";

/* What the maps are called and what their names are of. */
static const struct {
    const char *name;
    enum limit_scope scope;
} map_kinds[MAPS] = {
    {"workflows", LIMIT_WORKFLOW},
    {"users", LIMIT_USER},
    {"models", LIMIT_MODEL},
};

static const char *const scope_names[] = {
    [LIMIT_TENANT] = "tenant", [LIMIT_KEY] = "key",     [LIMIT_WORKFLOW] = "workflow",
    [LIMIT_USER] = "user",     [LIMIT_MODEL] = "model",
};

static const char *const window_names[] = {
    [BUDGET_DAY] = "day",
    [BUDGET_MONTH] = "month",
    [BUDGET_TOTAL] = "total",
};

/* The whole numbers of a set, in the order in which they are written. */
static const struct {
    const char *name;
    size_t offset;
} counts[] = {
    {"submits_per_minute", offsetof(struct limit_set, submits_per_minute)},
    {"requests_per_minute", offsetof(struct limit_set, requests_per_minute)},
    {"tokens_per_minute", offsetof(struct limit_set, tokens_per_minute)},
    {"max_concurrency", offsetof(struct limit_set, max_concurrency)},
    {"max_queued", offsetof(struct limit_set, max_queued)},
    {"max_body_bytes", offsetof(struct limit_set, max_body_bytes)},
};
enum { COUNTS = sizeof(counts) / sizeof(counts[0]) };

static const int64_t *count_of(const struct limit_set *set, size_t i)
{
    return (const int64_t *)(const void *)((const char *)set + counts[i].offset);
}

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

const char *limit_scope_name(enum limit_scope scope)
{
    return scope_names[scope];
}

const char *budget_window_name(enum budget_window window)
{
    return window_names[window];
}

void limit_scope_format(enum limit_scope scope, const char *name, char out[LIMIT_SCOPE_TEXT_SIZE])
{
    if (scope == LIMIT_TENANT)
        snprintf(out, LIMIT_SCOPE_TEXT_SIZE, "%s", scope_names[scope]);
    else
        snprintf(out, LIMIT_SCOPE_TEXT_SIZE, "%s:%s", scope_names[scope], name);
}

bool limit_scope_parse(const char *text, enum limit_scope *scope, const char **name)
{
    for (int i = 0; i < LIMIT_SCOPE_COUNT; i++) {
        size_t len = strlen(scope_names[i]);

        if (strncmp(text, scope_names[i], len) != 0 ||
            text[len] != (i == LIMIT_TENANT ? '\0' : ':'))
            continue;
        *scope = (enum limit_scope)i;
        *name = i == LIMIT_TENANT ? "" : text + len + 1;
        return true;
    }
    return false;
}

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
    if (!json_known_members(budget, full, window_names, BUDGET_WINDOW_COUNT, err))
        return false;
    for (int i = 0; i < BUDGET_WINDOW_COUNT; i++)
        if (!read_money(budget, full, window_names[i], &out[i], err))
            return false;
    return true;
}

/* All that a set can have; the object's names are judged by the caller. */
static bool read_set(const json_t *object, const char *path, struct limit_set *out, struct err *err)
{
    *out = no_limits;
    for (size_t i = 0; i < COUNTS; i++) {
        int64_t *count = (int64_t *)(void *)((char *)out + counts[i].offset);

        if (!json_read_i64(object, path, counts[i].name, 0, LIMIT_COUNT_MAX, count, err))
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
    bool is_good = strcmp(name, any_name) == 0 || str_is_label(name, len, JOB_LABEL_MAX);

    if (scope == LIMIT_MODEL && len >= 1 && str_utf8_count(name, len) <= MODEL_NAME_MAX)
        is_good = true;
    return is_good || err_input(err, "invalid_value", path,
                                "%s: expected \"*\" or names of 1 to 128 of A-Z a-z 0-9 . _ / @ : "
                                "-, got one of %zu bytes",
                                path, len);
}

static int compare_sets(const void *a, const void *b)
{
    return strcmp(((const struct named_set *)a)->name, ((const struct named_set *)b)->name);
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
    const char *path = map_kinds[kind].name, *name;
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
        if (!check_name(path, name, map_kinds[kind].scope, err) ||
            !read_named(value, path, name, &out->sets[out->count], err))
            return false;
        out->count++;
    }
    qsort(out->sets, out->count, sizeof(*out->sets), compare_sets);
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
    for (int kind = 0; kind < MAPS; kind++)
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

struct limits *limits_ref(struct limits *limits)
{
    if (limits)
        limits->refs++;
    return limits;
}

void limits_unref(struct limits *limits)
{
    if (!limits || --limits->refs > 0)
        return;
    for (int kind = 0; kind < MAPS; kind++) {
        for (size_t i = 0; i < limits->maps[kind].count; i++)
            free(limits->maps[kind].sets[i].name);
        free(limits->maps[kind].sets);
    }
    free(limits);
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
    for (size_t i = 0; i < COUNTS; i++) {
        if (*count_of(set, i) < 0)
            buf_printf(out, "\"%s\":null,", counts[i].name);
        else
            buf_printf(out, "\"%s\":%" PRId64 ",", counts[i].name, *count_of(set, i));
    }
    put_money(out, "max_job_cost_usd", set->max_job_cost_nano);
    buf_puts(out, ",\"budget_usd\":{");
    for (int i = 0; i < BUDGET_WINDOW_COUNT; i++) {
        if (i > 0)
            buf_putc(out, ',');
        put_money(out, window_names[i], set->budget_nano[i]);
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
    for (int kind = 0; kind < MAPS; kind++)
        put_map(out, map_kinds[kind].name, &what->maps[kind]);
    return buf_putc(out, '}');
}

/* --- asking ----------------------------------------------------------------------------------- */

const char *limits_time_zone(const struct limits *limits)
{
    return limits && *limits->time_zone ? limits->time_zone : NULL;
}

enum budget_policy limits_policy(const struct limits *limits)
{
    return limits ? limits->policy : BUDGET_WAIT;
}

/* Bit per window that has a budget; those in shadow have bits of their own, because who becomes
 * enforced must have counted all. */
static unsigned accounts_of(const struct limit_set *set)
{
    unsigned windows = 0;

    for (int i = 0; i < BUDGET_WINDOW_COUNT; i++)
        if (set->budget_nano[i] >= 0)
            windows |= 1U << i;
    return set->is_shadow ? windows << BUDGET_WINDOW_COUNT : windows;
}

static bool set_is_empty(const struct limit_set *set)
{
    for (size_t i = 0; i < COUNTS; i++)
        if (*count_of(set, i) >= 0)
            return false;
    for (int i = 0; i < BUDGET_WINDOW_COUNT; i++)
        if (set->budget_nano[i] >= 0)
            return false;
    return set->max_job_cost_nano < 0;
}

bool limits_is_empty(const struct limits *limits)
{
    if (!limits)
        return true;
    for (int kind = 0; kind < MAPS; kind++)
        for (size_t i = 0; i < limits->maps[kind].count; i++)
            if (!set_is_empty(&limits->maps[kind].sets[i].set))
                return false;
    return set_is_empty(&limits->set);
}

static bool map_has_budget(const struct set_map *map)
{
    for (size_t i = 0; i < map->count; i++)
        if (accounts_of(&map->sets[i].set))
            return true;
    return false;
}

bool limits_has_budget(const struct limits *limits)
{
    if (!limits)
        return false;
    for (int kind = 0; kind < MAPS; kind++)
        if (map_has_budget(&limits->maps[kind]))
            return true;
    return accounts_of(&limits->set) != 0;
}

/* Names without a budget matter too: they are out of the accounts of "*". */
static bool maps_same_accounts(const struct set_map *a, const struct set_map *b)
{
    if (!map_has_budget(a) && !map_has_budget(b))
        return true;
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->sets[i].name, b->sets[i].name) != 0 ||
            accounts_of(&a->sets[i].set) != accounts_of(&b->sets[i].set))
            return false;
    return true;
}

bool limits_same_accounts(const struct limits *a, const struct limits *b)
{
    static const struct limits none = {.set = {.budget_nano = {-1, -1, -1}}};

    if (!limits_has_budget(a) && !limits_has_budget(b))
        return true;
    a = a ? a : &none;
    b = b ? b : &none;
    if (strcmp(a->time_zone, b->time_zone) != 0 || accounts_of(&a->set) != accounts_of(&b->set))
        return false;
    for (int kind = 0; kind < MAPS; kind++)
        if (!maps_same_accounts(&a->maps[kind], &b->maps[kind]))
            return false;
    return true;
}

/* --- applying --------------------------------------------------------------------------------- */

static const struct limit_set *map_find(const struct set_map *map, const char *name)
{
    struct named_set wanted = {.name = (char *)(uintptr_t)name};
    const struct named_set *found;

    if (map->count == 0)
        return NULL;
    found = bsearch(&wanted, map->sets, map->count, sizeof(*map->sets), compare_sets);
    if (!found) {
        wanted.name = (char *)(uintptr_t)any_name;
        found = bsearch(&wanted, map->sets, map->count, sizeof(*map->sets), compare_sets);
    }
    return found ? &found->set : NULL;
}

const struct limit_set *limits_set_of(const struct limits *limits, enum limit_scope scope,
                                      const char *name)
{
    if (!limits || scope == LIMIT_TENANT)
        return limits ? &limits->set : NULL;
    for (int kind = 0; kind < MAPS; kind++)
        if (map_kinds[kind].scope == scope)
            return map_find(&limits->maps[kind], name);
    return NULL;
}

void limits_each(const struct limits *limits, limits_visit_fn *visit, void *arg)
{
    if (!limits)
        return;
    visit(LIMIT_TENANT, "", &limits->set, arg);
    for (int kind = 0; kind < MAPS; kind++) {
        const struct set_map *map = &limits->maps[kind];

        for (size_t i = 0; i < map->count; i++)
            if (strcmp(map->sets[i].name, any_name) != 0)
                visit(map_kinds[kind].scope, map->sets[i].name, &map->sets[i].set, arg);
    }
}

static int apply(struct applied_limit *out, int count, enum limit_scope scope, const char *name,
                 const struct limit_set *set)
{
    if (!set || set_is_empty(set))
        return count;
    out[count] = (struct applied_limit){.scope = scope, .name = name, .set = set};
    return count + 1;
}

int limits_apply(const struct limits *tenant, const struct limits *key, const char *key_id,
                 const char *workflow, const char *user, const char *model,
                 struct applied_limit out[LIMIT_SCOPE_COUNT])
{
    const char *names[MAPS] = {workflow, user, model};
    int count = 0;

    count = apply(out, count, LIMIT_TENANT, "", tenant ? &tenant->set : NULL);
    count = apply(out, count, LIMIT_KEY, key_id, key ? &key->set : NULL);
    for (int kind = 0; kind < MAPS && tenant; kind++)
        if (names[kind])
            count = apply(out, count, map_kinds[kind].scope, names[kind],
                          map_find(&tenant->maps[kind], names[kind]));
    return count;
}

bool limits_applied_budget(const struct applied_limit *applied, int count)
{
    for (int i = 0; i < count; i++)
        if (!applied[i].set->is_shadow && accounts_of(applied[i].set))
            return true;
    return false;
}
