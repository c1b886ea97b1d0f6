# SPDX-License-Identifier: Apache-2.0
"""Scene: SIGKILL to the worker that runs a job, and the job ends well all the same."""

import queue
import threading
import time

from .check import Missed, expect
from .fallback import show_calls
from .screen import TextFlow
from .stage import WORKERS, chat

TITLE = "A worker killed in the middle of a call"
DEADLINE_S = 40
PIECES = 20


def text(stage):
    return ("SIGKILL to the whole worker, no goodbye.  Its heartbeat goes stale after 6 s, the scheduler "
            "takes the job back, another worker runs it.  What the dead one had streamed is declared "
            "void by an event, its call is booked as unknown, and anything it might still write is "
            "refused: its token is old.")


def run(stage):
    job = stage.submit(request=chat("Tell me how a river is made. [[sim tokens=90 rate=30]]"),
                       priority="high", workflow="demo", metadata={"scene": "rescue"})
    seen = Rescue(stage, job["id"])
    try:
        seen.follow()
    finally:
        seen.flow.end()
    seen.check()
    show_calls(stage.screen, seen.final["calls"])
    stage.screen.good(f"succeeded {seen.ended_at - seen.killed_at:.1f} s after the kill: one result, two "
                      "rows in the ledger, the lost one never silently free")
    stage.stack("restart", seen.victim)


class Rescue:
    def __init__(self, stage, job):
        self.stage = stage
        self.job = job
        self.flow = TextFlow(stage.screen, "cyan")
        self.events = queue.Queue()
        self.pieces = {}  # by attempt
        self.victim = None
        self.killed_at = self.ended_at = None
        self.superseded = None
        self.final = None
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        """Puts events, then None or what went wrong: the scene has a clock to show meanwhile."""
        try:
            for event in self.stage.new_api().events(self.job, DEADLINE_S, idle_s=DEADLINE_S):
                self.events.put(event)
            self.events.put(None)
        except Missed as error:
            self.events.put(error)

    def follow(self):
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                event = self.events.get(timeout=0.1)
            except queue.Empty:
                self.show_wait()
                continue
            if event is None:
                return
            if isinstance(event, Missed):
                raise event
            self.take(event)
        raise Missed(f"the job to end within {DEADLINE_S} s", self.stage.api.job(self.job),
                     "scheduler-1")

    def show_wait(self):
        if self.killed_at and not self.superseded:
            self.flow.end()
            self.stage.screen.live(f"{self.victim} is dead; {time.monotonic() - self.killed_at:.1f} s "
                                   "without a heartbeat")

    def take(self, event):
        screen = self.stage.screen
        if event.name == "output.delta":
            self.pieces.setdefault(event.data["attempt"], []).append(event.data["text"])
            screen.clear_live()
            self.flow.add(event.data["text"])
            if not self.killed_at and len(self.pieces[event.data["attempt"]]) >= PIECES:
                self.kill()
            return
        self.flow.end()
        if event.name in ("job.started", "attempt.superseded", "job.retrying"):
            screen.row((event.name, 18, "yellow"), (describe(event.data), 40))
        if event.name == "attempt.superseded":
            self.superseded = event.data
        elif event.data.get("object") == "job" and event.name != "job.queued":
            self.final = event.data
            self.ended_at = event.at

    def kill(self):
        self.flow.end()
        self.victim = self.find_worker()
        self.stage.stack("kill", self.victim)
        self.killed_at = time.monotonic()
        self.stage.screen.line("    " + self.stage.screen.paint(f"SIGKILL to {self.victim}", "red",
                                                                "bold"))

    def find_worker(self):
        """The one with a slot in use: nothing else runs now."""
        names = [f"worker-{n + 1}" for n in range(WORKERS)]
        used = {name: self.stage.metric(name, "nightshift_slots", kind="used") for name in names}
        busy = [name for name in names if used[name] >= 1]
        expect(len(busy) == 1, "one worker with a slot in use", used, "worker-1")
        return busy[0]

    def check(self):
        final = self.final
        expect(final is not None, "a closing event", "none", "producer-1")
        expect(final["state"] == "succeeded" and final["crashes"] == 1,
               "the job to succeed after one crash",
               f"{final['state']}, crashes {final['crashes']}, {final['error']}", "scheduler-1")
        expect(self.superseded is not None, "event attempt.superseded", "none", "scheduler-1")
        states = [call["state"] for call in final["calls"]]
        expect(states == ["unknown", "settled"], "calls unknown, settled", states, "scheduler-1")
        last = final["calls"][-1]["attempt"]
        expect("".join(self.pieces.get(last, [])) == final["result"]["text"],
               "the deltas of the last attempt to be its text", self.pieces.get(last), "producer-1")


def describe(data):
    if "at" in data:
        data = {**data, "at": data["at"][11:19]}
    return "  ".join(f"{name} {value}" for name, value in data.items() if value is not None)
