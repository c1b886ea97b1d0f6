/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL behind the books of budgets: generations, the binding to a Redis, sums of the ledger. */
#ifndef COMMON_MODEL_BOOK_STORE_H
#define COMMON_MODEL_BOOK_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"

enum { BOOK_BATCH_MAX = 512 }; /* tenants, or calls, of one statement */

/* --- generations ------------------------------------------------------------------------------ */

struct book_seen {
    const char *tenant;
    int64_t generation; /* of its book; 0: it has none */
};

/* Raises the generation of each book that still has the one seen, and waits for the intents that
 * were checked against it: when this is committed the ledger has them, and no more come.  A row per
 * book that was raised, for book_bumped_read; of several who try one wins. */
void book_bump(struct pg *pg, const struct book_seen *seen, size_t count, pg_done_fn *done,
               void *arg);

struct book_bumped {
    const char *tenant; /* borrowed from the result */
    int64_t binding, book;
};
void book_bumped_read(const struct pg_result *result, int row, struct book_bumped *out);

/* Binds all books to another Redis, unless another binding was made meanwhile; all are stale then.
 * No row: it was. */
void book_bind(struct pg *pg, const char *seen_run_id, const char *run_id, pg_done_fn *done,
               void *arg);

/* --- what the ledger says --------------------------------------------------------------------- */

/* Sums the ledger of these tenants as far as their budgets reach back (at least yesterday, for
 * calls over midnight), in one snapshot.  Rows for book_row_read: first of each tenant one
 * BOOK_ROW_TENANT, then the others in any order.
 *
 * BOOK_ROW_LATE are calls begun within 5 s of the last raising without a generation: if they are
 * under an enforced budget, then nobody had heard of it, and the book that was made may miss
 * them. */
void book_sum(struct pg *pg, const char *const *tenants, size_t count, pg_done_fn *done, void *arg);

enum book_row_kind {
    BOOK_ROW_TENANT, /* binding, book, recent */
    BOOK_ROW_MONEY,  /* day, the four names, nano: settled; unknown_nano: all that is unknown */
    BOOK_ROW_OPEN,   /* a call that is sent or unknown: day, names, nano: its reservation, and its
                        name */
    BOOK_ROW_LATE,   /* day and names of calls, each once */
};

/* Text is borrowed from the result. */
struct book_row {
    enum book_row_kind kind;
    const char *tenant;
    int64_t binding, book;
    const char *recent; /* "2026-11-20": yesterday for the tenant.  Of this day on, and of its month
                           on, all of the tenant's days and months are summed */
    const char *day;    /* the tenant's day of the call, "2026-11-21" */
    const char *key_id, *workflow, *end_user, *model; /* NULL where there is none, or no budget for
                                                         such names */
    int64_t nano, unknown_nano;
    struct id job;
    int run, call;
    bool is_unknown;
    int64_t started_us;
    int64_t run_token; /* of the live run; 0: it is gone */
};
void book_row_read(const struct pg_result *result, int row, struct book_row *out);

/* The calls of these jobs that became unknown with their worker: a row each, for
 * book_doubtful_read. */
void book_doubtful(struct pg *pg, const struct id *jobs, size_t count, pg_done_fn *done, void *arg);
struct book_doubtful {
    const char *tenant; /* borrowed from the result */
    struct id job;
    int run, call;
};
void book_doubtful_read(const struct pg_result *result, int row, struct book_doubtful *out);

/* --- what became of calls --------------------------------------------------------------------- */

/* A reservation, by its name and owner. */
struct book_call {
    struct id job;
    int run, call;
    int64_t run_token;
};

/* What the ledger says of each, in one snapshot; a row per call, for book_fate_read. */
void book_look_up(struct pg *pg, const struct book_call *calls, size_t count, pg_done_fn *done,
                  void *arg);

enum book_fate {
    BOOK_CALL_LIVE,     /* sent, or not sent yet by a run that lives */
    BOOK_CALL_SETTLED,  /* nano, tokens */
    BOOK_CALL_RELEASED, /* released, or never sent, and its run is gone: it never will be */
    BOOK_CALL_UNKNOWN,
};
struct book_fate_row {
    size_t index; /* into calls */
    enum book_fate fate;
    int64_t nano;
    int64_t tokens; /* in and out; -1: not known */
};
bool book_fate_read(const struct pg_result *result, int row, struct book_fate_row *out) MUST_CHECK;

#endif
