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
JITTER_S = 0.5  # calls are let go in Redis and seen at the provider, some later than others
FELT_S = 2  # a change of limits has taken effect by then
CROWDED_S = 1  # what the call itself may take, from its job's deal to the provider, on a crowded machine
BACKLOG_S = 10  # what the backlog's own work may take


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
    time.sleep(1.1)  # every process polls each second, and shows nobody that it has


def fill(client, jobs, workflow=None, model="single", **knobs):
    """That many jobs at once; what they say to the simulator, to find their calls by."""
    mark = uuid.uuid4().hex[:12]
    line = {"request": {**chat(f"mark {mark}", model=model, **knobs), "max_tokens": 20}}
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


def most_tokens_in_window(calls, window_s):
    """The most tokens of calls whose beginnings any window of such a length holds."""
    times = sorted((seconds(call["received_at"]), tokens_of([call])) for call in calls)
    most, held, first = 0, 0, 0
    for moment, tokens in times:
        held += tokens
        while moment - times[first][0] >= window_s:
            held -= times[first][1]
            first += 1
        most = max(most, held)
    return most


def at_once(calls):
    """How many calls there were after each begin or end of one: (moment, number)."""
    marks = sorted([(seconds(call["received_at"]), 1) for call in calls] +
                   [(seconds(call["ended_at"]), -1) for call in calls if call["ended_at"]])
    now, numbers = 0, []
    for moment, step in marks:
        now += step
        numbers.append((moment, now))
    return numbers


def most_at_once(calls):
    return max((number for _, number in at_once(calls)), default=0)


# --- changes --------------------------------------------------------------------------------------

def first_over_at_once(calls, limit):
    """The first moment with more calls at once than a limit allows; None: there was none."""
    return next((moment for moment, number in at_once(calls) if number > limit), None)


def first_over_pace(calls, since, per_second):
    """The first call that a pace does not allow, though it had a second's worth left over."""
    return next((moment for count, moment in enumerate(starts_of(calls), 1)
                 if count > per_second * (1 + max(0, moment - since))), None)


def assert_felt(moment, since):
    """The first call that the limits of before would have held back comes in time."""
    first = wait_until(moment, 10, "a call that the old limit forbids")
    assert first - since < FELT_S + CROWDED_S, first - since


def observe(stack, for_s):
    """The calls that come in a span of time."""
    seq, begin = stack.simulator.last_seq(), time.time()
    time.sleep(for_s)  # this much of time is what is measured
    return calls_since(stack, seq), begin


def tokens_of(calls):
    return sum(call["prompt_tokens"] + call["output_tokens"] for call in calls)


def ended(calls):
    return [call for call in calls if call["ended_at"]]


def cancel_all(client, jobs):
    for job in jobs:
        client.cancel(job)


def waiting_of(client, job):
    return client.job(job)["waiting"] or {}


def wait_for_reason(client, jobs, reason, timeout_s=10):
    """How one of the last jobs waits for it; which of them ran early is open, as partitions know no common order."""
    return wait_until(lambda: next((waiting for job in jobs[-20:]
                                    if (waiting := waiting_of(client, job)).get("reason") == reason), None),
                      timeout_s, f"a job that waits for {reason}")


def running_now(stack, client):
    return stack.sql.value("SELECT count(*) FROM runs WHERE tenant = %s", client.tenant)


def all_soon(client, jobs, since):
    """The last of the jobs that waited go on when their limits have changed."""
    for job in jobs:
        client.ended(job, timeout_s=20)
        started = client.job(job)["started_at"]
        assert seconds(started) - since < FELT_S + BACKLOG_S, started


def share_used(calls, begin, end, limit):
    """How much of a limit of concurrency was used in a span of time."""
    used = 0
    for call in calls:
        until = seconds(call["ended_at"]) if call["ended_at"] else end
        used += max(0, min(until, end) - max(seconds(call["received_at"]), begin))
    return used / ((end - begin) * limit)


# --- requests -------------------------------------------------------------------------------------

def test_requests_per_minute_hold_in_every_window_and_are_used(stack, make_tenant):
    limit = 600  # ten a second, sixty at once
    client = make_tenant(requests_per_minute=limit)
    seq = stack.simulator.last_seq()
    _, jobs = fill(client, 400, tokens=2)
    waiting = wait_for_reason(client, jobs, "rate_limit")
    wait_until(lambda: len(calls_since(stack, seq)) >= 60 + 3 * limit / 60, 20, "the burst to be used up")
    calls, _ = observe(stack, 12)
    all_calls = calls_since(stack, seq)

    assert "requests_per_minute" in waiting["detail"], waiting
    assert len(calls) >= USED * limit / 60 * 12
    # A window holds the burst, a tenth of a minute's, and its own share.
    for window_s in (3, 6, 12):
        assert most_in_window(starts_of(all_calls), window_s) <= limit * (6 + window_s + JITTER_S) / 60
    assert running_now(stack, client) <= 5, "jobs wait in slots"
    since, seq = time.time(), stack.simulator.last_seq()
    put_limits(stack, client)
    assert_felt(lambda: first_over_pace(calls_since(stack, seq), since, limit / 60), since)
    all_soon(client, jobs[-3:], since)


