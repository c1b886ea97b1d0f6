# SPDX-License-Identifier: Apache-2.0
"""Ceilings through trouble: Redis flushed, killed, an old copy; what the provider was asked for never passes
the ceiling, and at rest Redis, the ledger and the provider's log agree to the nano-dollar."""

import re
import uuid
from decimal import Decimal

import httpx
import pytest
import redis
from standardwebhooks.webhooks import Webhook

from conftest import running, tenant_key
from testenv import held
from testenv.api import chat
from testenv.ledger import cost_nano
from testenv.stack import Stack
from testenv.wait import NotYet, wait_until

TOKENS = 20
CENT = 10**7  # nano-dollars


@pytest.fixture(scope="module")
def stack():
    yield from running(Stack(workers=2))


@pytest.fixture(autouse=True)
def all_alive(stack):
    yield
    for name in ("redis", "worker-1", "worker-2"):
        if stack.state(name) != "running":
            stack.restart(name)


def usd(nano):
    return f"{Decimal(nano) / 10**9:.9f}"


def nano(text):
    return int(Decimal(text) * 10**9)


class Spender:
    """A tenant with a total budget, and what Redis, the ledger and the provider know of its money."""

    def __init__(self, stack):
        self.stack = stack
        self.name = f"b-{uuid.uuid4().hex[:12]}"
        made, key = tenant_key(stack.admin(), self.name)
        self.secret = made["webhook_secret"]
        self.api = stack.api(key=key)
        self.one = 0  # what a call costs
        self.request = {**chat(tokens=TOKENS, rate=100, model="single"), "max_tokens": TOKENS}

    def limit(self, ceiling, **more):
        """Known to every worker when this returns."""
        self.put_limit(ceiling, **more)
        self.stack.sql.await_limits()

    def put_limit(self, ceiling, **more):
        answer = self.stack.admin().client.put(f"/admin/v1/tenants/{self.name}/limits",
                                               json={"budget_usd": {"total": usd(ceiling)}, **more})
        assert answer.status_code == 200, answer.text

    def price(self):
        """What one call costs, learned from one that ran before there was a budget."""
        self.api.run(self.request)
        (call,) = self.stack.simulator.calls(self.request)
        self.one = cost_nano(call["prompt_tokens"], call["output_tokens"])
        return self.one

    def submit(self, count):
        answers, last = self.api.bulk([{"request": self.request}] * count)
        assert last["accepted"] == count, last
        return [answer["id"] for answer in answers]

    def asked(self):
        """The sum of what the provider was asked for, by its own log: at full price from the first moment on."""
        return len(self.stack.simulator.calls(self.request)) * self.one

    def ledger(self):
        """(settled, still booked) of all calls."""
        row = self.stack.sql.one("SELECT coalesce(sum(cost_nano) FILTER (WHERE state = 'settled'), 0)::bigint AS spent,"
                                 " coalesce(sum(cost_nano) FILTER (WHERE state <> 'settled'), 0)::bigint AS booked"
                                 " FROM calls WHERE tenant = %s", self.name)
        return row["spent"], row["booked"]

    def book(self):
        """(spent, reserved, unknown) of the total, as Redis has it; None while it is not current."""
        book = held.book(self.stack.environment["REDIS_URL"], self.name)
        if not book or book.generation != self.generation():
            return None
        return book.accounts.get("tenant|t", (0, 0, 0))

    def generation(self):
        """Of the book, as Postgres has it: each time it is made anew it is another."""
        return self.stack.sql.value("SELECT b.generation || '.' || k.generation FROM budget_binding b,"
                                    " budget_books k WHERE k.tenant = %s", self.name)

    def unknown_calls(self):
        return self.stack.sql.value("SELECT count(*) FROM calls WHERE tenant = %s AND state = 'unknown'", self.name)

    def is_at_rest(self):
        """Nothing runs, and what waits has been refused since: all at once by the gate, or, where a cheaper job
        might still fit, one by one."""
        running_now = self.stack.sql.value("SELECT count(*) FROM runs WHERE tenant = %s", self.name)
        waiting = self.stack.sql.value("SELECT count(*) FROM queue WHERE tenant = %s AND NOT coalesce("
                                       "wait_reason = 'budget' AND ready_at > now() + interval '1 s', false)", self.name)
        refused = self.stack.sql.value("SELECT count(*) FROM gates WHERE tenant = %s AND reason = 'budget'"
                                       " AND until > now() + interval '1 s'", self.name)
        return not running_now and (not waiting or refused)

    def situation(self):
        """What a test that waited in vain should say."""
        sql = self.stack.sql
        return {"gates": sql.rows("SELECT kind, name, reason, until - now() AS ahead FROM gates WHERE tenant = %s", self.name),
                "queue": sql.rows("SELECT wait_reason, wait_detail, count(*), count(dispatched_at) AS dealt,"
                                  " min(ready_at) - now() AS ahead FROM queue WHERE tenant = %s GROUP BY 1, 2", self.name),
                "runs": sql.rows("SELECT run, calls, now() - call_started_at AS calling, count(*) FROM runs"
                                 " WHERE tenant = %s GROUP BY 1, 2, 3", self.name),
                "calls": sql.rows("SELECT state, count(*), sum(cost_nano) FROM calls WHERE tenant = %s GROUP BY 1", self.name),
                "book": self.book(), "asked": self.asked()}

    def await_or_tell(self, condition, timeout_s, what):
        try:
            wait_until(condition, timeout_s, what)
        except NotYet as late:
            raise NotYet(f"{late}; {self.situation()}") from None

    def await_agreement(self, timeout_s=40):
        """At rest, all three say the same (of a call nobody knows of, the provider may); what is booked in all."""
        def same():
            spent, booked = self.ledger()
            return (self.is_at_rest() and self.book() == (spent, 0, booked) and
                    spent <= self.asked() <= spent + self.unknown_calls() * self.one)
        wait_until(same, timeout_s, f"agreement; ledger {self.ledger()}, book {self.book()}, log {self.asked()}")
        return sum(self.ledger())


