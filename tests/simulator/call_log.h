/* SPDX-License-Identifier: Apache-2.0 */
/* Every call the simulator received, in memory and as JSON lines in a file. */
#ifndef TESTS_SIMULATOR_CALL_LOG_H
#define TESTS_SIMULATOR_CALL_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct buf;
struct call_log;
struct event_base;

enum { CALL_LOG_RING = 200000, CALL_LOG_HEADERS_MAX = 10 };

/* What is known when the call came; everything is copied, NULL means absent. */
struct call_facts {
    const char *provider;
    const char *model;
    const char *key; /* its last four characters are kept */
    const char *job; /* idempotency-key or x-request-id */
    const uint8_t *prompt_sha256;
    size_t bytes;
    bool is_stream;
    const char *marker; /* as in the prompt */
    size_t marker_len;
    const char *header_names[CALL_LOG_HEADERS_MAX];
    const char *header_values[CALL_LOG_HEADERS_MAX];
    size_t header_count;
};

enum call_outcome { CALL_COMPLETED, CALL_CUT, CALL_CLIENT_GONE, CALL_ERROR };

struct call_end {
    int status; /* 0: none was sent */
    enum call_outcome outcome;
    int64_t prompt_tokens;
    int64_t output_tokens;
    bool has_sent_usage;
    const uint8_t *text_sha256; /* of the text sent; NULL: none */
};

/* path NULL: no file.  The file is appended to; lines are written within 10 ms. */
struct call_log *call_log_new(struct event_base *base, const char *path,
                              struct err *err) MUST_CHECK;
/* Writes what is left; calls still open are written as "cut" with status null. */
void call_log_free(struct call_log *log);
/* Forgets all calls and counts.  Calls in flight go on and are not recorded any more. */
void call_log_reset(struct call_log *log);

/* Returns the call's number, from 1, ascending also over resets; 0 when the oldest call of the full
 * ring is still in flight, which refuses the newcomer. */
int64_t call_log_begin(struct call_log *log, const struct call_facts *facts);
void call_log_end(struct call_log *log, int64_t seq, const struct call_end *end);

/* {"object":"list","data":[up to limit calls with a number above after],"last_seq":N,
 * "has_more":bool}; calls in flight have outcome, status and ended_at null. */
void call_log_list(const struct call_log *log, int64_t after, int64_t limit, struct buf *out);
/* Appends the members "received":..., "by_status":{...} without braces. */
void call_log_stats(const struct call_log *log, struct buf *out);

#endif
