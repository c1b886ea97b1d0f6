# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a stack that most tests share, and stacks of their own for those that break things."""

import json
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from testenv.stack import Stack  # noqa: E402
from testenv.wait import wait_until  # noqa: E402

# The files that take longest (40 s to two minutes), in this order: so what ends last beside another is short.
LONGEST = ("test_limit_waits.py", "test_rescue.py", "test_cli_doctor.py", "test_budget_trouble.py", "test_stack.py",
           "test_limit_exits.py", "test_outage.py", "test_schema.py", "test_cli_terminal.py", "test_clock.py",
           "test_webhooks.py", "test_cli.py", "test_drain.py")
LIVE = []  # stacks that run now, for the logs of a failed test
COUNTS = {"passed": 0, "names": []}  # of those that failed


def pytest_addoption(parser):
    parser.addoption("--counts", help="file to leave the number of passed tests in, and the names of failed ones")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes minutes; only with NIGHTSHIFT_SLOW=1")


def pytest_collection_modifyitems(items):
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
    if not os.environ.get("NIGHTSHIFT_SLOW"):
        skip = pytest.mark.skip(reason="set NIGHTSHIFT_SLOW=1 to run it")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for stack in LIVE:
            report.sections.append((f"logs of {stack.folder}", stack.log_tails()))


def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:
        COUNTS["passed"] += 1
    elif report.failed:
        COUNTS["names"].append(report.nodeid)


def pytest_sessionfinish(session):
    """The numbers of all, from the one process that hears of all (with -n there are others)."""
    path = session.config.getoption("--counts")
    if path and not hasattr(session.config, "workerinput"):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            json.dump(COUNTS, file)


def running(stack):
    """Starts a stack, yields it, and takes it down again."""
    with stack:
        LIVE.append(stack)
        try:
            yield stack
        finally:
            LIVE.remove(stack)


@pytest.fixture(scope="session")
def stack():
    """Two of each daemon on real Kafka (with -n, one such stack per process of pytest).  Tests must
    leave it as they found it."""
    yield from running(Stack(producers=2, workers=2, schedulers=2))


@pytest.fixture
def api(stack):
    return stack.api()


@pytest.fixture
def other_producer(stack):
    """The same tenant at the second producer."""
    return stack.api(producer=1)


@pytest.fixture
def admin(stack):
    return stack.admin()


@pytest.fixture
def simulator(stack):
    return stack.simulator


@pytest.fixture
def sql(stack):
    return stack.sql


def tenant_key(admin, tenant, scopes=("jobs:write", "jobs:read")):
    """A new tenant with a key; its object (with the webhook secret) and the key."""
    made = admin.post_json("/admin/v1/tenants", {"id": tenant, "name": tenant}, expect=201)
    key = admin.post_json(f"/admin/v1/tenants/{tenant}/keys", {"name": "test", "scopes": list(scopes)},
                          expect=201)
    return made, key["key"]


@pytest.fixture
def tenant(stack, admin, request):
    """An API client of a tenant of this test's own."""
    import uuid  # pylint: disable=import-outside-toplevel
    name = f"t-{uuid.uuid4().hex[:12]}"
    made, key = tenant_key(admin, name)
    client = stack.api(key=key)
    client.tenant = name
    client.webhook_secret = made["webhook_secret"]
    return client


__all__ = ["running", "tenant_key", "wait_until"]
