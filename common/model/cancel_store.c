/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of a running job's cancel flag. */
#include "common/model/cancel_store.h"

#include <stdlib.h>

#include "common/model/tenant_scope_store.h"

/* By runs_pkey.  A statement of its own: one with several steps would look at the moment before a
 * job moved from the queue to its run, and miss it in both. */
PG_STATEMENT(run_flag_cancel_statement,
    "UPDATE runs SET cancel_requested = true"
    " WHERE job = $1::uuid AND tenant = $2::text"
    " RETURNING worker");

struct flag_wait {
    run_flag_fn *done;
    void *arg;
};

static void on_flagged(const struct pg_reply *reply, void *arg)
{
    struct flag_wait wait = *(struct flag_wait *)arg;
    struct run_flag_reply out = {
        .status = reply->status, .sqlstate = reply->sqlstate, .message = reply->message};

    free(arg);
    if (reply->status == PG_OK && pg_rows(reply->result) > 0) {
        out.is_flagged = true;
        out.worker = pg_get_uuid(reply->result, 0, 0);
    }
    wait.done(&out, wait.arg);
}

bool run_flag_cancel(struct pg *pg, struct id job, const char *tenant, run_flag_fn *done, void *arg)
{
    struct pg_value values[] = {pg_uuid(job), pg_text(tenant)};
    struct flag_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct flag_wait){.done = done, .arg = arg};
    tenant_query(pg, tenant, &run_flag_cancel_statement, values, 2, on_flagged, wait);
    return true;
}
