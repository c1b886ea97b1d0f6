# SPDX-License-Identifier: Apache-2.0
"""Limits under several workers: kept in every window, used to the full, and no slot waits for them."""

import time
import uuid
from datetime import datetime

import pytest

from conftest import running, tenant_key
from testenv.api import chat
from testenv.stack import Stack
from testenv.wait import wait_until

WORKERS = 4
USED = 0.95  # of a limit, while there is a backlog


@pytest.fixture(scope="module")
def stack():
    yield from running(Stack(workers=WORKERS))


@pytest.fixture
def make_tenant(stack):
    """A tenant of this test's own, with limits, and a client of it."""
    def make(**limits):
        name = f"w-{uuid.uuid4().hex[:12]}"
        _, key = tenant_key(stack.admin(), name)
        client = stack.api(key=key)
        client.tenant = name
        if limits:
            put_limits(stack, client, **limits)
        return client
    return make


def put_limits(stack, client, **limits):
    answer = stack.admin().client.put(f"/admin/v1/tenants/{client.tenant}/limits", json=limits)
    assert answer.status_code == 200, answer.text
    time.sleep(1.1)  # every process has polled


def fill(client, jobs, workflow=None, **knobs):
    """That many jobs at once; what they say to the simulator, to find their calls by."""
    mark = uuid.uuid4().hex[:12]
    line = {"request": {**chat(f"mark {mark}", model="single", **knobs), "max_tokens": 20}}
    if workflow:
        line["workflow"] = workflow
    answers, last = client.bulk([line] * jobs)
    assert last["accepted"] == jobs, last
    return mark, [answer["id"] for answer in answers]


def seconds(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def calls_since(stack, seq):
    return [call for call in stack.simulator.all_calls() if call["seq"] > seq]


def starts_of(calls):
    return sorted(seconds(call["received_at"]) for call in calls)


def most_in_window(times, window_s):
    """The most of these moments that any window of such a length holds."""
    most, first = 0, 0
    for last, moment in enumerate(times):
        while moment - times[first] >= window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def most_at_once(calls):
    marks = sorted([(seconds(call["received_at"]), 1) for call in calls] +
                   [(seconds(call["ended_at"]), -1) for call in calls if call["ended_at"]])
    most = now = 0
    for _, step in marks:
        now += step
        most = max(most, now)
    return most


def observe(stack, for_s, start_s=0.0):
    """The calls that come in a span of time that begins start_s from now."""
    time.sleep(start_s)
    seq, begin = stack.simulator.last_seq(), time.time()
    time.sleep(for_s)
    return calls_since(stack, seq), begin


def cancel_all(client, jobs):
    for job in jobs:
        client.cancel(job)


def waiting_of(client, job):
    return client.job(job)["waiting"] or {}


# --- requests -------------------------------------------------------------------------------------

def test_requests_per_minute_hold_in_every_window_and_are_used(stack, make_tenant):
    limit = 600  # ten a second, sixty at once
    client = make_tenant(requests_per_minute=limit)
    seq = stack.simulator.last_seq()
    _, jobs = fill(client, 400, tokens=2)
    wait_until(lambda: waiting_of(client, jobs[-1]).get("reason") == "rate_limit", 10, "its reason")
    waiting = waiting_of(client, jobs[-1])
    calls, _ = observe(stack, 15, start_s=4)
    all_calls = calls_since(stack, seq)

    assert "requests" in waiting["detail"], waiting
    assert len(calls) >= USED * limit / 60 * 15
    # A window of w seconds may hold the burst of a tenth of a minute and its own share.
    for window_s in (1, 5, 15):
        assert most_in_window(starts_of(all_calls), window_s) <= limit * 1.1 * (window_s + 6) / 60 + 1
    assert running_now(stack, client) <= 3
    put_limits(stack, client)
    for job in jobs[-3:]:
        client.ended(job, timeout_s=20)


def running_now(stack, client):
    return stack.sql.value("SELECT count(*) FROM runs WHERE tenant = %s", client.tenant)
