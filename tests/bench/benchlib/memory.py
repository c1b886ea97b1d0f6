# SPDX-License-Identifier: Apache-2.0
"""Memory under what is large: many open streams in one worker, one long upload."""

import json
import os
import subprocess

from .bench import wait_until
from .machine import rss_mb, status_mb

STREAMS = {"high": 1000, "normal": 700, "low": 300}  # every slot of one process, by its shares
UPLOAD_MB = 200
LINE_BYTES = 100 * 1024


def restart_worker_alone(bench):
    """One process, so that all streams are its own."""
    bench.stack.state["processes"] = 1
    bench.stack.save()
    bench.stack_command("restart", "worker-1")


def streams(bench):
    count = sum(STREAMS.values())
    bench.say(f"memory: {count} streams in one worker process")
    restart_worker_alone(bench)
    worker = bench.services("worker")[0]
    empty = rss_mb(worker)[0]
    for priority, part in STREAMS.items():
        bench.load({"request": bench.chat(40, hold="bench", after=20), "priority": priority}, part, 64)

    def are_open():
        stats = bench.call("GET", "/sim/stats", base=bench.env["SIMULATOR_URL"])
        return stats["holding"].get("bench", 0) >= count
    if not wait_until(are_open, 120, 0.1):
        raise SystemExit("bench: the streams did not all open within 120 s")
    full = rss_mb(worker)[0]
    bench.call("POST", "/sim/release/bench", {}, base=bench.env["SIMULATOR_URL"])
    bench.wait_idle()
    bench.title(f"{count} open streams in one worker process")
    bench.line("MB before / with them", empty, full, aim="< 150")


def write_upload(path):
    """Jobs for tomorrow: the upload is measured, not the work."""
    request = {"model": "single", "messages": [{"role": "user", "content": "x" * LINE_BYTES}]}
    line = json.dumps({"request": request, "run_at": tomorrow()}) + "\n"
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(UPLOAD_MB * 1024 * 1024 // len(line)):
            file.write(line)


def tomorrow():
    done = subprocess.run(["date", "-u", "-d", "+1 day", "+%Y-%m-%dT%H:%M:%SZ"],
                          stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def upload(bench):
    bench.say(f"memory: a bulk of {UPLOAD_MB} MB")
    path = os.path.join(bench.folder, "upload.ndjson")
    write_upload(path)
    pids = sorted(bench.services("producer")[0].process.family())
    before = {pid: status_mb(pid, "VmHWM") for pid in pids}
    done = subprocess.run(
        ["curl", "-sS", "-T", path, "-X", "POST", bench.env["NIGHTSHIFT_URL"] + "/v1/jobs/bulk",
         "-H", "authorization: Bearer " + bench.env["NIGHTSHIFT_API_KEY"],
         "-H", "content-type: application/x-ndjson", "-w", "%{time_total}"],
        stdout=subprocess.PIPE, text=True, check=True)
    *_, summary, seconds = done.stdout.strip().split("\n")
    grown = max(status_mb(pid, "VmHWM") - before[pid] for pid in pids)
    if json.loads(summary)["rejected"]:
        raise SystemExit(f"bench: {summary}")
    bench.title(f"a bulk upload of {UPLOAD_MB} MB")
    bench.line("MB a second", UPLOAD_MB / float(seconds))
    bench.line("producer's peak grew by MB", grown, aim="<= 32")


def measure(bench):
    streams(bench)
    upload(bench)  # leaves jobs for tomorrow behind
