# SPDX-License-Identifier: Apache-2.0
"""The checks: each a pure function from evidence to a list of complaints.  Its name is its promise."""

import base64
import collections
import hashlib
import hmac
import json

from testenv.ledger import cost_nano

from .evidence import job_id

TERMINAL = ("succeeded", "failed", "cancelled", "expired")
CLOSING = tuple(f"job.{state}" for state in TERMINAL)
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


# --- jobs ----------------------------------------------------------------------------------------


@check
def everything_came_to_rest_in_time(ev):
    return [] if ev.is_quiet else [f"not quiet after {ev.quiet_s:.0f} s: {len(ev.queue)} queued, {len(ev.runs)} running, "
                                   f"{sum(d['state'] == 'waiting' for d in ev.deliveries)} webhooks waiting"]


@check
def every_accepted_job_exists_and_ended_once(ev):
    lost = [f"{s['id']} ({s['key']}) was accepted and is not there" for s in ev.submits
            if s["id"] and s["id"] not in ev.jobs]
    return lost + [f"{name} has state {job['state']}" for name, job in ev.jobs.items()
                   if job["state"] not in TERMINAL]


@check
def nothing_is_left_in_queue_or_runs(ev):
    return [f"{row['job']} is left in queue" for row in ev.queue] + \
        [f"{row['job']} is left in runs" for row in ev.runs]


@check
def every_submit_was_answered_as_promised(ev):
    return list(ev.refusals)


@check
def the_same_key_is_the_same_job(ev):
    bad = []
    stored = {(row["tenant"], row["key"]): job_id(row["job"]) for row in ev.idempotency}
    for s in ev.submits:
        if s["id"] and stored.get((s["tenant"], s["key"])) != s["id"]:
            bad.append(f"{s['key']}: client has {s['id']}, the table {stored.get((s['tenant'], s['key']))}")
    bad += [f"{r['key']}: repeated, it got {r['status']} and other bytes" for r in ev.repeats
            if r["status"] != 202 or not r["is_same"]]
    prompts = collections.Counter(job["request"] for job in ev.jobs.values())
    return bad + [f"{n} jobs of one request: {text[:120]}" for text, n in prompts.items() if n > 1]


@check
def jobs_end_as_they_were_asked_to(ev):
    """Whatever was killed: only a 400 fails a job, only its deadline expires one, only a client
    cancels one.  A job whose process died under it alone may fail as worker_lost."""
    bad = []
    cancelled = {c["id"] for c in ev.cancels}
    for s in ev.submits:
        job = ev.jobs.get(s["id"])
        if not job:
            continue
        may = {"failed"} if s["plan"]["is_refused"] else {"succeeded"}
        may |= {"expired"} if s["plan"]["expires"] else set()
        may |= {"cancelled"} if s["id"] in cancelled or s["plan"]["cancel_after_s"] is not None else set()
        may |= {"failed"} if job["error_type"] == "worker_lost" else set()
        if job["state"] not in may:
            bad.append(f"{s['id']} [{s['plan']['marker']}] {job['state']} {job['error_type']}, "
                       f"expected {' or '.join(sorted(may))}")
    return bad


@check
def a_cancel_that_was_answered_holds(ev):
    bad = [f"cancel of {c['id']}: {c['status']}" for c in ev.cancels if c["status"] != 200]
    for c in ev.cancels:
        end = ev.jobs.get(c["id"], {}).get("state")
        if c["status"] == 200:
            want = (c["state"],) if c["state"] in TERMINAL else ("cancelled", "expired")
            if end not in want:
                bad.append(f"{c['id']}: the cancel's answer said {c['state']}, it ended {end}")
    return bad


@check
def a_terminal_state_that_was_seen_never_changed(ev):
    bad = []
    for read in ev.reads:
        job = ev.jobs.get(read["id"], {})
        if read["status"] != 200:
            bad.append(f"read of {read['id']}: {read['status']}")
        elif read["state"] in TERMINAL and \
                (read["state"], read["sha256"]) != (job.get("state"), job.get("sha256")):
            bad.append(f"{read['id']}: seen {read['state']} {read['sha256']}, stored {job.get('state')} "
                       f"{job.get('sha256')}")
    return bad


