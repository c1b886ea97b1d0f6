/* SPDX-License-Identifier: Apache-2.0 */
/* Host names to addresses: one getaddrinfo thread per lookup, its end told through a socket. */
#include "common/io/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What loop and thread share; the last of the two frees it, since a lookup cannot be interrupted
 * and may outlive the one who asked.  The thread writes the answer, then the byte, and the loop
 * reads the answer only after the byte. */
struct lookup {
    atomic_int users;
    int fd; /* the thread's end */
    char *host;
    int status; /* of getaddrinfo */
    size_t count;
    char addresses[RESOLVE_ADDRESSES_MAX][RESOLVE_ADDRESS_SIZE];
};

struct resolve {
    struct lookup *lookup;
    struct event *readable;
    int fd; /* the loop's end */
    resolve_done_fn *done;
    void *arg;
};

static void lookup_unref(struct lookup *lookup)
{
    if (atomic_fetch_sub(&lookup->users, 1) != 1)
        return;
    if (lookup->fd >= 0)
        close(lookup->fd);
    free(lookup->host);
    free(lookup);
}

static bool is_known(const struct lookup *lookup, const char *address)
{
    for (size_t i = 0; i < lookup->count; i++) {
        if (strcmp(lookup->addresses[i], address) == 0)
            return true;
    }
    return false;
}

static void lookup_run(struct lookup *lookup)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;

    lookup->status = getaddrinfo(lookup->host, NULL, &hints, &list);
    if (lookup->status != 0)
        return;
    for (struct addrinfo *at = list; at && lookup->count < RESOLVE_ADDRESSES_MAX;
         at = at->ai_next) {
        char text[RESOLVE_ADDRESS_SIZE];

        if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) !=
            0)
            continue;
        if (!is_known(lookup, text))
            memcpy(lookup->addresses[lookup->count++], text, sizeof(text));
    }
    freeaddrinfo(list);
}

static void *lookup_thread(void *arg)
{
    struct lookup *lookup = arg;

    lookup_run(lookup);
    /* Nobody there any more: fine. */
    (void)!send(lookup->fd, "", 1, MSG_NOSIGNAL);
    lookup_unref(lookup);
    return NULL;
}

void resolve_cancel(struct resolve *resolve)
{
    if (!resolve)
        return;
    if (resolve->readable)
        event_free(resolve->readable);
    if (resolve->fd >= 0)
        close(resolve->fd);
    if (resolve->lookup)
        lookup_unref(resolve->lookup);
    free(resolve);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct resolve *resolve = arg;
    struct lookup *lookup = resolve->lookup;
    resolve_done_fn *done = resolve->done;
    void *done_arg = resolve->arg;
    const char *addresses[RESOLVE_ADDRESSES_MAX];
    const char *error = NULL;

    (void)fd, (void)what;
    for (size_t i = 0; i < lookup->count; i++)
        addresses[i] = lookup->addresses[i];
    if (lookup->count == 0)
        error = lookup->status ? gai_strerror(lookup->status) : "no address";
    resolve->lookup = NULL;
    resolve_cancel(resolve);
    done(addresses, lookup->count, error, done_arg);
    lookup_unref(lookup);
}

bool resolve_is_address(const char *text)
{
    unsigned char bytes[sizeof(struct in6_addr)];
    char plain[RESOLVE_ADDRESS_SIZE];
    size_t len = strcspn(text, "%"); /* a scope: fe80::1%eth0 */

    if (inet_pton(AF_INET, text, bytes) == 1)
        return true;
    if (len >= sizeof(plain))
        return false;
    memcpy(plain, text, len);
    plain[len] = '\0';
    return inet_pton(AF_INET6, plain, bytes) == 1;
}

static bool thread_start(struct lookup *lookup, struct err *err)
{
    pthread_attr_t attr;
    pthread_t thread;
    int code;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    atomic_fetch_add(&lookup->users, 1);
    code = pthread_create(&thread, &attr, lookup_thread, lookup);
    pthread_attr_destroy(&attr);
    if (code == 0)
        return true;
    lookup_unref(lookup);
    return err_set(err, "look up %s: thread: %s", lookup->host, strerror(code));
}

static struct lookup *lookup_new(const char *host, int fd)
{
    struct lookup *lookup = calloc(1, sizeof(*lookup));

    if (!lookup)
        return NULL;
    atomic_init(&lookup->users, 1);
    lookup->fd = fd;
    lookup->host = strdup(host);
    if (lookup->host)
        return lookup;
    free(lookup);
    return NULL;
}

struct resolve *resolve_start(struct event_base *base, const char *host, resolve_done_fn *done,
                              void *arg, struct err *err)
{
    struct resolve *resolve = calloc(1, sizeof(*resolve));
    int pair[2];

    if (!resolve) {
        err_set(err, "look up %s: out of memory", host);
        return NULL;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        err_set(err, "look up %s: socket pair: %s", host, strerror(errno));
        free(resolve);
        return NULL;
    }
    *resolve = (struct resolve){.fd = pair[0], .done = done, .arg = arg};
    resolve->lookup = lookup_new(host, pair[1]);
    if (!resolve->lookup)
        close(pair[1]);
    resolve->readable = event_new(base, pair[0], EV_READ, on_readable, resolve);
    if (!resolve->lookup || !resolve->readable || event_add(resolve->readable, NULL) != 0) {
        err_set(err, "look up %s: out of memory", host);
    } else if (thread_start(resolve->lookup, err)) {
        return resolve;
    }
    resolve_cancel(resolve);
    return NULL;
}
