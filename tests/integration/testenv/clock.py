# SPDX-License-Identifier: Apache-2.0
"""A wall clock that is off, for the processes that are started with it."""

import os
import shutil
import struct
import subprocess

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "clock_shim.c")


class Clock:
    """The offset of the wall clock, in seconds, of all that is started with its environment."""

    def __init__(self, folder):
        compiler = shutil.which("gcc") or shutil.which("clang")
        shim = os.path.join(folder, "shim.so")
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", shim, SOURCE], check=True)
        self.path = os.path.join(folder, "offset")
        self.jump(0)
        options = [os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]
        self.environment = {"LD_PRELOAD": shim, "NIGHTSHIFT_CLOCK_OFFSET": self.path,
                            "ASAN_OPTIONS": ":".join(filter(None, options))}

    def jump(self, seconds):
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb") as file:
            file.write(struct.pack("=q", seconds))
