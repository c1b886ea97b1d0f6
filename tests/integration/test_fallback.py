# SPDX-License-Identifier: Apache-2.0
"""What a provider's failures do to a job, and what the ledger says of each call."""

from datetime import datetime

import pytest

from testenv.api import chat, soon
from testenv.ledger import check_ledger
from testenv.wait import Stopwatch, wait_until


def states(rows):
    return [(row["provider"], row["state"], row["status"], row["error_type"]) for row in rows]


def run(stack, request, **fields):
    """(the ended job, its ledger, the simulator's calls)"""
    api = stack.api()
    job = api.run(request, **fields)
    rows, calls = check_ledger(stack, job["id"], request)
    return job, rows, calls


# What happens at `main`, then: error_type of its row.  `spare` then succeeds at once.
NEXT_TARGET = [
    ("429 rate limited", {"status": 429}, "rate_limited"),
    ("429 with Retry-After", {"status": 429, "retry_after": "30"}, "rate_limited"),
    ("429 with a date", {"status": 429, "retry_after": "date"}, "rate_limited"),
    ("429 with nonsense", {"status": 429, "retry_after": "soon"}, "rate_limited"),
    ("429 with an absurd wait", {"status": 429, "retry_after": "absurd"}, "rate_limited"),
    ("429 with milliseconds", {"status": 429, "retry_after_ms": 100}, "rate_limited"),
    ("quota", {"code": "insufficient_quota"}, "quota"),
    ("500", {"status": 500}, "overloaded"),
    ("502", {"status": 502}, "overloaded"),
    ("503", {"status": 503}, "overloaded"),
    ("529", {"status": 529}, "overloaded"),
    ("401", {"status": 401}, "auth"),
    ("403", {"status": 403}, "auth"),
    ("reset before the head", {"fault": "reset_before"}, "network"),
    ("closed before the head", {"fault": "close_before"}, "network"),
    ("reset after the head", {"fault": "reset_after_head"}, "network"),
    ("reset in the middle", {"fault": "reset_mid"}, "network"),
    ("closed in the middle", {"fault": "close_mid"}, "network"),
    ("cut in a line", {"fault": "cut_line"}, "network"),
    ("ended in the middle", {"fault": "end_mid"}, "protocol"),
    ("no finish reason", {"fault": "no_finish"}, "protocol"),
    ("error in the stream", {"fault": "error_in_stream"}, None),
    ("a web page", {"fault": "html_200"}, "protocol"),
    ("nothing", {"fault": "empty_200"}, "protocol"),
    ("an event too large", {"fault": "huge_event"}, "protocol"),
]


@pytest.mark.parametrize("what,wish,error_type", NEXT_TARGET, ids=[case[0] for case in NEXT_TARGET])
def test_the_next_target_takes_over(stack, what, wish, error_type):
    request = chat(tokens=12, at={"main": wish})
    watch = Stopwatch()
    job, rows, calls = run(stack, request)

    assert job["state"] == "succeeded", (job["error"], states(rows))
    assert watch.seconds < 20
    assert [row["provider"] for row in rows] == ["main", "spare"], states(rows)
    assert len(calls) == 2
    assert rows[1]["state"] == "settled" and rows[1]["status"] == 200
    if error_type:
        assert rows[0]["error_type"] == error_type, states(rows)
    counted = job["attempts"] + job["deferrals"]
    assert counted == 2, job
    assert job["deferrals"] == (1 if error_type == "rate_limited" else 0)
    assert [call["error_type"] for call in job["calls"]] == [rows[0]["error_type"], None]


def test_what_a_refusal_costs_is_nothing_and_what_a_cut_may_cost_is_kept(stack):
    """A 4xx came before any work and is released; whoever broke later may have worked: unknown, at
    the whole reservation."""
    refused, rows, _ = run(stack, chat(tokens=5, at={"main": {"status": 429}}))
    assert rows[0]["state"] == "released" and rows[0]["cost_nano"] == 0
    assert refused["unknown_cost_usd"] == "0.000000000"

    for wish in ({"fault": "cut_line", "after": 5}, {"status": 500}):
        cut, rows, _ = run(stack, chat(tokens=20, at={"main": wish}))
        assert rows[0]["state"] == "unknown"
        assert rows[0]["cost_nano"] == rows[0]["reserved_nano"] > 0
        assert cut["unknown_cost_usd"] == f"{rows[0]['reserved_nano'] / 1e9:.9f}"
        assert cut["cost_usd"] == f"{rows[1]['cost_nano'] / 1e9:.9f}"


