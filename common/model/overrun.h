/* SPDX-License-Identifier: Apache-2.0 */
/* Counts the calls that cost more than was reserved for them; there must be none. */
#ifndef COMMON_MODEL_OVERRUN_H
#define COMMON_MODEL_OVERRUN_H

struct log_context;

void overrun_declare(void);

/* Once a call: by the worker that settles it, or, when an admin does, by what Redis answers. */
void overrun_count(const struct log_context *log, const char *call);

#endif
