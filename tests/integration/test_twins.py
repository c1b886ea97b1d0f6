# SPDX-License-Identifier: Apache-2.0
"""Daemons that look alike: two workers of one name, and two daemons that want one port."""

import os
import signal
import subprocess

import pytest

from conftest import running
from testenv import namespace
from testenv.api import chat
from testenv.ledger import check_ledger
from testenv.stack import Stack, program
from testenv.wait import wait_until


@pytest.fixture(scope="module")
def stack():
    yield from running(Stack(broker="embedded", workers=1))


def layers(stack, own, tmp_path, extra):
    """The configuration of the stack's daemon, and what differs in ours."""
    path = tmp_path / f"{own}.yaml"
    path.write_text(extra)
    folder = os.path.join(stack.folder, "config")
    files = [os.path.join(folder, "defaults.yaml"), stack.options[stack.options.index("--config") + 1],
             os.path.join(folder, f"{own}.yaml"), str(path)]
    return [part for file in files for part in ("--config", file)]


def environment(stack):
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS")}
    return {**kept, "SIMULATOR_URL": stack.environment["SIMULATOR_URL"]}


def test_two_workers_of_one_name_do_not_take_each_other_for_the_same(stack, tmp_path):
    """As in two containers with one host name, where both are the same pid: what tells them apart is the
    id of each start.  One is killed; only what it held is rescued."""
    way, why = namespace.command("--pid", "--fork", "--kill-child", "--mount-proc")
    if not way:
        pytest.skip(why)
    stack.kill("worker-1")
    before = [row["id"] for row in stack.sql.rows("SELECT id FROM workers")]
    twins = []
    try:
        for number in range(2):
            command = [*way, program("nightshift-worker"),
                       *layers(stack, "worker-1", tmp_path, "metrics_listen: 127.0.0.1:0\n")]
            with open(tmp_path / f"twin-{number}.log", "wb") as log:
                twins.append(subprocess.Popen(command, env=environment(stack), stdin=subprocess.DEVNULL, stdout=log,
                                              stderr=log, cwd=stack.folder))
        names = wait_until(lambda: (lambda rows: rows if len(rows) == 2 else None)(
            stack.sql.rows("SELECT id, name FROM workers WHERE id <> ALL(%s)", before)), 30, "both to register")
        assert len({row["name"] for row in names}) == 1 and len({row["id"] for row in names}) == 2

        api = stack.api()
        requests, jobs = [], []

        def held_by_both():
            """More jobs, until each has some: the broker deals partitions out to them when it likes."""
            for _ in range(20):
                requests.append(chat(tokens=20, after=5, hold="twins"))
                jobs.append(api.submit(requests[-1])["id"])
            wait_until(lambda: stack.simulator.holding("twins") == len(jobs), 30, "all to run")
            held = {row["job"].hex: row["worker"] for row in stack.sql.rows("SELECT job, worker FROM runs")}
            return held if set(held.values()) == {row["id"] for row in names} else None

        held = wait_until(held_by_both, 60, "both to work", interval_s=0.5)
        twins[0].send_signal(signal.SIGKILL)
        # The first one's are taken over; the second's stay where they are.
        wait_until(lambda: len(set(row["worker"] for row in stack.sql.rows("SELECT worker FROM runs"))) == 1 and
                   stack.simulator.stats()["received"] >= len(jobs) + min(
                       sum(1 for worker in held.values() if worker == row["id"]) for row in names), 60, "the rescue")
        stack.simulator.release("twins")
        ended = [api.ended(job, timeout_s=60) for job in jobs]
        assert {job["state"] for job in ended} == {"succeeded"}
        crashed = {job["id"][4:] for job in ended if job["crashes"]}
        by_worker = {worker: {job for job, its in held.items() if its == worker} for worker in set(held.values())}
        assert crashed in by_worker.values()
        for job, request in zip(jobs, requests):
            check_ledger(stack, job, request, is_ordered=False)
    finally:
        for twin in twins:
            twin.kill()  # unshare ignores TERM; its child goes with it
        for twin in twins:
            twin.wait(30)
        stack.restart("worker-1")
    for number in range(2):
        assert "Sanitizer" not in (tmp_path / f"twin-{number}.log").read_text()


@pytest.mark.parametrize("name", ["producer-1", "worker-1", "scheduler-1"])
def test_a_daemon_whose_port_is_taken_says_so_and_ends(stack, tmp_path, name):
    """The same configuration started twice: the first goes on."""
    kind = name.split("-")[0]
    done = subprocess.run([program(f"nightshift-{kind}"), *layers(stack, name, tmp_path, "{}\n")], env=environment(stack),
                          capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, cwd=stack.folder, check=False)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr, done.stderr
    assert stack.state(name) == "running"
    assert stack.api().run(chat(tokens=1))["state"] == "succeeded"
