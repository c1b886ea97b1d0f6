# SPDX-License-Identifier: Apache-2.0
"""Usage: after a run with faults every grouping sums to the ledger to the nano-dollar; CSV; own tenant only."""

import csv
import io
import itertools
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from conftest import running, tenant_key
from testenv.api import chat, soon
from testenv.stack import Stack
from testenv.wait import wait_until

NAMES = ("hour", "day", "workflow", "model", "provider", "key", "user")
SUMS = ("jobs", "calls", "retries", "errors", "input_tokens", "output_tokens", "cached_input_tokens",
        "cache_hits", "cost_usd", "unknown_calls", "unknown_cost_usd", "queue_wait_ms")
NANO = Decimal(1_000_000_000)


@pytest.fixture(scope="module")
def stack():
    yield from running(Stack(producers=2, workers=2, schedulers=2))


def client_of(stack, name):
    _, key = tenant_key(stack.admin(), name)
    client = stack.api(key=key)
    client.tenant = name
    return client


@pytest.fixture(scope="module")
def spent(stack):
    """A tenant's client, after jobs of many kinds: well, failed, cancelled, cut, unknown, rescued."""
    api = client_of(stack, "spender")
    jobs = []
    for number in range(12):
        fields = {"workflow": f"w-{number % 3}", "user": f"u-{number % 4}"}
        if number % 5 == 0:
            fields = {}
        jobs.append(api.submit(chat(tokens=5 + number), **fields))
    jobs.append(api.submit(chat(tokens=9, at={"main": {"status": 503}}), workflow="@cells", user="-u"))
    jobs.append(api.submit(chat(tokens=9, at={"main": {"fault": "reset_mid"}}), workflow="w-1"))
    jobs.append(api.submit(chat(model="quick", tokens=5, at={"quick": {"status": 400}}), user="u-1"))
    jobs.append(api.submit(chat(model="closed"), max_attempts=1))
    later = api.submit(chat(), run_at=soon(hours=1), workflow="never")
    api.post_json(f"/v1/jobs/{later['id']}/cancel", {})
    cut = api.submit(chat(tokens=30, after=5, hold="usage-cut"), user="u-cut")
    rescued = api.submit(chat(model="single", tokens=30, after=10, hold="usage-kill"), workflow="w-2")
    wait_until(lambda: stack.simulator.holding("usage-cut"), 20, "the call to cut")
    api.post_json(f"/v1/jobs/{cut['id']}/cancel", {})
    wait_until(lambda: stack.simulator.holding("usage-kill"), 20, "the call to lose")
    for name in ("worker-1", "worker-2"):
        stack.kill(name)
    stack.simulator.release("usage-kill")
    for name in ("worker-1", "worker-2"):
        stack.restart(name)
    for job in [*jobs, cut, rescued]:
        api.ended(job["id"], timeout_s=90)
    wait_until(lambda: stack.sql.value("SELECT count(*) FROM calls WHERE state = 'sent'") == 0, 20, "quiet")
    return api


# --- the ledger, the long way --------------------------------------------------------------------

def hour_of(at):
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:00:00.000Z")


def ledger(sql, tenant):
    """What each booked call and each ended job adds: (names, sums)."""
    rows = []
    last = {}
    for call in sql.rows("SELECT * FROM calls WHERE tenant = %s AND state <> 'sent' ORDER BY job, call", tenant):
        names = {"hour": hour_of(call["started_at"]), "day": str(call["budget_day"]),
                 "workflow": call["workflow"], "model": call["model"], "provider": call["provider"],
                 "key": call["key_id"], "user": call["end_user"]}
        last[call["job"]] = names
        rows.append((names, {
            "calls": 1, "retries": int(call["call"] > 1),
            "errors": int(call["error_type"] not in (None, "cancelled")),
            "input_tokens": call["input_tokens"] or 0, "output_tokens": call["output_tokens"] or 0,
            "cached_input_tokens": call["cached_input_tokens"] or 0,
            "cost_usd": call["cost_nano"] if call["state"] == "settled" else 0,
            "unknown_calls": int(call["state"] == "unknown"),
            "unknown_cost_usd": call["cost_nano"] if call["state"] == "unknown" else 0}))
    for job in sql.rows("SELECT *, round(extract(epoch FROM started_at - greatest(id_time(id), run_at)) * 1000)"
                        " AS waited FROM jobs WHERE tenant = %s AND state IS NOT NULL", tenant):
        names = last.get(job["id"]) or {
            "hour": hour_of(job["ended_at"]), "day": str(job["ended_at"].astimezone(timezone.utc).date()),
            "workflow": job["workflow"], "model": None, "provider": None, "key": job["key_id"],
            "user": job["end_user"]}
        rows.append((names, {"jobs": 1, "queue_wait_ms": max(int(job["waited"] or 0), 0)}))
    return rows


