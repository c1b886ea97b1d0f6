# SPDX-License-Identifier: Apache-2.0
"""The one-machine stack as an object: started, killed, stopped, its clients and its logs."""

import os
import re
import shutil
import subprocess
import tempfile

from .api import Api
from .simulator import Simulator
from .sql import Sql

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
SCRIPT = os.path.join(ROOT, "deploy", "local", "stack")
CONFIG = os.path.join(ROOT, "tests", "integration", "nightshift.yaml")
PROGRAMS = os.path.abspath(os.environ.get("NIGHTSHIFT_BIN") or os.path.join(ROOT, "build"))
SANITIZER = re.compile(r"(ERROR: \w+Sanitizer|runtime error:|WARNING: ThreadSanitizer)")
COMMAND_LIMIT_S = 180


class StackFailed(RuntimeError):
    pass


def program(name):
    return os.path.join(PROGRAMS, name)


class Stack:
    """One stack in a folder of its own.  Use as a context, or up() and down()."""

    def __init__(self, broker="kafka", config=CONFIG, producers=1, workers=1, schedulers=1,
                 processes=1, folder=None):
        self.folder = folder or tempfile.mkdtemp(prefix="nightshift-test-")
        self.options = ["--broker", broker, "--bin", PROGRAMS, "--processes", str(processes),
                        "--producers", str(producers), "--workers", str(workers),
                        "--schedulers", str(schedulers)]
        if config:
            self.options += ["--config", config]
        self.prefix = []  # words before each command: another namespace
        self.environment = {}
        self.sql = None
        self.simulator = None

    def __enter__(self):
        try:
            return self.up()
        except BaseException:
            self.command("down", "--wipe", check=False)
            raise

    def __exit__(self, *_):
        self.down(wipe=True)

    def command(self, *arguments, check=True):
        """Runs `deploy/local/stack ...`; the finished process."""
        done = subprocess.run([*self.prefix, SCRIPT, *arguments, "--dir", self.folder], capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, timeout=COMMAND_LIMIT_S,
                              check=False)
        if check and done.returncode:
            raise StackFailed(f"stack {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done

    def up(self):
        self.command("up", *self.options)
        with open(os.path.join(self.folder, "env"), encoding="utf-8") as file:
            self.environment = dict(line.rstrip("\n").split("=", 1) for line in file)
        self.sql = Sql(self.environment["DATABASE_URL"])
        self.simulator = Simulator(self.environment["SIMULATOR_URL"])
        return self

    def down(self, wipe=False):
        """Stops everything.  Complaints of a sanitizer in any log are a failure."""
        if self.sql:
            self.sql.close()
        complaints = self.complaints()
        self.command("down", check=False)
        complaints = complaints or self.complaints()  # leaks are told at the end
        if wipe:
            self.command("down", "--wipe", check=False)
            shutil.rmtree(self.folder, ignore_errors=True)
        if complaints:
            raise StackFailed(f"a sanitizer complained:\n{complaints}")

    def restart(self, name):
        self.command("restart", name)

    def kill(self, name):
        self.command("kill", name)

    def stop(self, name):
        self.command("stop", name)

    def cont(self, name):
        self.command("cont", name)

    def state(self, name):
        """running, stopped or dead"""
        for line in self.command("status", check=False).stdout.splitlines():
            words = line.split()
            if words and words[0] == name:
                return words[1]
        raise StackFailed(f"status knows no {name}")

    def pid(self, name):
        with open(os.path.join(self.folder, "pid", f"{name}.pid"), encoding="ascii") as file:
            return int(file.read())

    def children(self, name):
        """Pids of the processes that the parent of a daemon forked."""
        with open(f"/proc/{self.pid(name)}/task/{self.pid(name)}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]

    def port(self, name):
        """The port of a part's server: postgres, redis, broker, simulator, producer-1, worker-1-metrics"""
        import json  # pylint: disable=import-outside-toplevel
        with open(os.path.join(self.folder, "state.json"), encoding="utf-8") as file:
            return json.load(file)["ports"][name]

    # --- clients --------------------------------------------------------------------------------

    @property
    def urls(self):
        return self.environment["NIGHTSHIFT_URLS"].split(",")

    def api(self, producer=0, key=None):
        return Api(self.urls[producer], key or self.environment["NIGHTSHIFT_API_KEY"])

    def admin(self, producer=0):
        return Api(self.urls[producer], self.environment["NIGHTSHIFT_ADMIN_KEY"])

    # --- logs -----------------------------------------------------------------------------------

    def log_names(self):
        folder = os.path.join(self.folder, "log")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def log(self, name):
        try:
            with open(os.path.join(self.folder, "log", f"{name}.log"), encoding="utf-8",
                      errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def complaints(self):
        found = []
        for name in self.log_names():
            if not name.endswith(".log"):
                continue
            lines = self.log(name[:-4]).splitlines()
            for number, line in enumerate(lines):
                if SANITIZER.search(line):
                    found.append(f"{name}: " + "\n".join(lines[number:number + 40]))
                    break
        return "\n".join(found)

    def log_tails(self, lines=25):
        """The last lines of every daemon's log, for a failed test."""
        return "\n".join(f"--- {name}\n" + "\n".join(self.log(name[:-4]).splitlines()[-lines:])
                         for name in self.log_names()
                         if name.endswith(".log") and name.split("-")[0] in
                         ("producer", "worker", "scheduler", "postgres"))
