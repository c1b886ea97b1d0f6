/* SPDX-License-Identifier: Apache-2.0 */
/* The usual event of a stream, read without building a tree.  Pure. */
#ifndef WORKER_PROVIDERS_OPENAI_SCAN_H
#define WORKER_PROVIDERS_OPENAI_SCAN_H

#include <stddef.h>

#include "common/base/buf.h"

/* Appends choices[0].delta.content of an event that says nothing else: one choice with index 0, no
 * finish reason, no usage, no tool calls.  False for everything else, also for what is not strict
 * JSON: then out is as it was, and the full parser must read the event.  data is NUL-terminated. */
bool openai_scan_content(const char *data, size_t len, struct buf *out) MUST_CHECK;

#endif
