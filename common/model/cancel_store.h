/* SPDX-License-Identifier: Apache-2.0 */
/* Flags a running job as cancelled; queue_cancel (end_store.h) is for waiting ones. */
#ifndef COMMON_MODEL_CANCEL_STORE_H
#define COMMON_MODEL_CANCEL_STORE_H

#include "common/io/pg.h"

struct run_flag_reply {
    enum pg_status status;
    const char *sqlstate, *message;
    bool is_flagged;  /* it is running, and its row carries the flag */
    struct id worker; /* who runs it */
};
typedef void run_flag_fn(const struct run_flag_reply *reply, void *arg);

/* done is called exactly once, never from inside.  False: out of memory. */
bool run_flag_cancel(struct pg *pg, struct id job, const char *tenant, run_flag_fn *done,
                     void *arg) MUST_CHECK;

#endif
