/* SPDX-License-Identifier: Apache-2.0 */
/* The strict check of chunked framing, run by run, before http-parser sees it. */
#include "common/io/http_chunk.h"

#include "common/base/str.h"

/* More digits than this is no chunk that anyone would send, and could overflow a parser. */
enum { SIZE_DIGITS_MAX = 12 };

static bool refuse(struct http_refusal *refusal, const char *message)
{
    return http_refuse(refusal, 400, "invalid_value", "%s", message);
}

static bool is_text(char c)
{
    return c == '\t' || ((unsigned char)c >= 0x20 && c != 0x7f);
}

static bool step_size(struct http_chunk *chunk, char c, struct http_refusal *refusal)
{
    int value = str_hex_digit(c);

    if (value >= 0) {
        if (++chunk->digits > SIZE_DIGITS_MAX)
            return refuse(refusal, "A chunk size has too many digits");
        chunk->size = chunk->size * 16 + (uint64_t)value;
        return true;
    }
    if (chunk->digits == 0 || (c != ';' && c != '\r'))
        return refuse(refusal, "A chunk size is not a hexadecimal number");
    chunk->state = c == ';' ? HTTP_CHUNK_EXTENSION : HTTP_CHUNK_SIZE_LF;
    return true;
}

static bool step_extension(struct http_chunk *chunk, char c, struct http_refusal *refusal)
{
    if (c == '\r') {
        chunk->state = HTTP_CHUNK_SIZE_LF;
        return true;
    }
    if (!is_text(c))
        return refuse(refusal, "A chunk extension has a control character");
    if (++chunk->extension > HTTP_CHUNK_EXTENSION_MAX ||
        ++chunk->extensions > HTTP_CHUNK_EXTENSIONS_MAX)
        return refuse(refusal, "The chunk extensions are too long");
    return true;
}

static bool step_line_feed(struct http_chunk *chunk, char c, struct http_refusal *refusal)
{
    if (c != '\n')
        return refuse(refusal, "A CR in the chunked framing is not followed by LF");
    switch (chunk->state) {
    case HTTP_CHUNK_SIZE_LF:
        chunk->state = chunk->size > 0 ? HTTP_CHUNK_DATA : HTTP_CHUNK_TRAILER;
        break;
    case HTTP_CHUNK_DATA_LF:
        chunk->digits = 0;
        chunk->extension = 0;
        chunk->state = HTTP_CHUNK_SIZE;
        break;
    case HTTP_CHUNK_TRAILER_LF:
        chunk->state = HTTP_CHUNK_TRAILER;
        break;
    default:
        chunk->state = HTTP_CHUNK_DONE;
        break;
    }
    return true;
}

static bool step_trailer(struct http_chunk *chunk, char c, struct http_refusal *refusal)
{
    if (++chunk->trailer > HTTP_CHUNK_TRAILER_MAX)
        return http_refuse(refusal, 431, "headers_too_large",
                           "The trailer fields are too large: the limit is %d bytes",
                           HTTP_CHUNK_TRAILER_MAX);
    if (chunk->state == HTTP_CHUNK_TRAILER_VALUE) {
        if (c == '\r')
            chunk->state = HTTP_CHUNK_TRAILER_LF;
        else if (!is_text(c))
            return refuse(refusal, "A trailer field has a control character");
        return true;
    }
    if (c == ':' && chunk->state == HTTP_CHUNK_TRAILER_NAME)
        chunk->state = HTTP_CHUNK_TRAILER_VALUE;
    else if (http_is_token_char(c))
        chunk->state = HTTP_CHUNK_TRAILER_NAME;
    else
        return refuse(refusal, "A trailer field has no proper name");
    return true;
}

static bool step(struct http_chunk *chunk, char c, struct http_refusal *refusal)
{
    switch (chunk->state) {
    case HTTP_CHUNK_SIZE:
        return step_size(chunk, c, refusal);
    case HTTP_CHUNK_EXTENSION:
        return step_extension(chunk, c, refusal);
    case HTTP_CHUNK_DATA_CR:
        chunk->state = HTTP_CHUNK_DATA_LF;
        return c == '\r' || refuse(refusal, "A chunk is longer than its size says");
    case HTTP_CHUNK_TRAILER:
        if (c == '\r') {
            chunk->state = HTTP_CHUNK_LAST_LF;
            return true;
        }
        return step_trailer(chunk, c, refusal);
    case HTTP_CHUNK_TRAILER_NAME:
    case HTTP_CHUNK_TRAILER_VALUE:
        return step_trailer(chunk, c, refusal);
    default:
        return step_line_feed(chunk, c, refusal);
    }
}

static enum http_chunk_run take_data(struct http_chunk *chunk, size_t len, size_t *used)
{
    *used = chunk->size < len ? (size_t)chunk->size : len;
    chunk->size -= *used;
    if (chunk->size == 0)
        chunk->state = HTTP_CHUNK_DATA_CR;
    return HTTP_RUN_DATA;
}

static bool is_trailer_field(enum http_chunk_state state)
{
    return state == HTTP_CHUNK_TRAILER_NAME || state == HTTP_CHUNK_TRAILER_VALUE ||
           state == HTTP_CHUNK_TRAILER_LF;
}

enum http_chunk_run http_chunk_next(struct http_chunk *chunk, const char *data, size_t len,
                                    size_t *used, struct http_refusal *refusal)
{
    bool is_field =
        is_trailer_field(chunk->state) || (chunk->state == HTTP_CHUNK_TRAILER && data[0] != '\r');

    if (chunk->state == HTTP_CHUNK_DATA)
        return take_data(chunk, len, used);
    *used = 0;
    while (*used < len) {
        enum http_chunk_state before = chunk->state;

        if (!step(chunk, data[(*used)++], refusal))
            return HTTP_RUN_REFUSED;
        if (chunk->state == HTTP_CHUNK_DATA || chunk->state == HTTP_CHUNK_DONE)
            break;
        /* A trailer line and what is around it are different runs. */
        if (chunk->state == HTTP_CHUNK_TRAILER && before != HTTP_CHUNK_TRAILER)
            break;
    }
    return is_field ? HTTP_RUN_TRAILER : HTTP_RUN_FRAMING;
}
