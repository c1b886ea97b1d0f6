/* SPDX-License-Identifier: Apache-2.0 */
/* GET /openapi.json. */
#ifndef PRODUCER_OPENAPI_H
#define PRODUCER_OPENAPI_H

#include "producer/routes.h"

route_handler_fn openapi_handle;

#endif
