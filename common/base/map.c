/* SPDX-License-Identifier: Apache-2.0 */
/* A hash map from byte-string keys to pointers: uthash behind a maximum and a keyed hash. */
#include "common/base/map.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"

static uint64_t map_hash(const void *key, size_t len);

#define HASH_FUNCTION(key, len, hash) ((hash) = (unsigned)map_hash(key, len))
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) (is_added = false)
#include <uthash.h>

struct map_entry {
    UT_hash_handle hh;
    void *value;
    size_t key_len;
    char key[];
};

struct map {
    struct map_entry *entries;
    size_t max;
};

/* Keys come from users (names of tenants, workflows, idempotency keys).  uthash's own functions
 * have no key: who knows them can put all names into one bucket.  SipHash-1-3 with a key made at
 * the first use leaves nothing to know. */
static uint64_t hash_key[2];

static void make_hash_key(void)
{
    crypto_random(hash_key, sizeof(hash_key));
}

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static void sip_absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
}

static uint64_t map_hash(const void *key, size_t len)
{
    const char *at = key;
    uint64_t v[4] = {
        hash_key[0] ^ UINT64_C(0x736f6d6570736575), hash_key[1] ^ UINT64_C(0x646f72616e646f6d),
        hash_key[0] ^ UINT64_C(0x6c7967656e657261), hash_key[1] ^ UINT64_C(0x7465646279746573)};
    uint64_t last = (uint64_t)len << 56;
    uint64_t word;

    for (; len >= sizeof(word); len -= sizeof(word), at += sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        sip_absorb(v, word);
    }
    word = 0;
    if (len > 0)
        memcpy(&word, at, len);
    sip_absorb(v, last | word);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct map *map_new(size_t max_entries)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct map *map = calloc(1, sizeof(*map));

    pthread_once(&once, make_hash_key);
    if (map)
        map->max = max_entries;
    return map;
}

static void entry_remove(struct map *map, struct map_entry *entry)
{
    HASH_DEL(map->entries, entry);
    free(entry);
}

void map_free(struct map *map)
{
    if (!map)
        return;
    while (map->entries)
        entry_remove(map, map->entries);
    free(map);
}

static struct map_entry *map_find(const struct map *map, const void *key, size_t key_len)
{
    struct map_entry *entry;

    HASH_FIND(hh, map->entries, key, key_len, entry);
    return entry;
}

void *map_get(const struct map *map, const void *key, size_t key_len)
{
    const struct map_entry *entry = map_find(map, key, key_len);

    return entry ? entry->value : NULL;
}

static bool map_add(struct map *map, const void *key, size_t key_len, void *value)
{
    struct map_entry *entry = malloc(sizeof(*entry) + key_len);
    bool is_added = true; /* uthash_nonfatal_oom says when not */

    if (!entry)
        return false;
    entry->value = value;
    entry->key_len = key_len;
    if (key_len)
        memcpy(entry->key, key, key_len);
    HASH_ADD_KEYPTR(hh, map->entries, entry->key, key_len, entry);
    if (!is_added)
        free(entry);
    return is_added;
}

bool map_put(struct map *map, const void *key, size_t key_len, void *value)
{
    struct map_entry *entry = map_find(map, key, key_len);

    if (entry) {
        entry->value = value;
        return true;
    }
    return map_count(map) < map->max && map_add(map, key, key_len, value);
}

void *map_remove(struct map *map, const void *key, size_t key_len)
{
    struct map_entry *entry = map_find(map, key, key_len);
    void *value = NULL;

    if (entry) {
        value = entry->value;
        entry_remove(map, entry);
    }
    return value;
}

size_t map_count(const struct map *map)
{
    return HASH_COUNT(map->entries);
}

void map_each(struct map *map, map_visit_fn *visit, void *arg)
{
    struct map_entry *entry, *next;

    for (entry = map->entries; entry; entry = next) {
        next = entry->hh.next; /* visit may remove the entry */
        if (!visit(entry->key, entry->key_len, entry->value, arg))
            return;
    }
}
