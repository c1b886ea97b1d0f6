/* SPDX-License-Identifier: Apache-2.0 */
/* The audit: read in pages, verified, its checkpoints written. */
#ifndef COMMON_MODEL_AUDIT_STORE_H
#define COMMON_MODEL_AUDIT_STORE_H

#include "common/model/admin_query.h"
#include "common/model/audit_verify.h"

/* Rows are written by audit_append() (migrations/0004_audit.sql) in the very statements that change
 * things; see admin_query.h. */

enum { AUDIT_PAGE_MAX = 1000 };

/* --- for people ------------------------------------------------------------------------------- */

struct audit_filter {
    int64_t from_us, to_us;     /* from inclusive, to exclusive; 0: open */
    const char *actor, *object; /* NULL: any */
    int64_t after;              /* rows behind this number */
    int limit;
};

/* In order of number. */
bool audit_list(struct pg *pg, const struct audit_filter *filter, admin_done_fn *done,
                void *arg) MUST_CHECK;
/* Row number `row`; borrows from the reply. */
void audit_row_read(const struct admin_reply *reply, int row, struct audit_row *out);

/* --- for verifiers ---------------------------------------------------------------------------- */

/* The rows behind `after` with their checkpoints, and the head as of the same moment. */
void audit_chain(struct pg *pg, int64_t after, pg_done_fn *done, void *arg);
/* Feeds such a page.  True: there are more pages, ask again behind verifier->seq.  False: it is
 * over, for good (verifier->fault is NULL) or bad. */
bool audit_chain_verify(const struct pg_result *page, struct audit_verifier *verifier) MUST_CHECK;

/* All of it, blocking: for programs without a loop.  key may be NULL: then the checkpoints'
 * signatures are not judged.  False: the database could not be asked. */
bool audit_verify_database(const char *url, const uint8_t *key,
                           const struct audit_checkpoint *trusted, struct audit_verifier *out,
                           struct err *err) MUST_CHECK;

/* --- for the scheduler ------------------------------------------------------------------------ */

/* The checkpoint with the highest number; no row: there is none yet. */
void audit_checkpoint_last(struct pg *pg, pg_done_fn *done, void *arg);
bool audit_checkpoint_read(const struct pg_result *result, struct audit_checkpoint *out) MUST_CHECK;
void audit_checkpoint_add(struct pg *pg, int64_t epoch, const struct audit_checkpoint *checkpoint,
                          pg_done_fn *done, void *arg);

#endif
