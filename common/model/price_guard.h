/* SPDX-License-Identifier: Apache-2.0 */
/* Where there is a ceiling on money, no field of a request may change a call's price unseen.  Pure.
 *
 * What a request uses is either known to cost nothing (request_fields), or is on the list
 * `priced_fields` of the price of the target's model, or is refused: a field that nobody here has
 * heard of could break the ceiling.  Judged at submit for all targets of the route, and once more
 * before each call, because a budget may have been set, or the prices read again, since. */
#ifndef COMMON_MODEL_PRICE_GUARD_H
#define COMMON_MODEL_PRICE_GUARD_H

#include "common/base/err.h"
#include "common/model/request_facts.h"

struct route;
struct target;

/* False: `invalid_value`, param is the field ("request.service_tier"), and the message names the
 * rule and what to do. */
bool price_guard_target(const struct target *target, const struct request_facts *facts,
                        struct err *err) MUST_CHECK;
bool price_guard_route(const struct route *route, const struct request_facts *facts,
                       struct err *err) MUST_CHECK;

#endif
