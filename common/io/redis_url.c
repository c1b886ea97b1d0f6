/* SPDX-License-Identifier: Apache-2.0 */
/* Reads redis:// and unix:// URLs. */
#include "common/io/redis_url.h"

#include "common/base/str.h"

#include <openssl/crypto.h>

#include <stdlib.h>
#include <string.h>

enum { PORT_DEFAULT = 6379, DB_MAX = 1000000, UNIX_PATH_MAX = 108 };

/* A copy of len bytes with %XX resolved; NULL when an escape is broken or makes a NUL. */
static char *unescape(const char *text, size_t len)
{
    char *out = xcalloc(len + 1, 1);
    size_t at = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '%') {
            int high = len - i > 2 ? str_hex_digit(text[i + 1]) : -1;
            int low = len - i > 2 ? str_hex_digit(text[i + 2]) : -1;

            c = high >= 0 && low >= 0 ? (char)(high << 4 | low) : '\0';
            i += 2;
        }
        if (c == '\0') {
            OPENSSL_cleanse(out, len);
            free(out);
            return NULL;
        }
        out[at++] = c;
    }
    return out;
}

static bool take_number(const char *text, size_t len, int64_t min, int64_t max, int *out)
{
    int64_t number;

    if (!str_to_i64(text, len, &number) || number < min || number > max)
        return false;
    *out = (int)number;
    return true;
}

static bool take_userinfo(const char *text, size_t len, struct redis_url *out, struct err *err)
{
    const char *colon = memchr(text, ':', len);
    size_t user_len = colon ? (size_t)(colon - text) : len;

    if (!colon)
        return err_set(err, "Redis URL: expected user:password before the @");
    if (user_len > 0 && !(out->user = unescape(text, user_len)))
        return err_set(err, "Redis URL: bad %%-escape in the user name");
    out->password = unescape(colon + 1, len - user_len - 1);
    return out->password || err_set(err, "Redis URL: bad %%-escape in the password");
}

static bool take_host(const char *text, size_t len, struct redis_url *out, struct err *err)
{
    const char *end = text + len;
    const char *host = text;
    const char *host_end = memchr(text, ':', len);
    const char *port;

    if (len > 0 && text[0] == '[') {
        host = text + 1;
        host_end = memchr(host, ']', len - 1);
        if (!host_end)
            return err_set(err, "Redis URL: the host has no closing bracket");
        port = host_end + 1;
    } else {
        host_end = host_end ? host_end : end;
        port = host_end;
    }
    if (host_end == host)
        return err_set(err, "Redis URL: the host is missing");
    out->port = PORT_DEFAULT;
    if (port < end &&
        (*port != ':' || !take_number(port + 1, (size_t)(end - port - 1), 1, 65535, &out->port)))
        return err_set(err, "Redis URL: the port must be 1 to 65535");
    out->host = xcalloc((size_t)(host_end - host) + 1, 1);
    memcpy(out->host, host, (size_t)(host_end - host));
    return true;
}

static bool take_network(const char *rest, struct redis_url *out, struct err *err)
{
    size_t len = strcspn(rest, "/?#");
    const char *path = rest + len;
    const char *at = memrchr(rest, '@', len);

    if (*path == '/')
        path++;
    if (*path && !take_number(path, strlen(path), 0, DB_MAX, &out->db))
        return err_set(err, "Redis URL: the database after the / must be a number");
    if (at && !take_userinfo(rest, (size_t)(at - rest), out, err))
        return false;
    if (at) {
        len -= (size_t)(at + 1 - rest);
        rest = at + 1;
    }
    return take_host(rest, len, out, err);
}

bool redis_url_parse(const char *text, struct redis_url *out, struct err *err)
{
    static const char network[] = "redis://";
    static const char local[] = "unix://";
    bool ok;

    memset(out, 0, sizeof(*out));
    if (strncmp(text, network, strlen(network)) == 0) {
        ok = take_network(text + strlen(network), out, err);
    } else if (strncmp(text, local, strlen(local)) == 0) {
        ok = (text[strlen(local)] == '/' && strlen(text) < strlen(local) + UNIX_PATH_MAX) ||
             err_set(err, "Redis URL: expected unix:///path, under %d bytes", UNIX_PATH_MAX);
        if (ok)
            out->path = xstrdup(text + strlen(local));
    } else {
        ok = err_set(err, "Redis URL: expected redis://host:port or unix:///path (TLS is not "
                          "supported: use a tunnel)");
    }
    if (!ok)
        redis_url_release(out);
    return ok;
}

void redis_url_release(struct redis_url *url)
{
    if (url->password)
        OPENSSL_cleanse(url->password, strlen(url->password));
    free(url->path);
    free(url->host);
    free(url->user);
    free(url->password);
    memset(url, 0, sizeof(*url));
}
