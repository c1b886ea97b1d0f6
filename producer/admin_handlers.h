/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers of /admin/v1, for the table in routes.c; each in the file named for its noun. */
#ifndef PRODUCER_ADMIN_HANDLERS_H
#define PRODUCER_ADMIN_HANDLERS_H

#include "producer/routes.h"

/* admin_tenants.c */
route_handler_fn tenant_create_handle, tenant_list_handle, tenant_get_handle, tenant_change_handle,
    tenant_rotate_handle;
/* usage.c */
route_handler_fn tenant_usage_handle;
/* admin_keys.c */
route_handler_fn key_create_handle, key_list_handle, key_revoke_handle;
/* admin_limits.c */
route_handler_fn tenant_limits_get_handle, tenant_limits_put_handle, key_limits_get_handle,
    key_limits_put_handle;
/* admin_budget.c */
route_handler_fn tenant_budget_handle;
/* admin_endpoints.c */
route_handler_fn endpoint_create_handle, endpoint_list_handle, endpoint_get_handle,
    endpoint_delete_handle, endpoint_rotate_handle, endpoint_test_handle;
/* admin_deliveries.c */
route_handler_fn delivery_list_handle, delivery_get_handle, delivery_redeliver_handle;
/* admin_audit.c */
route_handler_fn audit_list_handle, audit_verify_handle;
/* admin_calls.c */
route_handler_fn call_resolve_handle;
/* admin_system.c */
route_handler_fn queues_handle, workers_handle, pause_handle, resume_handle;
/* admin_providers.c */
route_handler_fn providers_handle;

#endif
