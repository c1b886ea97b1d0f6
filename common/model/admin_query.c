/* SPDX-License-Identifier: Apache-2.0 */
/* How the statements of the admin calls run and how they can end. */
#include "common/model/admin_query.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/model/store.h"

struct admin_wait {
    const char *what;
    enum admin_outcome otherwise;
    admin_done_fn *done;
    void *arg;
};

static enum admin_outcome outcome_of(const struct pg_reply *reply, const struct admin_wait *wait)
{
    static const struct log_context context = {.component = "admin"};

    if (reply->status != PG_OK) {
        log_warn(&context, "%s failed: sqlstate=%s %s", wait->what, reply->sqlstate,
                 reply->message);
        return reply->status == PG_FAILED && !store_is_passing(reply->sqlstate) ? ADMIN_BROKEN
                                                                                : ADMIN_AWAY;
    }
    if (pg_rows(reply->result) == 0)
        return wait->otherwise;
    return pg_get_bool(reply->result, 0, 0) ? ADMIN_DONE : ADMIN_CONFLICT;
}

static void on_answer(const struct pg_reply *reply, void *arg)
{
    struct admin_wait wait = *(struct admin_wait *)arg;
    struct admin_reply answer = {.outcome = outcome_of(reply, &wait)};

    free(arg);
    if (answer.outcome == ADMIN_DONE) {
        answer.rows = reply->result;
        answer.count = pg_rows(reply->result);
    }
    wait.done(&answer, wait.arg);
}

bool admin_transaction(struct pg *pg, const struct pg_step *steps, size_t count,
                       enum admin_outcome otherwise, admin_done_fn *done, void *arg)
{
    struct admin_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct admin_wait){steps[count - 1].statement->name, otherwise, done, arg};
    pg_transaction(pg, steps, count, on_answer, wait);
    return true;
}

bool admin_query(struct pg *pg, const struct pg_statement *statement, const struct pg_value *values,
                 size_t count, enum admin_outcome otherwise, admin_done_fn *done, void *arg)
{
    struct admin_wait *wait = malloc(sizeof(*wait));

    if (!wait)
        return false;
    *wait = (struct admin_wait){statement->name, otherwise, done, arg};
    pg_query(pg, statement, values, count, on_answer, wait);
    return true;
}
