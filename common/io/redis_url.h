/* SPDX-License-Identifier: Apache-2.0 */
/* Where a Redis is and how to log in there. */
#ifndef COMMON_IO_REDIS_URL_H
#define COMMON_IO_REDIS_URL_H

#include "common/base/err.h"

struct redis_url {
    char *path; /* of a UNIX socket; NULL: host and port count */
    char *host; /* without brackets */
    int port;
    char *user; /* NULL: the default user */
    char *password;
    int db;
};

/* redis://[[user]:password@]host[:port][/db] or unix:///path.  User and password may be
 * percent-encoded.  The message of a failure does not repeat the URL: it may hold a password. */
bool redis_url_parse(const char *text, struct redis_url *out, struct err *err) MUST_CHECK;
void redis_url_release(struct redis_url *url);

#endif
