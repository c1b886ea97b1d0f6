/* SPDX-License-Identifier: Apache-2.0 */
/* The columns of a delivery as the admin calls show it, in the order of delivery_info_read. */
#ifndef COMMON_MODEL_DELIVERY_SQL_H
#define COMMON_MODEL_DELIVERY_SQL_H

/* d is the delivery's row. */
#define DELIVERY_SQL_COLUMNS                                                             \
    "d.id, d.tenant, d.endpoint, d.job, d.type, d.url, d.state, d.sequence, d.attempts," \
    " d.next_at, d.created_at, d.ended_at, d.tries::text"

#endif