def grouped(rows, by):
    groups = {}
    for names, sums in rows:
        group = groups.setdefault(tuple(names[name] for name in by), dict.fromkeys(SUMS, 0))
        for name, value in sums.items():
            group[name] += value
    return groups


def answered(answer, by):
    """An answer's rows in the same form; money in nano-dollars."""
    groups = {}
    for row in answer["data"]:
        assert set(row) == {*by, *SUMS}
        key = tuple(row[name] for name in by)
        assert key not in groups, f"{key} twice"
        groups[key] = {name: int(Decimal(row[name]) * NANO) if name.endswith("_usd") else row[name] for name in SUMS}
    return groups


def usage(api, by=(), **parameters):
    """All pages in one."""
    if by:
        parameters["group_by"] = ",".join(by)
    answer = api.get_json("/v1/usage", **parameters)
    page = answer
    while page["has_more"]:
        page = api.get_json("/v1/usage", after=page["next_after"], **parameters)
        answer["data"] += page["data"]
    return answer


# --- sums ----------------------------------------------------------------------------------------

def test_the_run_had_what_it_should(stack, spent):
    total = answered(usage(spent), ())[()]
    states = {row["state"] for row in stack.sql.rows("SELECT DISTINCT state FROM calls WHERE tenant = 'spender'")}
    assert {"settled", "released", "unknown"} <= states
    assert total["unknown_calls"] >= 2 and total["unknown_cost_usd"] > 0
    assert total["jobs"] == 19 and total["errors"] >= 4 and total["retries"] >= 2


@pytest.mark.parametrize("size", range(len(NAMES) + 1))
def test_every_grouping_is_the_ledger(stack, spent, size):
    truth = ledger(stack.sql, "spender")
    for by in itertools.combinations(NAMES, size):
        assert answered(usage(spent, by), by) == grouped(truth, by), by


def test_folded_or_not_it_is_the_same(stack, spent):
    wait_until(lambda: stack.sql.value("SELECT count(*) FROM usage_deltas") == 0, 20, "folding")
    truth = ledger(stack.sql, "spender")
    for by in itertools.chain(itertools.combinations(NAMES, 1), itertools.combinations(NAMES, 2), [NAMES]):
        assert answered(usage(spent, by), by) == grouped(truth, by), by
    bounds = {"from": soon(hours=-3), "to": soon(hours=1)}
    assert answered(usage(spent, ("user", "provider"), **bounds), ("user", "provider")) == \
        grouped(truth, ("user", "provider"))


def test_money_is_never_ahead_of_the_ledger_nor_behind(stack):
    """While jobs end, an answer lies between the ledger before and after it."""
    api = client_of(stack, "racer")
    settled = "SELECT coalesce(sum(cost_nano), 0) AS n FROM calls WHERE tenant = 'racer' AND state = 'settled'"
    for look in range(40):
        for _ in range(3):
            api.submit(chat(tokens=3), user="u")
        by = ("user",) if look % 2 else ()
        before = int(stack.sql.value(settled))
        answer = answered(usage(api, by), by)
        after = int(stack.sql.value(settled))
        assert before <= sum(row["cost_usd"] for row in answer.values()) <= after


def test_an_admin_sees_any_tenant_the_same_way(stack, spent):
    path = "/admin/v1/tenants/spender/usage"
    for by in ("", "workflow", "hour,user"):
        assert stack.admin().get_json(path, group_by=by)["data"] == spent.get_json("/v1/usage", group_by=by)["data"]


def test_a_day_is_the_tenants_own(stack):
    """Fourteen hours ahead of UTC, or twelve behind: one of them has another date now."""
    at = datetime.now(timezone.utc)
    zone, ahead = ("Pacific/Kiritimati", 14) if at.hour >= 12 else ("Etc/GMT+12", -12)
    api = client_of(stack, "far-away")
    answer = stack.admin().request("PUT", "/admin/v1/tenants/far-away/limits", json={"time_zone": zone})
    assert answer.status_code == 200, answer.text

    def has_own_day():
        api.run(chat(tokens=3))
        own = str((datetime.now(timezone.utc) + timedelta(hours=ahead)).date())
        return own in [row["day"] for row in usage(api, ("day",))["data"]]
    wait_until(has_own_day, 20, "the zone to be known")
    truth = ledger(stack.sql, "far-away")
    assert answered(usage(api, ("day", "hour")), ("day", "hour")) == grouped(truth, ("day", "hour"))


# --- unknown calls -------------------------------------------------------------------------------