def metric(stack, name):
    """The sum over all daemons."""
    total = 0
    for url in stack.environment["METRICS_URLS"].split(","):
        text = httpx.get(url, trust_env=False, timeout=10).text
        total += sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.M))
    return total


def spend_through(stack, trouble, jobs=150, share=3):
    """Jobs against a ceiling that fits a third of them, with trouble on the way; then the rest.  The spender."""
    spender = Spender(stack)
    price = spender.price()
    ceiling = price * jobs // share
    spender.limit(ceiling)
    rebuilds = metric(stack, "nightshift_budget_rebuilds_total")
    ids = spender.submit(jobs)
    for step in range(2):
        target = ceiling * (step + 1) // 4
        spender.await_or_tell(lambda: spender.asked() >= target or spender.is_at_rest(), 60, "some spending")
        before = spender.generation()
        trouble()
        wait_until(lambda: spender.generation() != before and spender.book(), 30, "the book to be made anew")
        assert spender.asked() <= ceiling  # it only grows: what holds now held at every instant before
    spender.await_or_tell(spender.is_at_rest, 60, "the ceiling")
    booked = spender.await_agreement()
    assert spender.asked() <= booked <= ceiling
    assert booked >= ceiling // 2, "hardly anything was spent"
    assert metric(stack, "nightshift_budget_rebuilds_total") >= rebuilds + 2, "there was no trouble"
    spender.limit(price * (jobs + 20) * 4)
    for job in ids:
        assert spender.api.ended(job, timeout_s=120)["state"] == "succeeded"
    spender.await_agreement()
    assert spender.ledger()[0] == price * (jobs + 1)
    assert metric(stack, "nightshift_budget_drift_nano_total") == 0
    assert metric(stack, "nightshift_reservation_overruns_total") == 0
    return spender


def flush(stack):
    client = redis.Redis.from_url(stack.environment["REDIS_URL"])
    client.flushall()
    client.close()


def test_ceiling_holds_through_flushes(stack):
    assert spend_through(stack, lambda: flush(stack)).unknown_calls() == 0


@pytest.fixture
def crowded_stack():
    """A thousand tenants under budgets, with 10^5 rows of the ledger in their windows."""
    for stack in running(Stack(workers=2)):
        for statement in CROWD:
            stack.sql.rows(statement)
        yield stack


