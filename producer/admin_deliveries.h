/* SPDX-License-Identifier: Apache-2.0 */
/* A webhook delivery as the admin calls show it. */
#ifndef PRODUCER_ADMIN_DELIVERIES_H
#define PRODUCER_ADMIN_DELIVERIES_H

#include "common/model/admin_query.h"
#include "producer/routes.h"

/* Answers with the delivery in the reply's first row. */
void delivery_reply(struct request_context *context, int status, const struct admin_reply *reply);

#endif
