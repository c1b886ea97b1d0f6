/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a chat completion stream: the parts of wire_format that concern the answer. */
#ifndef WORKER_PROVIDERS_OPENAI_STREAM_H
#define WORKER_PROVIDERS_OPENAI_STREAM_H

#include "worker/providers/provider.h"

/* The `answer_*` members of struct wire_format; provider.h says what each promises.  Bytes may come
 * in pieces of any size; an answer is whole only with a finish reason and the end marker. */
struct answer *openai_answer_new(const struct answer_spec *spec);
void openai_answer_free(struct answer *answer);
bool openai_answer_feed(struct answer *answer, const char *data, size_t len);
int64_t openai_answer_events(const struct answer *answer);
bool openai_answer_is_done(const struct answer *answer);
void openai_answer_finish(struct answer *answer, struct answer_result *out);

#endif
