/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of the table in routes.c that no other header has, each in the file that is named for
 * its noun; those of /admin/v1 are in admin_handlers.h. */
#ifndef PRODUCER_HANDLERS_H
#define PRODUCER_HANDLERS_H

#include "producer/routes.h"

/* submit.c, replay.c, status.c, list.c, cancel.c, result.c, usage.c, admin_budget.c, probes.c */
route_handler_fn submit_handle, replay_handle, status_handle, list_handle, cancel_handle,
    result_handle, usage_handle, budget_handle, live_handle, ready_handle, metrics_handle;

#endif
