# SPDX-License-Identifier: Apache-2.0
"""What GET budget says, whether a job fits, and submits under the policy to fail."""

import json
from datetime import datetime, timezone
from decimal import Decimal

import pytest

from test_limits import error_of, later, limit, put
from testenv.api import chat
from testenv.limits import first_that_waits
from testenv.wait import wait_until

AMOUNTS = ("spent_usd", "reserved_usd", "unknown_usd", "free_usd", "limit_usd")


def by_scope(listing):
    """{(scope, window): line}, money as numbers."""
    assert listing["object"] == "list"
    lines = {}
    for shown in listing["data"]:
        line = dict(shown)
        assert set(line) == {"scope", "window", "resets_at", *AMOUNTS}, line
        for name in AMOUNTS:
            assert len(line[name].split(".")[1]) == 9
            line[name] = Decimal(line[name])
        lines[line["scope"], line["window"]] = line
    assert len(lines) == len(listing["data"])
    return lines


def budget_of(admin, tenant):
    return by_scope(admin.get_json(f"/admin/v1/tenants/{tenant.tenant}/budget"))


def key_id(admin, tenant):
    (key,) = admin.get_json(f"/admin/v1/tenants/{tenant.tenant}/keys")["data"]
    return key["id"]


def test_without_budgets_the_list_is_empty(admin, tenant):
    assert admin.get_json(f"/admin/v1/tenants/{tenant.tenant}/budget") == {"object": "list", "data": []}
    assert tenant.get_json("/v1/budget") == {"object": "list", "data": []}
    assert admin.client.get("/admin/v1/tenants/nobody-has-this/budget").status_code == 404
    assert tenant.client.get("/v1/budget?tenant=other").status_code == 400


def test_every_budget_is_listed_at_once_in_order(stack, admin, tenant):
    put(admin, f"/admin/v1/tenants/{tenant.tenant}/limits",
        {"budget_usd": {"day": "1", "month": "20", "total": "300.5"}, "time_zone": "Asia/Kolkata",
         "workflows": {"w": {"budget_usd": {"day": "2"}}}, "users": {"*": {"budget_usd": {"total": "3"}}},
         "models": {"single": {"budget_usd": {"month": "4"}}}})
    put(admin, f"/admin/v1/keys/{key_id(admin, tenant)}/limits", {"budget_usd": {"total": "5"}})
    listing = admin.get_json(f"/admin/v1/tenants/{tenant.tenant}/budget")
    assert [(line["scope"].split(":")[0], line["window"]) for line in listing["data"]] == [
        ("tenant", "day"), ("tenant", "month"), ("tenant", "total"), ("key", "total"), ("workflow", "day"),
        ("model", "month")]
    lines = by_scope(listing)
    assert lines["tenant", "total"]["limit_usd"] == lines["tenant", "total"]["free_usd"] == Decimal("300.5")
    assert lines["tenant", "total"]["resets_at"] is None
    zone = "((now() AT TIME ZONE 'Asia/Kolkata')::date + 1)::timestamp AT TIME ZONE 'Asia/Kolkata'"
    expected = stack.sql.rows(f"SELECT to_char(({zone}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS at")
    assert lines["tenant", "day"]["resets_at"] == expected[0]["at"]
    assert tenant.get_json("/v1/budget") == listing


def test_what_a_job_cost_is_spent_in_all_its_budgets(admin, tenant):
    put(admin, f"/admin/v1/tenants/{tenant.tenant}/limits",
        {"budget_usd": {"day": "1", "total": "2"}, "users": {"*": {"budget_usd": {"month": "3"}}}})
    job = tenant.run(chat(model="single"), user="u1")
    cost = Decimal(job["cost_usd"])
    assert job["state"] == "succeeded" and cost > 0

    def lines_when_settled():
        lines = budget_of(admin, tenant)
        return lines if lines["tenant", "day"]["spent_usd"] == cost else None

    lines = wait_until(lines_when_settled, 10, "the cost to be spent")
    for scope in (("tenant", "day"), ("tenant", "total"), ("user:u1", "month")):
        assert lines[scope]["spent_usd"] == cost
        assert lines[scope]["free_usd"] == lines[scope]["limit_usd"] - cost
        assert lines[scope]["reserved_usd"] == lines[scope]["unknown_usd"] == 0


