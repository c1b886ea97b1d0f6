/* SPDX-License-Identifier: Apache-2.0 */
/* Events of a live run: appended behind its token, in their own connection. */
#ifndef COMMON_MODEL_EVENT_STORE_H
#define COMMON_MODEL_EVENT_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/store.h"

struct event_store;

struct event_store *event_store_new(struct pg *pg);
void event_store_free(struct event_store *store);

/* One row of events.  Text and data must be clean UTF-8 without NUL (str_utf8_clean), data JSON. */
struct event_row {
    struct id job;
    int run;
    int64_t run_token;
    int seq;             /* of this run, from 1 */
    const char *kind;    /* "output.delta" */
    int attempt;         /* 0: none */
    int64_t byte_offset; /* of text in the attempt's output; -1: none */
    const char *text;    /* NULL: none */
    size_t text_len;
    const char *data; /* JSON, NULL: none */
    size_t data_len;
};

typedef void event_append_fn(enum store_outcome outcome, void *arg);

/* The row is copied.  done (may be NULL) is called exactly once, never from inside.  False: too
 * much is out (back-pressure: stop reading the provider).  What must be stored before a run ends
 * has to be confirmed before its end is sent, or travel in the end itself (struct event_chunk). */
bool event_append(struct event_store *store, const struct event_row *row, event_append_fn *done,
                  void *arg) MUST_CHECK;

/* The last open chunk of text, which may travel in the statement that ends or requeues the run. */
struct event_chunk {
    int seq;
    int attempt;
    int64_t byte_offset;
    const char *text;
    size_t text_len;
};
enum { EVENT_CHUNK_COLUMNS = 4 };
void event_chunk_values(const struct event_chunk *chunk, struct pg_value *out);

#endif
