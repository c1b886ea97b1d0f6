/* SPDX-License-Identifier: Apache-2.0 */
/* SQL fragments of gates: scopes of a tenant whose jobs wait for a limit.
 *
 * A gate is closed until `until`.  With an interval it then lets one job through each interval
 * (concurrency: as many as leave room under `most`), and only the feeder counts them: whatever was
 * dealt before the gate closed goes back. */
#ifndef COMMON_MODEL_GATE_SQL_H
#define COMMON_MODEL_GATE_SQL_H

#include "common/model/sql.h"

/* Is the row q (with tenant, key_id, workflow, end_user, model) of the gate's scope?  Beside
 * g.tenant = q.tenant, which finds the gates of a tenant by their key. */
#define GATE_SQL_MATCHES(g, q)                                                     \
    g ".name = CASE " g ".kind WHEN 'tenant' THEN '' WHEN 'key' THEN " q ".key_id" \
      " WHEN 'workflow' THEN " q ".workflow WHEN 'user' THEN " q ".end_user"       \
      " ELSE " q ".model END"

/* Was the queue row q dealt before a gate closed that is not open for all again? */
#define GATE_SQL_SHUTS(q)                                            \
    "EXISTS (SELECT FROM gates g"                                    \
    "        WHERE g.tenant = " q ".tenant"                          \
    "          AND (g.until > now() OR g.interval_us > 0)"           \
    "          AND (" q ".dispatched_at < g.closed_at) IS NOT FALSE" \
    "          AND " GATE_SQL_MATCHES("g", q) ")"

/* A gate that nobody was let through for so long closes anew. */
#define GATE_SQL_IDLE "6 s"

/* Tenants that may not run: paused, or disabled. */
#define GATE_SQL_TENANTS_AT_REST                    \
    "SELECT name FROM pauses WHERE kind = 'tenant'" \
    " UNION ALL SELECT id FROM tenants WHERE is_disabled"

#endif
