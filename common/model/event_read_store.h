/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a job's events: a page after a cursor, is there anything new, and what a cursor names. */
#ifndef COMMON_MODEL_EVENT_READ_STORE_H
#define COMMON_MODEL_EVENT_READ_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/id.h"
#include "common/io/pg.h"

struct event_reads;

struct event_reads *event_reads_new(struct pg *pg);
/* What is outstanding is answered (as not OK) before pg is gone. */
void event_reads_free(struct event_reads *reads);

/* All the functions below call done exactly once, never from inside; false: too much is out, done
 * will not be called. */

/* The place (run, seq) in a job's events. */
struct event_place {
    enum pg_status status;
    bool is_found;    /* the job is there and the tenant's; all else is set only then */
    struct id worker; /* who runs it now; zero: nobody */
    bool has_row;
    bool is_text;
    int64_t row_offset, row_len;
    bool is_boundary; /* a character ends at `offset` */
    int last_seq;     /* of the run, closing events aside; -1: none */
    int attempt;      /* the newest one told of up to here; 0: none */
    int64_t text_end; /* of that attempt's stored text up to here */
};
typedef void event_locate_fn(const struct event_place *place, void *arg);
bool event_locate(struct event_reads *reads, struct id job, const char *tenant, int run, int seq,
                  int64_t offset, event_locate_fn *done, void *arg) MUST_CHECK;

/* Borrowed until done returns. */
struct event_read_row {
    int run, seq;
    const char *kind;
    int attempt;         /* 0: none */
    int64_t byte_offset; /* of text */
    const char *text;    /* NULL: no text */
    size_t text_len;
    const char *data; /* JSON, or NULL */
};

/* A page ends after so many rows, or with the row that passes so many bytes. */
enum { EVENT_PAGE_ROWS = 200, EVENT_PAGE_BYTES = 256 * 1024 };

struct event_page {
    enum pg_status status;
    struct id worker; /* who runs the job now */
    int count;
    const struct event_read_row *rows;
    bool is_full; /* there may be more behind it */
};
typedef void event_page_fn(const struct event_page *page, void *arg);
/* From (run, seq) on, that row included. */
bool event_read(struct event_reads *reads, struct id job, const char *tenant, int run, int seq,
                event_page_fn *done, void *arg) MUST_CHECK;

/* Is there anything after (run, seq), or more text than up to offset in it?  Askers of one moment
 * share a statement. */
typedef void event_peek_fn(enum pg_status status, bool has_news, void *arg);
bool event_peek(struct event_reads *reads, struct id job, const char *tenant, int run, int seq,
                int64_t offset, event_peek_fn *done, void *arg) MUST_CHECK;

#endif
