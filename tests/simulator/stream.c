/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a streamed answer: head, role, content, fault, finish, usage, end marker. */
#include "tests/simulator/call.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/io/http_server.h"

static call_step_fn step_content;

/* Frames what stands in call->event. */
static void put_event(struct call *call)
{
    chat_event(&call->answer, call->event.data, call->event.len, &call->out);
    buf_clear(&call->event);
}

static bool has(const struct call *call, enum scenario_fault fault)
{
    return scenario_has(&call->scenario, fault);
}

/* --- the end of a good stream ----------------------------------------------------------------- */

static enum call_next step_done(struct call *call)
{
    if (!has(call, FAULT_NO_DONE))
        chat_event(&call->answer, "[DONE]", 6, &call->out);
    if (has(call, FAULT_KEEP_OPEN)) {
        call->step = call_step_forever;
        return CALL_MORE;
    }
    return call_close_with(call, CLOSE_END, has(call, FAULT_NO_FINISH) ? CALL_CUT : CALL_COMPLETED);
}

static enum call_next step_finish(struct call *call)
{
    for (int64_t choice = 0; choice < call->answer.choices && !has(call, FAULT_NO_FINISH);
         choice++) {
        chat_chunk_finish(&call->answer, choice, call->done, &call->event);
        put_event(call);
    }
    if (call->answer.has_usage && !has(call, FAULT_NO_USAGE)) {
        chat_chunk_usage(&call->answer, call->done, &call->event);
        put_event(call);
        call->has_sent_usage = true;
    }
    if (has(call, FAULT_USAGE_EVERY_CHUNK))
        call->has_sent_usage = true;
    call->step = step_done;
    return CALL_MORE;
}

/* --- content ---------------------------------------------------------------------------------- */

/* The next piece of every choice, up to per_chunk words. */
static void put_pieces(struct call *call)
{
    struct chat_answer *answer = &call->answer;
    bool is_tool = chat_answer_is_tool(answer);
    int64_t to = call->done + (is_tool ? 1 : call->scenario.per_chunk);

    if (to > answer->items)
        to = answer->items;
    for (int64_t choice = 0; choice < answer->choices; choice++) {
        if (is_tool) {
            chat_chunk_tool(answer, choice, call->done, &call->event);
        } else {
            if (choice == 0 || !answer->echo) {
                buf_clear(&call->text);
                chat_text(answer, choice, call->done, to, &call->text);
            }
            if (choice == 0)
                call_add_text(call, call->text.data, call->text.len);
            chat_chunk_text(answer, choice, call->text.data, call->text.len,
                            has(call, FAULT_REFUSAL), to, &call->event);
        }
        put_event(call);
    }
    call->done = to;
    call->chunks++;
}

/* --- faults in the middle --------------------------------------------------------------------- */

static enum call_next fault_close(struct call *call)
{
    return call_close_with(call, CLOSE_FIN, CALL_CUT);
}

static enum call_next fault_reset(struct call *call)
{
    return call_close_with(call, CLOSE_RESET, CALL_CUT);
}

static enum call_next fault_end(struct call *call)
{
    return call_close_with(call, CLOSE_END, CALL_CUT);
}

/* Half of the next event, which was never whole. */
static enum call_next fault_cut_line(struct call *call)
{
    static const char text[] = " lost";
    size_t before = call->out.len;

    chat_chunk_text(&call->answer, 0, text, sizeof(text) - 1, false, call->done, &call->event);
    put_event(call);
    call->out.len = before + (call->out.len - before) / 2;
    return call_close_with(call, CLOSE_FIN, CALL_CUT);
}

static enum call_next step_ping(struct call *call)
{
    const char *end = has(call, FAULT_CRLF) ? "\r\n" : "\n";

    buf_printf(&call->out, ": ping%s%s", end, end);
    call->step = step_ping;
    return call_sleep(call, clock_monotonic_us() + call->scenario.ping_ms * US_PER_MS) ? CALL_WAIT
                                                                                       : CALL_OVER;
}

static enum call_next fault_error(struct call *call)
{
    const char *code = call->scenario.code;
    int status = call->scenario.status ? (int)call->scenario.status : 500;

    chat_error_for(&call->event, status, code);
    call->event.len--; /* an event's data is one line */
    put_event(call);
    chat_event(&call->answer, "[DONE]", 6, &call->out);
    return call_close_with(call, CLOSE_END, CALL_ERROR);
}

/* A line that is no field (readers skip it), then an event that is not JSON.  The stream goes on.
 */
static enum call_next fault_junk(struct call *call)
{
    static const char garbage[] = "\x01\x80\xff<<junk>>\n\n";
    static const char broken[] = "{\"id\":\"chatcmpl-junk\",\"choices\":[{\"index\":0,,}";

    buf_append(&call->out, garbage, sizeof(garbage) - 1);
    chat_event(&call->answer, broken, sizeof(broken) - 1, &call->out);
    return CALL_MORE;
}