CROWD = (
    "INSERT INTO tenants (id, name, webhook_secret) SELECT 'c' || n, 'c', '' FROM generate_series(1, 1000) AS n",
    "INSERT INTO limits (owner_kind, owner, document) SELECT 'tenant', 'c' || n, '{\"budget_usd\":"
    " {\"day\": \"5.000000000\", \"month\": \"50.000000000\"}}' FROM generate_series(1, 1000) AS n",
    "INSERT INTO budget_books (tenant) SELECT 'c' || n FROM generate_series(1, 1000) AS n",
    "INSERT INTO calls (job, call, run, tenant, key_id, workflow, end_user, route, provider, model,"
    " input_nano_per_mtok, cached_nano_per_mtok, output_nano_per_mtok, reserved_nano, state, cost_nano, budget_day,"
    " started_at)"
    " SELECT id_make(), 1, 1, 'c' || t, 'k', 'w' || r % 5, 'u' || r % 20, 'fast', 'p', 'm', 1, 1, 1, 1000 + r,"
    " 'settled', 1000 + r, (now() AT TIME ZONE 'UTC')::date, now()"
    " FROM generate_series(1, 1000) AS t, generate_series(1, 100) AS r",
)


@pytest.mark.slow
def test_paid_calls_resume_within_5_s_of_a_flush_among_a_thousand_tenants(crowded_stack):
    """From the flush to the first call under the new generation, the noticing included."""
    spender = Spender(crowded_stack)
    price = spender.price()
    spender.limit(price * 10_000, max_concurrency=20)
    spender.submit(1500)
    spender.await_or_tell(lambda: spender.asked() >= 100 * price, 60, "some spending")
    before = spender.generation()
    at = crowded_stack.sql.value("SELECT clock_timestamp()")
    flush(crowded_stack)

    def resumed():
        return crowded_stack.sql.value("SELECT extract(epoch FROM min(started_at) - %s)::float8 FROM calls"
                                       " WHERE tenant = %s AND started_at > %s AND budget_generation <> %s",
                                       at, spender.name, at, before)
    seconds = wait_until(resumed, 30, "a call under a new generation")
    print(f"paid calls again {seconds:.2f} s after the flush")
    assert seconds < 5
    spender.await_or_tell(spender.is_at_rest, 120, "the end of the backlog")
    spender.await_agreement()


def test_ceiling_holds_through_a_killed_redis(stack):
    def trouble():
        before = metric(stack, "nightshift_budget_away_total")
        stack.kill("redis")
        wait_until(lambda: metric(stack, "nightshift_budget_away_total") > before, 20, "somebody to miss Redis")
        stack.restart("redis")
    spend_through(stack, trouble)


def test_ceiling_holds_over_an_old_copy_of_redis(stack):
    """The copy is from before most of the spending: believed, it would let all of that be spent again."""
    client = redis.Redis.from_url(stack.environment["REDIS_URL"])
    client.save()
    client.close()

    def trouble():
        stack.kill("redis")
        stack.restart("redis")
    spend_through(stack, trouble)


def test_ceiling_holds_through_killed_workers_and_flushes(stack):
    """What the dead were doing stays booked in full, and only that."""
    def trouble():
        stack.kill("worker-1")
        flush(stack)
        stack.restart("worker-1")
    spender = spend_through(stack, trouble)
    spent, booked = spender.ledger()
    assert booked == stack.sql.value("SELECT coalesce(sum(reserved_nano), 0)::bigint FROM calls WHERE tenant = %s"
                                     " AND state = 'unknown'", spender.name)
    assert spent + booked >= spender.asked()


def test_no_call_begins_without_a_reservation_once_a_first_budget_was_answered(stack):
    for _ in range(3):
        spender = Spender(stack)
        price = spender.price()
        worst = nano(spender.api.run(spender.request)["max_cost_usd"])
        spender.put_limit(price + worst)  # and two were paid: less is left than the worst case of another
        ids = spender.submit(20)
        wait_until(lambda: all((spender.api.job(job)["waiting"] or {}).get("reason") == "budget" for job in ids),  # noqa: B023
                   20, "all to wait for the budget")
        assert len(stack.simulator.calls(spender.request)) == 2