# --- the ledger ----------------------------------------------------------------------------------


def call_name(row):
    return f"call_{row['job'].replace('-', '')}_{row['call']}"


def sim_by_name(ev):
    found = collections.defaultdict(list)
    for call in ev.sim_calls:
        found[(call["headers"] or {}).get("x-nightshift-call")].append(call)
    return found


@check
def every_request_on_the_wire_has_its_row_and_its_own(ev):
    rows = {call_name(row) for row in ev.calls}
    bad = []
    for name, calls in sim_by_name(ev).items():
        if name not in rows:
            bad.append(f"{len(calls)} requests of {name}, which is no row of calls")
        if len(calls) > 1:
            bad.append(f"{name} was sent {len(calls)} times")
    return bad


@check
def every_answered_row_was_a_request(ev):
    names = sim_by_name(ev)
    return [f"{call_name(row)} is {row['state']} with status {row['status']} and was never sent"
            for row in ev.calls if call_name(row) not in names and
            (row["status"] is not None or row["state"] == "settled")]


@check
def no_row_is_left_sent(ev):
    return [f"{call_name(row)} is left sent" for row in ev.calls if row["state"] == "sent"]


@check
def what_is_settled_is_what_the_provider_counted(ev):
    bad, names = [], sim_by_name(ev)
    for row in ev.calls:
        calls = names.get(call_name(row))
        if row["state"] != "settled" or not calls:
            continue
        call = calls[0]
        if row["status"] != call["status"]:
            bad.append(f"{call_name(row)}: status {row['status']}, the provider sent {call['status']}")
        if call["sent_usage"] and not row["is_usage_estimated"]:
            told = (row["input_tokens"], row["output_tokens"])
            real = (call["prompt_tokens"], call["output_tokens"])
            if told != real:
                bad.append(f"{call_name(row)}: tokens {told}, the provider sent {real}")
            elif row["cost_nano"] != cost_nano(*real):
                bad.append(f"{call_name(row)}: cost {row['cost_nano']}, {real} cost {cost_nano(*real)}")
    return bad


@check
def what_is_released_cost_nothing(ev):
    names = sim_by_name(ev)
    bad = [f"{call_name(row)} is released and costs {row['cost_nano']}" for row in ev.calls
           if row["state"] == "released" and row["cost_nano"]]
    for row in ev.calls:
        for call in names.get(call_name(row), []):
            if row["state"] == "released" and call["output_tokens"] and call["status"] == 200:
                bad.append(f"{call_name(row)} is released, but {call['output_tokens']} tokens were sent")
    return bad


@check
def what_is_unknown_keeps_its_worst_case(ev):
    return [f"{call_name(row)} is unknown at {row['cost_nano']} of {row['reserved_nano']}" for row in ev.calls
            if row["state"] == "unknown" and row["cost_nano"] != row["reserved_nano"]]


@check
def calls_are_numbered_without_a_gap(ev):
    bad = []
    numbers = collections.defaultdict(list)
    for row in ev.calls:
        numbers[row["job"]].append((row["call"], row["run"]))
    for job, pairs in numbers.items():
        if [call for call, _ in pairs] != list(range(1, len(pairs) + 1)):
            bad.append(f"{job}: calls {[call for call, _ in pairs]}")
        if [run for _, run in pairs] != sorted(run for _, run in pairs):
            bad.append(f"{job}: runs of its calls go down: {pairs}")
    return bad


# --- results and events --------------------------------------------------------------------------


def result_text(job):
    return json.loads(job["result"])["choices"][0]["message"]["content"] or ""


