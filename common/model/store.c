/* SPDX-License-Identifier: Apache-2.0 */
/* What all fenced writes have in common: their outcomes, and the count of stale ones. */
#include "common/model/store.h"

#include <string.h>

#include "common/io/metrics.h"

static const struct metric stale_writes = {
    .name = "nightshift_stale_writes_total",
    .type = METRIC_COUNTER,
    .help = "Writes of a run that was not live any more; they changed nothing.",
};

static const char *const outcome_names[] = {
    [STORE_DONE] = "done",
    [STORE_STALE] = "stale",
    [STORE_REFUSED] = "refused",
    [STORE_AWAY] = "away",
};

const char *store_outcome_name(enum store_outcome outcome)
{
    return outcome_names[outcome];
}

bool store_is_passing(const char *sqlstate)
{
    /* Connection, rollback (conflict), resources (disk, memory), lock not available, operator
     * intervention, I/O. */
    static const char *const classes[] = {"08", "25006", "40", "53", "55", "57", "58"};

    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
        if (strncmp(sqlstate, classes[i], strlen(classes[i])) == 0)
            return true;
    return false;
}

enum store_outcome store_outcome_of(const struct pg_batch_reply *reply)
{
    if (reply->status == PG_FAILED)
        return store_is_passing(reply->sqlstate) ? STORE_AWAY : STORE_REFUSED;
    if (reply->status != PG_OK)
        return STORE_AWAY;
    if (reply->row >= 0)
        return STORE_DONE;
    metric_add(&stale_writes, NULL, 1);
    return STORE_STALE;
}

void store_declare_metrics(void)
{
    metric_declare(&stale_writes, NULL);
}
