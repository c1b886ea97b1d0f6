/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of all limits in memory, kept fresh by one statement every half second. */
#include "common/model/limit_cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/io/pg.h"
#include "common/model/limit_store.h"

enum { ZONES_MAX = 1024 }; /* more than there are */

static const struct log_context log_limits = {.component = "limits"};
static const char utc[] = "UTC";

/* This window and the next, so that midnight needs no question. */
struct zone {
    char name[TIME_ZONE_MAX + 1];
    char days[2][WINDOW_ID_SIZE];
    char months[2][WINDOW_ID_SIZE];
    int64_t day_ends_us[2];
    int64_t month_ends_us[2];
};

struct tenant_entry {
    struct tenant_limits view;
    struct zone *zone;
    int key_budgets;      /* keys of it that have a budget */
    bool is_row_disabled; /* as its row says */
    bool is_unreadable;   /* its document is of a newer version: it rests */
};

struct key_entry {
    struct limits *limits;
    char tenant[JOB_LABEL_MAX + 1];
    bool has_budget;
};

struct waiter {
    struct waiter *next;
    limit_cache_polled_fn *done; /* NULL: nobody waits, or no more */
    void *arg;
};

/* A statement that is out; it may outlive the cache. */
struct poll {
    struct limit_cache *cache; /* NULL: freed */
    struct waiter *waiters;    /* they asked before it was sent */
    int64_t sent_us;
};

struct limit_cache {
    struct pg *pg;
    struct event *timer;
    struct map *tenants; /* struct tenant_entry by name: those that are not as everybody */
    struct map *keys;    /* struct key_entry by id */
    struct map *zones;   /* struct zone by name; they stay */
    struct tenant_limits nobody;
    char run_id[RUN_ID_MAX + 1];
    int64_t binding_generation;
    int64_t since;
    int64_t asked_us;
    struct poll *poll;      /* NULL: none is out */
    struct waiter *waiters; /* for the next one */
    bool is_over;           /* it did not fit */
};

/* --- entries ---------------------------------------------------------------------------------- */

static void format_generation(const struct limit_cache *cache, struct tenant_limits *view)
{
    snprintf(view->generation, sizeof(view->generation), "%" PRId64 ".%" PRId64,
             cache->binding_generation, view->book_generation);
}

static bool entry_has_budget(const struct tenant_entry *entry)
{
    return limits_has_budget(entry->view.limits) || entry->key_budgets > 0;
}

/* NULL: it does not fit, and the cache says so from now on. */
static struct tenant_entry *tenant_entry(struct limit_cache *cache, const char *tenant)
{
    struct tenant_entry *entry = map_get(cache->tenants, tenant, strlen(tenant));

    if (entry)
        return entry;
    entry = calloc(1, sizeof(*entry));
    if (entry && map_put(cache->tenants, tenant, strlen(tenant), entry)) {
        entry->view.weight = 1;
        format_generation(cache, &entry->view);
        return entry;
    }
    free(entry);
    if (!cache->is_over)
        log_error(&log_limits, "limits do not fit: tenants=%zu", map_count(cache->tenants));
    cache->is_over = true;
    return NULL;
}

/* An entry that is as everybody's needs no memory. */
static void tenant_entry_tidy(struct limit_cache *cache, const char *tenant,
                              struct tenant_entry *entry)
{
    if (entry->view.limits || entry->view.is_disabled || entry->view.weight != 1 ||
        entry->view.book_generation > 0 || entry->key_budgets > 0)
        return;
    map_remove(cache->tenants, tenant, strlen(tenant));
    free(entry);
}

static struct zone *zone_find(const struct limit_cache *cache, const char *name)
{
    return map_get(cache->zones, name, strlen(name));
}

/* --- taking changes --------------------------------------------------------------------------- */

static bool reformat(const void *key, size_t key_len, void *value, void *arg)
{
    struct tenant_entry *entry = value;

    (void)key;
    (void)key_len;
    format_generation(arg, &entry->view);
    return true;
}

