# SPDX-License-Identifier: Apache-2.0
"""The ledger in Postgres beside the simulator's own log: one row, at most one request on the wire."""

from decimal import ROUND_CEILING, Decimal

from .wait import wait_until

# Dollars per million tokens (deploy/local/prices.json), for gpt-4o-mini.
MINI = {"input": Decimal("0.15"), "cached": Decimal("0.075"), "output": Decimal("0.6")}


def cost_nano(input_tokens, output_tokens, cached_tokens=0, price=None):
    """What a call costs, rounded up once to the nano-dollar."""
    price = price or MINI
    dollars = ((input_tokens - cached_tokens) * price["input"] + cached_tokens * price["cached"] +
               output_tokens * price["output"]) / Decimal(1_000_000)
    return int((dollars * 1_000_000_000).to_integral_value(ROUND_CEILING))


def check_ledger(stack, job, request, is_ordered=True):
    """Compares the rows of an ended job with the calls that the simulator got for its prompt; the
    rows and the calls."""
    rows = stack.sql.calls(job)
    calls = ended_calls(stack, request, rows)
    assert [row["call"] for row in rows] == list(range(1, len(rows) + 1))
    assert not [row for row in rows if row["state"] == "sent"], "a call nobody settled"
    # A refused connection leaves a row and no request.
    sent = [row for row in rows if row["state"] != "released" or row["status"] is not None]
    settled = [row for row in sent if row["status"] is not None]
    assert len(calls) <= len(sent), f"{len(calls)} requests on the wire for {len(sent)} rows"
    assert len(calls) >= len(settled), f"{len(settled)} answered rows for {len(calls)} requests"
    if is_ordered and len(calls) == len(sent):
        for row, call in zip(sent, calls):
            check_call(row, call)
    return rows, calls


def check_call(row, call):
    assert row["provider"] == call["provider"]
    if row["status"] is not None:
        assert row["status"] == call["status"], f"{row['status']} in the ledger, {call['status']} sent"
    if row["state"] == "settled" and call["outcome"] == "completed" and call["sent_usage"]:
        assert row["output_tokens"] == call["output_tokens"]
        assert row["input_tokens"] == call["prompt_tokens"]
        if row["model"] == "gpt-4o-mini":
            assert row["cost_nano"] == cost_nano(row["input_tokens"], row["output_tokens"],
                                                 row["cached_input_tokens"] or 0)


def ended_calls(stack, request, rows):
    """The calls of the request, once the simulator has logged the end of each and there are no fewer
    than answered rows: a job that was cancelled while it waited has neither."""
    answered = sum(row["status"] is not None for row in rows)
    calls = []

    def all_ended():
        calls[:] = stack.simulator.calls(request)
        return len(calls) >= answered and all(call["outcome"] for call in calls)

    wait_until(all_ended, 15, f"{answered} answered calls to end")
    return calls
