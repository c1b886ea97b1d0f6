/* SPDX-License-Identifier: Apache-2.0 */
/* Fields in use against the lists of the table of prices. */
#include "common/model/submit_guard.h"

#include <stdio.h>

#include "common/model/settings.h"

static bool refuse(const struct target *target, enum priced_field field, struct err *err)
{
    char param[64];

    snprintf(param, sizeof(param), "request.%s", priced_field_name(field));
    return err_input(err, "invalid_value", param,
                     "%s: changes what a call costs, which the prices of %s do not tell; it cannot "
                     "be used where a budget applies",
                     param, target->model);
}

bool submit_guard_check(const struct route *route, unsigned priced, struct err *err)
{
    for (int i = 0; i < route->target_count; i++) {
        const struct target *target = &route->targets[i];

        for (int field = 0; field < PRICED_FIELD_COUNT; field++)
            if (priced & ~target->priced_fields & (1u << field))
                return refuse(target, (enum priced_field)field, err);
    }
    return true;
}
