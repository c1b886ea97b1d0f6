# SPDX-License-Identifier: Apache-2.0
"""Whatever way a run ends, nothing stays reserved: Redis at rest is what the ledger says."""

import contextlib
import os
import signal
import uuid

import httpx
import psycopg
import pytest

from conftest import running, tenant_key
from testenv import held
from testenv.api import chat, soon
from testenv.stack import Stack
from testenv.wait import wait_until


@pytest.fixture(scope="module")
def stack():
    yield from running(Stack(broker="embedded", workers=2))


@pytest.fixture
def client(stack):
    """Of a tenant under limits of every kind, none of which stops anybody here."""
    name = f"x-{uuid.uuid4().hex[:12]}"
    _, key = tenant_key(stack.admin(), name)
    client = stack.api(key=key)
    client.tenant = name
    answer = stack.admin().client.put(f"/admin/v1/tenants/{name}/limits", json={
        "requests_per_minute": 60000, "tokens_per_minute": 100000000, "max_concurrency": 50,
        "budget_usd": {"total": "10", "day": "5"}, "workflows": {"*": {"max_concurrency": 50}}})
    assert answer.status_code == 200, answer.text
    stack.sql.await_limits()
    return client


def holds(stack, tenant):
    """What Redis holds of a tenant that somebody would have to give back: leases, names, reservations."""
    url = stack.environment["REDIS_URL"]
    book = held.book(url, tenant)
    return (*held.leases(url, tenant), book.live if book else 0)


def accounts(stack, tenant):
    """Spent, reserved and unknown of the tenant's accounts."""
    book = held.book(stack.environment["REDIS_URL"], tenant)
    return {name.split("|")[1][0]: value for name, value in (book.accounts.items() if book else ())
            if name.startswith("tenant|")}


def ledger(stack, tenant):
    row = stack.sql.one("SELECT coalesce(sum(cost_nano) FILTER (WHERE state = 'settled'), 0)::bigint AS spent,"
                        "       coalesce(sum(cost_nano) FILTER (WHERE state = 'sent'), 0)::bigint AS sent,"
                        "       coalesce(sum(cost_nano) FILTER (WHERE state = 'unknown'), 0)::bigint AS unknown"
                        " FROM calls WHERE tenant = %s", tenant)
    return row["spent"], row["sent"], row["unknown"]


def assert_at_rest(stack, client):
    def is_right():
        spent, sent, unknown = ledger(stack, client.tenant)
        leases, names, live = holds(stack, client.tenant)
        return not sent and leases == 0 and not names and live == 0 and \
            all(value == (spent, 0, unknown) for value in accounts(stack, client.tenant).values())
    try:
        wait_until(is_right, 20, "Redis to say what the ledger says")
    except AssertionError as error:
        raise AssertionError(f"{error}: {holds(stack, client.tenant)} {accounts(stack, client.tenant)}"
                             f" {ledger(stack, client.tenant)}") from error


def mended(stack):
    """How many reservations reconciliation had to end because nobody else did."""
    page = httpx.get(f"http://127.0.0.1:{stack.port('scheduler-1-metrics')}/metrics", trust_env=False).text
    values = [int(line.split()[-1]) for line in page.splitlines()
              if line.startswith("nightshift_budget_reservations_resolved_total{")]
    assert values
    return sum(values)


@contextlib.contextmanager
def no_mending(stack):
    """A run that lives ends its reservations itself: that they are gone in the end is not enough."""
    before = mended(stack)
    yield
    assert mended(stack) == before, "the run left its reservation to reconciliation"


EXITS = [
    ("success", {"model": "single"}, "succeeded"),
    ("an error of the caller", {"model": "single", "status": 400}, "failed"),
    ("an error and a second try", {"model": "single", "status": 500, "times": 1}, "succeeded"),
    ("the next target", {"model": "fast", "at": {"main": {"status": 503}}}, "succeeded"),
    ("a 429 and a way through the queue", {"model": "single", "status": 429, "times": 1, "retry_after": 1},
     "succeeded"),
    ("no connection", {"model": "closed"}, "failed"),
    ("no connection, then the next target", {"model": "closed-then-spare"}, "succeeded"),
    ("an answer that is none", {"model": "single", "fault": "junk"}, "failed"),
    ("no usage told", {"model": "single", "fault": "no_usage"}, "succeeded"),
]


@pytest.mark.parametrize("what, request_of, state", EXITS, ids=[exit_[0] for exit_ in EXITS])
def test_nothing_stays_reserved_after(stack, client, what, request_of, state):
    with no_mending(stack):
        job = client.run(chat(what, **request_of), workflow="w", max_attempts=3)
        assert job["state"] == state, job["error"]
        assert_at_rest(stack, client)


def test_a_stream_that_breaks_stays_booked_as_unknown(stack, client):
    with no_mending(stack):
        job = client.run(chat("cut", model="single", fault="reset_mid", after=2), max_attempts=1)
        assert job["state"] == "failed"
        assert_at_rest(stack, client)
    assert accounts(stack, client.tenant)["t"][2] > 0


