/* SPDX-License-Identifier: Apache-2.0 */
/* Where a budget applies, no field may change a call's price unseen.  Pure. */
#ifndef COMMON_MODEL_SUBMIT_GUARD_H
#define COMMON_MODEL_SUBMIT_GUARD_H

#include "common/base/err.h"
#include "common/model/request_facts.h"

struct route;

/* True when each price-changing field in use (struct request_facts) is on the list `priced_fields`
 * of the price of every target; else `invalid_value` naming the field ("request.service_tier"). */
bool submit_guard_check(const struct route *route, unsigned priced, struct err *err) MUST_CHECK;

#endif
