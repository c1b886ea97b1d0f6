/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of an answer that is not streamed. */
#include "tests/simulator/call.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/io/http_server.h"

static bool has(const struct call *call, enum scenario_fault fault)
{
    return scenario_has(&call->scenario, fault);
}

/* How the answer is broken, and how much of its body is sent before. */
static const struct {
    enum scenario_fault fault;
    enum call_close close;
    int halves;
} breaks[] = {
    {FAULT_RESET_AFTER_HEAD, CLOSE_RESET, 0},
    {FAULT_RESET_MID, CLOSE_RESET, 1},
    {FAULT_CLOSE_MID, CLOSE_FIN, 1},
    {FAULT_CUT_LINE, CLOSE_FIN, 1},
    {FAULT_END_MID, CLOSE_END, 1},
};

/* True when one of the faults that cut the answer is asked for: the rest is arranged. */
static bool break_off(struct call *call)
{
    for (size_t i = 0; i < sizeof(breaks) / sizeof(breaks[0]); i++) {
        if (!has(call, breaks[i].fault))
            continue;
        call->out.len = call->out.len / 2 * (size_t)breaks[i].halves;
        call_close_with(call, breaks[i].close, CALL_CUT);
        return true;
    }
    if (!has(call, FAULT_SILENCE_HEAD) && !has(call, FAULT_SILENCE_MID) && !has(call, FAULT_PINGS))
        return false;
    call->out.len = has(call, FAULT_SILENCE_HEAD) ? 0 : call->out.len / 2;
    call->step = call_step_forever;
    return true;
}

static enum call_next step_send(struct call *call)
{
    bool is_broken;

    call->status = 200;
    is_broken = break_off(call);
    if (is_broken || has(call, FAULT_DRIP) || has(call, FAULT_SPLIT_BYTES)) {
        http_start(call->http, 200, "application/json");
        if (!is_broken)
            call_close_with(call, CLOSE_END, CALL_COMPLETED);
        return CALL_MORE;
    }
    call->outcome = CALL_COMPLETED;
    call->is_replied = true;
    http_reply(call->http, 200, "application/json", call->out.data, call->out.len);
    return CALL_OVER;
}

static enum call_next step_make(struct call *call)
{
    struct chat_answer *answer = &call->answer;

    chat_whole(answer, &call->text, &call->event);
    call_add_text(call, call->text.data ? call->text.data : "", call->text.len);
    if (has(call, FAULT_JUNK))
        buf_puts(&call->out, "{\"id\":\"chatcmpl-junk\",\"choices\":[{\"index\":0,,}\n");
    else
        buf_append(&call->out, call->event.data, call->event.len);
    call->done = answer->items;
    call->has_sent_usage = !has(call, FAULT_NO_USAGE);
    return step_send(call);
}

/* The time the words would have taken, then the gate, then the answer. */
static enum call_next step_hold(struct call *call)
{
    if (call_is_held(call))
        return call_step_hold(call);
    return step_make(call);
}

enum call_next whole_step_render(struct call *call)
{
    const struct scenario *scenario = &call->scenario;
    int64_t took_us = 0;

    if (scenario->gap_ms > 0)
        took_us = call->answer.items / scenario->per_chunk * scenario->gap_ms * US_PER_MS;
    else if (scenario->rate > 0)
        took_us = call->answer.items * US_PER_S / scenario->rate;
    call->step = step_hold;
    if (took_us > 0 && call_sleep(call, clock_monotonic_us() + took_us))
        return CALL_WAIT;
    return CALL_MORE;
}
