# SPDX-License-Identifier: Apache-2.0
"""No room under Postgres: what cannot be kept is refused, and with room again all goes on by itself."""

import json
import os
import pwd
import uuid

import pytest

from conftest import running
from testenv.api import chat
from testenv.namespace import MountNamespace
from testenv.stack import Stack
from testenv.wait import wait_until

STEPS = (8 << 20, 1 << 20, 64 << 10, 4 << 10)


@pytest.fixture(scope="module")
def disk():
    with MountNamespace("320m") as made:
        yield made


@pytest.fixture(scope="module")
def stack(disk):
    """Postgres has its home on the small file system, and little WAL there."""
    os.mkdir(disk.path("pg"))
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(disk.path("pg"), account.pw_uid, account.pw_gid)
    stack = Stack(broker="embedded")
    stack.prefix = disk.enter()
    with open(os.path.join(stack.folder, "state.json"), "w", encoding="utf-8") as file:
        json.dump({"postgres_home": os.path.join(disk.folder, "pg"),
                   "postgres_settings": {"max_wal_size": "64MB", "min_wal_size": "32MB"}}, file)
    yield from running(stack)


def fill(path):
    """A file that takes all there is."""
    with open(path, "wb") as file:
        size = 0
        for step in STEPS:
            while True:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                except OSError:
                    break
                size += step


def post(api, key, body):
    return api.client.post("/v1/jobs", json=body, headers={"idempotency-key": key}, timeout=60)


def test_on_a_full_disk_submits_are_503_never_a_202_that_is_lost(stack, disk):
    api = stack.api()
    held = chat(tokens=10, after=3, hold="full-disk")
    running_job = api.submit(held)["id"]
    wait_until(lambda: stack.simulator.holding("full-disk"), 10)
    children = [stack.children(name) for name in ("producer-1", "worker-1", "scheduler-1")]

    # Bodies that do not compress and need new pages.
    bodies = {str(uuid.uuid4()): {"request": chat(text=os.urandom(60_000).hex()), "workflow": "full-disk"}
              for _ in range(30)}
    fill(disk.path("fill"))
    accepted, refused = {}, []
    try:
        for key, body in bodies.items():
            answer = post(api, key, body)
            if answer.status_code == 202:
                accepted[key] = answer.json()["id"]
                continue
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"]
            assert answer.json()["error"]["code"] in ("unavailable", "overloaded")
            refused.append(key)
        assert len(refused) >= 10, (len(accepted), len(refused))
        assert api.client.get("/healthz").status_code == 200
    finally:
        os.unlink(disk.path("fill"))
    if stack.state("postgres") != "running":
        stack.restart("postgres")  # it gives up when its log cannot be written; a supervisor starts it again
    stack.simulator.release("full-disk")
    wait_until(lambda: api.client.get("/readyz").status_code == 200, 30, "ready again")
    for key in refused:
        answer = wait_until(lambda k=key: (lambda got: got if got.status_code == 202 else None)(post(api, k, bodies[k])), 30)
        accepted[key] = answer.json()["id"]
    for job in (running_job, *accepted.values()):
        assert api.ended(job, timeout_s=90)["state"] == "succeeded"
    assert len(set(accepted.values())) == len(bodies)
    assert stack.sql.value("SELECT count(*) FROM jobs WHERE workflow = 'full-disk'") == len(bodies)
    assert [stack.children(name) for name in ("producer-1", "worker-1", "scheduler-1")] == children
