# SPDX-License-Identifier: Apache-2.0
"""Scene: a provider says 429, the next target of the route answers."""

from .check import expect

from .stage import chat

TITLE = "A provider that is over its limit"


def text(stage):
    return ("The route `limited` names two targets.  The first answers 429 with Retry-After: 30; the job "
            "does not wait for it but goes to the second.  Every call is a row of the ledger.")


def run(stage):
    job = stage.submit(request=chat("Say something calm. [[sim tokens=40 rate=80]] "
                                    "[[sim at=flaky status=429 retry_after=30]]", model="limited"),
                       priority="high", workflow="demo", metadata={"scene": "fallback"})
    done = stage.api.call("GET", f"/v1/jobs/{job['id']}?wait=20", timeout_s=30)[2]
    expect(done["state"] == "succeeded", "the job to succeed within 20 s",
           f"{done['state']} {done['waiting'] or done['error']}", "worker-1")
    show_calls(stage.screen, done["calls"])
    seen = [(call["provider"], call["status"], call["state"]) for call in done["calls"]]
    expect(len(seen) == 2 and seen[0][:2] == ("flaky", 429) and seen[1] == ("spare", 200, "settled"),
           "flaky 429, then spare 200 settled", seen, "worker-1")
    expect(done["attempts"] == 1 and done["deferrals"] == 1,
           "1 attempt and 1 deferral (a 429 uses up no attempt)",
           f"{done['attempts']} and {done['deferrals']}", "worker-1")
    stage.screen.good("answered by the second target; the 429 counts as a deferral, not as one of the "
                      "job's five attempts, and costs nothing")


def show_calls(screen, calls):
    screen.row(("call", 4, "dim"), ("provider", 8, "dim"), ("status", -6, "dim"), ("state", 8, "dim"),
               ("error", 12, "dim"), ("tokens", -8, "dim"), ("cost", -12, "dim"))
    for call in calls:
        failed = call["error_type"] is not None
        tokens = "" if call["output_tokens"] is None else (f"{call['input_tokens'] or 0}"
                                                           f" + {call['output_tokens']}")
        screen.row((str(call["attempt"]), 4), (call["provider"], 8),
                   (str(call["status"] or "-"), -6, "yellow" if failed else "green"),
                   (call["state"], 8), (call["error_type"] or "", 12, "yellow"), (tokens, -8),
                   (f"${call['cost_usd']}", -12))