static void take_binding(struct limit_cache *cache, const struct limit_change *change)
{
    snprintf(cache->run_id, sizeof(cache->run_id), "%s", change->name ? change->name : "");
    if (cache->binding_generation == change->number)
        return;
    cache->binding_generation = change->number;
    format_generation(cache, &cache->nobody);
    map_each(cache->tenants, reformat, cache);
}

static void take_zone(struct limit_cache *cache, const struct limit_change *change)
{
    const struct zone_windows *windows = &change->windows;
    struct zone *zone = zone_find(cache, change->name);

    if (!zone) {
        zone = calloc(1, sizeof(*zone));
        if (!zone || !map_put(cache->zones, change->name, strlen(change->name), zone)) {
            log_error(&log_limits, "no room for a time zone: count=%zu", map_count(cache->zones));
            free(zone);
            return;
        }
        snprintf(zone->name, sizeof(zone->name), "%s", change->name);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(zone->days[i], sizeof(zone->days[i]), "%s", windows->days[i]);
        snprintf(zone->months[i], sizeof(zone->months[i]), "%s", windows->months[i]);
        zone->day_ends_us[i] = windows->day_ends_us[i];
        zone->month_ends_us[i] = windows->month_ends_us[i];
    }
}

static void take_tenant(struct limit_cache *cache, const struct limit_change *change)
{
    struct tenant_entry *entry = tenant_entry(cache, change->name);

    if (!entry)
        return;
    entry->is_row_disabled = change->flag;
    entry->view.is_disabled = entry->is_row_disabled || entry->is_unreadable;
    entry->view.weight = (int)change->number;
    tenant_entry_tidy(cache, change->name, entry);
}

static void take_book(struct limit_cache *cache, const struct limit_change *change)
{
    struct tenant_entry *entry = tenant_entry(cache, change->name);

    if (!entry)
        return;
    entry->view.book_generation = change->number;
    format_generation(cache, &entry->view);
}

/* Like NULL where there is no limit at all, so that nobody asks Redis for nothing. */
static struct limits *read_document(const struct limit_change *change, enum limits_owner owner,
                                    bool *is_unreadable)
{
    struct err err = {0};
    struct limits *limits = limits_parse_text(change->document, change->document_len, owner, &err);

    *is_unreadable = !limits;
    if (!limits)
        log_error(&log_limits, "limits of %s cannot be read: %s", change->name, err.message);
    if (!limits || !limits_is_empty(limits) || limits_time_zone(limits))
        return limits;
    limits_unref(limits);
    return NULL;
}

static void take_tenant_document(struct limit_cache *cache, const struct limit_change *change)
{
    struct tenant_entry *entry = tenant_entry(cache, change->name);
    bool is_unreadable = false;
    struct limits *limits;

    if (!entry)
        return;
    limits = read_document(change, LIMITS_OF_TENANT, &is_unreadable);
    entry->is_unreadable = is_unreadable;
    entry->view.is_disabled = entry->is_row_disabled || is_unreadable;
    if (!is_unreadable) {
        limits_unref(entry->view.limits);
        entry->view.limits = limits;
        entry->zone = limits_time_zone(limits) ? zone_find(cache, limits_time_zone(limits)) : NULL;
    }
    tenant_entry_tidy(cache, change->name, entry);
}

static void count_key_budget(struct limit_cache *cache, const char *tenant, int change)
{
    struct tenant_entry *entry = change ? tenant_entry(cache, tenant) : NULL;

    if (!entry)
        return;
    entry->key_budgets += change;
    tenant_entry_tidy(cache, tenant, entry);
}

/* A key's document that cannot be read stays as it was; one never read leaves the key to its
 * tenant's limits. */