def test_what_was_spent_before_a_budget_counts(admin, tenant):
    cost = Decimal(tenant.run(chat(model="single"), workflow="w")["cost_usd"])
    put(admin, f"/admin/v1/tenants/{tenant.tenant}/limits", {"workflows": {"w": {"budget_usd": {"day": "1"}}}})
    wait_until(lambda: budget_of(admin, tenant)["workflow:w", "day"]["spent_usd"] == cost, 10)


def test_budgets_in_shadow_are_not_listed(stack, admin, tenant):
    limit(stack, admin, tenant, {"budget_usd": {"total": "1"},
                                 "workflows": {"w": {"shadow": True, "budget_usd": {"total": "1"}}}})
    cost = Decimal(tenant.run(chat(model="single"), workflow="w")["cost_usd"])
    wait_until(lambda: budget_of(admin, tenant)["tenant", "total"]["spent_usd"] == cost, 10)
    assert list(budget_of(admin, tenant)) == [("tenant", "total")]


def test_models_with_unusual_names_are_listed_once_by_name(stack, admin, tenant):
    """Books have such names only as hashes."""
    for route, cost in (("a|b", 11), ("m\u00fcller", 22), ("of all | others", 33)):
        stack.sql.rows("INSERT INTO usage_deltas (tenant, day, hour, route, key_id, cost_nano) VALUES"
                       " (%s, current_date, date_trunc('hour', now()), %s, 'k', %s)", tenant.tenant, route, cost)
    put(admin, f"/admin/v1/tenants/{tenant.tenant}/limits",
        {"models": {"a|b": {"budget_usd": {"total": "1"}}, "m\u00fcller": {"budget_usd": {"total": "2"}},
                    "*": {"budget_usd": {"total": "3"}}}})

    def listed():
        lines = budget_of(admin, tenant)
        others = [scope for scope, _ in lines if scope.startswith("model:#")]
        return {scope: (line["limit_usd"], int(line["spent_usd"] * 10**9))
                for (scope, _), line in lines.items()} if len(others) == 1 and len(lines) == 3 else None
    lines = wait_until(listed, 20)
    assert lines["model:a|b"] == (1, 11) and lines["model:m\u00fcller"] == (2, 22)
    assert sorted(lines.values())[2] == (3, 33)


def test_a_job_says_what_it_may_cost_and_whether_it_fits(stack, admin, tenant):
    made = tenant.post_json("/v1/jobs", later(), 202)
    worst = Decimal(made["max_cost_usd"])
    assert worst > 0 and made["fits_now"] is None
    assert tenant.job(made["id"])["fits_now"] is True
    assert tenant.post_json("/v1/jobs", later(max_cost_usd="0.5"), 202)["max_cost_usd"] == "0.500000000"
    (line, *_) = tenant.get_json("/v1/jobs")["data"]
    assert line["max_cost_usd"] and "fits_now" not in line
    ended = tenant.run(chat(model="single"))
    assert ended["fits_now"] is None and ended["max_cost_usd"]
    limit(stack, admin, tenant, {"budget_usd": {"day": str(worst + Decimal(ended["cost_usd"]))}})
    wait_until(lambda: tenant.job(made["id"])["fits_now"] is True, 5)
    limit(stack, admin, tenant, {"budget_usd": {"day": str(worst)}})
    wait_until(lambda: tenant.job(made["id"])["fits_now"] is False, 5)


def test_the_same_202_is_given_again(tenant):
    body = later()
    first = tenant.client.post("/v1/jobs", json=body, headers={"idempotency-key": "same"})
    again = tenant.client.post("/v1/jobs", json=body, headers={"idempotency-key": "same"})
    assert first.status_code == 202 and first.content == again.content


