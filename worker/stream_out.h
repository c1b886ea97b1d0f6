/* SPDX-License-Identifier: Apache-2.0 */
/* A run's output on its way out: stored about once a second, shown at once to those who watch. */
#ifndef WORKER_STREAM_OUT_H
#define WORKER_STREAM_OUT_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/id.h"
#include "common/model/event_store.h"
#include "worker/providers/provider.h"

struct event_base;
struct redis;
struct stream_out;

enum { STREAM_CHUNK_MAX = 64 * 1024, STREAM_FLUSH_MS = 1000 };

/* Text gathers in one open chunk, whose seq is known from its first byte (live deltas name it).  A
 * chunk closes after a second, at 64 KiB, and when another kind of event follows; then it is
 * appended, and stays in memory until Postgres confirms it. */
struct stream_out_spec {
    struct event_base *base;
    struct event_store *events;
    struct redis *redis;
    struct id job;
    int run;
    int64_t run_token;
    /* Everything handed to Postgres is confirmed.  From a callback of the store. */
    void (*on_quiet)(void *arg);
    /* The token is stale: the run is not ours any more.  From a callback of the store. */
    void (*on_lost)(void *arg);
    void *arg;
};

struct stream_out *stream_out_new(const struct stream_out_spec *spec); /* NULL: out of memory */
/* Forgets what is not stored; no callback will come.  The memory goes when the last answer has. */
void stream_out_drop(struct stream_out *out); /* NULL is fine */

/* The next free seq of this run's events, for an event that another statement stores. */
int stream_out_take_seq(struct stream_out *out);

/* A new attempt: its output begins at byte 0. */
void stream_out_begin(struct stream_out *out, int attempt);
void stream_out_text(struct stream_out *out, const char *text, size_t len);
void stream_out_tool(struct stream_out *out, const struct tool_delta *delta);
/* What arrived together was given: shows it to those who watch. */
void stream_out_turn(struct stream_out *out);

bool stream_out_has_deltas(const struct stream_out *out); /* of the attempt */
int64_t stream_out_bytes(const struct stream_out *out);   /* of the attempt's text */

/* The attempt is given up: closes its text and says how much of it counts. */
void stream_out_supersede(struct stream_out *out, const char *reason);
/* Before an end: appends what cannot travel in it.  True: what remains (nothing, or the chunk that
 * *chunk now describes) may go with the end now.  False: wait for on_quiet. */
bool stream_out_prepare_end(struct stream_out *out, struct event_chunk *chunk, bool *has_chunk);
bool stream_out_is_quiet(const struct stream_out *out);
/* When an event was last handed over or confirmed; monotonic. */
int64_t stream_out_last_us(const struct stream_out *out);

/* Something was committed: those who watch look at Postgres. */
void stream_out_changed(struct stream_out *out);
/* Somebody watches: shows the open chunk from its start, and what comes. */
void stream_out_watch(struct stream_out *out);

#endif
