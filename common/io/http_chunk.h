/* SPDX-License-Identifier: Apache-2.0 */
/* The strict check of chunked framing, run by run, before http-parser sees it. */
#ifndef COMMON_IO_HTTP_CHUNK_H
#define COMMON_IO_HTTP_CHUNK_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/io/http_head.h"

/* Bounds of what is not data: a client must not be able to send megabytes that count for nothing.
 */
enum {
    HTTP_CHUNK_EXTENSION_MAX = 256,        /* bytes on one chunk's line */
    HTTP_CHUNK_EXTENSIONS_MAX = 16 * 1024, /* of the whole body */
    HTTP_CHUNK_TRAILER_MAX = 8 * 1024,     /* of the whole trailer section */
};

enum http_chunk_state {
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK_EXTENSION,
    HTTP_CHUNK_SIZE_LF,
    HTTP_CHUNK_DATA,
    HTTP_CHUNK_DATA_CR,
    HTTP_CHUNK_DATA_LF,
    HTTP_CHUNK_TRAILER, /* at the start of a trailer line, or of the empty line */
    HTTP_CHUNK_TRAILER_NAME,
    HTTP_CHUNK_TRAILER_VALUE,
    HTTP_CHUNK_TRAILER_LF,
    HTTP_CHUNK_LAST_LF,
    HTTP_CHUNK_DONE,
};

/* Start with a zeroed one. */
struct http_chunk {
    enum http_chunk_state state;
    uint64_t size; /* of this chunk; what is left of it while in DATA */
    int digits;
    size_t extension; /* bytes on this line */
    size_t extensions;
    size_t trailer;
};

enum http_chunk_run {
    HTTP_RUN_FRAMING, /* sizes and line ends */
    HTTP_RUN_DATA,    /* bytes of the body */
    HTTP_RUN_TRAILER, /* trailer fields: checked, and of no use to anyone */
    HTTP_RUN_REFUSED,
};

/* Looks at the next run of data (len > 0); *used is its length.  The body has ended when
 * chunk->state is HTTP_CHUNK_DONE; do not call again then. */
enum http_chunk_run http_chunk_next(struct http_chunk *chunk, const char *data, size_t len,
                                    size_t *used, struct http_refusal *refusal);

#endif
