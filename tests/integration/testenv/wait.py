# SPDX-License-Identifier: Apache-2.0
"""Waiting for conditions, never for time to pass."""

import time


class NotYet(AssertionError):
    """A condition did not come true in time."""


def wait_until(condition, timeout_s=10.0, what=None, interval_s=0.05):
    """The first true value of condition(); NotYet after timeout_s, saying what was waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise NotYet(f"not within {timeout_s} s: {what or condition}; last value: {value!r}")
        time.sleep(interval_s)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self):
        self.started = time.monotonic()

    @property
    def seconds(self):
        return time.monotonic() - self.started
