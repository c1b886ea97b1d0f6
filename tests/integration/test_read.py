# SPDX-License-Identifier: Apache-2.0
"""GET /v1/jobs/{id}, its result, long polls, and who may see what."""

import base64
import hashlib
import json
import threading

import pytest

from testenv.api import chat, soon
from testenv.ledger import check_ledger
from testenv.wait import Stopwatch, wait_until


def test_a_succeeded_job_tells_everything(stack, api, simulator):
    request = chat(tokens=12)
    job = api.run(request, workflow="w-1", metadata={"a": "b"})
    rows, calls = check_ledger(stack, job["id"], request)

    assert (job["state"], job["attempts"], job["deferrals"], job["crashes"]) == ("succeeded", 1, 0, 0)
    assert job["created_at"] <= job["started_at"] <= job["ended_at"]
    assert job["waiting"] is None and job["partial"] is None and job["error"] is None
    result = job["result"]
    assert result["finish_reason"] == "stop"
    assert hashlib.sha256(result["text"].encode()).hexdigest() == calls[0]["text_sha256"]
    assert result["response"]["object"] == "chat.completion"
    assert result["response"]["choices"][0]["message"]["content"] == result["text"]
    assert job["usage"]["input_tokens"] == calls[0]["prompt_tokens"]
    assert job["usage"]["output_tokens"] == 12
    assert job["usage"]["total_tokens"] == 12 + calls[0]["prompt_tokens"]
    assert job["cost_usd"] == f"{rows[0]['cost_nano'] / 1e9:.9f}"
    assert job["unknown_cost_usd"] == "0.000000000"
    (call,) = job["calls"]
    assert call["id"].startswith("call_")
    assert (call["attempt"], call["provider"], call["model"], call["state"], call["status"]) == \
        (1, "main", "gpt-4o-mini", "settled", 200)
    assert call["error_type"] is None and call["first_token_ms"] is not None
    assert call["duration_ms"] >= call["first_token_ms"]
    assert call["cost_usd"] == job["cost_usd"]