def test_nobody_is_claimed_in_vain_while_a_tenant_waits(stack, make_tenant):
    client = make_tenant(requests_per_minute=60)  # one a second, six at once
    seq = stack.simulator.last_seq()
    _, jobs = fill(client, 2000, tokens=2)
    wait_for_reason(client, jobs, "rate_limit")
    wait_until(lambda: len(calls_since(stack, seq)) >= 6 + 3, 20, "the burst to be used up")
    before = stack.sql.value("SELECT last_value FROM run_tokens")
    time.sleep(10)  # this much of time is what is measured
    claims = stack.sql.value("SELECT last_value FROM run_tokens") - before
    assert claims <= 50, "one a second may go; few more are refused"
    other = make_tenant()
    begin = time.time()
    other.run(chat(model="single", tokens=2))
    assert time.time() - begin < 2
    put_limits(stack, client)
    client.ended(jobs[-1], timeout_s=60)


# --- tokens ---------------------------------------------------------------------------------------

def test_tokens_per_minute_are_used_by_what_calls_really_took(stack, make_tenant):
    """Each call is expected to take far more than it does; what it did not take is given back."""
    limit = 12000
    client = make_tenant(tokens_per_minute=limit)
    seq = stack.simulator.last_seq()
    _, jobs = fill(client, 1500, tokens=2)
    wait_for_reason(client, jobs, "rate_limit")
    wait_until(lambda: tokens_of(calls_since(stack, seq)) >= limit / 60 * (6 + 8), 30, "the pace to be found out")
    calls, _ = observe(stack, 20)
    tokens = tokens_of(calls)
    assert tokens >= USED * limit / 60 * 20
    for window_s in (3, 6, 12, 20):
        assert most_tokens_in_window(calls_since(stack, seq), window_s) <= limit * (6 + window_s + JITTER_S) / 60
    put_limits(stack, client)
    client.ended(jobs[-1], timeout_s=60)


# --- concurrency ----------------------------------------------------------------------------------

@pytest.mark.parametrize("scope", ["tenant", "workflow"])
def test_concurrency_is_never_passed_and_used(stack, make_tenant, scope):
    limit = 8
    limits = {"max_concurrency": limit}
    client = make_tenant(**(limits if scope == "tenant" else {"workflows": {"w": limits}}))
    seq = stack.simulator.last_seq()
    _, jobs = fill(client, 240, workflow="w", tokens=2, delay_ms=2000)
    wait_for_reason(client, jobs, "concurrency")
    wait_until(lambda: len(ended(calls_since(stack, seq))) >= 2 * limit, 20, "two rounds of calls")
    begin = time.time()

    def used():
        end = time.time()
        span = max(begin, end - 12), end  # a crowded machine may spoil one span of time, not all
        return end - begin >= 12 and share_used(calls_since(stack, seq), *span, limit) >= USED
    wait_until(used, 36, f"{USED} of the limit to be used for 12 s", interval_s=1)
    calls = calls_since(stack, seq)
    assert most_at_once(calls) <= limit
    assert running_now(stack, client) <= limit + 1, "jobs wait in slots"
    since = time.time()
    put_limits(stack, client)
    assert_felt(lambda: first_over_at_once(calls_since(stack, seq), limit), since)
    all_soon(client, jobs[-3:], since)


def test_a_scope_at_its_limit_holds_no_sibling_up(stack, make_tenant):
    client = make_tenant(workflows={"slow": {"requests_per_minute": 6}})
    _, jobs = fill(client, 600, workflow="slow", tokens=2)
    wait_for_reason(client, jobs, "rate_limit")
    begin = time.time()
    assert client.run(chat(model="single", tokens=2), workflow="quick")["state"] == "succeeded"
    assert time.time() - begin < 3
    cancel_all(client, jobs[:5])
    put_limits(stack, client)
    client.ended(jobs[-1], timeout_s=60)


# --- budgets --------------------------------------------------------------------------------------

def test_a_job_that_waits_for_its_budget_says_so_and_goes_on_when_it_is_raised(stack, make_tenant):
    client = make_tenant(budget_usd={"total": "0.0002"})
    _, jobs = fill(client, 60, tokens=2)
    # Which of them the ceiling keeps is open: those in front step back while calls are under way.
    # One may also wait, with the same reason, for the book to be known to its worker.
    wait_until(lambda: any(wait["reason"] == "budget" and "budget_usd.total of tenant" in wait["detail"]
                           for job in jobs if (wait := waiting_of(client, job))), 20, "a job that waits for it")
    since, seq = time.time(), stack.simulator.last_seq()
    put_limits(stack, client, budget_usd={"total": "1"})
    assert_felt(lambda: min(starts_of(calls_since(stack, seq)), default=None), since)
    all_soon(client, jobs[-3:], since)
    spent = stack.sql.value("SELECT sum(cost_nano) FROM calls WHERE tenant = %s", client.tenant)
    assert spent <= 1_000_000_000
