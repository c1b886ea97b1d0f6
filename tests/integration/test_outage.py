# SPDX-License-Identifier: Apache-2.0
"""Each of the servers away for a while: what goes on, what waits, what is refused."""

import threading

import pytest

from conftest import running
from testenv.api import chat, text_of
from testenv.stack import Stack
from testenv.wait import Stopwatch, wait_until


@pytest.fixture(scope="module")
def stack():
    yield from running(Stack())


@pytest.fixture(autouse=True)
def all_alive(stack):
    yield
    for name in ("postgres", "redis", "broker", "scheduler-1", "worker-1", "producer-1"):
        if stack.state(name) != "running":
            stack.restart(name)


def test_without_kafka_submits_are_accepted_and_jobs_finish(stack):
    api = stack.api()
    api.run(chat(tokens=1))
    stack.kill("broker")
    jobs = [api.submit(chat(tokens=2))["id"] for _ in range(20)]
    for job in jobs:
        assert api.ended(job, timeout_s=60)["state"] == "succeeded"
    stack.restart("broker")
    watch = Stopwatch()
    wait_until(lambda: _is_quick(api), 60, "jobs to be quick again")
    assert watch.seconds < 60


def _is_quick(api):
    watch = Stopwatch()
    api.run(chat(tokens=1))
    return watch.seconds < 1


def test_kafka_stopped_for_a_while_costs_time_only(stack):
    api = stack.api()
    stack.stop("broker")
    try:
        jobs = [api.submit(chat(tokens=2))["id"] for _ in range(10)]
        for job in jobs:
            assert api.ended(job, timeout_s=60)["state"] == "succeeded"
    finally:
        stack.cont("broker")
    assert api.run(chat(tokens=1))["state"] == "succeeded"


def test_without_redis_jobs_run_stream_and_are_cancelled(stack):
    api = stack.api()
    stack.kill("redis")
    done = api.run(chat(tokens=10))
    assert done["state"] == "succeeded"
    job = api.submit(chat(tokens=40, rate=20))["id"]
    events = api.all_events(job)
    assert text_of(events) == api.ended(job)["result"]["text"]

    held = api.submit(chat(tokens=30, after=5, hold="outage-redis"))["id"]
    wait_until(lambda: stack.simulator.holding("outage-redis"), 10)
    api.cancel(held)
    assert wait_until(lambda: api.job(held)["state"] == "cancelled", 8)
    stack.simulator.release("outage-redis")
    watch = Stopwatch()
    assert api.job(api.submit(chat(tokens=1))["id"], wait=20)["state"] == "succeeded"
    assert watch.seconds < 8
    stack.restart("redis")
    job = api.submit(chat(tokens=40, rate=20))["id"]
    assert text_of(api.all_events(job)) == api.ended(job)["result"]["text"]


def test_without_postgres_submits_are_503_never_202_and_all_is_well_afterwards(stack):
    api = stack.api()
    running_job = api.submit(chat(tokens=20, after=5, hold="outage-pg"))["id"]
    wait_until(lambda: stack.simulator.holding("outage-pg"), 10)
    stack.kill("postgres")
    for _ in range(3):
        answer = api.client.post("/v1/jobs", json={"request": chat()}, timeout=30)
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"]
        assert answer.json()["error"]["code"] in ("unavailable", "overloaded")
    assert api.client.get(f"/v1/jobs/{running_job}", timeout=30).status_code == 503
    assert api.client.get("/healthz").status_code == 200
    assert api.client.get("/readyz").status_code == 503
    stack.restart("postgres")
    wait_until(lambda: api.client.get("/readyz").status_code == 200, 15, "ready again")
    stack.simulator.release("outage-pg")
    assert api.run(chat(tokens=2))["state"] == "succeeded"
    assert api.ended(running_job, timeout_s=90)["state"] == "succeeded"


def test_a_short_restart_of_postgres_under_load_loses_nothing(stack):
    """What was accepted ends; what was refused was refused clearly; a retry under the same key makes
    no second job."""
    accepted, refused = {}, []
    lock = threading.Lock()

    def submit(part):
        api = stack.api()
        for number in range(40):
            key = f"outage-{part}-{number}-{id(stack)}"
            body = {"request": chat(text=key + " [[sim tokens=3]]")}
            for _ in range(60):
                answer = api.client.post("/v1/jobs", json=body, headers={"idempotency-key": key}, timeout=30)
                if answer.status_code == 202:
                    with lock:
                        accepted[key] = answer.json()["id"]
                    break
                assert answer.status_code in (503, 409), answer.text
                with lock:
                    refused.append(answer.status_code)
                threading.Event().wait(0.2)

    threads = [threading.Thread(target=submit, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(accepted) > 20, 20)
    stack.restart("postgres")
    for thread in threads:
        thread.join()
    assert len(accepted) == 160
    api = stack.api()
    for key, job in accepted.items():
        assert api.ended(job, timeout_s=90)["state"] == "succeeded"
        assert stack.sql.value("SELECT count(*) FROM idempotency WHERE key = %s", key) == 1
    assert stack.sql.value("SELECT count(*) FROM jobs WHERE request LIKE %s", f"%outage-%-{id(stack)}%") == 160


def test_without_a_scheduler_the_fast_lane_and_running_jobs_go_on(stack):
    api = stack.api()
    api.run(chat(tokens=1))
    held = api.submit(chat(tokens=10, after=2, hold="outage-scheduler"))["id"]
    wait_until(lambda: stack.simulator.holding("outage-scheduler"), 10)
    stack.kill("scheduler-1")
    stack.simulator.release("outage-scheduler")
    assert api.ended(held)["state"] == "succeeded"
    late = api.submit(chat(tokens=1))["id"]
    stack.restart("scheduler-1")
    assert api.ended(late, timeout_s=30)["state"] == "succeeded"
