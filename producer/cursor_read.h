/* SPDX-License-Identifier: Apache-2.0 */
/* The cursor that a reader of events asks with. */
#ifndef PRODUCER_CURSOR_READ_H
#define PRODUCER_CURSOR_READ_H

#include "producer/cursor.h"

struct http_request;

/* Last-Event-ID beats ?after=; neither gives CURSOR_START.  Any other parameter is refused. */
bool cursor_read(struct http_request *http, struct cursor *out, struct err *err) MUST_CHECK;

#endif
