/* SPDX-License-Identifier: Apache-2.0 */
/* Where a pg connection goes: the URL's parts, our settings, and the addresses of its hosts. */
#include "common/io/pg_target.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/io/resolve.h"

enum {
    KEYWORDS_MAX = 64,
    OPTIONS_MAX = 4096,
    HOST_LIST_MAX = 16384,
    HOST_SIZE = 256,
    PORT_SIZE = 16,
};

/* One of the URL's hosts.  A name has no addresses until they are looked up. */
struct host {
    char name[HOST_SIZE];
    char port[PORT_SIZE];
    bool needs_lookup;
    bool is_known; /* looked up, also in vain */
    size_t count;
    char addresses[RESOLVE_ADDRESSES_MAX][RESOLVE_ADDRESS_SIZE];
};

struct pg_target {
    PQconninfoOption *given; /* the URL, taken apart */
    char *application;
    struct buf settings;
    struct host hosts[PG_HOSTS_MAX];
    size_t host_count; /* 0: libpq's own default */
    size_t first;
};

/* libpq's parameter arrays while they are put together. */
struct keywords {
    const char *names[KEYWORDS_MAX + 1];
    const char *values[KEYWORDS_MAX + 1];
    size_t count;
};

static const char *given(const struct pg_target *target, const char *keyword)
{
    for (const PQconninfoOption *at = target->given; at->keyword; at++) {
        if (strcmp(at->keyword, keyword) == 0)
            return at->val && at->val[0] ? at->val : NULL;
    }
    return NULL;
}

/* Copies the index-th item of a comma-separated list; false past its end. */
static bool list_item(const char *list, size_t index, char *out, size_t size)
{
    size_t len;

    while (index-- > 0) {
        list = strchr(list, ',');
        if (!list)
            return false;
        list++;
    }
    len = strcspn(list, ",");
    if (len >= size)
        return false;
    memcpy(out, list, len);
    out[len] = '\0';
    return true;
}

static size_t list_count(const char *list)
{
    size_t count = 1;

    for (; *list; list++)
        count += *list == ',';
    return count;
}

static bool host_init(struct host *host, const char *names, const char *ports, size_t index)
{
    size_t port = ports && list_count(ports) > 1 ? index : 0;

    if (!list_item(names, index, host->name, sizeof(host->name)))
        return false;
    if (ports && !list_item(ports, port, host->port, sizeof(host->port)))
        return false;
    host->needs_lookup = host->name[0] && host->name[0] != '/' && host->name[0] != '@' &&
                         !resolve_is_address(host->name);
    return true;
}

/* Splits the URL's host list (or PGHOST's).  Where it gives hostaddr, libpq needs no help. */
static bool hosts_split(struct pg_target *target, struct err *err)
{
    const char *names = given(target, "host");
    const char *ports = given(target, "port");

    if (given(target, "hostaddr"))
        return true;
    if (!names)
        names = getenv("PGHOST");
    if (!names || !names[0])
        return true;
    if (!ports)
        ports = getenv("PGPORT");
    target->host_count = list_count(names);
    if (target->host_count > PG_HOSTS_MAX)
        return err_set(err, "database URL: over %d hosts", PG_HOSTS_MAX);
    for (size_t i = 0; i < target->host_count; i++) {
        if (!host_init(&target->hosts[i], names, ports, i))
            return err_set(err, "database URL: host %zu: too long, or its port is missing", i + 1);
    }
    return true;
}

static bool target_init(struct pg_target *target, const char *url, const char *application,
                        const char *settings, struct err *err)
{
    char *why = NULL;
    const char *options;

    buf_init(&target->settings, OPTIONS_MAX);
    target->given = PQconninfoParse(url, &why);
    PQfreemem(why); /* may quote the password */
    if (!target->given)
        return err_set(err, "database URL: expected postgresql://user:password@host:port/database "
                            "or libpq's key=value form");
    target->application = strdup(application);
    options = given(target, "options");
    if (options)
        buf_printf(&target->settings, "%s ", options);
    buf_puts(&target->settings, settings);
    if (!target->application || target->settings.is_broken)
        return err_set(err, "database URL: options over %d bytes, or out of memory", OPTIONS_MAX);
    return hosts_split(target, err);
}

struct pg_target *pg_target_new(const char *url, const char *application, const char *settings,
                                struct err *err)
{
    struct pg_target *target = calloc(1, sizeof(*target));

    if (!target) {
        err_set(err, "database URL: out of memory");
        return NULL;
    }
    if (target_init(target, url, application, settings, err))
        return target;
    pg_target_free(target);
    return NULL;
}

void pg_target_free(struct pg_target *target)
{
    if (!target)
        return;
    PQconninfoFree(target->given);
    free(target->application);
    buf_release(&target->settings);
    free(target);
}

const char *pg_target_unresolved(const struct pg_target *target)
{
    for (size_t i = 0; i < target->host_count; i++) {
        if (target->hosts[i].needs_lookup && !target->hosts[i].is_known)
            return target->hosts[i].name;
    }
    return NULL;
}

