# SPDX-License-Identifier: Apache-2.0
"""Somebody else's verifier of webhooks: the `standardwebhooks` package, in a venv under build/."""

import glob
import os
import shutil
import subprocess
import sys
import threading

from .check import Missed

HERE = os.path.dirname(os.path.abspath(__file__))
REQUIREMENTS = os.path.join(HERE, "requirements.txt")
FETCH_TIMEOUT_S = 90


class Verifier:
    """Fetches the package in a thread of its own (the first time only: it stays in build/)."""

    def __init__(self, folder):
        self.folder = folder
        self.problem = None
        self.thread = threading.Thread(target=self.fetch, daemon=True)
        self.thread.start()

    def packages(self):
        found = glob.glob(os.path.join(self.folder, "lib", "python3*", "site-packages"))
        return found[0] if found else None

    def is_there(self):
        """Whole, of this version, and of a Python that still is the one that runs."""
        try:
            with open(os.path.join(self.folder, "ready"), encoding="utf-8") as file:
                done = file.read()
            with open(REQUIREMENTS, encoding="utf-8") as file:
                return done == file.read() and bool(self.packages())
        except FileNotFoundError:
            return False

    def fetch(self):
        if self.is_there():
            return
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.run(sys.executable, "-m", "venv", self.folder)
            self.run(os.path.join(self.folder, "bin", "python"), "-m", "pip", "install", "--quiet",
                     "--disable-pip-version-check", "--no-cache-dir", "--only-binary", ":all:",
                     "--require-hashes", "-r", REQUIREMENTS)
            shutil.copyfile(REQUIREMENTS, os.path.join(self.folder, "ready"))
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", None) or getattr(error, "stdout", None) or ""
            self.problem = f"{error} {output.strip()[-600:]}"

    @staticmethod
    def run(*command):
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S,
                       stdin=subprocess.DEVNULL)

    def load(self):
        """The package's Webhook class and WebhookVerificationError."""
        self.thread.join(FETCH_TIMEOUT_S)
        if self.problem or not self.packages():
            raise Missed("the package standardwebhooks from PyPI in a venv",
                         self.problem or "nothing yet")
        if self.packages() not in sys.path:
            sys.path.insert(0, self.packages())
        from standardwebhooks.webhooks import Webhook, WebhookVerificationError
        return Webhook, WebhookVerificationError
