# SPDX-License-Identifier: Apache-2.0
"""A wall clock that jumps by an hour under the daemons: nothing ends or begins because of it."""

import pytest

from conftest import running
from testenv.api import chat, cursors_rise, soon, text_of
from testenv.clock import Clock
from testenv.stack import Stack
from testenv.wait import Stopwatch, wait_until

DAEMONS = ("producer-1", "worker-1", "scheduler-1")


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def stack(clock):
    """Only the daemons live by this clock; Postgres, whose time counts, and the rest keep theirs."""
    for stack in running(Stack(broker="embedded")):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in clock.environment.items():
                patch.setenv(name, value)
            for name in DAEMONS:
                stack.restart(name)
        yield stack


@pytest.fixture(autouse=True)
def right_time(clock):
    yield
    clock.jump(0)


@pytest.mark.parametrize("seconds", [3600, -3600, 86400])
def test_a_jump_of_the_daemons_clock_changes_nothing(stack, clock, seconds):
    api = stack.api()
    epoch = stack.sql.value("SELECT epoch FROM leadership")
    gate = f"clock{seconds}"
    held = api.submit(chat(tokens=40, after=10, hold=gate))["id"]
    wait_until(lambda: stack.simulator.holding(gate), 15)
    retried = api.submit(chat(tokens=2, model="single", status=429, times=1, retry_after=4))["id"]
    wait_until(lambda: api.job(retried)["deferrals"], 15)
    later = api.submit(chat(tokens=1), run_at=soon(minutes=30))["id"]
    patient = api.submit(chat(tokens=1), run_at=soon(minutes=20), deadline=soon(minutes=40))["id"]

    clock.jump(seconds)
    watch = Stopwatch()
    assert api.ended(retried, timeout_s=30)["state"] == "succeeded"
    assert watch.seconds < 20
    # Longer than a heartbeat may be missing: who confuses the clocks takes the worker for dead now.
    wait_until(lambda: watch.seconds > 12, 20, "time to pass")
    with api.events(held) as stream:
        seen = [next(iter(stream))]
        stack.simulator.release(gate)
        seen += list(stream)
    ended = api.ended(held)
    assert (ended["state"], ended["crashes"], ended["attempts"]) == ("succeeded", 0, 1)
    assert text_of(seen) == ended["result"]["text"]
    cursors_rise(seen)

    watch = Stopwatch()
    fresh = [api.run(chat(tokens=2)) for _ in range(5)]
    assert {job["state"] for job in fresh} == {"succeeded"} and watch.seconds < 15
    assert api.job(later)["state"] == "queued" and api.job(patient)["state"] == "queued"
    clock.jump(0)
    assert api.run(chat(tokens=2))["state"] == "succeeded"
    assert stack.sql.value("SELECT epoch FROM leadership") == epoch, "the lead changed hands"
    for job in (later, patient):
        assert api.cancel(job)["state"] == "cancelled"
