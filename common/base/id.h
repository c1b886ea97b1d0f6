/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDv7 ids: 48 bits of milliseconds, then randomness; jobs are "job_" + 32 hex digits. */
#ifndef COMMON_BASE_ID_H
#define COMMON_BASE_ID_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

enum {
    ID_TEXT_SIZE = 40, /* prefix of up to 6 + 32 hex + NUL */
    CALL_ID_SIZE = 52, /* "call_" + 32 hex + "_" + up to 10 digits + NUL */
};

struct id {
    uint8_t bytes[16];
};

/* A fresh id whose time is now_us (rounded down to ms; not negative), or that of the newest id
 * where the clock has stepped back by up to a second since.  Ids that one process makes one after
 * the other for the same millisecond ascend: the counter fills rand_a and the first 14 bits of
 * rand_b, so that even a bulk of jobs with one creation time needs no borrowed time.  The other 48
 * bits are random, from the kernel.  Any thread. */
struct id id_make(int64_t now_us);

int64_t id_time_us(struct id id); /* the millisecond in the id */
bool id_equal(struct id a, struct id b);
int id_compare(struct id a, struct id b);
bool id_is_zero(struct id id);

void id_format(struct id id, const char *prefix, char out[ID_TEXT_SIZE]); /* prefix + hex */
/* Exactly prefix + 32 lower-case hex digits of a version-7 UUID. */
bool id_parse(const char *text, size_t len, const char *prefix, struct id *out) MUST_CHECK;

/* A provider call's id is its job's and its ordinal (from 1): "call_" + 32 hex + "_" + decimal. */
void id_format_call(struct id job, int call, char out[CALL_ID_SIZE]);
bool id_parse_call(const char *text, size_t len, struct id *job, int *call) MUST_CHECK;

#endif
