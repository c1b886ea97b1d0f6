/* SPDX-License-Identifier: Apache-2.0 */
/* What must be there before the scheduler is ready: the schema, and the topics, which it makes. */
#ifndef SCHEDULER_PREPARE_H
#define SCHEDULER_PREPARE_H

#include <stddef.h>

#include "common/base/err.h"
#include "common/io/kafka.h"

struct prepare;

/* Tries until all is there, on a thread of its own: both clients block.  The scheduler works
 * meanwhile as far as it can.  Strings are borrowed and must live until prepare_free. */
struct prepare *prepare_start(const char *database_url, const struct kafka_options *kafka,
                              struct err *err) MUST_CHECK;
/* Waits for the attempt under way: a few seconds at most. */
void prepare_free(struct prepare *prepare);

/* The schema fits (the topics are not needed: what is dealt is also taken directly). */
bool prepare_is_ready(struct prepare *prepare, char *why, size_t size);

#endif
