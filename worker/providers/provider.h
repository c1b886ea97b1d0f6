/* SPDX-License-Identifier: Apache-2.0 */
/* What a wire format must know: how to ask, how to read the answer, what an error means. */
#ifndef WORKER_PROVIDERS_PROVIDER_H
#define WORKER_PROVIDERS_PROVIDER_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/model/job.h"
#include "common/model/settings.h"

enum { FAILURE_CODE_SIZE = 64, FINISH_REASON_SIZE = 64, WIRE_HEADERS_MAX = 8 };

/* --- request ---------------------------------------------------------------------------------- */

/* A call as HTTP sees it.  Holds the provider's key: wiped by wire_call_release. */
struct wire_call {
    char *url;
    char *headers[WIRE_HEADERS_MAX + 1]; /* "name: value", NULL-terminated */
    struct buf body;
};
void wire_call_release(struct wire_call *call);

/* --- answer ----------------------------------------------------------------------------------- */

/* A fragment of a tool call.  Strings are clean UTF-8; NULL where the fragment says nothing. */
struct tool_delta {
    int index; /* which of the answer's tool calls, from 0 */
    const char *id;
    const char *name;
    const char *arguments;
    size_t arguments_len;
};

/* Where output goes as it is read.  Text is clean UTF-8 without NUL. */
struct answer_sink {
    void (*on_text)(const char *text, size_t len, void *arg);
    void (*on_tool)(const struct tool_delta *delta, void *arg);
    void *arg;
};

struct answer_spec {
    struct answer_sink sink;
    const char *model;     /* borrowed: what the answer says when the provider does not */
    const char *id;        /* the same */
    size_t max_bytes;      /* of all text of the answer */
    bool is_scanning_slow; /* tests: read every event with the full parser */
};

/* Why a call failed, in the field's own vocabulary. */
struct failure {
    enum error_type type; /* ERROR_NONE: it did not fail */
    bool may_fall_back;   /* another target may do better, though this one will not */
    char code[FAILURE_CODE_SIZE];
    char message[ERR_MESSAGE_MAX]; /* the provider's words, without its key */
};

/* Whatever the error: a message or code that quotes a piece of the key is replaced. */
void failure_hide_key(struct failure *failure, const char *api_key);

struct usage {
    int64_t input_tokens, cached_input_tokens, output_tokens; /* -1: unknown */
};

struct answer;

struct answer_result {
    bool is_complete; /* the end marker and a finish reason came */
    bool has_usage;   /* and nothing was generated after it */
    struct usage usage;
    int64_t events;                         /* parsed */
    int64_t output_bytes;                   /* of everything generated that was shown */
    char finish_reason[FINISH_REASON_SIZE]; /* "" when none came */
    const char *response; /* is_complete: the chat.completion; lives as long as the answer */
    size_t response_len;
    struct failure failure; /* not is_complete: what was wrong with the stream */
};

struct wire_format {
    const char *name; /* `format` in the configuration */

    /* request is the job's own, which was checked at submit. */
    bool (*write_call)(const struct target *target, const char *request, size_t len,
                       const char *call_id, struct wire_call *out, struct err *err);

    struct answer *(*answer_new)(const struct answer_spec *spec);
    void (*answer_free)(struct answer *answer);
    /* Bytes of the stream, cut anywhere.  False: it can only be a failure now, stop reading. */
    bool (*answer_feed)(struct answer *answer, const char *data, size_t len);
    int64_t (*answer_events)(const struct answer *answer); /* parsed so far */
    bool (*answer_is_done)(const struct answer *answer);   /* the end marker came */
    /* Nothing more will come. */
    void (*answer_finish)(struct answer *answer, struct answer_result *out);

    /* An answer without a stream: status is not 2xx, or it is and the body is something else. */
    void (*read_failure)(int status, const char *body, size_t len, struct failure *out);
};

extern const struct wire_format openai_format;

/* NULL: not known. */
const struct wire_format *wire_format_find(const char *name);

#endif