@pytest.mark.parametrize("window", ["day", "month", "total"])
def test_under_the_policy_to_fail_a_submit_over_the_ceiling_is_refused(stack, admin, tenant, window):
    worst = Decimal(tenant.post_json("/v1/jobs", later(), 202)["max_cost_usd"])
    assert Decimal(tenant.run(chat(model="single"))["cost_usd"]) > 0
    limit(stack, admin, tenant, {"budget_usd": {window: str(worst)}, "budget_policy": "fail"})
    answer = tenant.client.post("/v1/jobs", json=later(), headers={"idempotency-key": "k"})
    error = error_of(answer, 429, "budget_exceeded")
    assert error["type"] == "insufficient_quota" and f"budget_usd.{window}" in error["message"]
    assert int(answer.headers["retry-after"]) >= 1
    compact = json.dumps(later(), separators=(",", ":")).encode() + b"\n"
    answers, summary = tenant.bulk([compact])
    assert answers[0]["error"]["code"] == "budget_exceeded" and summary["rejected"] == 1
    limit(stack, admin, tenant, {"budget_usd": {window: str(worst)}})
    assert tenant.client.post("/v1/jobs", json=later()).status_code == 202


def test_a_job_over_the_ceiling_waits_and_runs_when_it_is_raised(stack, admin, tenant):
    def request():
        return chat(model="single", tokens=40)

    worst = Decimal(tenant.post_json("/v1/jobs", later(request=request()), 202)["max_cost_usd"])
    limit(stack, admin, tenant, {"budget_usd": {"total": str(worst + Decimal("0.000001"))}})
    done = tenant.run(request())
    assert done["state"] == "succeeded" and Decimal(done["cost_usd"]) > Decimal("0.000001")
    waiting, ran = first_that_waits(tenant, "budget", request, "budget_usd.total")
    assert waiting["fits_now"] is False
    assert budget_of(admin, tenant)["tenant", "total"]["spent_usd"] == \
        sum((Decimal(job["cost_usd"]) for job in [done, *ran]), Decimal(0))
    raised = datetime.now(timezone.utc)
    put(admin, f"/admin/v1/tenants/{tenant.tenant}/limits", {"budget_usd": {"total": "5"}})
    ended = tenant.ended(waiting["id"], 10)
    assert ended["state"] == "succeeded"
    assert (datetime.fromisoformat(ended["calls"][0]["started_at"]) - raised).total_seconds() < 2.5


@pytest.mark.parametrize("spent,ceiling,gates", [("1", "1", 1), ("0.5", "1.2", 0)], ids=["behind a gate", "alone"])
def test_a_job_that_waits_for_a_day_is_told_when_the_tenants_day_ends(stack, admin, tenant, spent, ceiling, gates):
    """Parts of what a call may cost: nothing is left and the tenant's gate closes, or this job alone does not fit."""
    zone = "Pacific/Kiritimati"  # a date of its own for most of the day
    worst = Decimal(tenant.post_json("/v1/jobs", later(), 202)["max_cost_usd"])
    stack.sql.rows("INSERT INTO usage_deltas (tenant, day, hour, route, key_id, cost_nano) VALUES"
                   " (%s, (now() AT TIME ZONE %s)::date, date_trunc('hour', now()), 'single', 'k', %s)",
                   tenant.tenant, zone, int(worst * Decimal(spent) * 10**9))
    day = str((worst * Decimal(ceiling)).quantize(worst))
    limit(stack, admin, tenant, {"budget_usd": {"day": day}, "time_zone": zone})
    first, ran = first_that_waits(tenant, "budget", lambda: chat(model="single"), "budget_usd.day")
    assert ran == []
    assert stack.sql.value("SELECT count(*) FROM gates WHERE tenant = %s AND detail LIKE 'budget_usd.day%%'",
                           tenant.tenant) == gates  # a book made anew had one of its own
    second = tenant.submit(chat(model="single"))["id"]

    def waits_for_the_day():
        found = tenant.job(second)["waiting"]
        return found if found and found["reason"] == "budget" and "budget_usd.day" in found["detail"] else None
    waiting = wait_until(waits_for_the_day, 10, "the second to wait for the day's budget")
    resets_at = datetime.fromisoformat(budget_of(admin, tenant)["tenant", "day"]["resets_at"])
    for shown in (first["waiting"], waiting):
        assert abs((datetime.fromisoformat(shown["until"]) - resets_at).total_seconds()) < 1, (shown, resets_at)


def test_budgets_of_others_are_not_shown(stack, admin, tenant):
    put(admin, f"/admin/v1/tenants/{tenant.tenant}/limits", {"budget_usd": {"day": "1"}})
    assert len(tenant.get_json("/v1/budget")["data"]) == 1
    assert stack.api().client.get(f"/admin/v1/tenants/{tenant.tenant}/budget").status_code == 403
