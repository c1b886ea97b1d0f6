# SPDX-License-Identifier: Apache-2.0
"""What the test runners share: running programs a few at a time, and counts that add up."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COUNTS = os.path.join(ROOT, "build", "test", "counts")


class Counts:
    """Passed and failed cases of one part, and the names of what failed."""

    def __init__(self, part):
        self.part = part
        self.passed = 0
        self.failed = 0
        self.names = []
        self.lock = threading.Lock()

    def add(self, passed, failed, names=()):
        with self.lock:
            self.passed += passed
            self.failed += failed
            self.names += names

    def save(self):
        os.makedirs(COUNTS, exist_ok=True)
        with open(os.path.join(COUNTS, f"{self.part}.json"), "w", encoding="ascii") as file:
            json.dump({"passed": self.passed, "failed": self.failed, "names": self.names}, file)


def say(text):
    print(text, flush=True)


def tail(path, lines=60):
    with open(path, encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-lines:])


def run_logged(command, log_path, timeout_s, environment=None):
    """(exit code, seconds); everything the program says goes to log_path.  124: too slow."""
    os.makedirs(os.path.dirname(log_path), exist_ok=True)
    started = time.monotonic()
    with open(log_path, "wb") as log:
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                              env=environment, start_new_session=True) as child:
            try:
                code = child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, 9)
                child.wait()
                code = 124
    return code, time.monotonic() - started


def run_all(work, items, jobs=None):
    """work(item) for each, a few at a time, in order of start."""
    with ThreadPoolExecutor(jobs or min(os.cpu_count() or 1, 4)) as pool:
        list(pool.map(work, items))


def finish(counts):
    """Saves the counts; the process's exit code says whether all went well."""
    counts.save()
    sys.exit(1 if counts.failed else 0)
