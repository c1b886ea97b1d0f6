# SPDX-License-Identifier: Apache-2.0
"""Scene: the closing table, from the job objects, checked against the simulator's own log."""

import concurrent.futures
import decimal
import json
import os
import threading

from .api import moment
from .check import expect
from .stage import ROOT

TITLE = "The bill"
THREADS = 4
MILLION = 1000000


def text(stage):
    return ("From the job objects and their ledger rows, as any client reads them.  The simulator kept a "
            "log of its own: the two must agree call by call.")


def run(stage):
    jobs = read_jobs(stage)
    calls = [call for job in jobs for call in job["calls"]]
    show_totals(stage.screen, jobs, calls)
    show_waits(stage.screen, jobs)
    check_states(jobs)
    check_calls(stage, calls)
    check_cost(calls)
    stage.screen.good("the sum of tokens × price is the cost, to the nano-dollar")


def read_jobs(stage):
    """Every job by the single-job read, the only one that tells the calls."""
    own = threading.local()

    def read(job):
        if not hasattr(own, "api"):
            own.api = stage.new_api()
        return own.api.job(job)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(read, stage.jobs))


def tally(jobs):
    """(calls to the provider of the call before, calls to another one)."""
    retries = fallbacks = 0
    for job in jobs:
        for before, call in zip(job["calls"], job["calls"][1:]):
            if call["provider"] == before["provider"]:
                retries += 1
            else:
                fallbacks += 1
    return retries, fallbacks


def money(jobs, name):
    return sum((decimal.Decimal(job[name]) for job in jobs), decimal.Decimal(0))


def show_totals(screen, jobs, calls):
    retries, fallbacks = tally(jobs)
    tokens_in = sum(job["usage"]["input_tokens"] for job in jobs if job["usage"])
    tokens_out = sum(job["usage"]["output_tokens"] for job in jobs if job["usage"])
    screen.line()
    for name, value in (("jobs", f"{len(jobs):,}"), ("provider calls", f"{len(calls):,}"),
                        ("retries", f"{retries:,}"), ("fallbacks", f"{fallbacks:,}"),
                        ("tokens in + out", f"{tokens_in:,} + {tokens_out:,}"),
                        ("cost", f"${money(jobs, 'cost_usd')}"),
                        ("cost unknown, at most", f"${money(jobs, 'unknown_cost_usd')}")):
        screen.row((name, 24, "dim"), (value, -26, "bold"))
    screen.line()


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def show_waits(screen, jobs):
    screen.row(("priority", 10, "dim"), ("jobs", -5, "dim"), ("queue wait p50", -15, "dim"),
               ("p99", -8, "dim"), ("whole p50", -11, "dim"), ("p99", -8, "dim"))
    for priority in ("high", "normal", "low", "all"):
        some = [job for job in jobs if priority in ("all", job["priority"])]
        if not some:
            continue
        waits = [moment(job["started_at"] or job["ended_at"]) - moment(job["created_at"])
                 for job in some]
        wholes = [moment(job["ended_at"]) - moment(job["created_at"]) for job in some]
        screen.row((priority, 10), (str(len(some)), -5), (f"{percentile(waits, 0.5):.3f} s", -15),
                   (f"{percentile(waits, 0.99):.3f} s", -8), (f"{percentile(wholes, 0.5):.3f} s", -11),
                   (f"{percentile(wholes, 0.99):.3f} s", -8))
    screen.line()


def check_states(jobs):
    states = {}
    for job in jobs:
        states[job["state"]] = states.get(job["state"], 0) + 1
    expect(states == {"succeeded": len(jobs) - 1, "cancelled": 1},
           "every job ended: all succeeded but the cancelled one", states, "scheduler-1")


def check_calls(stage, calls):
    """Every call in the ledger reached the simulator, and none that is not there."""
    ledger = {call["id"] for call in calls if call["provider"] != "real"}
    log = [call for call in stage.simulator("/sim/calls?limit=10000")["data"]
           if call["headers"].get("x-nightshift-call") not in stage.other_calls]
    named = [call["headers"].get("x-nightshift-call") for call in log]
    if all(named):
        expect(sorted(named) == sorted(ledger), f"{len(ledger)} calls of the ledger in the simulator's log",
               f"{len(named)}; only there: {sorted(set(named) - ledger)[:3]}, only in the ledger: "
               f"{sorted(ledger - set(named))[:3]}", "worker-1")
    else:
        expect(len(log) == len(ledger), f"{len(ledger)} calls in the simulator's log", len(log), "worker-1")
    stage.screen.good(f"{len(ledger)} calls in the ledger, the same {len(log)} in the simulator's log")


def check_cost(calls):
    with open(os.path.join(ROOT, "deploy/local/prices.json"), encoding="utf-8") as file:
        prices = json.load(file, parse_float=decimal.Decimal)["openai"]
    for call in calls:
        if call["state"] != "settled" or call["model"] not in prices or call["provider"] == "real":
            continue
        price = prices[call["model"]]
        exact = (decimal.Decimal(price["input_per_mtok"]) * (call["input_tokens"] or 0)
                 + decimal.Decimal(price["output_per_mtok"]) * (call["output_tokens"] or 0)) / MILLION
        rounded = exact.quantize(decimal.Decimal("1e-9"), rounding=decimal.ROUND_CEILING)
        expect(decimal.Decimal(call["cost_usd"]) == rounded, f"{call['id']} to cost ${rounded}",
               f"${call['cost_usd']}", "worker-1")
