/* SPDX-License-Identifier: Apache-2.0 */
/* Any story of a job, with any order of reads, live messages and resumes, reaches its reader whole.
 */
#include <stddef.h>
#include <stdint.h>

#include "tests/unit/stream_story.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cursor cursor;
    char text[CURSOR_SIZE];

    if (cursor_parse((const char *)data, size, &cursor)) {
        cursor_format(&cursor, text);
        assert(memcmp(text, data, CURSOR_LEN) == 0);
    }
    story_play(data, size);
    return 0;
}
