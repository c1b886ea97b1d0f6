/* SPDX-License-Identifier: Apache-2.0 */
/* POST /v1/jobs/bulk: many submits as NDJSON, answered line by line as they come. */
#ifndef PRODUCER_BULK_H
#define PRODUCER_BULK_H

#include "producer/routes.h"

route_handler_fn bulk_handle;

#endif