def test_the_result_is_served_in_its_exact_bytes(api):
    job = api.run(chat(tokens=5, unicode=1))
    answer = api.client.get(f"/v1/jobs/{job['id']}/result")
    digest = hashlib.sha256(answer.content)

    assert answer.status_code == 200
    assert digest.hexdigest() == job["result"]["sha256"]
    assert answer.headers["content-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert answer.json() == job["result"]["response"]


def test_there_is_no_result_unless_succeeded(api):
    waiting = api.submit(run_at=soon(hours=1))
    answer = api.client.get(f"/v1/jobs/{waiting['id']}/result")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_result")
    api.cancel(waiting["id"])


def test_a_running_job_shows_its_text_so_far(api, simulator):
    job = api.submit(chat(tokens=40, after=10, hold="read-partial"))
    shown = wait_until(lambda: (lambda now: now if (now["partial"] or {}).get("text") else None)(
        api.job(job["id"])), 15)

    assert shown["state"] == "running"
    assert shown["partial"]["attempt"] == 1
    assert shown["result"] is None and shown["waiting"] is None
    simulator.release("read-partial")
    ended = api.ended(job["id"])
    assert ended["result"]["text"].startswith(shown["partial"]["text"])
    assert ended["partial"] is None


def test_the_request_comes_only_when_asked_for(api):
    request = chat(tokens=2)
    job = api.submit(request)

    assert "request" not in api.job(job["id"])
    assert api.job(job["id"], include="request")["request"] == request


@pytest.mark.parametrize("query", ["wait=61", "wait=-1", "wait=soon", "include=everything", "waits=1",
                                   "wait=1&wait=2", "wait=1&%77ait=1", "wait=", "include="])
def test_what_is_wrong_in_the_query_is_a_400(api, query):
    job = api.submit(chat(tokens=1))
    answer = api.client.get(f"/v1/jobs/{job['id']}?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_long_poll_returns_as_soon_as_the_job_ends(api, simulator):
    job = api.submit(chat(tokens=5, hold="read-poll"))
    wait_until(lambda: simulator.holding("read-poll"), 10, "the call")
    watch = Stopwatch()
    threading.Timer(1.0, simulator.release, args=("read-poll",)).start()
    ended = api.job(job["id"], wait=30)

    assert ended["state"] == "succeeded"
    assert 0.9 <= watch.seconds < 6


def test_a_long_poll_ends_with_the_job_as_it_is(api, simulator):
    job = api.submit(chat(tokens=5, hold="read-poll-2"))
    watch = Stopwatch()
    now = api.job(job["id"], wait=1)

    assert now["state"] in ("queued", "running")
    assert 0.9 <= watch.seconds < 4
    simulator.release("read-poll-2")
    api.ended(job["id"])


def test_a_long_poll_hears_of_the_end_at_another_producer(stack, api, other_producer, simulator):
    job = api.submit(chat(tokens=5, hold="read-poll-3"))
    wait_until(lambda: simulator.holding("read-poll-3"), 10, "the call")
    watch = Stopwatch()
    threading.Timer(0.5, simulator.release, args=("read-poll-3",)).start()
    assert other_producer.job(job["id"], wait=30)["state"] == "succeeded"
    assert watch.seconds < 5


@pytest.mark.parametrize("job", ["job_" + "0" * 32, "job_019301930193719301930193019301930",
                                 "job_xyz", "nonsense", "job_" + "f" * 32])
def test_unknown_and_impossible_ids_are_the_same_404(api, job):
    for method, path in (("GET", ""), ("GET", "/result"), ("GET", "/events"), ("POST", "/cancel"),
                         ("POST", "/replay")):
        answer = api.request(method, f"/v1/jobs/{job}{path}")
        assert answer.status_code == 404, (method, path, answer.text)
        assert answer.json()["error"]["code"] == "not_found"


def test_another_tenants_job_is_a_404_like_an_unknown_one(api, tenant):
    job = api.run(chat(tokens=1))
    unknown = "job_" + "0" * 32
    for method, path in (("GET", ""), ("GET", "/result"), ("GET", "/events"), ("POST", "/cancel"),
                         ("POST", "/replay")):
        foreign = tenant.request(method, f"/v1/jobs/{job['id']}{path}")
        nobodys = tenant.request(method, f"/v1/jobs/{unknown}{path}")
        assert foreign.status_code == nobodys.status_code == 404
        assert foreign.text.replace(job["id"], "ID") == nobodys.text.replace(unknown, "ID")


def test_a_read_key_cannot_submit_and_a_write_key_cannot_read(stack, admin, tenant, api):
    keys = {}
    for scope in ("jobs:read", "jobs:write"):
        keys[scope] = stack.api(key=admin.post_json(f"/admin/v1/tenants/{tenant.tenant}/keys",
                                                    {"name": scope, "scopes": [scope]}, 201)["key"])
    job = keys["jobs:write"].submit(chat(tokens=1))

    refused = keys["jobs:read"].refused({"request": chat()}, status=403)
    assert (refused["code"], refused["type"]) == ("missing_scope", "permission_error")
    assert keys["jobs:write"].client.get(f"/v1/jobs/{job['id']}").status_code == 403
    assert keys["jobs:read"].job(job["id"])["id"] == job["id"]


def test_a_waiting_job_says_why(stack, api, admin):
    later = api.submit(run_at=soon(hours=1))
    waiting = api.job(later["id"])["waiting"]
    assert waiting["reason"] == "run_at" and waiting["until"] == later["run_at"]
    api.cancel(later["id"])
    admin.post_json("/admin/v1/pause", {"priority": "low"})
    try:
        paused = api.submit(chat(tokens=1), priority="low")
        wait_until(lambda: (api.job(paused["id"])["waiting"] or {}).get("reason") == "paused", 5)
        assert api.job(paused["id"], wait=1)["state"] == "queued"
    finally:
        admin.post_json("/admin/v1/resume", {"priority": "low"})
    assert api.ended(paused["id"])["state"] == "succeeded"


def test_a_result_that_is_not_text_is_kept_whole(api):
    """A tool call: no text, the response as the provider gave it."""
    request = chat(fault="tool")
    request["tools"] = [{"type": "function", "function": {"name": "lookup_order", "parameters": {}}}]
    job = api.run(request)

    assert job["state"] == "succeeded", job
    message = job["result"]["response"]["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["name"] == "lookup_order"
    json.loads(message["tool_calls"][0]["function"]["arguments"])


@pytest.mark.parametrize("fault", ["bad_utf8", "nul", "lone_surrogate"])
def test_text_that_no_database_takes_is_mended_not_lost(api, fault):
    job = api.run(chat(tokens=10, after=4, fault=fault))

    assert job["state"] == "succeeded", job["error"]
    assert "\ufffd" in job["result"]["text"]
    assert "\x00" not in job["result"]["text"]


@pytest.mark.parametrize("fault", ["crlf", "comments", "bom", "split_bytes", "usage_every_chunk", "drip",
                                   "length"])
def test_odd_but_legal_streams_succeed(api, simulator, fault):
    request = chat(tokens=6, fault=fault, drip_ms=1)
    job = api.run(request)
    (call,) = simulator.ended_calls(request)

    assert job["state"] == "succeeded", job["error"]
    assert hashlib.sha256(job["result"]["text"].encode()).hexdigest() == call["text_sha256"]
    assert job["usage"]["output_tokens"] == call["output_tokens"]


def test_long_texts_arrive_whole(api, simulator):
    request = chat(tokens=20000, per_chunk=50, unicode=1)
    job = api.run(request)
    (call,) = simulator.ended_calls(request)

    assert job["state"] == "succeeded", job["error"]
    assert hashlib.sha256(job["result"]["text"].encode()).hexdigest() == call["text_sha256"]
