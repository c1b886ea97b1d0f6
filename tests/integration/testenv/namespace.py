# SPDX-License-Identifier: Apache-2.0
"""Programs in a network and a mount namespace of their own: what they reach is nobody's, and what they
mount is gone with them."""

import os
import shutil
import subprocess
import tempfile

import pytest


def command(*flags):
    """The words to put before a command so that it runs in a mount namespace of its own and in what else
    the flags say ("--net"), as root or as a plain user with the rights of root over them; (None, why not)
    when neither can be."""
    if not shutil.which("unshare"):
        return None, "there is no unshare here (Debian package util-linux)"
    way = ["unshare", "--mount", *flags]
    if os.geteuid() != 0:
        # Not mapped to root: Postgres would refuse to run.
        way += ["--user", "--map-current-user", "--keep-caps"]
    done = subprocess.run([*way, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, check=False)
    return (way, None) if done.returncode == 0 else (None, f"no namespaces here: {done.stderr.strip()}")


class MountNamespace:
    """A mount namespace that lives as long as the context, with a small file system in it."""

    def __init__(self, size):
        self.size = size
        self.folder = tempfile.mkdtemp(prefix="nightshift-disk-", dir="/tmp")
        self.holder = None

    def __enter__(self):
        way, why = command()
        if not way:
            os.rmdir(self.folder)
            pytest.skip(why)
        script = f"mount -t tmpfs -o size={self.size},mode=1777 none {self.folder} && echo there && exec cat"
        self.holder = subprocess.Popen([*way, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "there\n"
        return self

    def __exit__(self, *_):
        self.holder.stdin.close()
        self.holder.wait(10)
        self.holder.stdout.close()
        os.rmdir(self.folder)

    def enter(self):
        """The words before a command that is to run inside."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self.holder.pid), *user, "--mount"]

    def path(self, *parts):
        """Where the small file system is seen from outside."""
        return os.path.join(f"/proc/{self.holder.pid}/root{self.folder}", *parts)
