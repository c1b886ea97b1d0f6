# SPDX-License-Identifier: Apache-2.0
"""The command `nightshift`: run with pipes, or in a real terminal (tmux)."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import uuid

from .stack import program
from .wait import NotYet, wait_until

ESCAPE = "\x1b"


class Cli:
    """Runs it as the stack's tenant and administrator, with no profile of the user who tests."""

    def __init__(self, stack, **environment):
        self.stack = stack
        self.home = tempfile.mkdtemp(prefix="nightshift-cli-")
        self.program = program("nightshift")
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith("NIGHTSHIFT_") and
                            name not in ("DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS", "NO_COLOR")}
        self.environment.update(
            XDG_CONFIG_HOME=self.home, LANG="C.UTF-8", NIGHTSHIFT_URL=stack.environment["NIGHTSHIFT_URL"],
            NIGHTSHIFT_API_KEY=stack.environment["NIGHTSHIFT_API_KEY"],
            NIGHTSHIFT_ADMIN_KEY=stack.environment["NIGHTSHIFT_ADMIN_KEY"], **environment)

    def close(self):
        shutil.rmtree(self.home, ignore_errors=True)

    def path(self, name, content=None):
        path = os.path.join(self.home, name)
        if content is not None:
            with open(path, "wb") as file:
                file.write(content if isinstance(content, bytes) else content.encode())
        return path

    def start(self, *words, environment=None, **options):
        """Popen with pipes.  Ctrl-C reaches it, also where the tests themselves run without (nohup)."""
        return subprocess.Popen([self.program, *words], stdin=subprocess.DEVNULL,
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=environment or self.environment, **options)

    def run(self, *words, expect=0, stdin=None, environment=None, timeout_s=60):
        """The finished process (text); its exit status is checked."""
        done = subprocess.run([self.program, *words], input=stdin, capture_output=True,
                              text=True, timeout=timeout_s, check=False,
                              stdin=subprocess.DEVNULL if stdin is None else None,
                              env={**self.environment, **(environment or {})})
        assert done.returncode == expect, \
            f"{words}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done

    def out(self, *words, **options):
        """Standard output without its last newline."""
        return self.run(*words, **options).stdout.rstrip("\n")


class Terminal:
    """A window of tmux with a shell in it."""

    def __init__(self, cli, width=100, height=30):
        self.cli = cli
        self.socket = f"nightshift-{uuid.uuid4().hex[:12]}"
        self.tmux("new-session", "-d", "-x", str(width), "-y", str(height),
                  "env", "-i", *[f"{name}={value}" for name, value in cli.environment.items()
                                 if name not in ("TERM", "TMUX")],
                  "TERM=screen-256color", "PS1=$ ", "bash", "--norc", "--noprofile")
        self.tmux("set-option", "-g", "remain-on-exit", "on")
        wait_until(lambda: "$" in self.screen(), 10, "the shell's prompt")

    def tmux(self, *words):
        done = subprocess.run(["tmux", "-f", "/dev/null", "-L", self.socket, *words],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"tmux {words}: {done.stderr}"
        return done.stdout

    def type(self, line):
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Enter")

    def run(self, *words):
        """Types a command of ours; its exit status is shown after it as `rc=N.`"""
        self.type(shlex.join([self.cli.program, *words]) + "; echo rc=$?.")

    def press(self, key):
        self.tmux("send-keys", key)

    def resize(self, width, height=30):
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self, colours=False, history=True):
        """What is seen, with what scrolled away; trailing blanks are cut."""
        return self.tmux("capture-pane", "-p", *(["-e"] if colours else []),
                         *(["-S", "-"] if history else []))

    def clear(self):
        self.type("clear")

        def is_clear():
            self.tmux("clear-history")
            return len(self.screen().strip()) <= 2
        wait_until(is_clear, 20, "a clear screen")

    def wait_for(self, pattern, timeout_s=30):
        """The match of a regular expression on the screen."""
        try:
            return wait_until(lambda: re.search(pattern, self.screen(), re.M), timeout_s, pattern)
        except NotYet as late:
            raise NotYet(f"{late}\n{self.screen()}") from late

    def finished(self, timeout_s=60):
        """The exit status that the last run() ended with."""
        return int(self.wait_for(r"^.*rc=(\d+)\.$", timeout_s).group(1))

    def close(self):
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], capture_output=True, check=False)
