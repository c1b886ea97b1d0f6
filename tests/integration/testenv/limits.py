# SPDX-License-Identifier: Apache-2.0
"""Limits as workers know them: they hear of a change by themselves, up to a second after producers; and what
intake asks Redis."""

import re
import uuid
from contextlib import contextmanager

import redis

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


@contextmanager
def intake_asked(url, tenant):
    """A list; after the block it has what intake asked of this tenant meanwhile: of each question how many
    submits it takes, 0 for one that only looks.  Calls of the tenant's jobs must not run meanwhile."""
    question = re.compile(rf"EVAL(?:SHA)? .* 1 {re.escape(f'{{t:{tenant}}}:')} (\d+) ", re.DOTALL)
    questions = []
    with redis.Redis.from_url(url, socket_timeout=10) as client, client.monitor() as monitor:
        yield questions
        mark = uuid.uuid4().hex
        client.echo(mark)
        while mark not in (command := monitor.next_command()["command"]):
            if found := question.match(command):
                questions.append(int(found[1]))
