# SPDX-License-Identifier: Apache-2.0
"""Workers that die or hang: their jobs finish all the same, once, and the ledger knows."""

import os
import random
import signal

import pytest

from conftest import running
from testenv.api import chat, cursors_rise, text_of
from testenv.ledger import check_ledger
from testenv.resume import read_with_drops
from testenv.stack import Stack
from testenv.wait import wait_until


@pytest.fixture(scope="module")
def stack():
    yield from running(Stack(producers=2, workers=1, schedulers=2))


@pytest.fixture(autouse=True)
def all_alive(stack):
    yield
    for name in ("worker-1", "scheduler-1", "scheduler-2", "producer-1", "producer-2"):
        if stack.state(name) != "running":
            stack.restart(name)


def wait_for_text(stack, job, gate):
    wait_until(lambda: stack.simulator.holding(gate), 15, "the call")
    wait_until(lambda: (stack.api().job(job)["partial"] or {}).get("text"), 15, "some text")


def test_a_worker_killed_in_the_middle_of_a_stream_loses_nothing(stack):
    api = stack.api()
    request = chat(tokens=30, after=10, hold="rescue-kill", unicode=1)
    job = api.submit(request)["id"]
    wait_for_text(stack, job, "rescue-kill")
    shown = api.job(job)["partial"]["text"]
    stack.kill("worker-1")
    stack.simulator.release("rescue-kill")
    stack.restart("worker-1")
    ended = api.ended(job, timeout_s=60)
    events = api.all_events(job)
    rows, calls = check_ledger(stack, job, request, is_ordered=False)

    assert ended["state"] == "succeeded", ended["error"]
    assert (ended["crashes"], ended["attempts"]) == (1, 1)
    assert [row["state"] for row in rows] == ["unknown", "settled"]
    assert len(calls) == 2
    assert rows[0]["cost_nano"] == rows[0]["reserved_nano"] > 0
    names = [event.name for event in events]
    assert names.count("attempt.superseded") == names.count("job.retrying") == 1
    superseded = next(event for event in events if event.name == "attempt.superseded")
    void = text_of(events, attempt=1).encode()
    assert superseded.data["attempt"] == 1 and superseded.data["valid_bytes"] == len(void)
    assert void.decode().startswith(shown)
    assert next(e for e in events if e.name == "job.retrying").data["reason"] == "worker_lost"
    assert text_of(events, attempt=2) == ended["result"]["text"]
    cursors_rise(events)


def test_a_reader_stays_through_a_killed_worker(stack):
    """The stream goes on with the second attempt; nothing is shown twice under one cursor."""
    api = stack.api(producer=1)
    job = api.submit(chat(tokens=20, after=8, hold="rescue-reader"))["id"]
    seen = []
    with api.events(job, timeout_s=90) as stream:
        for event in stream:
            seen.append(event)
            if len([e for e in seen if e.name == "output.delta"]) == 1 and stack.state("worker-1") == "running" \
                    and not any(e.name == "attempt.superseded" for e in seen):
                wait_for_text(stack, job, "rescue-reader")
                stack.kill("worker-1")
                stack.simulator.release("rescue-reader")
                stack.restart("worker-1")
    cursors_rise(seen)
    assert seen[-1].name == "job.succeeded"
    assert text_of(seen) == seen[-1].data["result"]["text"]


def test_twenty_drops_and_resumes_through_a_killed_worker_miss_nothing(stack):
    """At random points, from producer to producer, the worker killed in the middle: every attempt's text
    stands whole in what was seen, no byte twice.  On a busy machine it takes more than one text."""
    dice, drops = random.Random(int(os.environ.get("NIGHTSHIFT_SEED", "4"))), 0
    while drops < 20:
        dropped = _read_through_a_killed_worker(stack, dice)
        assert dropped > 0
        drops += dropped


def _read_through_a_killed_worker(stack, dice):
    job = stack.api().submit(chat(tokens=700, rate=70, unicode=1))["id"]

    def kill_once(drop):
        if drop == 3:
            wait_until(lambda: (stack.api().job(job)["partial"] or {}).get("text"), 15, "some text")
            stack.kill("worker-1")
            stack.restart("worker-1")

    seen, drops = read_with_drops(stack, job, dice, 24, kill_once)
    ended = stack.api().ended(job)
    names = [event.name for event in seen]
    cursors_rise(seen)
    assert len({event.cursor for event in seen}) == len(seen)
    assert names.count("attempt.superseded") == names.count("job.retrying") == 1
    superseded = next(event for event in seen if event.name == "attempt.superseded")
    assert superseded.data["valid_bytes"] == len(text_of(seen, attempt=1).encode()) > 0
    assert text_of(seen, attempt=2) == ended["result"]["text"]
    # Who reads it all at once now, from either producer, sees the same.
    for producer in (0, 1):
        again = stack.api(producer=producer).all_events(job)
        assert [text_of(again, attempt=n) for n in (1, 2)] == [text_of(seen, attempt=n) for n in (1, 2)]
    return drops


