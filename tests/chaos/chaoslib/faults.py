# SPDX-License-Identifier: Apache-2.0
"""The faults: what is broken when and for how long is a pure function of the seed; here it is done."""

import os
import random
import shutil
import signal
import threading
import time

DAEMONS = ("producer-1", "producer-2", "worker-1", "worker-2", "scheduler-1", "scheduler-2")
SERVERS = ("postgres", "redis", "broker")
# Kind, share, targets.
KINDS = (
    ("kill", 5, ("worker-1", "worker-2")),
    ("kill", 3, ("producer-1", "producer-2")),
    ("kill", 3, ("scheduler-1", "scheduler-2")),
    ("kill_child", 4, DAEMONS),
    ("freeze", 4, ("worker-1", "worker-2")),
    ("freeze", 1, ("producer-1", "producer-2")),
    ("freeze", 2, ("scheduler-1", "scheduler-2")),
    ("freeze", 2, SERVERS),
    ("kill", 3, ("redis",)),
    ("kill", 2, ("broker",)),
    ("wipe", 1, ("broker",)),
    ("kill", 3, ("postgres",)),
    ("kill_backend", 2, ("postgres",)),
    ("roll", 2, DAEMONS),
)
ONCE = (("kill", "worker-1"), ("freeze", "worker-2"), ("kill", "postgres"), ("kill", "redis"),
        ("wipe", "broker"), ("kill", "scheduler-1"), ("kill", "producer-1"), ("roll", "all"))


def plan_faults(seed, seconds):
    """[(second, kind, target, for_s)]: each important one once, in random order, then by share."""
    rng = random.Random(f"{seed}/faults")
    first = list(ONCE)
    rng.shuffle(first)
    plan, at = [], 2.0
    while at < seconds - 3:
        if first:
            kind, target = first.pop()
        else:
            kind, _, targets = rng.choices(KINDS, [share for _, share, _ in KINDS])[0]
            target = "all" if kind == "roll" else rng.choice(targets)
        for_s = rng.uniform(8, 20) if kind == "freeze" else rng.uniform(0.2, 4)
        plan.append((round(at, 2), kind, target, round(for_s, 2)))
        at += rng.uniform(1.5, 7)
    return plan


class Faults:
    """Carries a plan out, each fault in a thread; a target has one fault at a time, and daemons are
    not started while a server they need is away (a supervisor would try again)."""

    def __init__(self, stack, plan, say):
        self.stack = stack
        self.plan = plan
        self.say = say
        self.done = []      # (kind, target)
        self.starts = []    # {name, seconds, is_clean}: is_clean when nothing else was broken
        self.complaints = []
        self.busy = {name: threading.Lock() for name in DAEMONS + SERVERS}
        self.away = set()
        self.threads = []

    def run(self):
        began = time.monotonic()
        for at, kind, target, for_s in self.plan:
            threading.Event().wait(max(0, began + at - time.monotonic()))
            thread = threading.Thread(target=self.apply, args=(kind, target, for_s), daemon=True)
            self.threads.append(thread)
            thread.start()
        for thread in self.threads:
            thread.join(120)

    def apply(self, kind, target, for_s):
        try:
            if kind == "roll":
                self.roll()
            elif self.busy[target].acquire(blocking=False):
                try:
                    self.say(f"  {kind} {target} {for_s:.1f} s")
                    getattr(self, kind)(target, for_s)
                finally:
                    self.busy[target].release()
            else:
                return
            self.done.append((kind, target))
        except Exception as error:  # pylint: disable=broad-except
            self.say(f"  {kind} {target}: {error}")

    def kill(self, name, for_s):
        self.away.add(name)
        try:
            self.stack.kill(name)
            threading.Event().wait(for_s)
            self.start(name)
        finally:
            self.away.discard(name)

    def wipe(self, name, for_s):
        self.away.add(name)
        try:
            self.stack.kill(name)
            shutil.rmtree(os.path.join(self.stack.folder, "kafka"), ignore_errors=True)
            threading.Event().wait(for_s)
            self.start(name)
        finally:
            self.away.discard(name)

    def kill_child(self, name, _for_s):
        for pid in self.stack.children(name):
            os.kill(pid, signal.SIGKILL)

    def kill_backend(self, name, _for_s):
        """One server process dies, so Postgres restarts by itself and all sessions are lost."""
        pids = self.stack.children(name)
        if pids:
            os.kill(random.choice(pids), signal.SIGKILL)

    def freeze(self, name, for_s):
        self.stack.stop(name)
        threading.Event().wait(for_s)
        self.stack.cont(name)

    def roll(self):
        """Every daemon, one after the other, asked to end and started again."""
        self.say("  roll")
        for name in DAEMONS:
            with self.busy[name]:
                self.start(name)

    def start(self, name):
        if name in DAEMONS:
            self.wait_for_servers()
        before = set(self.away) - {name}
        began = time.monotonic()
        self.stack.restart(name)
        took = time.monotonic() - began
        is_clean = not before and not self.away - {name}
        self.say(f"    {name} answers after {took:.1f} s")
        self.starts.append({"name": name, "seconds": took, "is_clean": is_clean})

    def wait_for_servers(self):
        until = time.monotonic() + 90
        while self.away & set(SERVERS) and time.monotonic() < until:
            threading.Event().wait(0.05)

    def heal(self):
        """Everything runs when this returns."""
        self.away.clear()
        lines = self.stack.command("status", check=False).stdout.splitlines()
        states = {words[0]: words[1] for words in map(str.split, lines) if words}
        for name in SERVERS + DAEMONS:
            state = states[name]
            if state == "stopped":
                self.stack.cont(name)
            elif state == "dead":
                self.say(f"  {name} was dead when all was healed")
                self.start(name)
