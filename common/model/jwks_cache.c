/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the key sets of identity providers. */
#include "common/model/jwks_cache.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/io/http_client.h"
#include "common/io/metrics.h"
#include "common/model/webhook_guard.h"

enum { FETCH_TIMEOUT_MS = 5000, CALLS_MAX = 4 };

static const struct log_context log_keys = {.component = "keys"};

static const struct metric fetches_total = {
    .name = "nightshift_jwks_fetches_total",
    .type = METRIC_COUNTER,
    .help = "Fetches of an identity provider's keys.",
    .labels = {"provider", "outcome"},
};

struct waiter {
    struct waiter *next;
    jwks_done_fn *done;
    void *arg;
};

/* One provider's keys.  Times are monotonic; 0: never. */
struct source {
    const struct identity_provider *provider;
    struct http_client *http; /* NULL for a file */
    struct webhook_guard *guard;
    struct http_call *call; /* a fetch is under way */
    struct buf body;
    struct jwt_keys *keys;
    int64_t good_us;    /* keys are of this fetch */
    int64_t tried_us;   /* the last fetch of all */
    int64_t unknown_us; /* the last that an unknown key made */
    int fetches;
    struct event *timer; /* the next regular one */
    struct waiter *waiters;
    int waiter_count;
};

struct jwks_cache {
    size_t count;
    struct source sources[IDENTITY_PROVIDERS_MAX];
};

/* --- a fetch ---------------------------------------------------------------------------------- */

static void answer_waiters(struct source *source)
{
    struct waiter *waiters = source->waiters;

    source->waiters = NULL;
    source->waiter_count = 0;
    while (waiters) {
        struct waiter *waiter = waiters;

        waiters = waiter->next;
        waiter->done(source->keys, waiter->arg);
        free(waiter);
    }
}

static void schedule(struct source *source, int64_t seconds)
{
    struct timeval wait = {.tv_sec = seconds};

    event_add(source->timer, &wait);
}

/* Old keys serve on: an identity provider that is away for an hour stops nobody. */
static void fetch_failed(struct source *source, const char *why)
{
    int64_t now_us = clock_monotonic_us();
    int64_t refresh_s = source->provider->refresh_s;

    metric_add(&fetches_total, METRIC_LABELS(source->provider->name, "failed"), 1);
    log_warn(&log_keys, "no keys of identity provider %s: %s", source->provider->name, why);
    if (source->keys && now_us - source->good_us > JWKS_STALE_MAX_S * US_PER_S) {
        jwt_keys_free(source->keys);
        source->keys = NULL;
    }
    schedule(source, refresh_s < 4 * JWKS_RETRY_S ? refresh_s : 4 * JWKS_RETRY_S);
}

static void fetch_ended(struct source *source, const char *text, size_t len)
{
    struct err why = {{0}, {0}, {0}};
    struct jwt_keys *fresh = jwt_keys_parse(text, len, &why);

    if (!fresh) {
        fetch_failed(source, why.message);
        return;
    }
    if (jwt_keys_count(fresh) == 0)
        log_warn(&log_keys, "identity provider %s has no key that may sign",
                 source->provider->name);
    metric_add(&fetches_total, METRIC_LABELS(source->provider->name, "done"), 1);
    jwt_keys_free(source->keys);
    source->keys = fresh;
    source->good_us = clock_monotonic_us();
    schedule(source, source->provider->refresh_s);
}

static bool on_data(struct http_call *call, const char *data, size_t len, void *arg)
{
    struct source *source = arg;

    (void)call;
    return buf_append(&source->body, data, len);
}

static void on_done(struct http_call *call, const struct http_answer *answer, void *arg)
{
    struct source *source = arg;
    char why[ERR_MESSAGE_MAX];

    (void)call;
    source->call = NULL;
    snprintf(why, sizeof(why), "%s status=%d %s", http_outcome_name(answer->outcome),
             answer->status, answer->message);
    if (answer->outcome == HTTP_DONE && answer->status == 200)
        fetch_ended(source, source->body.data ? source->body.data : "", source->body.len);
    else
        fetch_failed(source, why);
    buf_release(&source->body);
    answer_waiters(source);
}

static void fetch_file(struct source *source)
{
    struct buf content;
    struct err err = {{0}, {0}, {0}};

    if (!file_read(source->provider->jwks_file, JWT_KEYS_SIZE_MAX, &content, &err)) {
        fetch_failed(source, err.message);
        return;
    }
    fetch_ended(source, content.data ? content.data : "", content.len);
    buf_release(&content);
}

static void fetch_url(struct source *source)
{
    static const char *const headers[] = {"accept: application/json", NULL};
    static const struct http_callbacks callbacks = {.on_data = on_data, .on_done = on_done};
    struct http_call_spec spec = {
        .method = "GET",
        .url = source->provider->jwks_url,
        .headers = headers,
        .total_timeout_ms = FETCH_TIMEOUT_MS,
        .max_body_bytes = JWT_KEYS_SIZE_MAX,
    };
    struct err err = {{0}, {0}, {0}};

    webhook_guard_refresh(source->guard);
    buf_init(&source->body, JWT_KEYS_SIZE_MAX);
    source->call = http_call_start(source->http, &spec, &callbacks, source, &err);
    if (!source->call)
        fetch_failed(source, err.message);
}

