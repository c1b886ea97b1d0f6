# SPDX-License-Identifier: Apache-2.0
"""How a step says that it did not happen."""

import time


class Missed(Exception):
    """What was expected, what was seen instead, and whose log may tell why."""

    def __init__(self, expected, seen, log=None):
        super().__init__(f"expected {expected}; saw {seen}")
        self.expected = expected
        self.seen = seen
        self.log = log


def expect(is_so, expected, seen, log=None):
    if not is_so:
        raise Missed(expected, seen, log)


def wait_for(condition, timeout_s, expected, seen, log=None, interval_s=0.1):
    """The first true value of condition(); Missed after timeout_s.  seen() tells how far it got."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise Missed(f"{expected} within {timeout_s:g} s", seen(), log)
        time.sleep(interval_s)  # a poll with a deadline