static void take_key_document(struct limit_cache *cache, const struct limit_change *change)
{
    struct key_entry *entry = map_get(cache->keys, change->name, strlen(change->name));
    bool is_unreadable = false, had_budget = entry && entry->has_budget;
    struct limits *limits = read_document(change, LIMITS_OF_KEY, &is_unreadable);

    if (is_unreadable || !change->tenant || (!limits && !entry)) {
        limits_unref(limits);
        return;
    }
    if (!entry) {
        entry = calloc(1, sizeof(*entry));
        if (!entry || !map_put(cache->keys, change->name, strlen(change->name), entry)) {
            cache->is_over = true;
            log_error(&log_limits, "limits do not fit: keys=%zu", map_count(cache->keys));
            free(entry);
            limits_unref(limits);
            return;
        }
        snprintf(entry->tenant, sizeof(entry->tenant), "%s", change->tenant);
    }
    limits_unref(entry->limits);
    entry->limits = limits;
    entry->has_budget = limits_has_budget(limits);
    count_key_budget(cache, entry->tenant, (int)entry->has_budget - (int)had_budget);
    if (limits)
        return;
    map_remove(cache->keys, change->name, strlen(change->name));
    free(entry);
}

static void take_change(struct limit_cache *cache, const struct limit_change *change)
{
    switch (change->kind) {
    case LIMIT_CHANGE_MARK:
        cache->since = change->number;
        break;
    case LIMIT_CHANGE_BINDING:
        take_binding(cache, change);
        break;
    case LIMIT_CHANGE_ZONE:
        take_zone(cache, change);
        break;
    case LIMIT_CHANGE_TENANT:
        take_tenant(cache, change);
        break;
    case LIMIT_CHANGE_BOOK:
        take_book(cache, change);
        break;
    case LIMIT_CHANGE_TENANT_DOC:
        take_tenant_document(cache, change);
        break;
    case LIMIT_CHANGE_KEY_DOC:
        take_key_document(cache, change);
        break;
    }
}

/* --- polling ---------------------------------------------------------------------------------- */

static void poll_send(struct limit_cache *cache);

static void tell_waiters(struct waiter *waiters, bool ok)
{
    while (waiters) {
        struct waiter *waiter = waiters;

        waiters = waiter->next;
        if (waiter->done)
            waiter->done(ok, waiter->arg);
        free(waiter);
    }
}

static void schedule(struct limit_cache *cache)
{
    const struct timeval wait = {.tv_usec = LIMIT_CACHE_POLL_MS * 1000};

    event_add(cache->timer, &wait);
}

static void on_changes(const struct pg_reply *reply, void *arg)
{
    struct poll *poll = arg;
    struct limit_cache *cache = poll->cache;
    struct waiter *waiters = poll->waiters;
    bool ok = reply->status == PG_OK;
    struct limit_change change;

    if (!cache) {
        free(poll);
        return;
    }
    for (int row = 0; ok && row < pg_rows(reply->result); row++) {
        limit_change_read(reply->result, row, &change);
        take_change(cache, &change);
    }
    if (ok)
        cache->asked_us = poll->sent_us;
    else
        log_debug(&log_limits, "limits not looked at: %s", reply->message);
    free(poll);
    cache->poll = NULL;
    if (cache->waiters)
        poll_send(cache);
    else
        schedule(cache);
    tell_waiters(waiters, ok);
}

struct zone_list {
    const char *names[ZONES_MAX];
    size_t count;
    int64_t now_us;
};

/* Those whose day is over: what comes after the next is asked for now. */
static bool list_zone(const void *key, size_t key_len, void *value, void *arg)
{
    const struct zone *zone = value;
    struct zone_list *list = arg;

    (void)key;
    (void)key_len;
    if (zone->day_ends_us[0] <= list->now_us && list->count < ZONES_MAX)
        list->names[list->count++] = zone->name;
    return true;
}

static void poll_send(struct limit_cache *cache)
{
    struct zone_list list = {.now_us = clock_db_us()};
    struct poll *poll = calloc(1, sizeof(*poll));

    if (!poll) {
        schedule(cache);
        return;
    }
    *poll = (struct poll){.cache = cache, .waiters = cache->waiters};
    poll->sent_us = clock_monotonic_us();
    cache->waiters = NULL;
    cache->poll = poll;
    event_del(cache->timer);
    if (!zone_find(cache, utc))
        list.names[list.count++] = utc;
    map_each(cache->zones, list_zone, &list);
    limit_changes(cache->pg, cache->since, list.names, list.count, on_changes, poll);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct limit_cache *cache = arg;

    (void)fd;
    (void)what;
    if (!cache->poll)
        poll_send(cache);
}

