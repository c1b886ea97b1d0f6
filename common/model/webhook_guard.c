/* SPDX-License-Identifier: Apache-2.0 */
/* The address list of webhooks: what is public, minus this machine and the backends. */
#include "common/model/webhook_guard.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/option.h"
#include "common/io/resolve.h"

enum {
    HOST_SIZE = 256,
    OWN_MAX = 256,
    REFRESH_S = 60,
};

static const struct log_context guard_log = {.component = "webhooks"};

/* One configured host and the addresses it last had. */
struct backend {
    struct webhook_guard *guard;
    char name[HOST_SIZE];
    struct resolve *lookup; /* NULL: none under way */
    struct network addresses[RESOLVE_ADDRESSES_MAX];
    size_t address_count;
};

struct webhook_guard {
    struct event_base *base;
    struct network allow[OPTION_LIST_MAX];
    size_t allow_count;
    struct network own[OWN_MAX];
    size_t own_count;
    struct backend backends[WEBHOOK_BACKEND_HOSTS_MAX];
    size_t backend_count;
    int64_t refreshed_us; /* 0: never */
};

/* --- the hosts of a URL or list -----------------------------------------------------------------
 */

/* "user:word@h1:1,h2:2/db" -> "h1:1,h2:2"; "host=h1,h2 port=1" -> "h1,h2". */
static size_t find_hosts(const char **text)
{
    const char *scheme = strstr(*text, "://");
    const char *at, *end;

    if (!scheme && strstr(*text, "host=")) {
        *text = strstr(*text, "host=") + 5;
        return strcspn(*text, " ");
    }
    if (scheme)
        *text = scheme + 3;
    end = *text + strcspn(*text, scheme ? "/?" : " ");
    at = memrchr(*text, '@', (size_t)(end - *text));
    if (at)
        *text = at + 1;
    return (size_t)(end - *text);
}

static bool take_host(const char *item, size_t len, char out[HOST_SIZE])
{
    const char *colon = memrchr(item, ':', len);

    if (len > 0 && item[0] == '[') {
        const char *bracket = memchr(item, ']', len);

        item++;
        len = bracket ? (size_t)(bracket - item) : 0;
    } else if (colon && memchr(item, ':', len) == colon) {
        len = (size_t)(colon - item);
    }
    if (len == 0 || len >= HOST_SIZE || item[0] == '/')
        return false;
    memcpy(out, item, len);
    out[len] = '\0';
    return true;
}

size_t webhook_guard_hosts(const char *text, char hosts[][256], size_t max)
{
    size_t left = find_hosts(&text);
    size_t count = 0;

    while (left > 0 && count < max) {
        const char *comma = memchr(text, ',', left);
        size_t len = comma ? (size_t)(comma - text) : left;

        if (take_host(text, len, hosts[count]))
            count++;
        text += len + (comma ? 1 : 0);
        left -= len + (comma ? 1 : 0);
    }
    return count;
}

/* --- the lists ---------------------------------------------------------------------------------
 */

static void on_resolved(const char *const *addresses, size_t count, const char *error, void *arg)
{
    struct backend *backend = arg;

    backend->lookup = NULL;
    if (count == 0) { /* what was known before stays */
        log_debug(&guard_log, "look up %s: %s", backend->name, error);
        return;
    }
    backend->address_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct network *network = &backend->addresses[backend->address_count];

        if (network_parse(addresses[i], network, NULL))
            backend->address_count++;
    }
}

static void look_up(struct backend *backend)
{
    struct err err;

    if (backend->lookup)
        return;
    if (network_parse(backend->name, &backend->addresses[0], NULL)) {
        backend->address_count = 1;
        return;
    }
    backend->lookup =
        resolve_start(backend->guard->base, backend->name, on_resolved, backend, &err);
    if (!backend->lookup)
        log_warn(&guard_log, "look up %s: %s", backend->name, err.message);
}

static size_t address_size(const struct sockaddr *address)
{
    return address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static void read_own(struct webhook_guard *guard)
{
    struct ifaddrs *list = NULL;

    if (getifaddrs(&list) != 0)
        return;
    guard->own_count = 0;
    for (struct ifaddrs *at = list; at && guard->own_count < OWN_MAX; at = at->ifa_next) {
        char text[NI_MAXHOST];

        if (!at->ifa_addr ||
            (at->ifa_addr->sa_family != AF_INET && at->ifa_addr->sa_family != AF_INET6) ||
            getnameinfo(at->ifa_addr, (socklen_t)address_size(at->ifa_addr), text, sizeof(text),
                        NULL, 0, NI_NUMERICHOST) != 0)
            continue;
        text[strcspn(text, "%")] = '\0';
        if (network_parse(text, &guard->own[guard->own_count], NULL))
            guard->own_count++;
    }
    freeifaddrs(list);
}

void webhook_guard_refresh(struct webhook_guard *guard)
{
    int64_t now_us = clock_monotonic_us();

    if (guard->refreshed_us && now_us - guard->refreshed_us < REFRESH_S * US_PER_S)
        return;
    guard->refreshed_us = now_us;
    read_own(guard);
    for (size_t i = 0; i < guard->backend_count; i++)
        look_up(&guard->backends[i]);
}

static void add_backends(struct webhook_guard *guard, const char *text)
{
    char hosts[WEBHOOK_BACKEND_HOSTS_MAX][HOST_SIZE];
    size_t count = webhook_guard_hosts(text, hosts, WEBHOOK_BACKEND_HOSTS_MAX);

    for (size_t i = 0; i < count && guard->backend_count < WEBHOOK_BACKEND_HOSTS_MAX; i++) {
        struct backend *backend = &guard->backends[guard->backend_count++];

        backend->guard = guard;
        memcpy(backend->name, hosts[i], HOST_SIZE);
    }
}

struct webhook_guard *webhook_guard_new(struct event_base *base, const struct network *allow,
                                        size_t allow_count, const char *const *backends,
                                        size_t backend_count)
{
    struct webhook_guard *guard = calloc(1, sizeof(*guard));

    if (!guard)
        return NULL;
    guard->base = base;
    guard->allow_count = allow_count < OPTION_LIST_MAX ? allow_count : OPTION_LIST_MAX;
    if (allow_count > 0)
        memcpy(guard->allow, allow, guard->allow_count * sizeof(*allow));
    for (size_t i = 0; i < backend_count; i++) {
        if (backends[i])
            add_backends(guard, backends[i]);
    }
    webhook_guard_refresh(guard);
    return guard;
}

void webhook_guard_free(struct webhook_guard *guard)
{
    if (!guard)
        return;
    for (size_t i = 0; i < guard->backend_count; i++)
        resolve_cancel(guard->backends[i].lookup);
    free(guard);
}

bool webhook_guard_allows(const struct sockaddr *address, void *arg)
{
    const struct webhook_guard *guard = arg;

    if (!address_is_allowed(address, guard->allow, guard->allow_count))
        return false;
    if (networks_have(guard->allow, guard->allow_count, address))
        return true;
    if (networks_have(guard->own, guard->own_count, address))
        return false;
    for (size_t i = 0; i < guard->backend_count; i++) {
        const struct backend *backend = &guard->backends[i];

        if (networks_have(backend->addresses, backend->address_count, address))
            return false;
    }
    return true;
}
