/* SPDX-License-Identifier: Apache-2.0 */
/* What a chat request says about its price: sizes, attachments, fields that change it.  Pure. */
#ifndef COMMON_MODEL_REQUEST_FACTS_H
#define COMMON_MODEL_REQUEST_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is known to change the cost of a call in a way that tokens and the table of prices do not
 * tell. */
enum priced_field {
    PRICED_SERVICE_TIER,       /* other than "default" */
    PRICED_TOOLS,              /* hosted ones: of a type other than function and custom */
    PRICED_MODALITIES,         /* other than text */
    PRICED_AUDIO,              /* spoken answers */
    PRICED_INPUT_AUDIO,        /* sound in a message: its tokens are dearer */
    PRICED_MESSAGES,           /* parts of an unknown type, cache_control: writes are dearer */
    PRICED_WEB_SEARCH_OPTIONS, /* searches are billed apart */
    PRICED_PREDICTION,         /* rejected tokens are billed beyond the answer */
    PRICED_FIELD_COUNT,
};
const char *priced_field_name(enum priced_field field); /* as `priced_fields` of a price says it */

struct request_facts {
    const char *text; /* the request itself, borrowed */
    int64_t bytes;
    int64_t messages;
    int64_t tools;
    int64_t max_output;  /* the greater of max_tokens and max_completion_tokens; 0: neither */
    bool has_attachment; /* a part that is no text: an image, a file, sound */
    unsigned priced;     /* bit per enum priced_field in use */
    bool has_unknown;    /* members that no table knows, to be judged by their names */
};

/* request is the text of an object that json_parse accepted; *out borrows it. */
void request_facts_read(const char *request, size_t len, struct request_facts *out);

/* Visits the names of the members that no table knows (null ones are not there); "" stands for a
 * name longer than any known.  Ends when visit returns false, and then returns false. */
typedef bool request_unknown_fn(const char *name, void *arg);
bool request_facts_unknown(const struct request_facts *facts, request_unknown_fn *visit, void *arg);

#endif