bool limit_cache_poll(struct limit_cache *cache, limit_cache_polled_fn *done, void *arg)
{
    struct waiter *waiter = malloc(sizeof(*waiter));

    if (!waiter)
        return false;
    *waiter = (struct waiter){.next = cache->waiters, .done = done, .arg = arg};
    cache->waiters = waiter;
    if (!cache->poll)
        poll_send(cache);
    return true;
}

static void cancel_in(struct waiter *waiter, const void *arg)
{
    for (; waiter; waiter = waiter->next)
        if (waiter->arg == arg)
            waiter->done = NULL;
}

void limit_cache_cancel(struct limit_cache *cache, const void *arg)
{
    cancel_in(cache->waiters, arg);
    if (cache->poll)
        cancel_in(cache->poll->waiters, arg);
}

/* --- life ------------------------------------------------------------------------------------- */

struct limit_cache *limit_cache_new(struct event_base *base, struct pg *pg)
{
    struct limit_cache *cache = calloc(1, sizeof(*cache));

    if (!cache)
        return NULL;
    cache->pg = pg;
    cache->nobody.weight = 1;
    format_generation(cache, &cache->nobody);
    cache->timer = evtimer_new(base, on_timer, cache);
    cache->tenants = map_new(LIMIT_CACHE_ENTRIES_MAX);
    cache->keys = map_new(LIMIT_CACHE_ENTRIES_MAX);
    cache->zones = map_new(ZONES_MAX);
    if (cache->timer && cache->tenants && cache->keys && cache->zones) {
        poll_send(cache);
        return cache;
    }
    limit_cache_free(cache);
    return NULL;
}

static bool free_tenant(const void *key, size_t key_len, void *value, void *arg)
{
    struct tenant_entry *entry = value;

    map_remove(arg, key, key_len);
    limits_unref(entry->view.limits);
    free(entry);
    return true;
}

static bool free_key(const void *key, size_t key_len, void *value, void *arg)
{
    struct key_entry *entry = value;

    map_remove(arg, key, key_len);
    limits_unref(entry->limits);
    free(entry);
    return true;
}

static bool free_zone(const void *key, size_t key_len, void *value, void *arg)
{
    map_remove(arg, key, key_len);
    free(value);
    return true;
}

static void free_map(struct map *map, map_visit_fn *visit)
{
    if (map)
        map_each(map, visit, map);
    map_free(map);
}

void limit_cache_free(struct limit_cache *cache)
{
    struct waiter *sent = NULL, *waiting;

    if (!cache)
        return;
    if (cache->poll) {
        sent = cache->poll->waiters;
        cache->poll->waiters = NULL;
        cache->poll->cache = NULL;
    }
    waiting = cache->waiters;
    if (cache->timer)
        event_free(cache->timer);
    free_map(cache->tenants, free_tenant);
    free_map(cache->keys, free_key);
    free_map(cache->zones, free_zone);
    free(cache);
    tell_waiters(sent, false);
    tell_waiters(waiting, false);
}

/* --- asking ----------------------------------------------------------------------------------- */

bool limit_cache_is_ready(const struct limit_cache *cache)
{
    return cache->asked_us > 0 && !cache->is_over;
}

const struct tenant_limits *limit_cache_tenant(const struct limit_cache *cache, const char *tenant)
{
    const struct tenant_entry *entry = map_get(cache->tenants, tenant, strlen(tenant));

    return entry ? &entry->view : &cache->nobody;
}

struct limits *limit_cache_key(const struct limit_cache *cache, const char *key_id)
{
    const struct key_entry *entry = map_get(cache->keys, key_id, strlen(key_id));

