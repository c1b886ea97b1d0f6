/* SPDX-License-Identifier: Apache-2.0 */
/* All waits of the simulator behind one libevent timer. */
#include "tests/simulator/pacer.h"

#include <stdlib.h>

#include <event2/event.h>

#include "common/base/clock.h"
#include "common/base/str.h"

struct pacer {
    struct heap heap;
    struct event *timer;
    int64_t armed_us; /* when the timer fires; INT64_MAX: not armed */
    bool is_ticking;
};

static void pacer_arm(struct pacer *pacer)
{
    const struct heap_entry *first = heap_min(&pacer->heap);

    if (pacer->is_ticking || !first || first->key >= pacer->armed_us)
        return;
    int64_t wait = first->key - clock_monotonic_us();
    if (wait < 0)
        wait = 0;
    struct timeval tv = {.tv_sec = wait / US_PER_S, .tv_usec = wait % US_PER_S};
    if (event_add(pacer->timer, &tv) == 0)
        pacer->armed_us = first->key;
}

/* Runs what was due when the tick began; what is set again meanwhile waits for the next one. */
static void pacer_tick(evutil_socket_t fd, short what, void *arg)
{
    struct pacer *pacer = arg;
    int64_t now = clock_monotonic_us();
    struct heap_entry *first;

    (void)fd;
    (void)what;
    pacer->armed_us = INT64_MAX;
    pacer->is_ticking = true;
    while ((first = heap_min(&pacer->heap)) && first->key <= now) {
        struct pacer_entry *entry = HEAP_OWNER(first, struct pacer_entry, heap);

        heap_remove(&pacer->heap, first);
        entry->fn(entry->arg);
    }
    pacer->is_ticking = false;
    pacer_arm(pacer);
}

struct pacer *pacer_new(struct event_base *base, size_t max, struct err *err)
{
    struct pacer *pacer = xcalloc(1, sizeof(*pacer));

    heap_init(&pacer->heap, max);
    pacer->armed_us = INT64_MAX;
    pacer->timer = evtimer_new(base, pacer_tick, pacer);
    if (!pacer->timer) {
        err_set(err, "make a timer: out of memory");
        pacer_free(pacer);
        return NULL;
    }
    return pacer;
}

void pacer_free(struct pacer *pacer)
{
    if (!pacer)
        return;
    if (pacer->timer)
        event_free(pacer->timer);
    heap_release(&pacer->heap);
    free(pacer);
}

void pacer_entry_init(struct pacer_entry *entry, void (*fn)(void *arg), void *arg)
{
    heap_entry_init(&entry->heap);
    entry->fn = fn;
    entry->arg = arg;
}

bool pacer_set(struct pacer *pacer, struct pacer_entry *entry, int64_t due_us)
{
    int64_t now = clock_monotonic_us();

    if (due_us <= now)
        due_us = now + 1;
    due_us = (due_us + PACER_GRAIN_US - 1) / PACER_GRAIN_US * PACER_GRAIN_US;
    heap_remove(&pacer->heap, &entry->heap);
    if (!heap_insert(&pacer->heap, &entry->heap, due_us))
        return false;
    pacer_arm(pacer);
    return true;
}

void pacer_cancel(struct pacer *pacer, struct pacer_entry *entry)
{
    heap_remove(&pacer->heap, &entry->heap);
}