static enum call_next fault_huge(struct call *call)
{
    size_t left = (size_t)call->scenario.bytes;
    char block[4096];

    memset(block, 'x', sizeof(block));
    buf_clear(&call->text);
    while (left > 0) {
        size_t n = left < sizeof(block) ? left : sizeof(block);

        buf_append(&call->text, block, n);
        left -= n;
    }
    call_add_text(call, call->text.data, call->text.len);
    chat_chunk_text(&call->answer, 0, call->text.data, call->text.len, false, call->done,
                    &call->event);
    put_event(call);
    buf_release(&call->text);
    buf_release(&call->event);
    return CALL_MORE;
}

/* json is what stands between the quotes, text what it means. */
static enum call_next put_odd_text(struct call *call, const char *json, size_t json_len,
                                   const char *text, size_t text_len)
{
    call_add_text(call, text, text_len);
    chat_chunk_raw(&call->answer, 0, json, json_len, call->done, &call->event);
    put_event(call);
    return CALL_MORE;
}

static enum call_next fault_bad_utf8(struct call *call)
{
    return put_odd_text(call, "\xff\xfe\xc3", 3, "\xff\xfe\xc3", 3);
}

static enum call_next fault_nul(struct call *call)
{
    return put_odd_text(call, "a\\u0000b", 8, "a\0b", 3);
}

static enum call_next fault_surrogate(struct call *call)
{
    return put_odd_text(call, "\\ud83d", 6, "\xef\xbf\xbd", 3);
}

/* What can happen at the point `after`: first what the stream survives, then what ends it. */
static const struct {
    enum scenario_fault fault;
    call_step_fn *fn;
} point_faults[] = {
    {FAULT_JUNK, fault_junk},
    {FAULT_HUGE_EVENT, fault_huge},
    {FAULT_BAD_UTF8, fault_bad_utf8},
    {FAULT_NUL, fault_nul},
    {FAULT_LONE_SURROGATE, fault_surrogate},
    {FAULT_ERROR_IN_STREAM, fault_error},
    {FAULT_CUT_LINE, fault_cut_line},
    {FAULT_CLOSE_MID, fault_close},
    {FAULT_RESET_MID, fault_reset},
    {FAULT_END_MID, fault_end},
    {FAULT_SILENCE_MID, call_step_forever},
    {FAULT_PINGS, step_ping},
};

static enum call_next step_fault(struct call *call)
{
    while (call->fault_index < sizeof(point_faults) / sizeof(point_faults[0])) {
        size_t i = call->fault_index++;

        if (has(call, point_faults[i].fault))
            return point_faults[i].fn(call);
    }
    call->step = step_content;
    return CALL_MORE;
}

/* True when there is nothing to wait for before the next event of content. */
static bool is_paced(const struct call *call, int64_t *due_us)
{
    const struct scenario *scenario = &call->scenario;
    int64_t gap_us = scenario->gap_ms * US_PER_MS;

    if (gap_us == 0 && scenario->rate > 0)
        gap_us = scenario->per_chunk * US_PER_S / scenario->rate;
    if (gap_us == 0 || has(call, FAULT_DRIP))
        return false;
    *due_us = call->started_us + call->chunks * gap_us;
    return clock_monotonic_us() < *due_us;
}

static enum call_next step_content(struct call *call)
{
    bool is_all_out = call->done >= call->answer.items;
    int64_t due_us;

    if (call->chunks >= call->scenario.after || is_all_out) {
        if (call_is_held(call))
            return call_step_hold(call);
        if (!call->was_faulted) {
            call->was_faulted = true;
            call->step = step_fault;
            return CALL_MORE;
        }
    }
    if (is_all_out) {
        call->step = step_finish;
        return CALL_MORE;
    }
    if (is_paced(call, &due_us) && call_sleep(call, due_us))
        return CALL_WAIT;
    put_pieces(call);
    return CALL_MORE;
}

/* --- the beginning ---------------------------------------------------------------------------- */

static enum call_next step_role(struct call *call)
{
    if (has(call, FAULT_BOM))
        buf_append(&call->out, "\xef\xbb\xbf", 3);
    for (int64_t choice = 0; choice < call->answer.choices; choice++) {
        chat_chunk_role(&call->answer, choice, &call->event);
        put_event(call);
    }
    call->started_us = clock_monotonic_us();
    call->step = step_content;
    return CALL_MORE;
}

enum call_next stream_step_head(struct call *call)
{
    call->status = 200;
    http_add_header(call->http, "cache-control", "no-cache");
    http_start(call->http, 200, "text/event-stream; charset=utf-8");
    if (has(call, FAULT_RESET_AFTER_HEAD))
        return call_close_with(call, CLOSE_RESET, CALL_CUT);
    if (has(call, FAULT_SILENCE_HEAD))
        return call_step_forever(call);
    call->step = step_role;
    return CALL_MORE;
}
