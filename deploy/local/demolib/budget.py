# SPDX-License-Identifier: Apache-2.0
"""Scene: a tenant with a small budget and more jobs than it pays for."""

import decimal
import time

from .api import TERMINAL, Api
from .check import Missed, expect
from .stage import chat

TITLE = "Three hundred jobs, and money for a third of them"
TENANT = "demo-budget"
COUNT = 300
CEILING = decimal.Decimal("0.003")
RAISED = decimal.Decimal("0.100")
STOP_S = 30
RISE_S = 45
STILL_LOOKS = 8  # so often the same, and the meter has stopped


def text(stage):
    return (f"A tenant may spend ${CEILING} a day.  The worst case of each call is reserved before its bytes "
            "leave and settled after it, so that at no moment, over any number of workers, can the calls "
            "in flight pass the ceiling together.  What does not fit waits in the queue.")


def run(stage):
    tenant = make_tenant(stage)
    answers = tenant.bulk([{"request": chat(f"Line {number} of the ledger. [[sim tokens=40 rate=80]]",
                                            max_tokens=50), "workflow": "demo-money"}
                           for number in range(COUNT)])
    expect(answers and answers[-1].get("accepted") == COUNT, f"{COUNT} accepted lines",
           answers[-1:] or "no line", "producer-1")
    jobs = [answer["id"] for answer in answers[:-1]]
    done = climb(stage, tenant)
    show_waiting(stage, tenant, jobs)
    set_ceiling(stage, RAISED)
    began = time.monotonic()
    finish(stage, tenant)
    stage.screen.good(f"the ceiling raised to ${RAISED}: the other {COUNT - done} ran on and ended in "
                      f"{time.monotonic() - began:.1f} s")
    show_bill(stage, [tenant.job(job) for job in jobs])


def make_tenant(stage):
    stage.admin.call("POST", "/admin/v1/tenants", {"id": TENANT, "name": "Small budget"}, expected=(201,))
    key = stage.admin.call("POST", f"/admin/v1/tenants/{TENANT}/keys",
                           {"name": "demo", "scopes": ["jobs:write", "jobs:read"]}, expected=(201,))[2]["key"]
    set_ceiling(stage, CEILING)
    return Api(stage.env["NIGHTSHIFT_URL"], key)


def set_ceiling(stage, dollars):
    stage.admin.call("PUT", f"/admin/v1/tenants/{TENANT}/limits", {"budget_usd": {"day": str(dollars)}})


def look(stage, tenant):
    """(the day's account, how many jobs are in which state)."""
    accounts = tenant.call("GET", "/v1/budget")[2]["data"]
    day = [account for account in accounts if account["scope"] == "tenant" and account["window"] == "day"]
    expect(len(day) == 1, "one account of the tenant's day", accounts, "producer-1")
    states, after = {}, {}
    while True:
        page = tenant.list(limit=100, order="asc", **after)
        for job in page["data"]:
            states[job["state"]] = states.get(job["state"], 0) + 1
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    booked = sum(decimal.Decimal(day[0][name]) for name in ("spent_usd", "reserved_usd", "unknown_usd"))
    limit = decimal.Decimal(day[0]["limit_usd"])
    expect(booked <= limit, f"never more than ${limit} booked", f"${booked}", "worker-1")
    return booked, limit, decimal.Decimal(day[0]["reserved_usd"]), states


def meter(stage, booked, limit, states, is_last=False):
    full = int(1000 * booked / limit)
    done = states.get("succeeded", 0)
    stage.screen.live(f"{stage.screen.bar(full, 1000)} ${booked:.6f} of ${limit:.6f}   done {done:3}   "
                      f"running {states.get('running', 0):3}   queued {states.get('queued', 0):3}", is_last)


def climb(stage, tenant):
    """Until the meter stands still below the ceiling; how many jobs were paid for."""
    began, before, still = time.monotonic(), None, 0
    while True:
        booked, limit, reserved, states = look(stage, tenant)
        facts = (booked, reserved, states.get("succeeded", 0))
        is_at_rest = reserved == 0 and states.get("succeeded", 0) > 0 and facts == before
        still = still + 1 if is_at_rest else 0
        before = facts
        meter(stage, booked, limit, states, is_last=still == STILL_LOOKS)
        if still == STILL_LOOKS:
            break
        if time.monotonic() - began > STOP_S:
            raise Missed(f"the meter to stop within {STOP_S} s", f"{facts}, {states}", "worker-1")
        time.sleep(0.15)  # between two looks at the API
    done = states["succeeded"]
    expect(done < COUNT, f"fewer than {COUNT} jobs to be paid for", states, "worker-1")
    stage.screen.good(f"stopped at ${booked:.9f} of ${limit:.9f}: {done} jobs done, {COUNT - done} wait, "
                      "none failed")
    return done


def show_waiting(stage, tenant, jobs):
    waiting = [job for job in map(tenant.job, jobs) if job["state"] == "queued"]
    reasons = {job["waiting"]["reason"] for job in waiting}
    expect(reasons == {"budget"}, "jobs that wait to say that they wait for the budget", reasons,
           "scheduler-1")
    why = waiting[0]["waiting"]
    stage.screen.row((f"{waiting[0]['id']}  {why['reason']} until {why['until']}", 10, "dim"))
    stage.screen.row((why["detail"] or "", 10, "dim"))


def finish(stage, tenant):
    began = time.monotonic()
    while True:
        booked, limit, _, states = look(stage, tenant)
        done = sum(count for state, count in states.items() if state in TERMINAL)
        meter(stage, booked, limit, states, is_last=done == COUNT)
        if done == COUNT:
            break
        if time.monotonic() - began > RISE_S:
            raise Missed(f"all {COUNT} jobs to end within {RISE_S} s", states, "scheduler-1")
        time.sleep(0.15)  # between two looks at the API
    expect(states == {"succeeded": COUNT}, f"{COUNT} jobs to succeed", states, "worker-1")


def show_bill(stage, jobs):
    """The usage report, and the ledger beside it."""
    calls = [call for job in jobs for call in job["calls"]]
    stage.other_calls.update(call["id"] for call in calls)
    ledger = sum(decimal.Decimal(call["cost_usd"]) for call in calls)
    usage = stage.admin.call("GET", f"/admin/v1/tenants/{TENANT}/usage")[2]["data"]
    expect(len(usage) == 1, "one row of usage", usage, "producer-1")
    row = usage[0]
    stage.screen.line()
    stage.screen.row(("", 10), ("jobs", -6, "dim"), ("calls", -6, "dim"), ("tokens in", -10, "dim"),
                     ("tokens out", -10, "dim"), ("cost", -14, "dim"))
    stage.screen.row(("usage", 10), (f"{row['jobs']:,}", -6), (f"{row['calls']:,}", -6),
                     (f"{row['input_tokens']:,}", -10), (f"{row['output_tokens']:,}", -10),
                     (f"${row['cost_usd']}", -14, "bold"))
    stage.screen.row(("ledger", 10), (f"{len(jobs):,}", -6), (f"{len(calls):,}", -6),
                     (f"{sum(call['input_tokens'] for call in calls):,}", -10),
                     (f"{sum(call['output_tokens'] for call in calls):,}", -10), (f"${ledger}", -14, "bold"))
    stage.screen.line()
    expect(decimal.Decimal(row["cost_usd"]) == ledger and row["calls"] == len(calls),
           f"the usage report to say ${ledger} for {len(calls)} calls", row, "scheduler-1")
    stage.screen.good("the usage report is the ledger's sum, to the nano-dollar")