void pg_target_set_addresses(struct pg_target *target, const char *const *addresses, size_t count)
{
    for (size_t i = 0; i < target->host_count; i++) {
        struct host *host = &target->hosts[i];

        if (!host->needs_lookup || host->is_known)
            continue;
        host->is_known = true;
        host->count = count;
        for (size_t j = 0; j < count; j++)
            snprintf(host->addresses[j], sizeof(host->addresses[j]), "%s", addresses[j]);
        return;
    }
}

void pg_target_forget_addresses(struct pg_target *target)
{
    for (size_t i = 0; i < target->host_count; i++) {
        target->hosts[i].is_known = false;
        target->hosts[i].count = 0;
    }
}

void pg_target_rotate(struct pg_target *target)
{
    if (target->host_count > 0)
        target->first = (target->first + 1) % target->host_count;
}

static void keyword_set(struct keywords *keywords, const char *name, const char *value)
{
    if (!value || keywords->count == KEYWORDS_MAX)
        return;
    keywords->names[keywords->count] = name;
    keywords->values[keywords->count++] = value;
}

static bool is_ours(const char *keyword)
{
    static const char *const ours[] = {"host", "hostaddr", "port", "options", "application_name"};

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        if (strcmp(keyword, ours[i]) == 0)
            return true;
    }
    return false;
}

/* What the URL says, and for what it leaves open: a dead peer is noticed within about 15 s. */
static void keywords_fill(struct keywords *keywords, const struct pg_target *target)
{
    static const char *const defaults[][2] = {
        {"client_encoding", "UTF8"}, {"connect_timeout", "10"},     {"gssencmode", "disable"},
        {"keepalives", "1"},         {"keepalives_idle", "5"},      {"keepalives_interval", "3"},
        {"keepalives_count", "3"},   {"tcp_user_timeout", "10000"},
    };

    for (const PQconninfoOption *at = target->given; at->keyword; at++) {
        if (!is_ours(at->keyword))
            keyword_set(keywords, at->keyword, given(target, at->keyword));
    }
    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        if (!given(target, defaults[i][0]))
            keyword_set(keywords, defaults[i][0], defaults[i][1]);
    }
    keyword_set(keywords, "application_name", target->application);
    keyword_set(keywords, "options", target->settings.data);
}

/* The host, hostaddr and port lists: an entry for each address of each host. */
struct host_lists {
    struct buf names, addresses, ports;
    size_t count;
};

static void lists_add(struct host_lists *lists, const struct host *host, const char *address)
{
    const char *comma = lists->count++ > 0 ? "," : "";

    buf_printf(&lists->names, "%s%s", comma, host->name);
    buf_printf(&lists->addresses, "%s%s", comma, address);
    buf_printf(&lists->ports, "%s%s", comma, host->port);
}

static void lists_fill(struct host_lists *lists, const struct pg_target *target, bool is_blocking)
{
    buf_init(&lists->names, HOST_LIST_MAX);
    buf_init(&lists->addresses, HOST_LIST_MAX);
    buf_init(&lists->ports, HOST_LIST_MAX);
    for (size_t i = 0; i < target->host_count; i++) {
        const struct host *host = &target->hosts[(target->first + i) % target->host_count];

        for (size_t j = 0; j < host->count; j++)
            lists_add(lists, host, host->addresses[j]);
        if (!host->needs_lookup || is_blocking)
            lists_add(lists, host, "");
    }
}

struct pg_conn *pg_target_connect(const struct pg_target *target, bool is_blocking, struct err *err)
{
    struct keywords keywords = {.count = 0};
    struct host_lists lists = {.count = 0};
    PGconn *conn = NULL;

    lists_fill(&lists, target, is_blocking);
    keywords_fill(&keywords, target);
    if (lists.count > 0) {
        keyword_set(&keywords, "host", lists.names.data);
        keyword_set(&keywords, "hostaddr", lists.addresses.data);
        keyword_set(&keywords, "port", lists.ports.data);
    } else {
        keyword_set(&keywords, "hostaddr", given(target, "hostaddr"));
        keyword_set(&keywords, "host", given(target, "host"));
        keyword_set(&keywords, "port", given(target, "port"));
    }
    if (lists.count == 0 && target->host_count > 0)
        err_set(err, "no address for host %s", target->hosts[0].name);
    else if (lists.names.is_broken || lists.addresses.is_broken || lists.ports.is_broken)
        err_set(err, "too many addresses for the database's hosts");
    else
        conn = is_blocking ? PQconnectdbParams(keywords.names, keywords.values, 0)
                           : PQconnectStartParams(keywords.names, keywords.values, 0);
    if (!conn && err && !err->message[0])
        err_set(err, "connect: out of memory");
    buf_release(&lists.names);
    buf_release(&lists.addresses);
    buf_release(&lists.ports);
    return conn;
}