@check
def results_are_the_bytes_that_were_hashed(ev):
    return [f"{name}: sha256 of the result differs" for name, job in ev.jobs.items()
            if job["state"] == "succeeded" and
            (job["result"] is None or hashlib.sha256(job["result"].encode()).hexdigest() != job["sha256"])] + \
        [f"{name} is {job['state']} and has a result" for name, job in ev.jobs.items()
         if job["state"] != "succeeded" and job["result"] is not None]


@check
def the_result_is_the_text_the_provider_sent(ev):
    bad, names = [], sim_by_name(ev)
    last = {}
    for row in ev.calls:
        last[job_id(row["job"])] = row
    for name, job in ev.jobs.items():
        if job["state"] != "succeeded" or job["result"] is None:
            continue
        row = last.get(name)
        calls = names.get(call_name(row)) if row else None
        if not calls:
            bad.append(f"{name} succeeded without a call")
            continue
        if row["state"] != "settled":
            bad.append(f"{name} succeeded by a call that is {row['state']}")
        if hashlib.sha256(result_text(job).encode()).hexdigest() != calls[0]["text_sha256"]:
            bad.append(f"{name}: the text is not what {call_name(row)} was sent")
    return bad


@check
def events_tell_a_legal_story(ev):
    """queued; started with growing attempts; superseded or retrying; one end, and nothing after."""
    bad = []
    for name, job in ev.jobs.items():
        events = ev.events.get(name, [])
        kinds = [event["kind"] for event in events]
        ends = [kind for kind in kinds if kind in CLOSING]
        if job["state"] in TERMINAL and ends != [f"job.{job['state']}"]:
            bad.append(f"{name} is {job['state']}, its ends are {ends}")
        if kinds[:1] != ["job.queued"] or kinds.count("job.queued") != 1:
            bad.append(f"{name} starts with {kinds[:2]}")
        if ends and kinds[-1] not in CLOSING:
            bad.append(f"{name} goes on after its end: {kinds[-3:]}")
        keys = [(event["run"], event["seq"]) for event in events]
        if any(a >= b for a, b in zip(keys, keys[1:])):
            bad.append(f"{name}: the order of its events is not strict")
        started = [event["attempt"] for event in events if event["kind"] == "job.started"]
        if any(a >= b for a, b in zip(started, started[1:])):
            bad.append(f"{name}: attempts started in the order {started}")
        for event in events:
            if event["kind"] == "output.delta" and event["attempt"] not in started:
                bad.append(f"{name}: text of attempt {event['attempt']}, which never started")
                break
    return bad


def stored_texts(events):
    """Text of each attempt as stored; None where a gap or an overlap is."""
    texts = {}
    for event in events:
        if event["kind"] == "output.delta":
            text = texts.setdefault(event["attempt"], b"")
            if text is not None:
                texts[event["attempt"]] = text + event["text"].encode() if event["byte_offset"] == len(text) \
                    else None
    return texts


@check
def stored_deltas_join_to_the_result(ev):
    bad = []
    for name, job in ev.jobs.items():
        texts = stored_texts(ev.events.get(name, []))
        bad += [f"{name}: a gap in the text of attempt {attempt}" for attempt, text in texts.items()
                if text is None]
        if job["state"] == "succeeded" and job["result"] is not None:
            final = texts.get(max(texts), b"") if texts else b""
            want = result_text(job).encode()
            if final is not None and final != want:
                bad.append(f"{name}: {len(final)} bytes of deltas of attempt {max(texts or [0])}, the result has "
                           f"{len(want)}")
    return bad


