# SPDX-License-Identifier: Apache-2.0
"""A database of another age than the programs."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import running
from testenv.api import chat
from testenv.stack import Stack, StackFailed, program
from testenv.wait import wait_until

DAEMONS = ("producer-1", "worker-1", "scheduler-1")


@pytest.fixture(scope="module")
def stack():
    yield from running(Stack(broker="embedded"))


@pytest.fixture
def newest(stack):
    """The row of the newest migration; afterwards the table is as it was."""
    before = stack.sql.rows("SELECT * FROM schema_migrations ORDER BY version")
    yield before[-1]
    stack.sql.rows("DELETE FROM schema_migrations")
    for row in before:
        stack.sql.rows(f"INSERT INTO schema_migrations ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})",
                       *row.values())
    with ThreadPoolExecutor(len(DAEMONS)) as pool:
        list(pool.map(stack.restart, DAEMONS))


def migrate(stack):
    return subprocess.run([program("nightshift-migrate")], capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "DATABASE_URL": stack.environment["DATABASE_URL"]})


def failure(stack, name):
    try:
        stack.restart(name)
        return "it started"
    except StackFailed as error:
        return str(error)


def test_an_older_schema_stops_every_daemon_with_what_to_do(stack, newest):
    stack.sql.rows("DELETE FROM schema_migrations WHERE version = %s", newest["version"])
    older = stack.sql.value("SELECT coalesce(max(version), 0) FROM schema_migrations")
    with ThreadPoolExecutor(len(DAEMONS)) as pool:
        said = list(pool.map(lambda name: failure(stack, name), DAEMONS))
    for name, text in zip(DAEMONS, said):
        assert f"schema version {older}" in text and "run nightshift-migrate" in text, text
        assert stack.state(name) == "dead"


def test_a_newer_schema_is_worked_with_and_left_alone(stack, newest):
    """Migrations only add: the programs of before go on while new ones are rolled out."""
    stack.sql.rows("INSERT INTO schema_migrations (version, name, checksum) VALUES (9999, '9999_later.sql', %s)",
                   newest["checksum"])
    stack.sql.rows("ALTER TABLE jobs ADD COLUMN later text, ADD COLUMN at text")
    for table in ("queue", "runs", "calls", "deliveries", "workers", "events"):
        stack.sql.rows(f"ALTER TABLE {table} ADD COLUMN later text, ADD COLUMN request text, ADD COLUMN result text")
    for name in DAEMONS:
        stack.restart(name)
    api = stack.api()
    assert api.run(chat(tokens=3, at={"main": {"status": 500}}))["state"] == "succeeded"
    held = api.submit(chat(tokens=10, after=3, hold="schema"))["id"]
    wait_until(lambda: stack.simulator.holding("schema"), 10)
    stack.kill("worker-1")
    stack.simulator.release("schema")
    stack.restart("worker-1")
    assert api.ended(held, timeout_s=60)["state"] == "succeeded"
    done = migrate(stack)
    assert done.returncode == 0 and "ahead of this program" in done.stderr, done.stdout + done.stderr
