/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDv7 ids: 48 bits of milliseconds, a counter, then randomness. */
#include "common/base/id.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/str.h"

enum { HEX_SIZE = 33, COUNTER_BITS = 26, STEP_BACK_MAX_MS = 1000 };

/* Two strings that never meet in one id: the counter begins each millisecond at a random place in
 * its lower half, so it can neither be guessed nor overflow (33 million ids in one millisecond).
 * The database's clock is measured again and again and each measurement may step back a little:
 * *ms then stays where it was, or a job would be listed before one that was submitted earlier. */
static uint32_t next_counter(int64_t *ms, uint32_t random)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int64_t last_ms = -1;
    static uint32_t counter;
    uint32_t result;

    pthread_mutex_lock(&lock);
    if (*ms < last_ms && last_ms - *ms <= STEP_BACK_MAX_MS)
        *ms = last_ms;
    counter = *ms == last_ms ? counter + 1 : random >> (32 - COUNTER_BITS + 1);
    last_ms = *ms;
    result = counter & ((1u << COUNTER_BITS) - 1);
    pthread_mutex_unlock(&lock);
    return result;
}

/* Layout (RFC 9562): 48 bits time, 4 version, 12 counter, 2 variant, 14 counter, 48 random. */
struct id id_make(int64_t now_us)
{
    int64_t ms = now_us / US_PER_MS;
    uint32_t seed, counter;
    struct id id;

    assert(now_us >= 0);
    crypto_random(id.bytes, sizeof(id.bytes));
    memcpy(&seed, id.bytes, sizeof(seed));
    counter = next_counter(&ms, seed);
    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)((uint64_t)ms >> (40 - 8 * i));
    id.bytes[6] = (uint8_t)(0x70 | counter >> 22);
    id.bytes[7] = (uint8_t)(counter >> 14);
    id.bytes[8] = (uint8_t)(0x80 | (counter >> 8 & 0x3f));
    id.bytes[9] = (uint8_t)counter;
    return id;
}

int64_t id_time_us(struct id id)
{
    int64_t ms = 0;

    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id.bytes[i];
    return ms * US_PER_MS;
}

bool id_equal(struct id a, struct id b)
{
    return id_compare(a, b) == 0;
}

int id_compare(struct id a, struct id b)
{
    return memcmp(a.bytes, b.bytes, sizeof(a.bytes));
}

bool id_is_zero(struct id id)
{
    return id_equal(id, (struct id){.bytes = {0}});
}

void id_format(struct id id, const char *prefix, char out[ID_TEXT_SIZE])
{
    size_t len = strlen(prefix);

    assert(len + HEX_SIZE <= ID_TEXT_SIZE);
    memcpy(out, prefix, len);
    str_hex(id.bytes, sizeof(id.bytes), out + len);
}

static bool is_lower_hex(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f'))
            return false;
    }
    return true;
}

bool id_parse(const char *text, size_t len, const char *prefix, struct id *out)
{
    size_t prefix_len = strlen(prefix);
    struct id id;

    if (len != prefix_len + HEX_SIZE - 1 || memcmp(text, prefix, prefix_len) != 0)
        return false;
    text += prefix_len;
    if (!is_lower_hex(text, HEX_SIZE - 1) || !str_unhex(text, HEX_SIZE - 1, id.bytes))
        return false;
    if (id.bytes[6] >> 4 != 7 || id.bytes[8] >> 6 != 2)
        return false;
    *out = id;
    return true;
}

void id_format_call(struct id job, int call, char out[CALL_ID_SIZE])
{
    char hex[HEX_SIZE];

    assert(call > 0);
    str_hex(job.bytes, sizeof(job.bytes), hex);
    snprintf(out, CALL_ID_SIZE, "call_%s_%d", hex, call);
}

bool id_parse_call(const char *text, size_t len, struct id *job, int *call)
{
    const size_t head = sizeof("call_") - 1 + HEX_SIZE - 1;
    int64_t ordinal;

    if (len < head + 2 || text[head] != '_' || text[head + 1] == '0' ||
        !str_to_i64(text + head + 1, len - head - 1, &ordinal) || ordinal < 1 || ordinal > INT_MAX)
        return false;
    if (!id_parse(text, head, "call_", job))
        return false;
    *call = (int)ordinal;
    return true;
}
