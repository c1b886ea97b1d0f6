# SPDX-License-Identifier: Apache-2.0
"""What every scene stands on: the stack, a client with a tenant's key, the webhook sink, the screen."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request

from .api import Api
from .check import Missed, expect
from .providers import demo_configuration, real_service
from .sink import ENDPOINT, Sink
from .verifier import Verifier

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
STACK = os.path.join(ROOT, "deploy", "local", "stack")
WORKERS = 2
SLOTS = 40  # per worker: few, so that a queue is to be seen
START_TIMEOUT_S = 90


class Stage:
    def __init__(self, folder, screen):
        self.folder = folder
        self.screen = screen
        self.real = real_service()
        self.env = {}
        self.api = None
        self.admin = None
        self.sink = None
        self.endpoint_secret = None
        self.jobs = []  # every job the demo submitted as its first tenant
        self.other_calls = set()  # calls of other tenants' jobs
        self.is_up = False
        self.verifier = Verifier(os.path.join(os.path.dirname(folder), "demo-venv"))

    # --- the stack ------------------------------------------------------------------------------

    def stack(self, *arguments, timeout_s=60):
        done = subprocess.run([sys.executable, STACK, *arguments, "--dir", self.folder],
                              capture_output=True, text=True, timeout=timeout_s, check=False,
                              stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Missed(f"`stack {' '.join(arguments)}` to succeed",
                         (done.stderr or done.stdout).strip())

    def clear(self):
        """What a demo that was killed may have left."""
        if os.path.exists(os.path.join(self.folder, "state.json")):
            self.stack("down", "--wipe")
        shutil.rmtree(self.folder, ignore_errors=True)

    def up(self):
        self.clear()
        os.makedirs(self.folder)
        config = os.path.join(self.folder, "demo.yaml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(demo_configuration(ROOT, SLOTS, self.real))
        self.is_up = True  # from here on there may be something to stop
        began = time.monotonic()
        command = [sys.executable, STACK, "up", "--dir", self.folder, "--broker", "embedded",
                   "--config", config, "--workers", str(WORKERS), "--processes", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              stdin=subprocess.DEVNULL) as child:
            try:
                self.watch_start(child, began)
            except BaseException:
                child.kill()
                raise
            output = child.stdout.read()
        expect(child.returncode == 0, "the stack to start", output.strip() or "no reason given")
        self.read_environment()
        self.api = self.new_api()
        self.admin = Api(self.env["NIGHTSHIFT_URL"], self.env["NIGHTSHIFT_ADMIN_KEY"])
        return time.monotonic() - began

    def watch_start(self, child, began):
        parts = ["postgres", "redis", "broker", "simulator", "producer-1", "worker-1", "worker-2",
                 "scheduler-1"]
        while child.poll() is None:
            there = [p for p in parts if os.path.exists(self.path("pid", f"{p}.pid"))]
            self.screen.live(f"starting {there[-1] if there else 'the stack'} "
                             f"({len(there)}/{len(parts)}, {time.monotonic() - began:.0f} s)")
            if time.monotonic() - began > START_TIMEOUT_S:
                raise Missed(f"the stack to start within {START_TIMEOUT_S} s", f"only {there}",
                             there[-1] if there else None)
            time.sleep(0.1)

    def down(self):
        """Stops everything and removes the data; after a failure the logs stay."""
        if self.is_up:
            self.is_up = False
            self.stack("down", "--wipe", timeout_s=120)
        if self.sink:
            self.sink.close()
            self.sink = None

    def keep_logs(self):
        kept = self.folder + "-failed-logs"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.path("log"), kept)
        return kept

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def log_tail(self, name, lines=15):
        try:
            with open(self.path("log", f"{name}.log"), encoding="utf-8", errors="replace") as file:
                return file.readlines()[-lines:]
        except FileNotFoundError:
            return []

    def read_environment(self):
        with open(self.path("env"), encoding="utf-8") as file:
            self.env = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)

    # --- clients --------------------------------------------------------------------------------

    def new_api(self):
        return Api(self.env["NIGHTSHIFT_URL"], self.env["NIGHTSHIFT_API_KEY"])

    def open_sink(self):
        self.sink = Sink()
        answer = self.admin.call("POST", "/admin/v1/tenants/default/endpoints",
                                 {"url": self.sink.url(ENDPOINT)}, expected=(201,))[2]
        self.endpoint_secret = answer["secret"]

    def submit(self, **body):
        job = self.api.submit(body)
        self.jobs.append(job["id"])
        return job

    # --- what metrics and the simulator say -----------------------------------------------------

    def metric(self, daemon, name, **labels):
        """The sum of a metric's samples with these labels, of one daemon; 0 when it has none."""
        order = ["producer-1", *(f"worker-{n + 1}" for n in range(WORKERS)), "scheduler-1"]
        url = self.env["METRICS_URLS"].split(",")[order.index(daemon)]
        total = 0.0
        for line in fetch(url).splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.split("{")[0] == name and all(f'{k}="{v}"' in sample
                                                    for k, v in labels.items()):
                total += float(value)
        return total

    def simulator(self, path):
        return json.loads(fetch(self.env["SIMULATOR_URL"] + path))


def fetch(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def chat(text, model="fast", **more):
    """A Chat Completions body of one message."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}