def test_a_refused_connection_is_released_and_the_next_target_takes_over(stack):
    job, rows, calls = run(stack, chat(tokens=3, model="closed-then-spare"))

    assert job["state"] == "succeeded"
    assert [(row["provider"], row["state"], row["status"]) for row in rows] == \
        [("closed", "released", None), ("spare", "settled", 200)]
    assert rows[0]["cost_nano"] == 0 and len(calls) == 1


def test_a_wrong_key_at_one_provider_does_not_stop_the_job(stack):
    job = stack.api().run(chat(tokens=3, model="locked-then-spare"))
    assert job["state"] == "succeeded"
    # The simulator does not read the prompt of such a call.
    assert states(stack.sql.calls(job["id"]))[0] == ("locked", "released", 401, "auth")


@pytest.mark.parametrize("fault", ["silence", "silence_head", "silence_mid", "pings"])
def test_silence_ends_a_call_in_time(stack, simulator, fault):
    """first_byte_ms and idle_ms are a second at `quick`.  Comments are no events."""
    request = chat(tokens=10, model="quick-then-spare", at={"quick": {"fault": fault}})
    watch = Stopwatch()
    job, rows, calls = run(stack, request)

    assert job["state"] == "succeeded"
    assert rows[0]["state"] == "unknown" and rows[0]["error_type"] == "timeout", states(rows)
    assert calls[0]["outcome"] == "client_gone"
    assert watch.seconds < 15


def test_timeout_s_ends_a_call_that_goes_on_for_ever(stack):
    request = chat(tokens=10000, rate=5)
    watch = Stopwatch()
    job, rows, _ = run(stack, request, timeout_s=2, max_attempts=1)

    assert job["state"] == "failed" and job["error"]["type"] == "timeout"
    assert job["partial"]["text"]
    assert rows[0]["state"] == "unknown" and watch.seconds < 15


def test_a_stream_without_done_is_never_complete(stack):
    """The finish reason and the end of HTTP are there; [DONE] alone is missing (design: promise 8)."""
    request = chat(tokens=6, fault="no_done", model="single")
    job, rows, calls = run(stack, request, max_attempts=2)

    assert job["state"] == "failed"
    assert job["error"]["type"] == "protocol"
    assert job["partial"]["text"]
    assert job["attempts"] == 2
    assert len(rows) == len(calls) == 2


def test_missing_usage_is_settled_at_an_upper_bound(stack):
    request = chat(tokens=15, fault="no_usage")
    job, rows, calls = run(stack, request)

    assert job["state"] == "succeeded"
    assert rows[0]["state"] == "settled" and rows[0]["is_usage_estimated"]
    assert rows[0]["output_tokens"] >= calls[0]["output_tokens"]
    assert rows[0]["input_tokens"] >= calls[0]["prompt_tokens"]
    assert job["usage"]["usage_estimated"] is True
    assert job["calls"][0]["usage_estimated"] is True


def test_a_tokens_prices_and_cached_tokens_are_counted(stack):
    request = chat(text="x" * 4000, tokens=30, cached=600)
    job, rows, calls = run(stack, request)

    assert rows[0]["cached_input_tokens"] == 600
    assert job["usage"]["cached_input_tokens"] == 600
    assert calls[0]["prompt_tokens"] == rows[0]["input_tokens"]


FINAL = [
    ("bad request", {"status": 400}, "bad_request"),
    ("context length", {"code": "context_length_exceeded"}, "context_length"),
    ("content policy", {"code": "content_policy_violation"}, "content_filter"),
]


@pytest.mark.parametrize("what,wish,error_type", FINAL, ids=[case[0] for case in FINAL])
def test_what_no_retry_can_help_fails_at_once(stack, what, wish, error_type):
    request = chat(model="single", **wish)
    job, rows, calls = run(stack, request)

    assert job["state"] == "failed", what
    assert job["error"]["type"] == error_type
    assert job["error"]["message"] and job["error"]["retryable"] is False
    assert job["attempts"] == 1 and len(rows) == len(calls) == 1
    assert job["result"] is None


def test_a_result_cut_by_the_content_filter_fails_with_its_text(stack):
    request = chat(tokens=10, fault="content_filter", model="single")
    job, rows, _ = run(stack, request)

    assert job["state"] == "failed" and job["error"]["type"] == "content_filter"
    assert job["partial"]["text"] and job["result"] is None
    assert rows[0]["state"] == "settled"