@check
def a_given_up_attempt_is_declared_void_once(ev):
    """Every attempt with text but the last is superseded, with no more valid bytes than are stored."""
    bad = []
    for name, job in ev.jobs.items():
        events = ev.events.get(name, [])
        texts = stored_texts(events)
        void = [event for event in events if event["kind"] == "attempt.superseded"]
        numbers = [event["data"]["attempt"] for event in void]
        if len(set(numbers)) != len(numbers):
            bad.append(f"{name}: superseded twice: {numbers}")
        for event in void:
            text = texts.get(event["data"]["attempt"], b"")
            if text is not None and event["data"]["valid_bytes"] > len(text):
                bad.append(f"{name}: attempt {event['data']['attempt']} valid to byte "
                           f"{event['data']['valid_bytes']}, {len(text)} are stored")
        last = max((event["attempt"] for event in events if event["kind"] == "job.started"), default=0)
        bad += [f"{name}: attempt {attempt} of {last} has text and was not superseded" for attempt in texts
                if attempt < last and attempt not in numbers]
        if job["state"] == "succeeded" and last in numbers:
            bad.append(f"{name} succeeded by attempt {last}, which is superseded")
    return bad


# --- what streams showed -------------------------------------------------------------------------


def shown_texts(events):
    """(text of each attempt as one client saw it, complaints)."""
    texts, bad = {}, []
    for event in events:
        if event["name"] == "output.delta":
            data = event["data"]
            text = texts.setdefault(data["attempt"], b"")
            if data["offset"] != len(text):
                bad.append(f"attempt {data['attempt']} went on at byte {data['offset']} after {len(text)} "
                           f"(resume {event['resume']})")
                text = text[:data["offset"]]
            texts[data["attempt"]] = text + data["text"].encode()
    return texts, bad


@check
def streams_end_with_the_jobs_end(ev):
    bad = []
    for stream in ev.streams:
        job = ev.jobs.get(stream["id"], {})
        ends = [event["name"] for event in stream["events"] if event["name"] in CLOSING]
        if ends != [f"job.{job.get('state')}"]:
            bad.append(f"stream of {stream['id']} ({stream['resumes']} resumes): ends {ends}, the job "
                       f"{job.get('state')}")
    return bad


@check
def streams_never_repeat_nor_skip(ev):
    bad = []
    for stream in ev.streams:
        cursors = [event["cursor"] for event in stream["events"]]
        if any(cursor is None for cursor in cursors):
            bad.append(f"stream of {stream['id']}: an event without a cursor")
        elif cursors != sorted(cursors):
            bad.append(f"stream of {stream['id']}: a cursor went down")
        bad += [f"stream of {stream['id']}: {text}" for text in shown_texts(stream["events"])[1]]
        names = [event["name"] for event in stream["events"]]
        if names.count("job.queued") != 1:
            bad.append(f"stream of {stream['id']}: {names.count('job.queued')} times job.queued")
        started = [event["data"]["attempt"] for event in stream["events"] if event["name"] == "job.started"]
        if any(a >= b for a, b in zip(started, started[1:])):
            bad.append(f"stream of {stream['id']}: attempts started {started}")
    return bad


@check
def what_streams_showed_is_stored_or_declared_void(ev):
    bad = []
    for stream in ev.streams:
        job = ev.jobs.get(stream["id"])
        if not job or not stream["is_ended"]:
            continue
        stored = stored_texts(ev.events.get(stream["id"], []))
        shown, _ = shown_texts(stream["events"])
        void = {event["data"]["attempt"]: event["data"]["valid_bytes"] for event in stream["events"]
                if event["name"] == "attempt.superseded"}
        bad += [f"stream of {stream['id']}: attempt {attempt} is valid to byte {valid}, "
                f"{len(shown.get(attempt, b''))} were shown" for attempt, valid in void.items()
                if len(shown.get(attempt, b"")) < valid]
        for attempt, text in shown.items():
            counts = text[:void.get(attempt, len(text))]
            kept = stored.get(attempt) or b""
            if not kept.startswith(counts) or (attempt not in void and kept != counts):
                bad.append(f"stream of {stream['id']}: showed {len(text)} bytes of attempt {attempt}, "
                           f"{len(counts)} of them count, {len(kept)} are stored")
        if job["state"] == "succeeded" and job["result"] is not None:
            last = max(shown) if shown else 0
            if shown.get(last, b"") != result_text(job).encode():
                bad.append(f"stream of {stream['id']}: the last attempt's text is not the result")
    return bad


