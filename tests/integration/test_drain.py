# SPDX-License-Identifier: Apache-2.0
"""SIGTERM: stop taking work, finish what fits, hand the rest back, exit 0."""

import os
import signal
import threading

import pytest
import redis

from conftest import running
from testenv.api import chat, cursors_rise, text_of
from testenv.ledger import check_ledger
from testenv.stack import CONFIG, Stack
from testenv.wait import wait_until


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The usual file with two seconds of grace.  Paths in it are relative to where it lies."""
    folder = os.path.dirname(CONFIG)
    with open(CONFIG, encoding="utf-8") as file:
        text = file.read()
    path = tmp_path_factory.mktemp("drain") / "nightshift.yaml"
    path.write_text(text.replace("prices: ../../", f"prices: {folder}/../../").replace("drain_ms: 5000", "drain_ms: 2000"))
    return str(path)


@pytest.fixture(scope="module")
def stack(config):
    yield from running(Stack(workers=2, producers=2, config=config))


@pytest.fixture(autouse=True)
def all_alive(stack):
    yield
    for name in ("worker-1", "worker-2", "producer-1", "producer-2", "scheduler-1"):
        if stack.state(name) != "running":
            stack.restart(name)


def terminate(stack, name):
    """Asks the parent to go; returns when it is gone."""
    os.kill(stack.pid(name), signal.SIGTERM)
    wait_until(lambda: stack.state(name) == "dead", 20, f"{name} to drain")


def test_a_draining_worker_hands_back_what_does_not_fit_and_counts_no_attempt(stack):
    api = stack.api()
    requests = [chat(tokens=30, after=10, hold="drain-hand") for _ in range(8)]
    jobs = [api.submit(request)["id"] for request in requests]
    wait_until(lambda: stack.simulator.holding("drain-hand") == 8, 15)
    for job in jobs:
        wait_until(lambda: (api.job(job)["partial"] or {}).get("text"), 10)
    before = {job: str(stack.sql.run(job)["worker"]) for job in jobs}
    terminate(stack, "worker-1")
    stack.simulator.release("drain-hand")
    moved = 0
    for job, request in zip(jobs, requests):
        ended = api.ended(job, timeout_s=60)
        events = api.all_events(job)
        rows, _ = check_ledger(stack, job, request, is_ordered=False)
        assert ended["state"] == "succeeded", ended["error"]
        assert (ended["attempts"], ended["crashes"]) == (1, 0), ended
        if len(rows) > 1:
            moved += 1
            assert rows[0]["state"] == "unknown"
            assert "attempt.superseded" in [event.name for event in events]
        assert text_of(events) == ended["result"]["text"]
        cursors_rise(events)
    assert 0 < moved < 8 or len(set(before.values())) == 1


def test_what_fits_into_the_grace_is_finished(stack):
    api = stack.api()
    request = chat(tokens=20, rate=20)
    jobs = [api.submit(request)["id"] for _ in range(4)]
    wait_until(lambda: all(stack.sql.run(job) for job in jobs), 10)
    terminate(stack, "worker-1")
    for job in jobs:
        ended = api.ended(job)
        assert ended["state"] == "succeeded" and len(ended["calls"]) == 1


def test_a_drained_worker_leaves_no_row_and_exits_0(stack):
    count = stack.sql.value("SELECT count(*) FROM workers")
    terminate(stack, "worker-2")
    assert stack.sql.value("SELECT count(*) FROM workers") == count - 1


def test_a_draining_producer_finishes_what_it_has_and_refuses_the_rest(stack):
    """A long poll is answered; a new connection is refused or gets a 503."""
    import httpx
    api = stack.api(producer=1)
    job = api.submit(chat(tokens=20, after=5, hold="drain-producer"))["id"]
    wait_until(lambda: stack.simulator.holding("drain-producer"), 10)
    answers = []
    poll = threading.Thread(target=lambda: answers.append(api.client.get(f"/v1/jobs/{job}", params={"wait": 30})))
    poll.start()
    live = redis.Redis.from_url(stack.environment["REDIS_URL"])
    channel = f"ns:job:{job.removeprefix('job_')}"
    wait_until(lambda: live.pubsub_numsub(channel)[0][1], 10, "the poll to be there")
    os.kill(stack.pid("producer-2"), signal.SIGTERM)

    def refuses():
        try:
            return httpx.post(f"{stack.urls[1]}/v1/jobs", json={"request": chat()}, timeout=5, trust_env=False,
                              headers={"authorization": f"Bearer {api.key}"}).status_code == 503
        except httpx.TransportError:
            return True
    wait_until(refuses, 5)
    stack.simulator.release("drain-producer")
    poll.join(30)
    assert answers and answers[0].status_code in (200, 503)
    wait_until(lambda: stack.state("producer-2") == "dead", 20)


def test_an_open_event_stream_ends_when_the_producer_drains_and_resumes_elsewhere(stack):
    api = stack.api(producer=1)
    job = api.submit(chat(tokens=100, rate=25))["id"]
    seen = []
    with api.events(job) as stream:
        try:
            for event in stream:
                seen.append(event)
                if len(seen) == 5:
                    os.kill(stack.pid("producer-2"), signal.SIGTERM)
        except Exception:  # pylint: disable=broad-except
            pass  # the connection may end without the last chunk
    rest = stack.api(producer=0).all_events(job, last_event_id=seen[-1].cursor)
    assert text_of(seen + rest) == stack.api().ended(job)["result"]["text"]


def test_a_rolling_restart_under_load_fails_nothing(stack):
    """Each daemon in turn, jobs all the while; submits are retried as a client would."""
    done = threading.Event()
    jobs, faults = [], []

    def submit():
        import httpx
        clients = [stack.api(producer=number) for number in (0, 1)]
        number = 0
        while not done.is_set():
            number += 1
            try:
                jobs.append(clients[number % 2].submit(chat(tokens=5, rate=20))["id"])
            except (httpx.TransportError, AssertionError) as error:
                faults.append(str(error))
            done.wait(0.05)

    thread = threading.Thread(target=submit)
    thread.start()
    for name in ("worker-1", "worker-2", "producer-1", "scheduler-1", "producer-2"):
        stack.restart(name)
    done.set()
    thread.join()
    api = stack.api()
    for job in jobs:
        ended = api.ended(job, timeout_s=60)
        assert ended["state"] == "succeeded" and ended["crashes"] == 0, ended
    assert len(jobs) > 20