def test_attempts_are_limited_over_all_targets(stack):
    request = chat(status=500)
    job, rows, calls = run(stack, request, max_attempts=3)

    assert job["state"] == "failed" and job["error"]["type"] == "overloaded"
    assert job["attempts"] == 3 and len(rows) == len(calls) == 3
    assert [call["attempt"] for call in job["calls"]] == [1, 2, 3]
    assert job["error"]["retryable"] is True


def test_a_provider_that_recovers_is_tried_again(stack):
    request = chat(tokens=4, model="single", status=503, times=2)
    job, rows, _ = run(stack, request)

    assert job["state"] == "succeeded" and job["attempts"] == 3
    assert [row["status"] for row in rows] == [503, 503, 200]


def test_rate_limited_calls_burn_no_attempt(stack):
    request = chat(tokens=4, model="single", status=429, times=3, retry_after_ms=50)
    job, rows, _ = run(stack, request, max_attempts=1)

    assert job["state"] == "succeeded", job["error"]
    assert (job["attempts"], job["deferrals"]) == (1, 3)
    assert len(rows) == 4


def test_retry_after_is_honoured_and_no_slot_is_held_by_the_wait(stack, api, sql, simulator):
    request = chat(tokens=4, model="single", status=429, times=1, retry_after=3)
    job = api.submit(request)
    waiting = wait_until(lambda: (lambda now: now if now["waiting"] and now["deferrals"] else None)(
        api.job(job["id"])), 10)

    assert waiting["state"] == "queued" and waiting["waiting"]["reason"] == "rate_limit"
    assert waiting["waiting"]["until"]
    assert sql.run(job["id"]) is None
    assert api.ended(job["id"])["state"] == "succeeded"
    first, second = simulator.ended_calls(request)
    waited = datetime.fromisoformat(second["received_at"]) - datetime.fromisoformat(first["ended_at"])
    assert 2.5 <= waited.total_seconds() < 10


def test_the_events_tell_of_the_way_back_to_the_queue(api):
    job = api.submit(chat(tokens=2, model="single", status=429, times=1, retry_after=1))
    names = [event.name for event in api.all_events(job["id"])]
    assert names == ["job.queued", "job.started", "job.retrying", "job.started", "output.delta",
                     "job.succeeded"] or names.count("job.retrying") == 1


def test_a_job_whose_ceiling_is_reached_fails_with_budget(stack):
    """Each call reserves its worst case; unknown ones count whole."""
    request = chat(tokens=5, model="quick", fault="silence")
    request["max_tokens"] = 1000
    job, rows, _ = run(stack, request, max_cost_usd="0.0015", max_attempts=10)

    assert job["state"] == "failed" and job["error"]["type"] == "budget", job["error"]
    assert 1 <= len(rows) <= 3
    assert sum(row["cost_nano"] for row in rows) <= 1_500_000


def test_what_the_provider_is_sent_is_what_was_submitted(api, simulator):
    """An unknown field goes through to the provider, who refuses it."""
    request = {**chat(model="single"), "no_such_parameter": 1}
    job = api.run(request)
    assert job["state"] == "failed" and job["error"]["type"] == "bad_request"


def test_a_deadline_ends_a_running_job(stack, simulator):
    request = chat(tokens=30, after=10, hold="fallback-deadline")
    api = stack.api()
    job = api.run(request, deadline=soon(seconds=4), timeout_s=30)

    assert job["state"] == "expired" and job["error"]["type"] == "deadline"
    assert job["partial"]["text"]
    rows, _ = check_ledger(stack, job["id"], request)
    assert rows[0]["state"] == "unknown"
    simulator.release("fallback-deadline")


def test_a_deadline_that_is_far_leaves_time_for_the_next_target(stack):
    """It is nearer than the call's whole timeout; what ran out is the first target's time to begin."""
    request = chat(tokens=5, model="quick-then-spare", at={"quick": {"fault": "silence"}})
    job, rows, _ = run(stack, request, deadline=soon(seconds=15))

    assert job["state"] == "succeeded", job["error"]
    assert states(rows)[0] == ("quick", "unknown", None, "timeout")


def test_a_deadline_ends_a_waiting_job(api, admin):
    admin.post_json("/admin/v1/pause", {"priority": "low"})
    try:
        job = api.run(chat(), priority="low", deadline=soon(seconds=2))
    finally:
        admin.post_json("/admin/v1/resume", {"priority": "low"})
    assert job["state"] == "expired" and job["calls"] == []
