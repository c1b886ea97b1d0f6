# SPDX-License-Identifier: Apache-2.0
"""Limits as workers know them: they hear of a change by themselves, up to a second after producers."""

from .wait import wait_until


def first_that_waits(api, reason, request, detail="", **fields):
    """Submits until a job waits for this reason, with these words in its detail (a budget's book may be made
    anew first): (that job, those that ran before)."""
    ran = []

    def is_it(waiting):
        return waiting and waiting["reason"] == reason and detail in waiting["detail"]

    def one():
        job = api.submit(request(), **fields)["id"]

        def decided():
            now = api.job(job)
            return now if now["state"] == "succeeded" or is_it(now["waiting"]) else None
        now = wait_until(decided, 10, f"the job to run or to wait for {reason}")
        if now["state"] == "queued":
            return now
        ran.append(now)
        return None
    return wait_until(one, 10, f"a job that waits for {reason}"), ran
