/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of Chat Completions answers: error bodies, whole answers, events of a stream. */
#ifndef TESTS_SIMULATOR_CHAT_WIRE_H
#define TESTS_SIMULATOR_CHAT_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "tests/simulator/chat_request.h"

struct buf;
struct scenario;

/* What every part of one answer repeats, and where its content comes from. */
struct chat_answer {
    const struct scenario *scenario;
    const char *echo; /* the text to repeat; NULL: words made from seed */
    size_t echo_len;
    size_t echo_at; /* how much of it is out */
    uint64_t seed;
    int64_t number; /* makes the id */
    int64_t created;
    int64_t items; /* pieces of content (words, or fragments of tool calls) in all */
    int64_t prompt_tokens;
    int64_t choices;
    bool is_cut;    /* max_tokens made it shorter */
    bool has_usage; /* the stream was asked to tell it */
    char model[CHAT_MODEL_SIZE];
    char function[CHAT_FUNCTION_SIZE];
};

/* How many pieces of content the scenario makes, before max_tokens. */
int64_t chat_answer_items(const struct chat_answer *answer);
bool chat_answer_is_tool(const struct chat_answer *answer);

/* Appends the text of pieces [from, to) of one choice: raw UTF-8, what a client would join.  Moves
 * echo_at when it is an echo. */
void chat_text(struct chat_answer *answer, int64_t choice, int64_t from, int64_t to,
               struct buf *out);

/* Error body; code and param may be NULL. */
void chat_error(struct buf *out, const char *message, const char *type, const char *param,
                const char *code);
/* The service's error for a status, with the code if one is asked for ("" or NULL: the usual). */
void chat_error_for(struct buf *out, int status, const char *code);

/* The whole answer of a call without stream. */
void chat_whole(struct chat_answer *answer, struct buf *text, struct buf *out);

/* The JSON of one event each; put on the wire by chat_event. */
void chat_chunk_role(const struct chat_answer *answer, int64_t choice, struct buf *out);
/* text: raw content of this chunk (chat_text), JSON-escaped here; is_refusal puts it in `refusal`
 */
void chat_chunk_text(const struct chat_answer *answer, int64_t choice, const char *text, size_t len,
                     bool is_refusal, int64_t done, struct buf *out);
/* json: the string as it is to stand between the quotes */
void chat_chunk_raw(const struct chat_answer *answer, int64_t choice, const char *json, size_t len,
                    int64_t done, struct buf *out);
void chat_chunk_tool(const struct chat_answer *answer, int64_t choice, int64_t item,
                     struct buf *out);
void chat_chunk_finish(const struct chat_answer *answer, int64_t choice, int64_t done,
                       struct buf *out);
void chat_chunk_usage(const struct chat_answer *answer, int64_t done, struct buf *out);

/* Frames data as an event, with the scenario's line ends and comments. */
void chat_event(const struct chat_answer *answer, const char *data, size_t len, struct buf *out);

/* Tokens billed for `done` pieces of each choice. */
int64_t chat_completion_tokens(const struct chat_answer *answer, int64_t done);

#endif
