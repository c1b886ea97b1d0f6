# SPDX-License-Identifier: Apache-2.0
"""Scene: five hundred jobs in one upload, and how the queue empties."""

import time

from .api import TERMINAL
from .check import Missed, expect
from .stage import SLOTS, WORKERS, chat

TITLE = "Five hundred jobs in one upload"
COUNT = 500
DEADLINE_S = 45
WORKFLOW = "demo-bulk"
TOPICS = ("the tides", "a lighthouse", "sleep", "copper", "bread", "maps", "owls", "clockwork")


def text(stage):
    return (f"POST /v1/jobs/bulk takes NDJSON and answers line by line.  The demo's {WORKERS} workers "
            f"have {SLOTS} slots each, so most jobs wait their turn; one in twenty meets a provider "
            "that fails the first time.")


def line(number):
    priority = "high" if number % 10 == 0 else "low" if number % 10 == 9 else "normal"
    marker = f"[[sim tokens={20 + number % 30} rate=40 delay_ms={number * 37 % 300}]]"
    model = "fast"
    if number % 20 == 7:
        marker += " [[sim status=503 times=1]]"
        model = "single"
    topic = TOPICS[number % len(TOPICS)]
    return {"request": chat(f"Haiku number {number}, about {topic}. {marker}", model=model),
            "priority": priority, "workflow": WORKFLOW, "metadata": {"number": str(number)},
            "idempotency_key": f"demo-bulk-{number}"}


def run(stage):
    screen = stage.screen
    began = time.monotonic()
    answers = stage.api.bulk([line(number) for number in range(COUNT)])
    upload_s = time.monotonic() - began
    expect(answers and answers[-1] == {"object": "bulk.summary", "accepted": COUNT, "rejected": 0},
           f"a summary of {COUNT} accepted lines", answers[-1:] or "no line", "producer-1")
    jobs = [answer["id"] for answer in answers[:-1]]
    expect(len(set(jobs)) == COUNT, f"{COUNT} ids", len(set(jobs)), "producer-1")
    stage.jobs += jobs
    screen.good(f"{COUNT} jobs accepted and stored in {upload_s * 1000:.0f} ms "
                f"({COUNT / upload_s:,.0f} a second)")
    states = watch(stage, jobs, began)
    expect(states == {"succeeded": COUNT}, f"{COUNT} jobs to succeed", states, "worker-1")
    seconds = time.monotonic() - began
    screen.good(f"all {COUNT} succeeded in {seconds:.1f} s ({COUNT / seconds:.0f} jobs a second with "
                f"{WORKERS * SLOTS} slots)")


def watch(stage, jobs, began):
    """Shows the bar until every job has ended; how many ended in which state."""
    pages = Pages(stage.api, jobs)
    while True:
        states = pages.read()
        done = sum(count for state, count in states.items() if state in TERMINAL)
        seconds = time.monotonic() - began
        stage.screen.live(f"{stage.screen.bar(done, COUNT)} {done:3}/{COUNT}   "
                          f"running {states.get('running', 0):3}   queued {states.get('queued', 0):3}   "
                          f"{done / seconds:3.0f}/s   {seconds:.1f} s", is_last=done == COUNT)
        if done == COUNT:
            return states
        if seconds > DEADLINE_S:
            raise Missed(f"all {COUNT} jobs to end within {DEADLINE_S} s", states, "worker-1")
        time.sleep(0.15)  # between two looks at the API


class Pages:
    """The states of jobs by `GET /v1/jobs`, oldest first; pages whose jobs all ended are not read
    again."""

    def __init__(self, api, jobs):
        self.api = api
        self.jobs = set(jobs)
        self.states = dict.fromkeys(jobs, "queued")

    def read(self):
        ids = sorted(self.jobs)
        for start in range(0, len(ids), 100):
            if all(self.states[job] in TERMINAL for job in ids[start:start + 100]):
                continue
            after = {"after": ids[start - 1]} if start else {}
            page = self.api.list(workflow=WORKFLOW, order="asc", limit=100, **after)
            self.states.update((job["id"], job["state"]) for job in page["data"]
                               if job["id"] in self.jobs)
        counts = {}
        for state in self.states.values():
            counts[state] = counts.get(state, 0) + 1
        return counts
