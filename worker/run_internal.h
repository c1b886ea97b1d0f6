/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of a run's machine share. */
#ifndef WORKER_RUN_INTERNAL_H
#define WORKER_RUN_INTERNAL_H

#include "common/base/log.h"
#include "common/model/admission.h"
#include "common/model/call_store.h"
#include "common/model/end_store.h"
#include "common/model/limit_cache.h"
#include "worker/call.h"
#include "worker/decide.h"
#include "worker/hold.h"
#include "worker/reservation.h"
#include "worker/run.h"
#include "worker/stream_out.h"

struct event;

enum step_result {
    STEP_MORE, /* run->at is the next step: go on */
    STEP_WAIT, /* a callback will call run_advance */
    STEP_END,  /* the run is over */
};

/* A step may be called again at any moment, also for nothing: it looks at what it waits for and
 * returns STEP_WAIT when that has not come. */
struct step {
    const char *name;
    enum step_result (*fn)(struct run *run);
};

/*   decide -> act -> admit -> admit_wait -> intent -> intent_wait -> call -> calling -> judge
 *     ^        |       ^ '-------.--------> requeue                                      |
 *     |        |-> backoff -> decide                              end -> ending <--------|
 *     |        '-> requeue -> ending                      act <- settling <- settle <----|
 *     '...     forget: from anywhere, when the job is not ours any more       requeue <--' */
extern const struct step step_decide, step_act, step_backoff, step_admit, step_admit_wait,
    step_intent, step_intent_wait, step_call, step_calling, step_judge, step_settle, step_settling,
    step_end, step_requeue, step_ending, step_forget;

/* Of the call in hand: the budget it is booked on. */
struct run_budget {
    bool is_there;    /* also one that is only counted */
    bool is_enforced; /* nothing is called without a reservation */
    char day[BUDGET_DAY_SIZE];
    char windows[BUDGET_WINDOW_COUNT * WINDOW_ID_SIZE]; /* "d20261121,t" */
    char generation[GENERATION_TEXT_SIZE];
    int64_t known_generation; /* of the tenant's book, when it was asked what applies */
};

struct run {
    const struct step *at;
    struct worker *worker;
    struct claimed_job *claimed;
    struct settings *settings; /* ours until the end, whatever is reloaded */
    const struct route *route; /* NULL: not configured any more */
    struct event *timer;
    struct stream_out *out;
    struct log_context log;
    char job_text[ID_TEXT_SIZE];

    /* What happened to us. */
    bool is_cancelled;
    bool is_draining;
    bool is_lost;

    /* Counters, as they stand. */
    int calls; /* ordinal of the newest call over the job's life */
    int attempts;
    int deferrals;
    int64_t spent_nano;

    struct job_facts facts;
    struct next next;
    int64_t wake_us; /* step_backoff */

    /* The call in hand. */
    int target;
    struct request_facts request_facts;
    struct reservation worst;
    struct admission_ask *ask; /* on its way */
    struct admission_answer answer;
    int64_t admit_until_us; /* waits in place end then; 0: there was none */
    struct run_budget budget;
    struct hold hold; /* until Redis was told of the outcome */
    struct call_intent intent;
    int64_t call_total_ms;
    bool is_bound_by_deadline; /* the job's deadline is what limits the call */
    bool is_intent_out;
    enum intent_outcome intent_outcome;
    struct call *call;
    struct call_end end; /* response is NULL here, see below */
    char *response;      /* the chat.completion of a complete call */
    size_t response_len;
    struct call_outcome outcome;
    bool has_outcome; /* outcome is to be booked */
    bool is_settle_out;
    enum store_outcome settle_outcome;
    int64_t touched_us;

    /* How the job ends, or goes back. */
    enum job_state end_state;
    struct failure failure; /* the last one */
    struct run_requeue requeue;
    struct shut_gate gate;
    const char *gate_reason; /* of gate, if the job goes back because its accounts are full */
    char wait_detail[256];
    bool is_end_out;
    bool is_end_refused;      /* once: tried again with less */
    const struct step *ender; /* step_end or step_requeue: what to try again */
    struct end_reply reply;
};

/* For what no waiting helps, unless somebody changes limits or configuration. */
enum { RUN_NEVER_MS = 3600 * 1000 };

void run_advance(struct run *run);
/* Calls run_advance in ms. */
void run_wake_in(struct run *run, int64_t ms);

const struct target *run_target(const struct run *run);
/* Lost, cancelled, past the deadline or draining: run->at is where that leads.  False: none. */
bool run_is_diverted(struct run *run);

enum step_result run_end_as(struct run *run, enum job_state state);
enum step_result run_fail(struct run *run, enum error_type type, const char *code,
                          const char *message);
/* What the job says of its waiting; before run_give_back. */
void run_note_detail(struct run *run, const char *text);
/* Back to the queue for delay_ms; wait_reason NULL for a drain. */
enum step_result run_give_back(struct run *run, int64_t delay_ms, const char *wait_reason,
                               const char *reason);

/* Cuts the call in hand; the judge finds how it went. */
void run_cut_call(struct run *run);

#endif
