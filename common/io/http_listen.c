/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a listening socket from "host:port". */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/str.h"
#include "common/io/http_server.h"

enum { BACKLOG = 4096, HOST_MAX = 256 };

/* Splits "host:port", "[v6]:port" or ":port"; returns the port or NULL. */
static const char *split(const char *address, char host[HOST_MAX])
{
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;

    if (!colon || len >= HOST_MAX || colon[1] == '\0')
        return NULL;
    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    } else if (memchr(address, ':', len)) {
        return NULL; /* an IPv6 address wants its brackets */
    }
    memcpy(host, address, len);
    host[len] = '\0';
    return colon + 1;
}

static int listen_on(const struct addrinfo *info)
{
    int on = 1;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error;

    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

static int port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)&address)->sin6_port);
    return ntohs(((const struct sockaddr_in *)(const void *)&address)->sin_port);
}

bool http_listen_check(const char *address, struct err *err)
{
    char host[HOST_MAX];
    const char *service = split(address, host);
    int64_t port;

    if (!service)
        return err_set(err, "listen on %s: expected HOST:PORT, [IPv6]:PORT or :PORT", address);
    if (!str_to_i64(service, strlen(service), &port) || port < 0 || port > UINT16_MAX)
        return err_set(err, "listen on %s: expected a port from 0 to 65535", address);
    return true;
}

int http_listen(const char *address, int *port, struct err *err)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };
    char host[HOST_MAX];
    const char *service = split(address, host);
    struct addrinfo *found = NULL;
    int failure;
    int fd;

    if (!http_listen_check(address, err))
        return -1;
    if (host[0] == '\0') /* every IPv4 address: works with IPv6 switched off, too */
        hints.ai_family = AF_INET;
    failure = getaddrinfo(host[0] ? host : NULL, service, &hints, &found);
    if (failure != 0) {
        err_set(err, "listen on %s: %s", address, gai_strerror(failure));
        return -1;
    }
    fd = listen_on(found);
    if (fd < 0)
        err_set(err, "listen on %s: %s", address, strerror(errno));
    else if (port)
        *port = port_of(fd);
    freeaddrinfo(found);
    return fd;
}
