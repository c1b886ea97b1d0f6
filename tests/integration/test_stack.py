# SPDX-License-Identifier: Apache-2.0
"""The one-machine stack itself."""

import json
import os
import shutil
import subprocess
import tempfile

import httpx
import pytest

from testenv.api import chat
from testenv.stack import PROGRAMS, SCRIPT, Stack
from testenv.wait import Stopwatch, wait_until

NAMES = {"NIGHTSHIFT_URL", "NIGHTSHIFT_API_KEY", "NIGHTSHIFT_ADMIN_KEY", "NIGHTSHIFT_WEBHOOK_SECRET",
         "DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS", "SIMULATOR_URL", "METRICS_URLS", "NIGHTSHIFT_URLS",
         "DATABASE_APP_URL"}


def processes_of(folder):
    """Pids whose command line or working directory names the folder."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                line = file.read().decode(errors="replace")
            place = os.readlink(f"/proc/{entry}/cwd")
        except OSError:
            continue
        if folder in line or place.startswith(folder):
            found.append((int(entry), line.replace("\0", " ")))
    return found


def test_two_stacks_run_beside_each_other_and_leave_nothing_behind():
    first, second = Stack(broker="embedded", config=None), Stack(broker="embedded", config=None)
    homes = []
    with first, second:
        assert set(first.environment) == NAMES
        assert set(first.environment.values()).isdisjoint(second.environment.values())
        one, two = first.api().submit(chat(tokens=2)), second.api().submit(chat(tokens=2))
        assert first.api().ended(one["id"])["state"] == second.api().ended(two["id"])["state"] == "succeeded"
        assert first.api().client.get(f"/v1/jobs/{two['id']}").status_code == 404
        assert second.api(key=first.environment["NIGHTSHIFT_API_KEY"]).client.get("/v1/jobs").status_code == 401
        for stack in (first, second):
            with open(os.path.join(stack.folder, "state.json"), encoding="utf-8") as file:
                homes.append(json.load(file)["postgres_home"])
            assert processes_of(stack.folder)
    for folder in (first.folder, second.folder, *homes):
        assert processes_of(folder) == []
        assert not os.path.exists(folder)


def test_names_files_and_signals():
    with Stack(broker="embedded", config=None, producers=2, workers=2, schedulers=2) as stack:
        names = ["postgres", "redis", "broker", "simulator", "producer-1", "producer-2", "worker-1", "worker-2",
                 "scheduler-1", "scheduler-2"]
        for name in names:
            assert os.path.exists(os.path.join(stack.folder, "log", f"{name}.log")), name
            assert stack.state(name) == "running", name
            os.kill(stack.pid(name), 0)
        assert len(stack.urls) == 2 and stack.environment["NIGHTSHIFT_URL"] == stack.urls[0]
        assert len(stack.environment["METRICS_URLS"].split(",")) == 6
        assert stack.environment["NIGHTSHIFT_WEBHOOK_SECRET"].startswith("whsec_")

        stack.stop("worker-1")
        assert stack.state("worker-1") == "stopped"
        stack.cont("worker-1")
        assert stack.state("worker-1") == "running"
        stack.stop("worker-2")
        stack.restart("worker-2")
        assert stack.state("worker-2") == "running"
        for name in names:
            old = stack.pid(name)
            stack.kill(name)
            assert stack.state(name) == "dead"
            assert stack.command("status", check=False).returncode == 1
            stack.restart(name)
            assert stack.state(name) == "running" and stack.pid(name) != old
        assert stack.command("status").returncode == 0
        wait_until(lambda: stack.api().client.get("/readyz").status_code == 200, 15)
        assert stack.api().run(chat(tokens=1))["state"] == "succeeded"


def test_down_keeps_the_data_and_up_goes_on_with_it():
    stack = Stack(broker="embedded", config=None)
    with stack:
        job = stack.api().run(chat(tokens=1))
        before = dict(stack.environment)
        stack.command("down")
        assert processes_of(stack.folder) == []
        stack.up()
        assert stack.environment["NIGHTSHIFT_API_KEY"] == before["NIGHTSHIFT_API_KEY"]
        assert stack.api().job(job["id"])["result"] == job["result"]


def test_down_works_when_parts_are_stopped_or_dead():
    stack = Stack(broker="embedded", config=None)
    with stack:
        stack.stop("worker-1")
        stack.stop("postgres")
        stack.kill("producer-1")
        watch = Stopwatch()
        stack.command("down")
        assert watch.seconds < 60
        assert processes_of(stack.folder) == []
        stack.sql.close()


def test_a_part_that_cannot_start_is_named_with_the_end_of_its_log(tmp_path):
    config = tmp_path / "bad.yaml"
    config.write_text("providers: {main: {format: nonsense}}\n")
    stack = Stack(broker="embedded", config=str(config))
    done = stack.command("up", *stack.options, check=False)
    stack.command("down", "--wipe", check=False)
    assert done.returncode == 1
    assert "bad.yaml" in done.stderr and "format" in done.stderr, done.stderr


def test_an_unknown_part_is_an_error_that_lists_the_parts(stack):
    done = stack.command("restart", "worker-9", check=False)
    assert done.returncode == 1 and "worker-1" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a plain user")
def test_a_plain_user_can_run_it():
    """As nobody, in a folder of its own; the programs are only read."""
    folder = tempfile.mkdtemp(prefix="nightshift-user-", dir="/tmp")
    os.chown(folder, 65534, 65534)
    if not _can_read_as_nobody(PROGRAMS):
        pytest.skip("the tree is in a folder that a plain user cannot enter")
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"HOME={folder}", SCRIPT]
    try:
        done = subprocess.run([*command, "up", "--dir", f"{folder}/stack", "--bin", PROGRAMS, "--processes", "1"],
                              capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        with open(f"{folder}/stack/env", encoding="utf-8") as file:
            env = dict(line.rstrip("\n").split("=", 1) for line in file)
        assert httpx.get(env["NIGHTSHIFT_URL"] + "/readyz", trust_env=False).status_code == 200
    finally:
        subprocess.run([*command, "down", "--wipe", "--dir", f"{folder}/stack"], capture_output=True, timeout=120,
                       check=False)
        shutil.rmtree(folder, ignore_errors=True)
    assert processes_of(folder) == []


def _can_read_as_nobody(path):
    return subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "test", "-x",
                           os.path.join(path, "nightshift-producer")], check=False).returncode == 0
