/* SPDX-License-Identifier: Apache-2.0 */
/* Named gates at which answers wait until a test lets them pass. */
#ifndef TESTS_SIMULATOR_GATES_H
#define TESTS_SIMULATOR_GATES_H

#include <stddef.h>
#include <sys/queue.h>

#include "common/base/err.h"

struct buf;
struct gate;
struct gates;

/* Lives inside what waits.  fn runs when the gate opens, from inside gates_open. */
struct gate_wait {
    TAILQ_ENTRY(gate_wait) link;
    struct gate *gate; /* NULL: not waiting */
    void (*fn)(void *arg);
    void *arg;
};

enum { GATES_MAX = 10000 };

struct gates *gates_new(void);
void gates_free(struct gates *gates);

/* True: the caller waits at the gate and will be called.  False: it is open (or there are too many
 * gates), go on. */
bool gates_wait(struct gates *gates, const char *name, struct gate_wait *wait);
void gates_leave(struct gate_wait *wait); /* nothing when it does not wait */

/* Lets all who wait pass, and all who come later: a release before the wait is not lost.  Returns
 * how many waited. */
size_t gates_open(struct gates *gates, const char *name);
void gates_close(struct gates *gates, const char *name); /* who comes now waits again */
void gates_reset(struct gates *gates);                   /* opens all, then forgets their names */

/* {"name":waiting,...} of all that anyone waits at. */
void gates_describe(const struct gates *gates, struct buf *out);

#endif