def test_a_budget_in_shadow_counts_and_stops_nothing(stack):
    """Neither over its ceiling nor while Redis is away; what was paid for meanwhile is counted afterwards."""
    spender = Spender(stack)
    price = spender.price()
    drift = metric(stack, "nightshift_budget_drift_nano_total")
    spender.limit(price * 2, shadow=True)
    wait_until(lambda: spender.book() == (price, 0, 0), 30, "a book")
    for job in spender.submit(5):
        assert spender.api.ended(job)["state"] == "succeeded"
    assert spender.await_agreement() == price * 6
    stack.kill("redis")
    for job in spender.submit(3):
        assert spender.api.ended(job)["state"] == "succeeded"
    assert stack.sql.value("SELECT count(*) FROM gates WHERE tenant = %s", spender.name) == 0
    stack.restart("redis")
    assert spender.await_agreement() == price * 9
    assert metric(stack, "nightshift_budget_drift_nano_total") == drift


def refuse_costs_out_of_range(stack, admin, call, job):
    """Told by field, rule and what to do; the call stays unknown."""
    for body, field in (({"cost_usd": "9000000.000000001"}, "cost_usd"), ({"cost_usd": "9" * 30}, "cost_usd"),
                        ({"cost_usd": 1}, "cost_usd"), ({"cost_usd": "-1"}, "cost_usd")):
        answer = admin.client.post(f"/admin/v1/calls/{call}/resolve", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", field), answer.text
        assert "at most 9000000" in error["message"] and "billed" in error["message"]
    # As dear as a price may be: counted, it is more than an int8 holds.
    where = "WHERE job = %s AND state = 'unknown'"
    old = stack.sql.value(f"SELECT output_nano_per_mtok FROM calls {where}", job[4:])
    for price in (10**13, 9 * 10**15):
        stack.sql.rows(f"UPDATE calls SET output_nano_per_mtok = %s {where}", price, job[4:])
        answer = admin.client.post(f"/admin/v1/calls/{call}/resolve",
                                   json={"usage": {"input_tokens": 0, "output_tokens": 10**9}})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", "usage"), answer.text
        assert "9000000" in error["message"] and "check the counts" in error["message"]
    stack.sql.rows(f"UPDATE calls SET output_nano_per_mtok = %s {where}", old, job[4:])
    assert [row["state"] for row in stack.sql.calls(job)] == ["unknown"]


def test_unknown_call_is_resolved_and_the_money_is_free_again(stack):
    spender = Spender(stack)
    request = {**chat(tokens=10, after=3, hold=spender.name, model="single"), "max_tokens": 10}
    spender.limit(10**8)
    job = spender.api.submit(request)["id"]
    wait_until(lambda: stack.simulator.holding(spender.name), 20, "the call")
    for name in ("worker-1", "worker-2"):
        stack.kill(name)
    row = wait_until(lambda: next((row for row in stack.sql.calls(job) if row["state"] == "unknown"), None), 20)
    reserved = row["reserved_nano"]
    assert reserved > 0
    wait_until(lambda: spender.book() == (0, 0, reserved), 30, spender.book)
    spender.api.cancel(job)
    stack.simulator.release(spender.name)
    call = f"call_{job[4:]}_{row['call']}"
    admin = stack.admin()
    assert admin.client.post(f"/admin/v1/calls/{call}/resolve", json={}).status_code == 400
    assert admin.client.post(f"/admin/v1/calls/{call}9/resolve", json={"cost_usd": "1"}).status_code == 404
    refuse_costs_out_of_range(stack, admin, call, job)
    usage = {"input_tokens": 10, "output_tokens": 3}
    found = admin.post_json(f"/admin/v1/calls/{call}/resolve", {"usage": usage})
    assert found["state"] == "settled" and nano(found["cost_usd"]) == cost_nano(10, 3)
    wait_until(lambda: spender.book() == (cost_nano(10, 3), 0, 0), 10, spender.book)
    again = admin.client.post(f"/admin/v1/calls/{call}/resolve", json={"cost_usd": "1"})
    assert again.status_code == 409, again.text
    assert spender.api.job(job)["cost_usd"] == usd(cost_nano(10, 3))
    audit = stack.sql.one("SELECT * FROM audit WHERE action = 'call.resolve' AND object = %s", f"call:{call[5:]}")
    assert audit["actor"]
    assert spender.api.client.post(f"/admin/v1/calls/{call}/resolve", json={"cost_usd": "1"}).status_code == 403


def test_thresholds_are_told_once_and_signed(stack):
    spender = Spender(stack)
    price = spender.price()
    hook = spender.name
    endpoint = stack.admin().post_json(f"/admin/v1/tenants/{spender.name}/endpoints",
                                       {"url": stack.simulator.hook_url(hook), "events": ["budget.threshold"]}, 201)
    spender.limit(price * 50)
    ids = spender.submit(80)
    wait_until(lambda: len(stack.simulator.deliveries(hook)) >= 2, 60, "two thresholds")
    wait_until(spender.is_at_rest, 60, "the ceiling")
    told = wait_until(lambda: (lambda all_: all_ if len(all_) >= 3 else None)(stack.simulator.deliveries(hook)),
                      30, "all thresholds")
    bodies = [Webhook(endpoint["secret"]).verify(entry["body"], {name.lower(): value for name, value
                                                                 in entry["headers"].items()}) for entry in told]
    data = sorted((body["data"] for body in bodies), key=lambda one: one["threshold_percent"])
    assert [one["threshold_percent"] for one in data] == [50, 80, 100]
    assert {body["type"] for body in bodies} == {"budget.threshold"}
    for one in data:
        assert (one["scope"], one["window"], one["resets_at"]) == ("tenant", "total", None)
        assert nano(one["limit_usd"]) == price * 50
        assert nano(one["spent_usd"]) + nano(one["unknown_usd"]) >= price * 50 * min(one["threshold_percent"], 80) // 100
    assert len(ids) == 80


def test_a_thousand_calls_at_once_with_a_cent_left_pass_the_ceiling_by_nothing(stack):
    """Three of them fit, and are held on the wire while all others ask."""
    spender = Spender(stack)
    gate = spender.name
    spender.request = {**chat(tokens=5450, per_chunk=545, hold=gate, model="single"), "max_tokens": 5450}
    stack.simulator.release(gate)
    spender.limit(spender.price() + CENT)
    stack.simulator.close(gate)
    stack.admin().post_json("/admin/v1/pause", {"tenant": spender.name})
    ids = spender.submit(1000)
    stack.admin().post_json("/admin/v1/resume", {"tenant": spender.name})

    def others_wait():
        assert stack.simulator.holding(gate) <= 3
        return stack.simulator.holding(gate) == 3 and stack.sql.value(
            "SELECT (SELECT count(*) FROM queue WHERE tenant = %s) = 997"
            " AND EXISTS (SELECT FROM gates WHERE tenant = %s AND reason = 'budget')", spender.name, spender.name)
    wait_until(others_wait, 20, "three on the wire and a closed gate")
    stack.simulator.release(gate)
    wait_until(spender.is_at_rest, 20, "the ceiling")
    assert spender.await_agreement() == spender.asked() == 4 * spender.one
    jobs = [spender.api.job(job) for job in ids[::50]]
    assert {job["waiting"]["reason"] for job in jobs if job["state"] == "queued"} == {"budget"}
    assert stack.sql.value("SELECT count(*) FROM queue WHERE tenant = %s", spender.name) == 997
    stack.admin().client.patch(f"/admin/v1/tenants/{spender.name}", json={"disabled": True})  # they need not go on


REFUSING = {"OOM": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
            "READONLY": ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE")}


@pytest.mark.parametrize("error", REFUSING)
def test_a_redis_that_answers_with_errors_stops_paid_calls_under_a_budget_and_nothing_else(stack, error):
    spender, free = Spender(stack), Spender(stack)
    price = spender.price()
    spender.limit(CENT, submits_per_minute=60000)
    wait_until(lambda: spender.book() == (price, 0, 0), 30, "a book")
    server = redis.Redis.from_url(stack.environment["REDIS_URL"])
    spoil, mend = REFUSING[error]
    server.execute_command(spoil)
    try:
        with pytest.raises(redis.exceptions.ResponseError, match="maxmemory|read only"):
            server.set("a", "b")
        job = spender.api.submit(spender.request)["id"]  # judged by the process alone, but taken
        wait_until(lambda: (spender.api.job(job)["waiting"] or {}).get("reason") == "budget", 20, "the job to wait")
        assert free.api.run(free.request)["state"] == "succeeded"
        assert spender.asked() == price
    finally:
        server.execute_command(mend)
    server.script_flush()
    server.close()
    assert spender.api.ended(job)["state"] == "succeeded"
    assert spender.await_agreement() == spender.asked() == price * 2
