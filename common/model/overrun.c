/* SPDX-License-Identifier: Apache-2.0 */
/* The metric of calls that cost more than was reserved for them. */
#include "common/model/overrun.h"

#include <stddef.h>

#include "common/base/log.h"
#include "common/io/metrics.h"

static const struct metric overruns = {
    .name = "nightshift_reservation_overruns_total",
    .type = METRIC_COUNTER,
    .help = "Calls that cost more than was reserved for them; must stay 0.",
};

void overrun_declare(void)
{
    metric_declare(&overruns, NULL);
}

void overrun_count(const struct log_context *log, const char *call)
{
    metric_add(&overruns, NULL, 1);
    log_error(log, "a call cost more than was reserved: %s", call);
}
