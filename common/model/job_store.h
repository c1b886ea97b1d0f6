/* SPDX-License-Identifier: Apache-2.0 */
/* Reading jobs: one with all that belongs to it, and lists. */
#ifndef COMMON_MODEL_JOB_STORE_H
#define COMMON_MODEL_JOB_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/job.h"
#include "common/model/job_view.h"

struct job_store;

struct job_store *job_store_new(struct pg *pg);
void job_store_free(struct job_store *store);

struct job_read_reply {
    enum pg_status status;
    const char *sqlstate, *message;
    const struct job_view *view; /* NULL: no such job of this tenant (or status is not PG_OK);
                                    lives until done returns */
};
typedef void job_read_fn(const struct job_read_reply *reply, void *arg);

/* The whole job (view->is_full), as one statement sees it; readers of one moment share a statement.
 * done is called exactly once, never from inside.  False: too much is out. */
bool job_read(struct job_store *store, struct id job, const char *tenant, bool with_request,
              job_read_fn *done, void *arg) MUST_CHECK;

/* How it stands, without the wide columns: what waiters ask once a second. */
struct job_state_reply {
    enum pg_status status;
    const char *sqlstate, *message;
    bool is_found;
    enum job_state state;
    struct id worker; /* running: who runs it; else zero */
};
typedef void job_state_fn(const struct job_state_reply *reply, void *arg);
bool job_read_state(struct job_store *store, struct id job, const char *tenant, job_state_fn *done,
                    void *arg) MUST_CHECK;

/* --- lists ------------------------------------------------------------------------------------ */

enum { JOB_LIST_MAX = 100, JOB_LIST_DEFAULT = 20 };

struct job_filter {
    const char *tenant;
    int state;            /* enum job_state, -1: any */
    int priority;         /* enum priority, -1: any */
    const char *workflow; /* NULL: any */
    const char *metadata; /* JSON object that the job's must contain; NULL: any */
    int64_t created_after_us, created_before_us; /* exclusive; 0: none */
    struct id after;                             /* exclusive; zero: from the start */
    int limit;
    bool is_ascending;
};

struct job_list_reply {
    enum pg_status status;
    const char *sqlstate, *message;
    bool is_after_unknown; /* filter.after is no job of this tenant */
    int count;
    const struct job_view *views; /* not full */
    bool has_more;
};
typedef void job_list_fn(const struct job_list_reply *reply, void *arg);
/* Strings of the filter are borrowed until this returns.  False: out of memory. */
bool job_list(struct job_store *store, const struct job_filter *filter, job_list_fn *done,
              void *arg) MUST_CHECK;

#endif
