# SPDX-License-Identifier: Apache-2.0
"""Scene: a job cancelled while its text is coming."""

import time

from .check import expect, wait_for
from .screen import TextFlow
from .stage import chat

TITLE = "Cancelled in the middle of a sentence"
LIMIT_S = 2.0
PIECES = 25


def text(stage):
    return ("POST /v1/jobs/ID/cancel ends a waiting job at once and a running one within two seconds; "
            "the connection to the provider is closed, so that it stops writing (and billing).")


def run(stage):
    screen = stage.screen
    gone_before = stage.simulator("/sim/stats")["aborted"]
    job = stage.submit(request=chat("Write a very long novel. [[sim tokens=3000 rate=40]]"),
                       priority="high", workflow="demo", metadata={"scene": "cancel"})
    took_s, final = cancel_midway(stage, job["id"])
    expect(final is not None and final["state"] == "cancelled", "event job.cancelled",
           final and final["state"], "worker-1")
    expect(took_s <= LIMIT_S, f"cancelled within {LIMIT_S} s", f"{took_s:.2f} s", "worker-1")
    partial = final["partial"] or {"text": ""}
    expect(partial["text"] and final["result"] is None, "the text so far under `partial`",
           f"partial {partial}, result {final['result']}", "worker-1")
    wait_for(lambda: stage.simulator("/sim/stats")["aborted"] > gone_before, 3,
             "the provider to see its connection closed",
             lambda: stage.simulator("/sim/stats"), "worker-1")
    screen.good(f"cancelled {took_s * 1000:.0f} ms after the request; the provider saw its connection "
                "close")
    screen.good(f"{len(partial['text'].split())} words are kept as `partial`; what the call cost nobody "
                f"knows, so its worst case stays booked as unknown: ${final['unknown_cost_usd']}")


def cancel_midway(stage, job):
    flow = TextFlow(stage.screen, "cyan")
    pieces, asked_at, took_s, final = 0, None, None, None
    try:
        for event in stage.api.events(job, 20):
            if event.name == "output.delta" and asked_at is None:
                pieces += 1
                flow.add(event.data["text"])
                if pieces == PIECES:
                    flow.end()
                    asked_at = time.monotonic()
                    stage.api.cancel(job)
            elif event.name.startswith("job.") and event.data.get("object") == "job" \
                    and event.name != "job.queued":
                took_s = event.at - (asked_at or event.at)
                final = event.data
    finally:
        flow.end()
    expect(asked_at is not None, f"{PIECES} pieces of text before the end", f"{pieces}", "worker-1")
    return took_s, final
