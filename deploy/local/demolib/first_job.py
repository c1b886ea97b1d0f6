# SPDX-License-Identifier: Apache-2.0
"""Scene: one job, its text streaming in while the provider writes it."""

import hashlib
import time

from .check import expect
from .screen import TextFlow
from .sink import BUSY_ONCE
from .stage import chat

TITLE = "One job, streamed"
DEADLINE_S = 90

STORY = ("This text left the provider one word at a time. A worker stores it in Postgres about once "
         "a second and, because somebody is watching, passes each word on at once. Close the stream "
         "and come back with the last event's id: it goes on from there, at any other producer, too.")


def text(stage):
    if stage.real:
        return (f"POST /v1/jobs, then GET /v1/jobs/ID/events.  OPENAI_API_KEY is set: the provider is "
                f"{stage.real.base_url}, the model {stage.real.model}.")
    return ("POST /v1/jobs, then GET /v1/jobs/ID/events (server-sent events).  The simulator repeats "
            "what it is asked to say; with OPENAI_API_KEY set this job goes to the real service.")


def request(stage):
    if stage.real:
        return chat("In about sixty words: why do backend services put calls to language models into "
                    "a queue?", model="real", max_tokens=200)
    return chat(f"{STORY} [[sim echo=1 rate=24]]")


def run(stage):
    screen = stage.screen
    began = time.monotonic()
    job = stage.submit(request=request(stage), priority="high", workflow="demo",
                       metadata={"scene": "first"}, webhook={"url": stage.sink.url(BUSY_ONCE)})
    screen.good(f"202 after {(time.monotonic() - began) * 1000:.0f} ms: {job['id']}, "
                f"{job['state']}, stored in Postgres")
    pieces, final = watch(stage, job["id"])
    check(stage, job["id"], pieces, final)
    usage = final["usage"]
    first_s = pieces[0][0] - began
    screen.good(f"{final['state']}: first text after {first_s * 1000:.0f} ms, {len(pieces)} pieces "
                f"over {pieces[-1][0] - pieces[0][0]:.1f} s; {usage['input_tokens']} + "
                f"{usage['output_tokens']} tokens, ${final['cost_usd']}")
    screen.good("what was streamed is, byte for byte, what is stored, and its SHA-256 agrees")


def watch(stage, job):
    """Shows the text as it comes: ([(time, text)], the job as the last event told it)."""
    flow = TextFlow(stage.screen, "cyan")
    pieces, final = [], None
    try:
        for event in stage.api.events(job, DEADLINE_S):
            if event.name == "output.delta":
                pieces.append((event.at, event.data["text"]))
                flow.add(event.data["text"])
            elif event.name in ("job.succeeded", "job.failed", "job.cancelled", "job.expired"):
                final = event.data
    finally:
        flow.end()
    return pieces, final


def check(stage, job, pieces, final):
    expect(final is not None, "a closing event with the job", "the stream ended without one",
           "producer-1")
    expect(final["state"] == "succeeded", "the job to succeed", f"{final['state']}: {final['error']}",
           "worker-1")
    expect(len(pieces) > 1 and pieces[-1][0] - pieces[0][0] > 0.2 or stage.real and pieces,
           "the text in pieces, while it was being written", f"{len(pieces)} pieces at once",
           "producer-1")
    streamed = "".join(text for _, text in pieces)
    expect(streamed == final["result"]["text"], "the streamed text to equal the result's",
           f"{streamed!r} and {final['result']['text']!r}", "worker-1")
    stored = stage.api.exchange("GET", f"/v1/jobs/{job}/result", None,
                                {"authorization": f"Bearer {stage.api.key}"}, 15)[1]
    expect(hashlib.sha256(stored).hexdigest() == final["result"]["sha256"],
           f"sha256 {final['result']['sha256']} of GET /v1/jobs/{job}/result",
           hashlib.sha256(stored).hexdigest(), "producer-1")
