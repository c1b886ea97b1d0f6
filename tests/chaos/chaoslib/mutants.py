# SPDX-License-Identifier: Apache-2.0
"""Evidence with one fault put in: the checker is trusted only if it notices each."""

import pickle

from .checks import CHECKS, CLOSING, call_name


def pick(rows, condition=lambda row: True):
    return next((row for row in rows if condition(row)), None)


def succeeded(ev):
    return pick(ev.jobs, lambda name: ev.jobs[name]["state"] == "succeeded" and len(ev.events[name]) > 3)


def lost_job(ev):
    ev.jobs.pop(pick(ev.submits, lambda s: s["id"])["id"])


def second_job(ev):
    name = succeeded(ev)
    ev.jobs["job_" + "0" * 32] = dict(ev.jobs[name])


def revived_job(ev):
    ev.jobs[succeeded(ev)]["state"] = "cancelled"


def queue_row(ev):
    ev.queue.append({"job": "x"})


def other_id(ev):
    ev.idempotency[0]["job"] = "0" * 32


def missing_call(ev):
    names = {(call["headers"] or {}).get("x-nightshift-call") for call in ev.sim_calls}
    ev.calls.remove(pick(ev.calls, lambda row: call_name(row) in names))


def call_sent_twice(ev):
    ev.sim_calls.append(ev.sim_calls[0])


def call_not_sent(ev):
    ev.sim_calls.clear()


def sent_row(ev):
    ev.calls[0]["state"] = "sent"


def wrong_tokens(ev):
    pick(ev.calls, lambda row: row["state"] == "settled" and not row["is_usage_estimated"])["output_tokens"] += 1


def wrong_cost(ev):
    pick(ev.calls, lambda row: row["state"] == "settled" and not row["is_usage_estimated"])["cost_nano"] += 1


def changed_result(ev):
    job = ev.jobs[succeeded(ev)]
    job["result"] = job["result"] + " "


def lost_delta(ev):
    for events in ev.events.values():
        delta = pick(events, lambda event: event["kind"] == "output.delta")
        if delta:
            events.remove(delta)
            return


def second_end(ev):
    events = ev.events[succeeded(ev)]
    events.append(dict(events[-1], seq=events[-1]["seq"] + 1))


def no_end(ev):
    events = ev.events[succeeded(ev)]
    events.remove(pick(events, lambda event: event["kind"] in CLOSING))


def wrong_count(ev):
    ev.counts[0]["n"] += 1


def lost_delivery(ev):
    ev.deliveries.pop()


def undelivered(ev):
    ev.hooks.clear()


def forged_hook(ev):
    ev.hooks[0]["headers"]["webhook-signature"] = "v1," + "A" * 43 + "="


def changed_hook(ev):
    ev.hooks[0]["body"] = ev.hooks[0]["body"].replace("job.", "jab.", 1)


def stream_gap(ev):
    for stream in ev.streams:
        deltas = [event for event in stream["events"] if event["name"] == "output.delta"]
        if len(deltas) > 2 and deltas[0]["data"]["attempt"] == deltas[1]["data"]["attempt"]:
            stream["events"].remove(deltas[0])
            return


def stream_end_missing(ev):
    ev.streams[0]["events"].pop()


MUTANTS = (lost_job, second_job, revived_job, queue_row, other_id, missing_call, call_sent_twice, call_not_sent,
           sent_row, wrong_tokens, wrong_cost, changed_result, lost_delta, second_end, no_end, wrong_count,
           lost_delivery, undelivered, forged_hook, changed_hook, stream_gap, stream_end_missing)


def complaints(evidence):
    return {function.__name__: function(evidence) for function in CHECKS}


def survivors(evidence, before):
    """Mutants after which no check complains more than before."""
    alive = []
    kept = pickle.dumps(evidence)
    for mutant in MUTANTS:
        changed = pickle.loads(kept)
        mutant(changed)
        after = complaints(changed)
        if not any(len(after[name]) > len(before[name]) for name in after):
            alive.append(mutant.__name__)
    return alive
