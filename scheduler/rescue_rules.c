/* SPDX-License-Identifier: Apache-2.0 */
/* When rescue may act, and how long a job waits after a crash.  Pure. */
#include "scheduler/rescue_rules.h"

#include "common/base/clock.h"

enum { GAP_S = 3, CONFIRM_S = 2, FIRST_MS = 1000, BASE_MS = 2000, CAP_MS = 600000 };

bool rescue_may_pass(struct rescue_memory *memory, const struct rescue_facts *facts)
{
    int64_t last_us = memory->last_us;
    bool has_failed = facts->last_error_us >= last_us && facts->last_error_us != 0;
    bool skips_error = has_failed && !memory->skipped_an_error;

    memory->last_us = facts->now_us;
    memory->skipped_an_error = skips_error;
    return last_us != 0 && facts->now_us - last_us <= GAP_S * US_PER_S &&
           facts->now_us - facts->connected_us >= GAP_S * US_PER_S && !skips_error;
}

bool rescue_may_declare(struct rescue_memory *memory, int64_t now_us, int64_t workers,
                        int64_t stale)
{
    if (workers < 2 || 2 * stale <= workers) {
        memory->suspected_us = 0;
        return true;
    }
    if (memory->suspected_us == 0)
        memory->suspected_us = now_us;
    return now_us - memory->suspected_us >= CONFIRM_S * US_PER_S;
}

struct rescue_delay rescue_delay(int crashes)
{
    int64_t ms = BASE_MS;

    if (crashes <= 1)
        return (struct rescue_delay){.min_ms = 0, .max_ms = FIRST_MS};
    for (int i = 1; i < crashes && ms < CAP_MS; i++)
        ms *= 4;
    if (ms > CAP_MS)
        ms = CAP_MS;
    return (struct rescue_delay){.min_ms = ms / 2, .max_ms = ms};
}