@contextlib.contextmanager
def refused_intent(stack, tenant, job_of, change):
    """Holds up the tenant's intents where they look at its book, and lets them go when `change` has happened."""
    with psycopg.connect(stack.environment["DATABASE_URL"]) as other:
        other.execute("SELECT FROM budget_books WHERE tenant = %s FOR UPDATE", (tenant,))
        job = job_of()
        wait_until(lambda: stack.sql.value("SELECT count(*) FROM pg_stat_activity"
                                           " WHERE %s = ANY (pg_blocking_pids(pid))", other.info.backend_pid),
                   15, "an intent")
        yield job
        other.execute(change, {"tenant": tenant, "job": job[4:]})


REFUSALS = [
    ("its book is another by now", "UPDATE budget_books SET generation = generation + 1 WHERE tenant = %(tenant)s",
     "succeeded"),
    ("it was cancelled", "UPDATE runs SET cancel_requested = true WHERE job = %(job)s", "cancelled"),
    ("its deadline has come", "UPDATE runs SET deadline = clock_timestamp() WHERE job = %(job)s", "expired"),
    ("its run is another's by now", "UPDATE runs SET run_token = nextval('run_tokens'),"
     " lease_until = clock_timestamp() WHERE job = %(job)s", "succeeded"),
]


@pytest.mark.parametrize("change, state", [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS])
def test_nothing_stays_reserved_after_an_intent_is_refused_because(stack, client, change, state):
    request = chat(tokens=5, model="single")
    client.run(chat(model="single"))  # there is a book
    with no_mending(stack):
        with refused_intent(stack, client.tenant, lambda: client.submit(request)["id"], change) as job:
            leases, names, live = holds(stack, client.tenant)
            assert (leases, len(names), live) == (1, 1, 1), "nothing was reserved before the intent"
            assert not stack.simulator.calls(request)
        job = client.ended(job)
        assert job["state"] == state, job["error"]
        assert_at_rest(stack, client)
    assert len(stack.simulator.calls(request)) == (state == "succeeded")
    assert [call["state"] for call in job["calls"]] == ["settled"] * (state == "succeeded")


def begin(stack, client, gate, **fields):
    job = client.submit(chat(tokens=30, after=5, hold=gate, model="single"), workflow="w", **fields)["id"]
    wait_until(lambda: stack.simulator.holding(gate) == 1, 15, "the call")
    return job


def test_a_call_without_max_tokens_holds_the_models_maximum(stack, client):
    job = begin(stack, client, "exit-maximum")
    maximum = 16384 * 600  # output tokens of gpt-4o-mini, at 600 nano-dollars each
    book = accounts(stack, client.tenant)
    assert book["t"][1] >= maximum and book["d"][1] == book["t"][1], book
    assert stack.sql.value("SELECT reserved_nano FROM calls WHERE tenant = %s", client.tenant) == book["t"][1]
    stack.simulator.release("exit-maximum")
    assert client.ended(job)["state"] == "succeeded"
    assert_at_rest(stack, client)


def test_nothing_stays_reserved_after_a_cancel(stack, client):
    with no_mending(stack):
        job = begin(stack, client, "exit-cancel")
        assert holds(stack, client.tenant)[0] == 2  # of the tenant and of the workflow
        client.cancel(job)
        assert client.ended(job)["state"] == "cancelled"
        assert_at_rest(stack, client)


def test_nothing_stays_reserved_after_a_deadline(stack, client):
    with no_mending(stack):
        job = begin(stack, client, "exit-deadline", deadline=soon(seconds=3))
        assert client.ended(job)["state"] == "expired"
        assert_at_rest(stack, client)


def test_nothing_stays_reserved_after_a_drain(stack, client):
    job = begin(stack, client, "exit-drain")
    for name in ("worker-1", "worker-2"):
        os.kill(stack.pid(name), signal.SIGTERM)
    for name in ("worker-1", "worker-2"):
        wait_until(lambda name=name: stack.state(name) == "dead", 30, f"{name} to drain")
    stack.simulator.release("exit-drain")
    for name in ("worker-1", "worker-2"):
        stack.restart(name)
    assert client.ended(job)["state"] == "succeeded"
    assert_at_rest(stack, client)


def test_nothing_stays_reserved_after_a_kill(stack, client):
    job = begin(stack, client, "exit-kill")
    for name in ("worker-1", "worker-2"):
        stack.kill(name)
    stack.simulator.release("exit-kill")
    for name in ("worker-1", "worker-2"):
        stack.restart(name)
    assert client.ended(job, timeout_s=60)["state"] == "succeeded"
    assert_at_rest(stack, client)


def test_nothing_stays_reserved_after_a_worker_lost_its_lease(stack, client):
    """It is frozen, rescued by mistake, and books what it spent by the call's own key."""
    job = begin(stack, client, "exit-lost")
    worker = str(stack.sql.run(job)["worker"])
    for name in ("worker-1", "worker-2"):
        stack.stop(name)
    wait_until(lambda: stack.sql.value("SELECT count(*) FROM workers WHERE id = %s", worker) == 0, 20, "rescue")
    for name in ("worker-1", "worker-2"):
        stack.cont(name)
    stack.simulator.release("exit-lost")
    assert client.ended(job, timeout_s=60)["state"] == "succeeded"
    assert_at_rest(stack, client)
