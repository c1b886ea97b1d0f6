/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the sets a submit is under Redis must be asked about.  Pure. */
#ifndef PRODUCER_INTAKE_SETS_H
#define PRODUCER_INTAKE_SETS_H

#include "common/base/err.h"
#include "common/model/limits.h"

/* Has any of them a meter for the headers of answers? */
bool intake_sets_have_meters(const struct applied_limit *limits, int count) MUST_CHECK;

/* Are all meters the tenant's and the key's own?  Then an answer about these sets is what a look of
 * the caller would have got.  Sets in shadow have no meters. */
bool intake_sets_are_of_caller(const struct applied_limit *limits, int count) MUST_CHECK;

/* Is there a submit to be taken, or anything to tell that a look of the caller does not? */
bool intake_sets_need_taking(const struct applied_limit *limits, int count) MUST_CHECK;

#endif
