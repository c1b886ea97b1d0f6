# SPDX-License-Identifier: Apache-2.0
"""A stack to measure: up, down, requests, load from the programs beside this folder."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "deploy", "local"))
from stacklib.process import wait_until  # noqa: E402
from stacklib.stack import Stack  # noqa: E402

from .machine import cpu_seconds  # noqa: E402

PROGRAMS = os.path.join(ROOT, "build", "plain", "bench")
DAEMONS = ("producer", "worker", "scheduler")


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.folder = tempfile.mkdtemp(prefix="nightshift-bench-")
        self.stack = None
        self.env = {}

    def stack_command(self, *words):
        subprocess.run([os.path.join(ROOT, "deploy/local/stack"), *words, "--dir", self.folder],
                       check=True)

    def up(self):
        self.stack_command("up", "--broker", self.arguments.broker)
        self.stack = Stack(self.folder)
        with open(os.path.join(self.folder, "env"), encoding="utf-8") as file:
            self.env = dict(line.rstrip("\n").split("=", 1) for line in file)

    def down(self):
        subprocess.run([os.path.join(ROOT, "deploy/local/stack"), "down", "--dir", self.folder,
                        "--wipe"], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- asking -------------------------------------------------------------------------------

    def call(self, method, path, body=None, base=None, key="NIGHTSHIFT_API_KEY"):
        request = urllib.request.Request(
            (base or self.env["NIGHTSHIFT_URL"]) + path, method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": "Bearer " + self.env[key],
                     "content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def sql(self, query):
        done = subprocess.run(["psql", "-XAtq", self.env["DATABASE_URL"], "-c", query],
                              stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()

    def chat(self, tokens, model="single", **knobs):
        marker = " ".join([f"tokens={tokens}", *(f"{k}={v}" for k, v in knobs.items())])
        return {"model": model,
                "messages": [{"role": "user", "content": f"[[sim {marker}]] bench"}]}

    def file(self, name, value):
        path = os.path.join(self.folder, f"{name}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(value, file)
        return path

    def program(self, name, *words):
        done = subprocess.run([os.path.join(PROGRAMS, name), *words], stdout=subprocess.PIPE,
                              text=True, check=True)
        return json.loads(done.stdout)

    def load(self, body, requests, concurrency, key=None):
        """Submits of one body over and over."""
        return self.program("load", "--url", self.env["NIGHTSHIFT_URL"] + "/v1/jobs", "--body",
                            self.file("submit", body), "--key",
                            key or self.env["NIGHTSHIFT_API_KEY"],
                            "--requests", str(requests), "--concurrency", str(concurrency))

    # --- looking ------------------------------------------------------------------------------

    def services(self, *kinds):
        return [s for s in self.stack.services() if not kinds or s.name.split("-")[0] in kinds]

    def cpu(self):
        return {service.name: cpu_seconds(service) for service in self.stack.services()}

    def unfinished(self):
        return int(self.sql("SELECT (SELECT count(*) FROM queue) + (SELECT count(*) FROM runs)"))

    def wait_idle(self, seconds=300):
        if not wait_until(lambda: self.unfinished() == 0, seconds, 0.05):
            raise SystemExit(f"bench: {self.unfinished()} jobs did not end within {seconds} s")
