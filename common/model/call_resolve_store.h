/* SPDX-License-Identifier: Apache-2.0 */
/* Books a call of unknown outcome as an admin found it. */
#ifndef COMMON_MODEL_CALL_RESOLVE_STORE_H
#define COMMON_MODEL_CALL_RESOLVE_STORE_H

#include <stdint.h>

#include "common/model/admin_query.h"

/* Either the cost, or the usage, which is priced by what the ledger's row was priced by. */
struct call_resolution {
    int64_t cost_nano; /* -1: by usage */
    int64_t input_tokens, cached_input_tokens, output_tokens;
};

/* The row and its audit row in one statement.  ADMIN_MISSING: there is no such call;
 * ADMIN_CONFLICT: it is not unknown. */
bool call_resolve(struct pg *pg, struct id job, int call, const struct call_resolution *resolution,
                  const char *actor, admin_done_fn *done, void *arg) MUST_CHECK;

/* The call as it is now; text is borrowed. */
struct resolved_call {
    const char *tenant;
    const char *provider, *model;
    int run;
    int64_t cost_nano, reserved_nano;
    int64_t input_tokens, cached_input_tokens, output_tokens; /* -1: not known */
    int64_t started_us;
    bool is_too_dear; /* what was found is over MONEY_MAX_NANO: nothing was done */
};
void resolved_call_read(const struct admin_reply *reply, struct resolved_call *out);

#endif
