/* SPDX-License-Identifier: Apache-2.0 */
/* What a chat request says about its price: sizes, attachments, fields that change it.  Pure. */
#ifndef COMMON_MODEL_REQUEST_FACTS_H
#define COMMON_MODEL_REQUEST_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Members of a request that change what a call costs in a way that tokens and the table of prices
 * do not tell. */
enum priced_field {
    PRICED_SERVICE_TIER,       /* other than "default" */
    PRICED_TOOLS,              /* hosted ones: of a type other than function and custom */
    PRICED_MODALITIES,         /* other than text */
    PRICED_AUDIO,              /* spoken answers */
    PRICED_WEB_SEARCH_OPTIONS, /* searches are billed apart */
    PRICED_PREDICTION,         /* rejected tokens are billed beyond the answer */
    PRICED_FIELD_COUNT,
};
const char *priced_field_name(enum priced_field field); /* "service_tier": the request's member */

struct request_facts {
    int64_t bytes;
    int64_t messages;
    int64_t tools;
    int64_t max_output;  /* the greater of max_tokens and max_completion_tokens; 0: neither */
    bool has_attachment; /* a part that is no text: an image, a file, sound */
    unsigned priced;     /* bit per enum priced_field in use */
};

/* request is the text of an object that json_parse accepted. */
void request_facts_read(const char *request, size_t len, struct request_facts *out);

#endif
