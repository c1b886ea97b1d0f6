/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events: an incremental reader with caps, and a writer. */
#ifndef COMMON_BASE_SSE_H
#define COMMON_BASE_SSE_H

#include <stddef.h>

#include "common/base/err.h"

struct buf;

/* One event.  data is NUL-terminated; all live until the callback returns.  event is "" unless the
 * stream named it.  id is the last one that the stream gave, also with an earlier event; "" before
 * the first, and one over SSE_ID_MAX bytes counts as not given. */
enum { SSE_ID_MAX = 256 };

struct sse_event {
    const char *event;
    const char *id;
    const char *data;
    size_t data_len;
};

/* Returns false to stop: sse_reader_feed then returns false at once, leaving *err as the callback
 * set it. */
typedef bool sse_event_fn(const struct sse_event *event, void *arg);

struct sse_reader;

/* max_event bounds one line and one whole event (data and name together), in bytes.  NULL: out of
 * memory.  The callback must not free the reader. */
struct sse_reader *sse_reader_new(size_t max_event, sse_event_fn *on_event, void *arg);
void sse_reader_free(struct sse_reader *reader);

/* Bytes as they come, cut anywhere.  LF, CRLF and lone CR end lines; a BOM is dropped; comments
 * and retry are skipped; an event without data is dropped.  False: an event over the maximum, or
 * the callback stopped. */
bool sse_reader_feed(struct sse_reader *reader, const char *data, size_t len,
                     struct err *err) MUST_CHECK;

/* End of input: what stands in the buffer without its blank line is handed on as an event if it has
 * data (the caller judges whether it parses). */
bool sse_reader_finish(struct sse_reader *reader, struct err *err) MUST_CHECK;

/* Appends one event; id and event may be NULL and hold no newline.  Newlines (LF, CRLF, CR) in data
 * become several data lines.  False, and out as it was: out is full. */
bool sse_write(struct buf *out, const char *id, const char *event, const char *data, size_t len);
bool sse_write_comment(struct buf *out, const char *text);

#endif
