# SPDX-License-Identifier: Apache-2.0
"""Cancelling: at once while queued, within two seconds while running, and never undone."""

import threading

from testenv.api import TERMINAL, chat, soon
from testenv.ledger import check_ledger
from testenv.wait import Stopwatch, wait_until


def test_a_queued_job_is_cancelled_at_once_and_never_calls_a_provider(stack, api, simulator):
    request = chat()
    job = api.submit(request, run_at=soon(hours=1))
    answer = api.cancel(job["id"])

    assert answer["state"] == "cancelled" and answer["cancel_requested"] is True
    assert answer["error"]["type"] == "cancelled"
    assert answer["ended_at"] and answer["calls"] == []
    assert simulator.calls(request) == []
    assert not stack.sql.is_live(job["id"])


def test_a_running_job_is_cancelled_within_two_seconds_and_its_connection_closed(stack, api, simulator):
    request = chat(tokens=50, after=10, hold="cancel-running")
    job = api.submit(request)
    wait_until(lambda: simulator.holding("cancel-running"), 10, "the call")
    wait_until(lambda: (api.job(job["id"])["partial"] or {}).get("text"), 10, "some text")
    watch = Stopwatch()
    api.cancel(job["id"])
    ended = wait_until(lambda: (lambda now: now if now["state"] in TERMINAL else None)(api.job(job["id"])), 5)

    assert watch.seconds < 2.5
    assert ended["state"] == "cancelled" and ended["partial"]["text"]
    assert ended["result"] is None
    rows, calls = check_ledger(stack, job["id"], request)
    assert calls[0]["outcome"] == "client_gone"
    assert rows[0]["state"] == "unknown"
    assert ended["unknown_cost_usd"] != "0.000000000"
    simulator.release("cancel-running")


def test_the_cancel_of_a_running_job_is_heard_without_redis(stack, api, simulator):
    """By the answer to the worker's heartbeat."""
    job = api.submit(chat(tokens=50, after=10, hold="cancel-heartbeat"))
    wait_until(lambda: simulator.holding("cancel-heartbeat"), 10, "the call")
    stack.sql.rows("UPDATE runs SET cancel_requested = true WHERE job = %s", job["id"][4:])
    assert wait_until(lambda: api.job(job["id"])["state"] == "cancelled", 8)
    simulator.release("cancel-heartbeat")


def test_cancelling_again_and_after_the_end_changes_nothing(api):
    done = api.run(chat(tokens=2))
    assert api.cancel(done["id"]) == done

    waiting = api.submit(run_at=soon(hours=1))
    first = api.cancel(waiting["id"])
    assert api.cancel(waiting["id"]) == first


def test_a_cancel_while_it_waits_for_a_retry(api):
    job = api.submit(chat(model="single", status=429, retry_after=600))
    wait_until(lambda: api.job(job["id"])["deferrals"], 10)
    assert api.cancel(job["id"])["state"] == "cancelled"


def test_a_cancel_races_with_everything_and_the_job_ends_once(stack, api, simulator):
    """Cancels at all moments of short jobs that fall back, are requeued and end: each reaches one end,
    its events tell exactly one, and the ledger agrees with the wire."""
    wishes = [{}, {"status": 429, "times": 1, "retry_after_ms": 20}, {"status": 500, "times": 1},
              {"fault": "cut_line", "times": 1}]
    requests = [chat(tokens=8, rate=80, **wishes[number % len(wishes)]) for number in range(60)]
    jobs = [api.submit(request)["id"] for request in requests]

    def cancel(part):
        client = stack.api(producer=part % 2)
        for job in jobs[part::6]:
            client.cancel(job)

    threads = [threading.Thread(target=cancel, args=(part,)) for part in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job, request in zip(jobs, requests):
        ended = api.ended(job)
        assert ended["state"] in ("cancelled", "succeeded"), ended["error"]
        ends = [event for event in api.all_events(job) if event.name in
                ("job.succeeded", "job.failed", "job.cancelled", "job.expired")]
        assert len(ends) == 1 and ends[0].name == f"job.{ended['state']}"
        check_ledger(stack, job, request)
    assert stack.sql.value("SELECT count(*) FROM runs WHERE job = ANY(%s::uuid[])",
                           [job[4:] for job in jobs]) == 0


def test_a_cancelled_job_frees_its_slot(stack, api, simulator):
    """The worker takes other work after many cancels."""
    jobs = [api.submit(chat(tokens=10, after=2, hold="cancel-many"))["id"] for _ in range(40)]
    wait_until(lambda: simulator.holding("cancel-many") == 40, 20, "the calls")
    for job in jobs:
        api.cancel(job)
    wait_until(lambda: simulator.holding("cancel-many") == 0, 10, "the connections to close")
    simulator.release("cancel-many")
    wait_until(lambda: stack.sql.value("SELECT coalesce(sum(u), 0) FROM workers, unnest(used) AS u") == 0, 10,
               "the slots to be free")