def test_unknown_calls_are_listed_and_move_when_resolved(stack, spent):
    admin = stack.admin()
    path = "/admin/v1/tenants/spender/usage"
    before = answered(usage(spent), ())[()]
    all_of_them = admin.get_json(path, unknown="true", limit=100)
    assert len(all_of_them["data"]) == before["unknown_calls"]
    assert not all_of_them["has_more"]
    assert sum(Decimal(call["unknown_cost_usd"]) for call in all_of_them["data"]) * NANO == \
        before["unknown_cost_usd"]
    paged, after = [], None
    while True:
        page = admin.get_json(path, unknown="true", limit=1, **({"after": after} if after else {}))
        paged += page["data"]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert paged == all_of_them["data"]
    assert spent.get_json("/v1/usage", unknown="true", limit=100) == all_of_them

    call = paged[0]
    admin.post_json(f"/admin/v1/calls/{call['id']}/resolve", {"cost_usd": "0.000000123"})
    now = answered(usage(spent), ())[()]
    assert now["cost_usd"] == before["cost_usd"] + 123
    assert now["unknown_calls"] == before["unknown_calls"] - 1
    assert now["unknown_cost_usd"] == \
        before["unknown_cost_usd"] - int(Decimal(call["unknown_cost_usd"]) * NANO)
    truth = ledger(stack.sql, "spender")
    assert answered(usage(spent, NAMES), NAMES) == grouped(truth, NAMES)


# --- CSV -----------------------------------------------------------------------------------------

def test_csv_has_the_same_rows_and_no_formula(spent):
    answer = spent.request("GET", "/v1/usage", params={"group_by": "workflow,user"}, headers={"accept": "text/csv"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert rows[0] == ["workflow", "user", *SUMS]
    expected = [[str(row[name]) if row[name] is not None else "" for name in rows[0]]
                for row in usage(spent, ("workflow", "user"))["data"]]
    cells = {"'@cells": "@cells", "'-u": "-u"}
    assert [[cells.get(cell, cell) for cell in row] for row in rows[1:]] == expected
    assert "'@cells,'-u," in answer.text
    for row in rows[1:]:
        assert not any(cell[:1] in ("=", "+", "-", "@", "\t", "\r") for cell in row)


# --- whose, and what is refused ------------------------------------------------------------------

def test_a_tenant_sees_its_own_only(stack, spent):
    other = client_of(stack, "bystander")
    nothing = usage(other)["data"]
    assert len(nothing) == 1
    assert answered({"data": nothing}, ())[()] == dict.fromkeys(SUMS, 0)
    for by in NAMES:
        assert usage(other, (by,))["data"] == []
    assert other.get_json("/v1/usage", unknown="true")["data"] == []
    assert other.request("GET", "/admin/v1/tenants/spender/usage").status_code == 403
    assert stack.admin().request("GET", "/v1/usage").status_code == 403
    assert stack.admin().request("GET", "/admin/v1/tenants/nobody-at-all/usage").status_code == 404
    assert other.request("GET", "/v1/usage", params={"tenant": "spender"}).status_code == 400
    assert usage(spent)["data"] != nothing


BAD = [
    ("backwards", {"from": "2026-11-22", "to": "2026-11-21"}, "to"),
    ("empty", {"from": "2026-11-21", "to": "2026-11-21"}, "to"),
    ("a century", {"from": "1971-01-01", "to": "2071-01-01"}, "from"),
    ("before time", {"from": "1871-01-01"}, "from"),
    ("no day", {"from": "2026-02-30"}, "from"),
    ("no time", {"to": "now"}, "to"),
    ("mixed", {"from": "2026-11-20", "to": "2026-11-21T00:00:00Z"}, "to"),
    ("unknown name", {"group_by": "tenant"}, "group_by"),
    ("a name twice", {"group_by": "day,day"}, "group_by"),
    ("an empty name", {"group_by": "day,,hour"}, "group_by"),
    ("names in two places", [("group_by", "day"), ("group_by", "hour")], "group_by"),
    ("unknown parameter", {"groupby": "day"}, "groupby"),
    ("after of nothing", {"after": "x"}, "after"),
    ("unknown what", {"unknown": "yes"}, "unknown"),
    ("unknown by name", {"unknown": "true", "group_by": "day"}, "group_by"),
    ("after no call", {"unknown": "true", "after": "call_1"}, "after"),
    ("too many", {"unknown": "true", "limit": "101"}, "limit"),
    ("a limit of sums", {"limit": "5"}, "limit"),
]


@pytest.mark.parametrize("what,query,param", BAD, ids=[case[0] for case in BAD])
def test_bad_questions_are_refused_by_name(stack, what, query, param):
    answer = stack.admin().request("GET", "/admin/v1/tenants/default/usage", params=query)
    assert answer.status_code == 400, what
    error = answer.json()["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
