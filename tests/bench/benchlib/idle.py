# SPDX-License-Identifier: Apache-2.0
"""An idle system: how fast it answers and picks up one job, what it holds and burns."""

import json
import time
from datetime import datetime

from .bench import DAEMONS
from .machine import percentile, rss_mb

ROUNDS = 200
STILL_S = 10


def received_times(bench):
    """When the simulator got each call, by the call's id."""
    times, after = {}, 0
    while True:
        page = bench.call("GET", f"/sim/calls?after={after}&limit=10000",
                          base=bench.env["SIMULATOR_URL"])
        for call in page["data"]:
            name = call["headers"].get("x-nightshift-call")
            times[name] = datetime.fromisoformat(call["received_at"]).timestamp()
        if not page["has_more"]:
            return times
        after = page["last_seq"]


def one_job(bench, body):
    begun = time.time()
    job = bench.call("POST", "/v1/jobs", body)
    answered = time.time()
    ended = bench.call("GET", f"/v1/jobs/{job['id']}?wait=30")
    if ended["state"] != "succeeded":
        raise SystemExit(f"bench: {json.dumps(ended)}")
    return 1000 * (answered - begun), answered, ended["calls"][0]["id"]


def pickup(bench):
    """202 in the client's hand to the call in the provider's: one machine, one clock."""
    body = {"request": bench.chat(1)}
    rounds = [one_job(bench, body) for _ in range(ROUNDS)]
    received = received_times(bench)
    waits = [1000 * (received[call] - answered) for _, answered, call in rounds]
    return [ms for ms, _, _ in rounds], waits


def measure(bench):
    bench.say("idle: one job at a time")
    submits, waits = pickup(bench)
    bench.say(f"idle: {STILL_S} s of nothing")
    before = bench.cpu()
    time.sleep(STILL_S)  # what is measured is that nothing happens
    after = bench.cpu()
    bench.title(f"idle system, {bench.arguments.broker} broker, {ROUNDS} jobs one at a time")
    bench.line("submit p50 / p99 ms", percentile(submits, 0.5), percentile(submits, 0.99))
    bench.line("pickup (202 to call) p50 / p99 ms", percentile(waits, 0.5),
               percentile(waits, 0.99), aim="< 10 / < 40")
    for service in bench.services(*DAEMONS):
        bench.line(f"{service.name}: largest process, MB", rss_mb(service)[0], aim="< 40")
        bench.line(f"{service.name}: % of a core, a process",
                   100 * (after[service.name] - before[service.name]) / STILL_S /
                   max(1, len(service.process.family()) - 1), aim="< 0.5")
