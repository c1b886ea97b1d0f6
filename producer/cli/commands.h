/* SPDX-License-Identifier: Apache-2.0 */
/* The commands' functions, for the table in commands.c; a file per noun. */
#ifndef PRODUCER_CLI_COMMANDS_H
#define PRODUCER_CLI_COMMANDS_H

#include "producer/cli/cli.h"

int submit_run(struct cli *cli);
int get_run(struct cli *cli);
int list_run(struct cli *cli);
int watch_run(struct cli *cli);
int cancel_run(struct cli *cli);
int replay_run(struct cli *cli);
int batch_run(struct cli *cli);

int tenants_list_run(struct cli *cli);
int tenants_create_run(struct cli *cli);
int tenants_set_run(struct cli *cli);
int keys_list_run(struct cli *cli);
int keys_create_run(struct cli *cli);
int keys_revoke_run(struct cli *cli);
int limits_get_run(struct cli *cli);
int limits_set_run(struct cli *cli);
int budgets_run(struct cli *cli);
int usage_run(struct cli *cli);
int calls_resolve_run(struct cli *cli);
int endpoints_list_run(struct cli *cli);
int endpoints_create_run(struct cli *cli);
int endpoints_delete_run(struct cli *cli);
int endpoints_rotate_run(struct cli *cli);
int endpoints_test_run(struct cli *cli);
int deliveries_list_run(struct cli *cli);
int deliveries_redeliver_run(struct cli *cli);
int queues_run(struct cli *cli);
int workers_run(struct cli *cli);
int providers_run(struct cli *cli);
int pause_run(struct cli *cli);
int resume_run(struct cli *cli);
int audit_verify_run(struct cli *cli);
int audit_export_run(struct cli *cli);
int doctor_run(struct cli *cli);

#endif
