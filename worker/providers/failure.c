/* SPDX-License-Identifier: Apache-2.0 */
/* What of a failure may be shown: everything but our key. */
#include <stdio.h>
#include <string.h>

#include "worker/providers/provider.h"

/* Shorter pieces say nothing of a key, and are in many a word: services show some of their own
 * accord ("sk-ab...wxyz"). */
enum { PIECE = 12 };

static bool quotes(const char *text, const char *key)
{
    size_t text_len = strlen(text), key_len = strlen(key);

    for (size_t at = 0; at + PIECE <= key_len; at++)
        if (memmem(text, text_len, key + at, PIECE))
            return true;
    return false;
}

void failure_hide_key(struct failure *failure, const char *api_key)
{
    if (quotes(failure->message, api_key))
        snprintf(failure->message, sizeof(failure->message),
                 "the provider's words are not shown: they quote our key");
    if (quotes(failure->code, api_key))
        failure->code[0] = '\0';
}
