/* SPDX-License-Identifier: Apache-2.0 */
/* The meters of keys that were asked for lately. */
#include "producer/meter_cache.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/number.h"
#include "producer/routes.h"

enum { KEY_SIZE = JOB_LABEL_MAX + 1 + CALLER_KEY_SIZE };

static const int64_t minute_us = 60 * US_PER_S;

/* Resets are kept as moments, so that they come nearer by themselves. */
struct entry {
    struct intake_meters meters;
    int64_t said_us;
    int64_t submits_reset_us, tokens_reset_us;
};

struct meter_cache {
    struct map *entries; /* struct entry by tenant, NUL, key */
};

struct meter_cache *meter_cache_new(void)
{
    struct meter_cache *cache = calloc(1, sizeof(*cache));

    if (!cache)
        return NULL;
    cache->entries = map_new(METER_CACHE_ENTRIES_MAX);
    if (cache->entries)
        return cache;
    free(cache);
    return NULL;
}

/* --- forgetting ------------------------------------------------------------------------------- */

struct forgetting {
    struct map *entries;
    bool is_all;
    int64_t now_us;
};

static bool is_fresh(const struct entry *entry, int64_t now_us)
{
    return now_us - entry->said_us < METER_CACHE_FRESH_MS * US_PER_MS;
}

static bool forget(const void *key, size_t key_len, void *value, void *arg)
{
    const struct forgetting *forgetting = arg;

    if (forgetting->is_all || !is_fresh(value, forgetting->now_us)) {
        map_remove(forgetting->entries, key, key_len);
        free(value);
    }
    return true;
}

/* Makes room for half of them at least: one walk over all serves many newcomers. */
static void make_room(struct meter_cache *cache, int64_t now_us)
{
    struct forgetting forgetting = {.entries = cache->entries, .now_us = now_us};

    if (map_count(cache->entries) < METER_CACHE_ENTRIES_MAX)
        return;
    map_each(cache->entries, forget, &forgetting);
    forgetting.is_all = true;
    if (map_count(cache->entries) > METER_CACHE_ENTRIES_MAX / 2)
        map_each(cache->entries, forget, &forgetting);
}

void meter_cache_free(struct meter_cache *cache)
{
    if (!cache)
        return;
    map_each(cache->entries, forget,
             &(struct forgetting){.entries = cache->entries, .is_all = true});
    map_free(cache->entries);
    free(cache);
}

/* --- knowing ---------------------------------------------------------------------------------- */

/* 0: such a name is nobody's. */
static size_t join_key(const char *tenant, const char *key_id, char out[KEY_SIZE])
{
    size_t tenant_size = strlen(tenant) + 1, key_len = strlen(key_id);

    if (tenant_size + key_len > KEY_SIZE)
        return 0;
    memcpy(out, tenant, tenant_size);
    memcpy(out + tenant_size, key_id, key_len);
    return tenant_size + key_len;
}

static struct entry *find(const struct meter_cache *cache, const char *tenant, const char *key_id)
{
    char key[KEY_SIZE];
    size_t len = join_key(tenant, key_id, key);

    return len > 0 ? map_get(cache->entries, key, len) : NULL;
}

bool meter_cache_get(const struct meter_cache *cache, const char *tenant, const char *key_id,
                     int64_t now_us, struct intake_meters *out)
{
    const struct entry *entry = find(cache, tenant, key_id);

    if (!entry || !is_fresh(entry, now_us))
        return false;
    *out = entry->meters;
    out->submits.reset_us = larger(entry->submits_reset_us - now_us, 0);
    out->tokens.reset_us = larger(entry->tokens_reset_us - now_us, 0);
    return true;
}

static struct entry *add(struct meter_cache *cache, const char *tenant, const char *key_id,
                         int64_t now_us)
{
    char key[KEY_SIZE];
    size_t len = join_key(tenant, key_id, key);
    struct entry *entry;

    if (len == 0)
        return NULL;
    make_room(cache, now_us);
    entry = malloc(sizeof(*entry));
    if (entry && map_put(cache->entries, key, len, entry))
        return entry;
    free(entry);
    return NULL;
}

void meter_cache_put(struct meter_cache *cache, const char *tenant, const char *key_id,
                     int64_t now_us, const struct intake_meters *meters)
{
    struct entry *entry = find(cache, tenant, key_id);

    if (!entry)
        entry = add(cache, tenant, key_id, now_us);
    if (!entry)
        return;
    *entry = (struct entry){.meters = *meters,
                            .said_us = now_us,
                            .submits_reset_us = now_us + meters->submits.reset_us,
                            .tokens_reset_us = now_us + meters->tokens.reset_us};
}

void meter_cache_take(struct meter_cache *cache, const char *tenant, const char *key_id,
                      int64_t now_us)
{
    struct entry *entry = find(cache, tenant, key_id);
    struct intake_meter *submits = entry ? &entry->meters.submits : NULL;

    if (!entry || submits->limit <= 0)
        return;
    /* As intake.lua moves the time of arrival. */
    submits->remaining = larger(submits->remaining - 1, 0);
    entry->submits_reset_us = larger(entry->submits_reset_us, now_us) + minute_us / submits->limit;
}

size_t meter_cache_count(const struct meter_cache *cache)
{
    return map_count(cache->entries);
}
