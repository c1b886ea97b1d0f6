/* SPDX-License-Identifier: Apache-2.0 */
/* One call being answered: its state, and the machine that its steps run in. */
#ifndef TESTS_SIMULATOR_CALL_H
#define TESTS_SIMULATOR_CALL_H

#include <stdint.h>

#include "common/base/buf.h"
#include "tests/simulator/call_log.h"
#include "tests/simulator/chat_wire.h"
#include "tests/simulator/gates.h"
#include "tests/simulator/pacer.h"
#include "tests/simulator/scenario.h"

struct call;
struct http_request;
struct simulator;

enum call_next {
    CALL_MORE, /* run the next step now */
    CALL_WAIT, /* something will call call_advance */
    CALL_OVER, /* the call ends here: http and log are settled by the machine */
};

/* A step sets call->step to what comes after it and appends to call->out what is to be sent. */
typedef enum call_next call_step_fn(struct call *call);

/* How the connection ends once everything written has left. */
enum call_close { CLOSE_END, CLOSE_FIN, CLOSE_RESET };

struct call {
    struct simulator *simulator;
    struct http_request *http;
    struct scenario scenario;
    struct chat_answer answer;
    struct chat_request request;
    call_step_fn *step;
    int64_t seq;        /* in the call log */
    int64_t started_us; /* of the content, monotonic */
    int64_t done;       /* pieces of content sent */
    int64_t chunks;     /* events of content sent */
    size_t fault_index; /* next fault of this point to look at */
    struct sha256_stream *sha;
    struct buf out;   /* to be sent */
    struct buf event; /* JSON of the event being made */
    struct buf text;  /* raw text of the event being made */
    struct pacer_entry timer;
    struct gate_wait gate;
    enum call_close close;
    enum call_outcome outcome;
    int status;   /* sent; 0: none yet */
    bool is_gone; /* the client left */
    bool has_waited, was_held, was_faulted, has_lingered, has_sent_usage, is_replied;
};

/* Takes over request and scenario: the call answers http from here on and frees itself at its end.
 * NULL when the log refuses; nothing is taken then. */
struct call *call_begin(struct simulator *simulator, struct http_request *http,
                        struct chat_request *request, const struct scenario *scenario,
                        const struct call_facts *facts);
void call_advance(struct call *call);

/* For steps. */
bool call_sleep(struct call *call, int64_t due_us);                  /* call_advance at that time */
void call_add_text(struct call *call, const char *text, size_t len); /* into the text's hash */
enum call_next call_close_with(struct call *call, enum call_close how, enum call_outcome outcome);
call_step_fn call_step_hold; /* waits at the scenario's gate, once */
call_step_fn call_step_forever;
bool call_is_held(const struct call *call); /* must call_step_hold be run (again)? */

/* The first steps after the faults that need no answer (stream.c, whole.c). */
call_step_fn stream_step_head;
call_step_fn whole_step_render;

#endif