# --- counts and webhooks -------------------------------------------------------------------------


@check
def the_counts_are_the_truth(ev):
    real = collections.Counter((job["tenant"], job["priority"], job["state"]) for job in ev.jobs.values())
    told = {(row["tenant"], row["priority"], row["state"]): row["n"] for row in ev.counts if row["n"]}
    return [f"{key}: counted {told.get(key, 0)}, there are {real.get(key, 0)}"
            for key in sorted(set(real) | set(told), key=str) if told.get(key, 0) != real.get(key, 0)]


@check
def every_end_owes_one_delivery_per_receiver(ev):
    owed = collections.Counter()
    for name, job in ev.jobs.items():
        for endpoint in ev.endpoints:
            if endpoint["tenant"] == job["tenant"]:
                owed[(name, endpoint["id"], f"job.{job['state']}")] += 1
        if job["webhook_url"]:
            owed[(name, None, f"job.{job['state']}")] += 1
    have = collections.Counter((job_id(row["job"]), row["endpoint"], row["type"]) for row in ev.deliveries
                               if row["job"])
    return [f"{key}: owed {owed[key]}, written {have[key]}" for key in set(owed) | set(have)
            if owed[key] != have[key]]


@check
def every_delivery_arrived(ev):
    arrived = {hook["headers"]["webhook-id"] for hook in ev.hooks if hook["status"] == 200}
    bad = [f"{row['id']} of {row['job']} is {row['state']} after {row['attempts']} tries" for row in ev.deliveries
           if row["state"] != "delivered"]
    return bad + [f"{row['id']} is delivered and did not arrive" for row in ev.deliveries
                  if row["state"] == "delivered" and "msg_" + row["id"].replace("-", "") not in arrived]


def is_signed(hook, secret):
    """An own verifier of Standard Webhooks."""
    headers = hook["headers"]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{hook['body']}".encode()
    want = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return want in headers["webhook-signature"].split()


@check
def webhooks_are_signed_and_tell_the_truth(ev):
    bad, rows = [], {"msg_" + row["id"].replace("-", ""): row for row in ev.deliveries}
    bodies = {}
    for hook in ev.hooks:
        name = hook["headers"]["webhook-id"]
        row = rows.get(name)
        if not row:
            bad.append(f"{name} arrived and is no delivery")
            continue
        secret = ev.secrets.get(row["endpoint"] or ("tenant", row["tenant"]))
        if not secret or not is_signed(hook, secret):
            bad.append(f"{name}: the signature is wrong")
        if bodies.setdefault(name, hook["body"]) != hook["body"]:
            bad.append(f"{name}: the body changed between tries")
        body = json.loads(hook["body"])
        job = ev.jobs.get(body["data"]["id"], {})
        told = (body["data"]["id"], body["type"], body["data"]["state"], body["data"]["result_sha256"])
        real = (job_id(row["job"]), row["type"], job.get("state"), job.get("sha256"))
        if told != real:
            bad.append(f"{name}: told {told}, stored {real}")
    return bad


# --- time ----------------------------------------------------------------------------------------


@check
def what_was_started_again_answered_soon(ev):
    """A stop and start with no server away; the limits allow for a machine that does much else."""
    limits = {"broker": 90, "worker-1": 60, "worker-2": 60}
    return [f"{start['name']} took {start['seconds']:.1f} s to answer" for start in ev.starts
            if start["is_clean"] and start["seconds"] > limits.get(start["name"], 40)]


@check
def afterwards_all_is_as_quick_as_before(ev):
    """Jobs submitted when all was healed ended, within a time that allows no waiting for leases."""
    done = ev.afterwards
    if not done:
        return []
    bad = [] if done["ended"] == done["jobs"] else [f"{done['ended']} of {done['jobs']} ended"]
    return bad + ([f"the slowest took {done['slowest_s']:.1f} s"] if done["slowest_s"] > 10 else [])
