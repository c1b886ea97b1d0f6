/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that a client does not read yet, kept in an unlinked temporary file. */
#ifndef PRODUCER_ANSWER_SPOOL_H
#define PRODUCER_ANSWER_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

/* 100,000 answers of some hundred bytes. */
#define ANSWER_SPOOL_MAX (INT64_C(256) * 1024 * 1024)

/* The file is made when something is added.  It lives in memory (page cache) first, and on the disk
 * when there is a lot: no answer of a client that reads comes here. */
struct answer_spool {
    int fd; /* -1: not made */
    int64_t read_at, write_at;
};

void answer_spool_init(struct answer_spool *spool);
void answer_spool_release(struct answer_spool *spool);

bool answer_spool_add(struct answer_spool *spool, const void *data, size_t len,
                      struct err *err) MUST_CHECK;
bool answer_spool_is_empty(const struct answer_spool *spool);
/* The oldest bytes, up to size; *len tells how many.  They are then gone. */
bool answer_spool_take(struct answer_spool *spool, void *out, size_t size, size_t *len,
                       struct err *err) MUST_CHECK;

#endif
