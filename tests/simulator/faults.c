/* SPDX-License-Identifier: Apache-2.0 */
/* Faults that stand for a provider until cleared, and the counts behind `times`. */
#include "tests/simulator/faults.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "tests/simulator/scenario.h"

struct standing {
    char provider[SCENARIO_NAME_SIZE];
    json_t *knobs; /* as given, without provider and times */
    int64_t times; /* 0: until cleared */
    int64_t used;
};

struct faults {
    struct standing standing[FAULTS_STANDING_MAX];
    size_t count;
    struct map *calls_by_key; /* values are the counts themselves */
};

struct faults *faults_new(void)
{
    struct faults *faults = xcalloc(1, sizeof(*faults));

    faults->calls_by_key = map_new(FAULTS_KEYS_MAX);
    return faults;
}

void faults_free(struct faults *faults)
{
    if (!faults)
        return;
    faults_clear(faults, NULL);
    map_free(faults->calls_by_key);
    free(faults);
}

void faults_reset(struct faults *faults)
{
    faults_clear(faults, NULL);
    map_free(faults->calls_by_key);
    faults->calls_by_key = map_new(FAULTS_KEYS_MAX);
}

void faults_clear(struct faults *faults, const char *provider)
{
    size_t kept = 0;

    for (size_t i = 0; i < faults->count; i++) {
        if (provider && strcmp(faults->standing[i].provider, provider) != 0)
            faults->standing[kept++] = faults->standing[i];
        else
            json_decref(faults->standing[i].knobs);
    }
    faults->count = kept;
}

/* --- standing faults -------------------------------------------------------------------------- */

static bool apply_knob(struct scenario *scenario, const char *name, const json_t *value,
                       struct err *err)
{
    char number[32];

    if (json_is_string(value))
        return scenario_set(scenario, name, json_string_value(value), err);
    if (json_is_boolean(value))
        return scenario_set(scenario, name, json_is_true(value) ? "1" : "0", err);
    if (json_is_integer(value))
        snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(number, sizeof(number), "%g", json_real_value(value));
    else
        return err_input(err, "invalid_value", name, "%s: expected a string or a number", name);
    return scenario_set(scenario, name, number, err);
}

static bool apply_knobs(struct scenario *scenario, json_t *knobs, struct err *err)
{
    const char *name;
    json_t *value;

    json_object_foreach(knobs, name, value)
    {
        if (!apply_knob(scenario, name, value, err))
            return false;
    }
    return true;
}

bool faults_stand(struct faults *faults, const char *body, size_t len, struct err *err)
{
    json_t *root = json_parse(body, len, JSON_READ_STRICT, err);
    const char *provider = NULL;
    int64_t times = 0;
    struct scenario trial;
    bool ok = false;

    if (!root)
        return false;
    scenario_init(&trial);
    if (!json_is_object(root)) {
        err_input(err, "invalid_value", "", "expected an object");
        goto done;
    }
    if (!json_read_string(root, "", "provider", SCENARIO_NAME_SIZE - 1, &provider, err) ||
        !json_read_i64(root, "", "times", 0, INT64_MAX, &times, err))
        goto done;
    if (!provider || strlen(provider) >= SCENARIO_NAME_SIZE) {
        err_input(err, "missing_field", "provider", "provider: a name, or \"*\" for all");
        goto done;
    }
    faults_clear(faults, provider);
    if (faults->count == FAULTS_STANDING_MAX) {
        err_input(err, "too_large", "provider", "at most %d faults can stand", FAULTS_STANDING_MAX);
        goto done;
    }
    struct standing *standing = &faults->standing[faults->count];
    *standing = (struct standing){.times = times};
    snprintf(standing->provider, sizeof(standing->provider), "%s", provider);
    json_object_del(root, "provider");
    json_object_del(root, "times");
    if (!apply_knobs(&trial, root, err))
        goto done;
    standing->knobs = root;
    root = NULL; /* now the fault's */
    faults->count++;
    ok = true;
done:
    json_decref(root);
    return ok;
}

void faults_describe(const struct faults *faults, struct buf *out)
{
    buf_puts(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < faults->count; i++) {
        const struct standing *standing = &faults->standing[i];
        char *knobs = json_dumps(standing->knobs, JSON_COMPACT);

        buf_puts(out, i > 0 ? ",{\"provider\":" : "{\"provider\":");
        buf_put_json_string(out, standing->provider, strlen(standing->provider));
        buf_printf(out, ",\"times\":%" PRId64 ",\"used\":%" PRId64 ",\"knobs\":%s}",
                   standing->times, standing->used, knobs ? knobs : "{}");
        free(knobs);
    }
    buf_puts(out, "]}\n");
}

static struct standing *standing_for(struct faults *faults, const char *provider)
{
    for (size_t i = 0; i < faults->count; i++) {
        struct standing *standing = &faults->standing[i];

        if (strcmp(standing->provider, "*") != 0 && strcmp(standing->provider, provider) != 0)
            continue;
        if (standing->times == 0 || standing->used < standing->times)
            return standing;
    }
    return NULL;
}

/* --- counts ----------------------------------------------------------------------------------- */

/* Which call with this key this is, from 1.  When the table is full every call is a late one. */
static int64_t count_call(struct faults *faults, const char *key)
{
    uintptr_t count = (uintptr_t)map_get(faults->calls_by_key, key, strlen(key)) + 1;

    if (!map_put(faults->calls_by_key, key, strlen(key), (void *)count))
        return INT64_MAX;
    return (int64_t)count;
}

void faults_apply(struct faults *faults, const char *provider, const char *default_key,
                  struct scenario *scenario)
{
    struct standing *standing = standing_for(faults, provider);
    struct err ignored; /* the knobs were checked when the fault was set */

    if (standing) {
        standing->used++;
        if (!apply_knobs(scenario, standing->knobs, &ignored))
            scenario_clear_faults(scenario);
        return;
    }
    if (scenario->times == 0 || !scenario_is_faulty(scenario))
        return;
    if (count_call(faults, scenario->key[0] ? scenario->key : default_key) > scenario->times)
        scenario_clear_faults(scenario);
}
