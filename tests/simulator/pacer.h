/* SPDX-License-Identifier: Apache-2.0 */
/* All waits of the simulator behind one libevent timer. */
#ifndef TESTS_SIMULATOR_PACER_H
#define TESTS_SIMULATOR_PACER_H

#include <stdint.h>

#include "common/base/err.h"
#include "common/base/heap.h"

struct event_base;
struct pacer;

/* Lives inside what waits.  fn runs once per pacer_set, from the loop. */
struct pacer_entry {
    struct heap_entry heap;
    void (*fn)(void *arg);
    void *arg;
};

/* Thousands of streams that each want a word every few milliseconds share wake-ups: due times are
 * rounded up to the next PACER_GRAIN_US. */
enum { PACER_GRAIN_US = 2000 };

struct pacer *pacer_new(struct event_base *base, size_t max, struct err *err) MUST_CHECK;
void pacer_free(struct pacer *pacer);

void pacer_entry_init(struct pacer_entry *entry, void (*fn)(void *arg), void *arg);
/* Moves the entry when it waits already.  due_us is of clock_monotonic_us.  False: too many. */
bool pacer_set(struct pacer *pacer, struct pacer_entry *entry, int64_t due_us) MUST_CHECK;
void pacer_cancel(struct pacer *pacer, struct pacer_entry *entry);

#endif
