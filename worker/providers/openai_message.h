/* SPDX-License-Identifier: Apache-2.0 */
/* The chat.completion that a stream's chunks add up to. */
#ifndef WORKER_PROVIDERS_OPENAI_MESSAGE_H
#define WORKER_PROVIDERS_OPENAI_MESSAGE_H

#include <jansson.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "worker/providers/provider.h"

enum { OPENAI_TOOLS_MAX = 128 };

struct openai_tool {
    int64_t index; /* the provider's */
    struct buf id, name, arguments;
};

/* Text members of a message that grow chunk by chunk. */
enum openai_text {
    OPENAI_CONTENT,
    OPENAI_REFUSAL,
    OPENAI_REASONING,
    OPENAI_REASONING_CONTENT,
    OPENAI_FUNCTION_NAME,      /* function_call, the older form of tool_calls */
    OPENAI_FUNCTION_ARGUMENTS, /* the same */
    OPENAI_TEXT_COUNT,
};

struct openai_message {
    size_t max_bytes; /* of everything below */
    size_t bytes;
    bool is_over; /* over max_bytes, or out of memory: no more is taken */
    struct buf id, model, created, fingerprint, tier; /* created: as a number's text */
    struct buf texts[OPENAI_TEXT_COUNT];
    bool has_text[OPENAI_TEXT_COUNT]; /* came at least once as a string */
    struct openai_tool *tools;
    int tool_count;
    struct buf logprobs, refusal_logprobs; /* elements with commas between them */
    bool has_logprobs;
    struct buf usage; /* as it came */
};

void openai_message_init(struct openai_message *message, size_t max_bytes);
void openai_message_release(struct openai_message *message);

/* id, model, created and such: the first that is not empty stays. */
void openai_message_head(struct openai_message *message, const json_t *chunk);
bool openai_message_has_head(const struct openai_message *message);
void openai_message_text(struct openai_message *message, enum openai_text which, const char *text,
                         size_t len);
/* delta.tool_calls; tells sink of each fragment. */
void openai_message_tools(struct openai_message *message, const json_t *fragments,
                          const struct answer_sink *sink);
/* The texts of the source, which value was parsed from. */
void openai_message_usage(struct openai_message *message, struct json_slice source,
                          const json_t *value);
void openai_message_logprobs(struct openai_message *message, struct json_slice source,
                             const json_t *value);

/* The whole; fallbacks where the provider did not say. */
bool openai_message_write(const struct openai_message *message, const char *finish_reason,
                          const char *fallback_id, const char *fallback_model,
                          struct buf *out) MUST_CHECK;

#endif