def test_a_worker_that_hangs_and_comes_back_commits_nothing(stack):
    """Stopped over its lease while it holds an unfinished call; another worker finishes the job."""
    api = stack.api()
    request = chat(tokens=20, after=5, hold="rescue-stop")
    job = api.submit(request)["id"]
    wait_for_text(stack, job, "rescue-stop")
    token = stack.sql.run(job)["run_token"]
    stack.stop("worker-1")
    try:
        wait_until(lambda: (lambda run: not run or run["run_token"] != token)(stack.sql.run(job)), 30,
                   "the run to be rescued")
        assert stack.sql.calls(job)[0]["state"] == "unknown"
    finally:
        stack.simulator.release("rescue-stop")
        stack.cont("worker-1")
    ended = api.ended(job, timeout_s=60)
    rows, calls = check_ledger(stack, job, request, is_ordered=False)

    assert ended["state"] == "succeeded" and ended["crashes"] == 1
    assert len([row for row in rows if row["state"] == "settled" and row["call"] > 1]) == 1
    ends = [event for event in api.all_events(job) if event.name == "job.succeeded"]
    assert len(ends) == 1
    assert len(calls) == len(rows) == 2


def test_a_late_completion_of_a_rescued_run_is_refused_but_its_cost_is_booked(stack):
    """The worker is stopped with the whole answer in its socket; when it goes on it may settle its
    call (unknown to settled) but not end the job."""
    api = stack.api()
    request = chat(tokens=20, after=5, hold="rescue-late")
    job = api.submit(request)["id"]
    wait_for_text(stack, job, "rescue-late")
    stack.stop("worker-1")
    stack.simulator.release("rescue-late")
    wait_until(lambda: stack.sql.calls(job)[0]["state"] == "unknown", 30, "rescue")
    stack.cont("worker-1")
    ended = api.ended(job, timeout_s=60)
    rows, calls = check_ledger(stack, job, request, is_ordered=False)

    assert ended["state"] == "succeeded" and ended["crashes"] == 1
    assert [call["attempt"] for call in ended["calls"]] == [1, 2]
    assert rows[0]["state"] in ("unknown", "settled") and rows[1]["state"] == "settled"
    assert ended["result"]["response"] and len(calls) == 2


def test_a_parent_killed_alone_takes_its_children_with_it(stack):
    children = stack.children("worker-1")
    os.kill(stack.pid("worker-1"), signal.SIGKILL)
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") and _alive(pid) for pid in children), 5,
               "the children to go")
    stack.restart("worker-1")
    assert stack.api().run(chat(tokens=1))["state"] == "succeeded"


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_child_that_dies_is_replaced_and_its_jobs_finish(stack):
    api = stack.api()
    job = api.submit(chat(tokens=10, after=3, hold="rescue-child"))["id"]
    wait_for_text(stack, job, "rescue-child")
    (child,) = stack.children("worker-1")
    os.kill(child, signal.SIGKILL)
    stack.simulator.release("rescue-child")
    assert api.ended(job, timeout_s=60)["state"] == "succeeded"
    assert stack.children("worker-1") != [child]


def test_a_cancelled_job_whose_worker_dies_ends_cancelled(stack):
    api = stack.api()
    job = api.submit(chat(tokens=10, after=3, hold="rescue-cancel"))["id"]
    wait_for_text(stack, job, "rescue-cancel")
    stack.stop("worker-1")  # it cannot hear
    api.cancel(job)
    stack.kill("worker-1")
    ended = api.ended(job, timeout_s=40)
    assert ended["state"] == "cancelled" and ended["partial"]["text"]
    stack.simulator.release("rescue-cancel")
    stack.restart("worker-1")


def test_the_second_scheduler_takes_over(stack):
    """Neither can be known by name as the leader: each is killed in turn, and a delayed retry still
    comes about."""
    api = stack.api()
    for name in ("scheduler-1", "scheduler-2"):
        job = api.submit(chat(tokens=2, model="single", status=429, times=1, retry_after=2))["id"]
        wait_until(lambda: api.job(job)["deferrals"], 15)
        stack.kill(name)
        assert api.ended(job, timeout_s=40)["state"] == "succeeded"
        stack.restart(name)


def test_many_jobs_through_killed_workers_end_once_each(stack):
    """Three kills under load; every answer is a whole one and every call is in the ledger."""
    api = stack.api()
    requests, jobs = [], []
    for _ in range(3):
        for _ in range(40):
            requests.append(chat(tokens=40, rate=20))
            jobs.append(api.submit(requests[-1])["id"])
        wait_until(lambda: stack.sql.value("SELECT count(*) FROM runs") >= 40, 20, "work in progress")
        stack.kill("worker-1")
        stack.restart("worker-1")
    for job, request in zip(jobs, requests):
        ended = api.ended(job, timeout_s=90)
        assert ended["state"] == "succeeded", ended["error"]
        check_ledger(stack, job, request, is_ordered=False)