/* With a file it is over when this returns. */
static void fetch(struct source *source)
{
    if (source->call)
        return;
    source->fetches++;
    source->tried_us = clock_monotonic_us();
    if (source->provider->jwks_file)
        fetch_file(source);
    else
        fetch_url(source);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    fetch(arg);
}

/* --- asking ----------------------------------------------------------------------------------- */

/* Tokens with made-up keys come as often as somebody likes; fetches for them do not. */
static bool fetch_is_due(struct source *source)
{
    int64_t now_us = clock_monotonic_us();

    if (!source->keys)
        return now_us - source->tried_us >= JWKS_RETRY_S * US_PER_S;
    if (source->unknown_us && now_us - source->unknown_us < JWKS_UNKNOWN_EVERY_S * US_PER_S)
        return false;
    source->unknown_us = now_us;
    return true;
}

static bool wait_for(struct source *source, jwks_done_fn *done, void *arg)
{
    struct waiter *waiter =
        source->waiter_count < JWKS_WAITERS_MAX ? malloc(sizeof(*waiter)) : NULL;

    if (!waiter)
        return false;
    *waiter = (struct waiter){source->waiters, done, arg};
    source->waiters = waiter;
    source->waiter_count++;
    return true;
}

static struct source *source_of(const struct jwks_cache *cache,
                                const struct identity_provider *provider)
{
    struct jwks_cache *mine = (struct jwks_cache *)(uintptr_t)cache;

    for (size_t i = 0; i < cache->count; i++)
        if (cache->sources[i].provider == provider)
            return &mine->sources[i];
    return NULL;
}

void jwks_cache_find(struct jwks_cache *cache, const struct identity_provider *provider,
                     const char *kid, jwks_done_fn *done, void *arg)
{
    struct source *source = source_of(cache, provider);

    if (!source) {
        done(NULL, arg);
        return;
    }
    if (!(source->keys && jwt_keys_have(source->keys, kid)) && !source->call &&
        fetch_is_due(source))
        fetch(source);
    if ((source->keys && jwt_keys_have(source->keys, kid)) || !source->call ||
        !wait_for(source, done, arg))
        done(source->keys, arg);
}

int jwks_cache_fetches(const struct jwks_cache *cache, const struct identity_provider *provider)
{
    const struct source *source = source_of(cache, provider);

    return source ? source->fetches : 0;
}

/* --- the cache -------------------------------------------------------------------------------- */

static bool source_start(struct source *source, struct event_base *base,
                         const char *const *backends, size_t backend_count, struct err *err)
{
    const struct identity_provider *provider = source->provider;
    struct http_client_options http = {.max_calls = CALLS_MAX,
                                       .address_allowed = webhook_guard_allows};

    source->timer = event_new(base, -1, 0, on_timer, source);
    if (provider->jwks_url) {
        source->guard = webhook_guard_new(base, provider->allow, provider->allow_count, backends,
                                          backend_count);
        http.arg = source->guard;
        source->http = source->guard ? http_client_new(base, &http, err) : NULL;
    }
    if (!source->timer || (provider->jwks_url && !source->http))
        return err_set(err, "keep the keys of identity provider %s: out of memory", provider->name);
    metric_declare(&fetches_total, METRIC_LABELS(provider->name, "done"));
    metric_declare(&fetches_total, METRIC_LABELS(provider->name, "failed"));
    schedule(source, 0);
    return true;
}

struct jwks_cache *jwks_cache_new(struct event_base *base, const struct identity_settings *settings,
                                  const char *const *backends, size_t backend_count,
                                  struct err *err)
{
    struct jwks_cache *cache = calloc(1, sizeof(*cache));

    if (!cache) {
        err_set(err, "keep keys of identity providers: out of memory");
        return NULL;
    }
    for (; cache->count < settings->count; cache->count++) {
        cache->sources[cache->count].provider = &settings->providers[cache->count];
        if (!source_start(&cache->sources[cache->count], base, backends, backend_count, err)) {
            cache->count++;
            jwks_cache_free(cache);
            return NULL;
        }
    }
    return cache;
}

void jwks_cache_refresh(struct jwks_cache *cache)
{
    for (size_t i = 0; i < cache->count; i++)
        fetch(&cache->sources[i]);
}

void jwks_cache_free(struct jwks_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < cache->count; i++) {
        struct source *source = &cache->sources[i];

        jwt_keys_free(source->keys);
        source->keys = NULL;
        answer_waiters(source);
        if (source->http)
            http_client_free(source->http);
        webhook_guard_free(source->guard);
        if (source->timer)
            event_free(source->timer);
        buf_release(&source->body);
    }
    free(cache);
}
