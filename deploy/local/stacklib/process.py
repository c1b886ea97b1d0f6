# SPDX-License-Identifier: Apache-2.0
"""Processes of the stack: started in a group of their own, found again by pid file, signalled whole."""

import os
import signal
import socket
import subprocess
import time


def free_port():
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, timeout_s, interval_s=0.02):
    """True as soon as condition() is, False after timeout_s."""
    deadline = time.monotonic() + timeout_s
    while True:
        if condition():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval_s)  # a poll with a deadline, not a hope


def stat_fields(pid):
    """(state, parent, group, start time) of a process, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            rest = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return rest[0], int(rest[1]), int(rest[2]), rest[19]


class Process:
    """One named process of the stack.  The pid file holds the pid and, below it, its start time, so
    that a number used again by a stranger is never signalled."""

    def __init__(self, folder, name):
        self.name = name
        self.pid_path = os.path.join(folder, "pid", f"{name}.pid")
        self.born_path = os.path.join(folder, "pid", f".{name}.born")
        self.log_path = os.path.join(folder, "log", f"{name}.log")
        self.is_asked = False  # a second TERM would mean "at once"

    def start(self, command, environment, cwd, preexec=None):
        with open(self.log_path, "ab") as log:
            child = subprocess.Popen(command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL,
                                     stdout=log, stderr=log, start_new_session=True,
                                     preexec_fn=preexec)
        fields = stat_fields(child.pid)
        with open(self.born_path, "w", encoding="ascii") as file:
            file.write(fields[3] if fields else "")
        with open(self.pid_path, "w", encoding="ascii") as file:
            file.write(f"{child.pid}\n")

    def pid(self):
        """The pid while the process lives (a zombie does not), else None."""
        try:
            with open(self.pid_path, encoding="ascii") as file:
                pid = int(file.read().strip() or "0")
            with open(self.born_path, encoding="ascii") as file:
                born = file.read()
        except (FileNotFoundError, ValueError):
            return None
        fields = stat_fields(pid)
        if not fields or fields[0] in "ZX" or fields[3] != born:
            return None
        return pid

    def state(self):
        pid = self.pid()
        fields = stat_fields(pid) if pid else None
        if not fields:
            return "dead"
        return "stopped" if fields[0] == "T" else "running"

    def family(self):
        """Every process of the group or below the parent (Postgres puts each backend in a session of
        its own)."""
        parent = self.pid()
        table = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                fields = stat_fields(int(entry))
                if fields and fields[0] not in "ZX":
                    table[int(entry)] = fields
        try:
            with open(self.pid_path, encoding="ascii") as file:
                group = int(file.read().strip() or "0")
        except (FileNotFoundError, ValueError):
            group = 0
        # Without its leader the group still is ours while members live: its number cannot be reused.
        members = {pid for pid, fields in table.items() if group and fields[2] == group}
        if parent:
            members.add(parent)
        grown = True
        while grown:
            below = {pid for pid, fields in table.items() if fields[1] in members} - members
            members |= below
            grown = bool(below)
        return members

    def send(self, number):
        for pid in sorted(self.family()):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def stop(self):
        self.send(signal.SIGSTOP)

    def cont(self):
        self.send(signal.SIGCONT)

    def ask(self, number):
        """The signal to the parent alone, once."""
        pid = self.pid()
        if pid:
            self.is_asked = True
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def terminate(self, number=signal.SIGTERM, grace_s=15.0):
        """Asks the parent to stop, then insists; returns when nobody of the family is left."""
        family = self.family()
        if self.pid():
            self.cont()
            if not self.is_asked:
                self.ask(number)
            if not wait_until(lambda: not any(stat_alive(p) for p in family), grace_s):
                for member in family | self.family():
                    kill_quietly(member)
        self.kill()

    def kill(self):
        """The parent first: it must not see its children die and start others."""
        family = self.family()
        parent = self.pid()
        if parent:
            kill_quietly(parent)
        for pid in family | self.family():
            kill_quietly(pid)
        wait_until(lambda: not any(stat_alive(pid) for pid in family), 10)

    def log_tail(self, lines=15):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return "".join(file.readlines()[-lines:])
        except FileNotFoundError:
            return ""


def stat_alive(pid):
    fields = stat_fields(pid)
    return bool(fields) and fields[0] not in "ZX"


def kill_quietly(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
