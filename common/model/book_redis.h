/* SPDX-License-Identifier: Apache-2.0 */
/* A tenant's book in Redis as those see it who rebuild and check it.
 *
 * A book is one hash, {t:<tenant>}:book, so that it is there whole or not at all:
 *   head           how many changes were made and how many reservations are out (two doubles), then
 *                  "<generation>" when it may be believed, "building:<generation>" while it is made
 *   a:<account>    spent, reserved, unknown: three doubles, the lowest byte first; an account that
 *                  is not there is 0
 *   r:<name>       a reservation: "<R or U> <amount> <us> <owner> <account> <account>..."; R is
 *                  reserved, U is booked as unknown
 * An account is "<scope>|<window>": "tenant|d20261121", "workflow:nightly|t". Generations are
 * "<number>.<number>", compared number by number.  Only keys of current windows are ever asked for;
 * fields of old ones go with book_prune or the next rebuild.
 *
 * To rebuild: book_mark, then sum the ledger, then any number of book_write (absolute values, so
 * that a repeat does no harm), then book_publish with the number of fields written. While a book is
 * marked nobody is admitted and settlements wait.  Every lost answer is asked for again here, up to
 * 2 s. */
#ifndef COMMON_MODEL_BOOK_REDIS_H
#define COMMON_MODEL_BOOK_REDIS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/model/admission.h"

struct redis;

enum {
    BOOK_ACCOUNT_SIZE = LIMIT_SCOPE_TEXT_SIZE + 16,
    BOOK_CHUNK_MAX = 500,         /* accounts and records of one book_write */
    BOOK_RECORD_ACCOUNTS_MAX = 15 /* scopes times windows */
};

enum book_outcome {
    BOOK_DONE,
    BOOK_NOT_OURS, /* mark: it is of this or a newer generation already.  write, publish: the mark
                      is not this one.  publish: the fields are not as many.  Begin again with a new
                      generation. */
    BOOK_AWAY,
};

/* Called exactly once, never from inside; only if it was said that it would be. */
typedef void book_done_fn(enum book_outcome outcome, void *arg);

/* The account's text: the same for admission and for who sums the ledger. */
void book_account_format(enum limit_scope scope, const char *name, const char *window_id,
                         char out[BOOK_ACCOUNT_SIZE]);

/* The set whose ceilings accounts of this scope have, written being the name as book_account_format
 * wrote it; NULL: none.  *name is what was written, or the name that it stands for where a set was
 * given to that very name.  A key's document: LIMIT_TENANT. */
const struct limit_set *book_account_set(const struct limits *limits, enum limit_scope scope,
                                         const char *written, const char **name);

/* Throws the old book away and marks a new one.  run_id is that to which generation is bound: with
 * another Redis on the connection it is BOOK_AWAY. */
void book_mark(struct redis *redis, const char *run_id, const char *tenant, const char *generation,
               book_done_fn *done, void *arg);

struct book_account {
    const char *account;
    int64_t spent_nano;
    int64_t reserved_nano; /* the sum of its records; here as told */
    int64_t unknown_nano;
};

/* A row of the ledger that is `sent` or `unknown`. */
struct book_record {
    struct id job;
    int run;
    int call;
    bool is_unknown;
    int64_t amount_nano;
    int64_t at_us; /* when it was reserved */
    int64_t owner; /* run_token */
    const char *const *accounts;
    int account_count; /* at most BOOK_RECORD_ACCOUNTS_MAX */
};

/* account_count + record_count is at most BOOK_CHUNK_MAX; all is copied. */
void book_write(struct redis *redis, const char *run_id, const char *tenant, const char *generation,
                const struct book_account *accounts, size_t account_count,
                const struct book_record *records, size_t record_count, book_done_fn *done,
                void *arg);

/* fields: how many different accounts and records were written in all. */
void book_publish(struct redis *redis, const char *run_id, const char *tenant,
                  const char *generation, size_t fields, book_done_fn *done, void *arg);

/* --- reading ---------------------------------------------------------------------------------- */

/* The book's generation ("" none, "building:..." marked) and version, without the rest. */
struct book_head {
    bool is_away;
    const char *generation;
    int64_t version;
    int64_t fields; /* accounts and records */
    int64_t live;   /* reservations in state R, those a call may be out for */
};
typedef void book_head_fn(const struct book_head *head, void *arg);
void book_head(struct redis *redis, const char *tenant, book_head_fn *done, void *arg);

/* A record as it was found; strings live until the callback returns. */
struct book_record_found {
    struct id job;
    int run;
    int call;
    bool is_unknown;
    int64_t amount_nano;
    int64_t at_us;
    int64_t owner;
    const char *accounts; /* with a space between */
};

/* The whole book, read in pieces: an entry that stays is given at least once (a second time it may
 * be repeated).  on_end says how: DONE when the book did not change meanwhile, NOT_OURS when it did
 * (what was given is then no snapshot). */
struct book_reader {
    void (*on_account)(const struct book_account *account, void *arg);
    void (*on_record)(const struct book_record_found *record, void *arg);
    void (*on_end)(enum book_outcome outcome, const char *generation, int64_t version, void *arg);
};
/* reader is copied.  on_end is called exactly once, never from inside. */
void book_read(struct redis *redis, const char *tenant, const struct book_reader *reader,
               void *arg);

/* An account as it stands in the hash; out->account is left alone. */
bool book_account_read(const char *bytes, size_t len, struct book_account *out) MUST_CHECK;

/* Some accounts of a book for GET budget: account i is given in values[i], zeros for what is not
 * there.  values is NULL when Redis is away or the book is not of this generation: then the ledger
 * answers. */
typedef void book_accounts_fn(const struct book_account *values, size_t count, void *arg);
void book_accounts(struct redis *redis, const char *run_id, const char *tenant,
                   const char *generation, const char *const *accounts, size_t count,
                   book_accounts_fn *done, void *arg);

/* Removes these accounts (of windows long past), of a book of this generation, where nothing is
 * reserved or unknown in them. */
void book_prune(struct redis *redis, const char *tenant, const char *generation,
                const char *const *accounts, size_t count, book_done_fn *done, void *arg);

/* Makes the book be rebuilt: whoever asks next is told that it is stale.  For who found it to
 * differ; only if it is still of this generation. */
void book_forget(struct redis *redis, const char *tenant, const char *generation,
                 book_done_fn *done, void *arg);

#endif
