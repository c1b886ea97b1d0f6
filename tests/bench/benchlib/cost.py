# SPDX-License-Identifier: Apache-2.0
"""What a job costs beside a bare loop that makes the same calls, in turn in one session."""

import statistics
import time

from .bench import DAEMONS
from .machine import fsync_ms

STAGES = (
    ("submit to claim", "extract(epoch FROM j.started_at - id_time(j.id)) * 1000"),
    ("claim to call", "extract(epoch FROM c.started_at - j.started_at) * 1000"),
    ("call to first token", "c.first_token_ms"),
    ("first to last token", "c.duration_ms - c.first_token_ms"),
    ("last token to stored end",
     "extract(epoch FROM j.ended_at - c.started_at) * 1000 - c.duration_ms"),
    ("the whole job", "extract(epoch FROM j.ended_at - id_time(j.id)) * 1000"),
)


def bare_round(bench):
    """The same calls without a queue: one process, streaming, straight at the provider."""
    request = dict(bench.chat(bench.arguments.tokens, "gpt-4o-mini"), stream=True,
                   stream_options={"include_usage": True})
    return bench.program("bare", "--url", bench.env["SIMULATOR_URL"] + "/main/v1/chat/completions",
                         "--body", bench.file("bare", request), "--requests",
                         str(bench.arguments.jobs), "--concurrency",
                         str(bench.arguments.concurrency))


def stages(bench, first):
    columns = ", ".join(f"percentile_cont({part}) WITHIN GROUP (ORDER BY {value})"
                        for _, value in STAGES for part in ("0.5", "0.99"))
    row = bench.sql(f"SELECT {columns} FROM jobs j JOIN calls c ON c.job = j.id"
                    f" WHERE j.id >= '{first}'").split("|")
    values = [float(value) for value in row]
    return {name: (values[2 * i], values[2 * i + 1]) for i, (name, _) in enumerate(STAGES)}


def job_round(bench, key=None):
    jobs = bench.arguments.jobs
    first = bench.sql("SELECT id_floor(clock_timestamp())")
    before, began = bench.cpu(), time.monotonic()
    submit = bench.load({"request": bench.chat(bench.arguments.tokens)}, jobs,
                        bench.arguments.concurrency, key)
    bench.wait_idle()
    elapsed, after = time.monotonic() - began, bench.cpu()
    succeeded = int(bench.sql(
        f"SELECT count(*) FROM jobs WHERE id >= '{first}' AND state = 'succeeded'"))
    if succeeded != jobs:
        raise SystemExit(f"bench: {succeeded} of {jobs} jobs succeeded")
    return {"per_s": jobs / elapsed, "submit": submit, "stages": stages(bench, first),
            "cpu_ms": {name: 1000 * (after[name] - before[name]) / jobs for name in after}}


def measure(bench):
    bare, jobs, disk = [], [], []
    job_round(bench)  # warm: plans, pages, connections
    for number in range(bench.arguments.rounds):
        bench.say(f"cost: round {number + 1} of {bench.arguments.rounds}")
        disk.append(fsync_ms(bench.folder))
        bare.append(bare_round(bench))
        jobs.append(job_round(bench))
    report(bench, bare, jobs, statistics.median(disk))


def report(bench, bare, jobs, disk_ms):
    def median(rows, pick):
        return statistics.median(pick(row) for row in rows)

    names = list(jobs[0]["cpu_ms"])
    cpu = {name: median(jobs, lambda r, n=name: r["cpu_ms"][n]) for name in names}
    bare_cpu = median(bare, lambda r: r["cpu_ms"])
    worker = sum(cpu[n] for n in names if n.startswith("worker"))
    own = sum(cpu[n] for n in names if n.split("-")[0] in DAEMONS)
    whole = sum(cpu[n] for n in names if n != "simulator")
    bench.title(f"cost: {bench.arguments.jobs} jobs of {bench.arguments.tokens} tokens, "
                f"{bench.arguments.concurrency} at once, {bench.arguments.broker} broker, "
                f"median of {bench.arguments.rounds} rounds")
    bench.line("submits a second", median(jobs, lambda r: r["submit"]["per_s"]))
    bench.line("submit p50 / p99 ms", median(jobs, lambda r: r["submit"]["p50_ms"]),
               median(jobs, lambda r: r["submit"]["p99_ms"]))
    bench.line("whole jobs a second", median(jobs, lambda r: r["per_s"]))
    bench.line("fdatasync of the disk, ms", disk_ms)
    bench.title("where the time of a job goes, ms (p50 / p99)")
    for name, _ in STAGES:
        bench.line(name, median(jobs, lambda r, n=name: r["stages"][n][0]),
                   median(jobs, lambda r, n=name: r["stages"][n][1]))
    bench.title("CPU seconds of 1,000 jobs")
    for name in names:
        bench.line(name, cpu[name])
    bench.line("bare loop", bare_cpu)
    bench.line("all but the simulator", whole)
    bench.title("ratios of CPU")
    bench.line("worker / bare loop", worker / bare_cpu, aim="<= 2.5")
    bench.line("all daemons / bare loop", own / bare_cpu)
