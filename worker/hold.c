/* SPDX-License-Identifier: Apache-2.0 */
/* From a call's outcome to its settlement in Redis. */
#include "worker/hold.h"

#include <stdlib.h>
#include <string.h>

#include "common/model/admission.h"

struct hold_late {
    struct hold hold;
    struct call_outcome outcome;
    char text[]; /* tenant and provider */
};

static enum admission_end end_of(enum call_state state)
{
    switch (state) {
    case CALL_SETTLED:
        return ADMISSION_SETTLED;
    case CALL_RELEASED:
        return ADMISSION_RELEASED;
    case CALL_SENT:
    case CALL_UNKNOWN:
        break;
    }
    return ADMISSION_UNKNOWN;
}

static void tell(struct hold *hold, enum admission_end end, int64_t cost_nano, int64_t tokens)
{
    if (!hold->parts)
        return;
    admission_settle(hold->admission, &(struct admission_settlement){
                                          .tenant = hold->tenant,
                                          .job = hold->job,
                                          .run = hold->run,
                                          .call = hold->call,
                                          .holds = hold->parts,
                                          .provider = hold->provider,
                                          .end = end,
                                          .cost_nano = cost_nano,
                                          .tokens = tokens,
                                      });
    hold->parts = 0;
}

void hold_undo(struct hold *hold)
{
    tell(hold, ADMISSION_UNDONE, 0, 0);
}

static int64_t tokens_of(const struct call_outcome *outcome)
{
    if (outcome->state != CALL_SETTLED || outcome->input_tokens < 0 || outcome->output_tokens < 0)
        return outcome->state == CALL_RELEASED ? 0 : -1;
    return outcome->input_tokens + outcome->output_tokens;
}

void hold_settle(struct hold *hold, const struct call_outcome *outcome)
{
    tell(hold, end_of(outcome->state), outcome->state == CALL_SETTLED ? outcome->cost_nano : 0,
         tokens_of(outcome));
}

struct hold_late *hold_detach(struct hold *hold, const struct call_outcome *outcome)
{
    size_t tenant = strlen(hold->parts ? hold->tenant : "") + 1;
    size_t provider = strlen(hold->parts ? hold->provider : "") + 1;
    struct hold_late *late = hold->parts ? malloc(sizeof(*late) + tenant + provider) : NULL;

    if (!late)
        return NULL;
    late->hold = *hold;
    late->outcome = *outcome;
    late->hold.tenant = memcpy(late->text, hold->tenant, tenant);
    late->hold.provider = memcpy(late->text + tenant, hold->provider, provider);
    hold->parts = 0;
    return late;
}

void hold_on_booked(enum store_outcome outcome, void *arg)
{
    struct hold_late *late = arg;

    if (late && outcome == STORE_DONE)
        hold_settle(&late->hold, &late->outcome);
    free(late);
}