    return entry ? entry->limits : NULL;
}

int limit_cache_apply(const struct limit_cache *cache, const char *tenant, const char *key_id,
                      const char *workflow, const char *user, const char *model,
                      struct applied_limit out[LIMIT_SCOPE_COUNT])
{
    return limits_apply(limit_cache_tenant(cache, tenant)->limits, limit_cache_key(cache, key_id),
                        key_id, workflow, user, model, out);
}

enum budget_policy limit_cache_policy(const struct limit_cache *cache, const char *tenant,
                                      const char *key_id)
{
    if (limits_policy(limit_cache_key(cache, key_id)) == BUDGET_FAIL)
        return BUDGET_FAIL;
    return limits_policy(limit_cache_tenant(cache, tenant)->limits);
}

static int window_at(const int64_t ends_us[2], int64_t now_us)
{
    if (now_us < ends_us[0])
        return 0;
    return now_us < ends_us[1] ? 1 : -1;
}

bool limit_cache_windows(const struct limit_cache *cache, const char *tenant, int64_t now_us,
                         struct budget_windows *out)
{
    const struct tenant_entry *entry = map_get(cache->tenants, tenant, strlen(tenant));
    const struct zone *zone = entry && entry->zone ? entry->zone : zone_find(cache, utc);
    int day = zone ? window_at(zone->day_ends_us, now_us) : -1;
    int month = zone ? window_at(zone->month_ends_us, now_us) : -1;

    if (day < 0 || month < 0)
        return false;
    snprintf(out->day, sizeof(out->day), "%.4s-%.2s-%.2s", zone->days[day], zone->days[day] + 4,
             zone->days[day] + 6);
    snprintf(out->id[BUDGET_DAY], WINDOW_ID_SIZE, "d%.8s", zone->days[day]);
    snprintf(out->id[BUDGET_MONTH], WINDOW_ID_SIZE, "m%.6s", zone->months[month]);
    snprintf(out->id[BUDGET_TOTAL], WINDOW_ID_SIZE, "t");
    out->end_us[BUDGET_DAY] = zone->day_ends_us[day];
    out->end_us[BUDGET_MONTH] = zone->month_ends_us[month];
    out->end_us[BUDGET_TOTAL] = INT64_MAX;
    return true;
}

const char *limit_cache_run_id(const struct limit_cache *cache)
{
    return cache->run_id;
}

/* Keys of the map are not NUL-terminated for its visitors. */
struct visit {
    limit_cache_visit_fn *tenant;
    limit_cache_key_fn *key;
    const char *of;
    void *arg;
};

static bool visit_tenant(const void *key, size_t key_len, void *value, void *arg)
{
    const struct tenant_entry *entry = value;
    const struct visit *visit = arg;
    char name[JOB_LABEL_MAX + 1];

    if (!entry_has_budget(entry) || key_len > JOB_LABEL_MAX)
        return true;
    memcpy(name, key, key_len);
    name[key_len] = '\0';
    return visit->tenant(name, &entry->view, visit->arg);
}

void limit_cache_each_budget(struct limit_cache *cache, limit_cache_visit_fn *visit, void *arg)
{
    map_each(cache->tenants, visit_tenant, &(struct visit){.tenant = visit, .arg = arg});
}

static bool visit_key(const void *key, size_t key_len, void *value, void *arg)
{
    const struct key_entry *entry = value;
    const struct visit *visit = arg;
    char id[JOB_LABEL_MAX + 1];

    if (strcmp(entry->tenant, visit->of) != 0 || key_len > JOB_LABEL_MAX)
        return true;
    memcpy(id, key, key_len);
    id[key_len] = '\0';
    return visit->key(id, entry->limits, visit->arg);
}

void limit_cache_each_key(struct limit_cache *cache, const char *tenant, limit_cache_key_fn *visit,
                          void *arg)
{
    map_each(cache->keys, visit_key, &(struct visit){.key = visit, .of = tenant, .arg = arg});
}
