# SPDX-License-Identifier: Apache-2.0
"""What limits and budgets cost: the same jobs for a tenant without any and for one with all of them,
none of which is ever reached, in turn in one session."""

import statistics

from .cost import job_round

TENANT = "bench-limits"
PAIRS = 3  # for each round of other questions: a shared machine's speed may differ by half from second to second
LIMITS = {"requests_per_minute": 1_000_000, "tokens_per_minute": 1_000_000_000,
          "max_concurrency": 100_000, "max_queued": 1_000_000,
          "budget_usd": {"day": "1000000", "month": "2000000", "total": "5000000"}}


def make_tenant(bench):
    admin = "NIGHTSHIFT_ADMIN_KEY"
    bench.call("POST", "/admin/v1/tenants", {"id": TENANT, "name": TENANT}, key=admin)
    key = bench.call("POST", f"/admin/v1/tenants/{TENANT}/keys",
                     {"name": "bench", "scopes": ["jobs:write", "jobs:read"]}, key=admin)["key"]
    bench.call("PUT", f"/admin/v1/tenants/{TENANT}/limits", LIMITS, key=admin)
    return key


def measure(bench):
    key = make_tenant(bench)
    job_round(bench)  # warm: plans, pages, connections, the book
    job_round(bench, key)
    without, limited = [], []
    rounds = PAIRS * bench.arguments.rounds
    for number in range(rounds):
        bench.say(f"limits: round {number + 1} of {rounds}")
        turns = [(without, None), (limited, key)]
        for rows, of_tenant in turns if number % 2 == 0 else reversed(turns):
            rows.append(job_round(bench, of_tenant))
    report(bench, without, limited)


def report(bench, without, limited):
    def median(rows, pick):
        return statistics.median(pick(row) for row in rows)

    bench.title(f"limits: {bench.arguments.jobs} jobs of a tenant without limits / with rates, "
                "concurrency and three budgets")
    bench.line("whole jobs a second", *(median(rows, lambda r: r["per_s"]) for rows in (without, limited)))
    cpu = {}
    for name in without[0]["cpu_ms"]:
        cpu[name] = [median(rows, lambda r, n=name: r["cpu_ms"][n]) for rows in (without, limited)]
        bench.line(f"{name}: CPU s of 1,000 jobs", *cpu[name])
    ratios = [b["cpu_ms"]["worker-1"] / a["cpu_ms"]["worker-1"] for a, b in zip(without, limited)]
    bench.line("worker CPU, limited / without", statistics.median(ratios), aim="<= 1.2, the median of rounds")
    bench.line("... in single rounds, least / most", min(ratios), max(ratios))
    redis = (cpu["redis"][1] - cpu["redis"][0]) * 2
    bench.line("Redis: % of a core at 2,000 a second", 100 * redis, aim="<= 15, admitted and settled")
