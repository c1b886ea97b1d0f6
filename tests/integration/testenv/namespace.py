# SPDX-License-Identifier: Apache-2.0
"""Programs in a network and a mount namespace of their own: what they reach is nobody's, and what they
mount is gone with them."""

import os
import shutil
import subprocess


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
