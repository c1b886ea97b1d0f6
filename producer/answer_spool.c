/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that a client does not read yet, kept in an unlinked temporary file. */
#include "producer/answer_spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void answer_spool_init(struct answer_spool *spool)
{
    *spool = (struct answer_spool){.fd = -1};
}

void answer_spool_release(struct answer_spool *spool)
{
    if (spool->fd >= 0)
        close(spool->fd);
    answer_spool_init(spool);
}

static bool make_file(struct answer_spool *spool, struct err *err)
{
    const char *folder = getenv("TMPDIR");
    char path[256];

    if (spool->fd >= 0)
        return true;
    snprintf(path, sizeof(path), "%s/nightshift-answers-XXXXXX",
             folder && *folder ? folder : "/tmp");
    spool->fd = mkostemp(path, O_CLOEXEC);
    if (spool->fd < 0)
        return err_set(err, "temporary file %s: %s", path, strerror(errno));
    unlink(path);
    return true;
}

bool answer_spool_add(struct answer_spool *spool, const void *data, size_t len, struct err *err)
{
    const char *at = data;

    if (spool->write_at + (int64_t)len > ANSWER_SPOOL_MAX)
        return err_set(err, "answers that nobody reads: more than %lld bytes",
                       (long long)ANSWER_SPOOL_MAX);
    if (!make_file(spool, err))
        return false;
    while (len > 0) {
        ssize_t n = pwrite(spool->fd, at, len, spool->write_at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, "write a temporary file: %s", strerror(errno));
        at += n;
        len -= (size_t)n;
        spool->write_at += n;
    }
    return true;
}

bool answer_spool_is_empty(const struct answer_spool *spool)
{
    return spool->read_at == spool->write_at;
}

bool answer_spool_take(struct answer_spool *spool, void *out, size_t size, size_t *len,
                       struct err *err)
{
    ssize_t n;

    do {
        n = pread(spool->fd, out, size, spool->read_at);
    } while (n < 0 && errno == EINTR);
    if (n <= 0)
        return err_set(err, "read a temporary file: %s", n < 0 ? strerror(errno) : "it is short");
    *len = (size_t)n;
    spool->read_at += n;
    if (answer_spool_is_empty(spool)) {
        spool->read_at = spool->write_at = 0;
        if (ftruncate(spool->fd, 0) != 0)
            return err_set(err, "empty a temporary file: %s", strerror(errno));
    }
    return true;
}
