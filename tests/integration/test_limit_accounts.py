# SPDX-License-Identifier: Apache-2.0
"""Accounts of providers: their limits are the whole fleet's, and what they say themselves is heard."""

import os
import signal
import time
import uuid

import pytest

from conftest import running, tenant_key
from test_limit_waits import (calls_since, cancel_all, ended, fill, most_at_once, most_in_window, seconds, share_used,
                              starts_of, wait_for_reason)
from testenv.api import chat
from testenv.stack import CONFIG, Stack
from testenv.wait import wait_until

AT_ONCE = 4
PER_MINUTE = 300
TOKENS = 1000  # a minute of the account that is too small for some
LARGE = 3000  # tokens of such a job's answer, at most

ROUTES = """  narrow:
    strategy: fallback
    targets:
      - {provider: narrow, model: gpt-4o-mini}
  slow:
    strategy: fallback
    targets:
      - {provider: slow, model: gpt-4o-mini}
  unlimited:
    strategy: fallback
    targets:
      - {provider: unlimited, model: gpt-4o-mini}
  tight:
    strategy: fallback
    targets:
      - {provider: tight, model: gpt-4o-mini}
  eased:
    strategy: fallback
    targets:
      - {provider: tight, model: gpt-4o-mini}
      - {provider: spare, model: gpt-4o-mini}
prices: """

PROVIDERS = f"""providers:
  narrow:
    format: openai
    base_url: ${{SIMULATOR_URL}}/narrow/v1
    api_key: simulator
    prices: openai
    max_concurrency: {AT_ONCE}
  slow:
    format: openai
    base_url: ${{SIMULATOR_URL}}/slow/v1
    api_key: simulator
    prices: openai
    requests_per_minute: {PER_MINUTE}
  unlimited:
    format: openai
    base_url: ${{SIMULATOR_URL}}/unlimited/v1
    api_key: simulator
    prices: openai
  tight:
    format: openai
    base_url: ${{SIMULATOR_URL}}/tight/v1
    api_key: simulator
    prices: openai
    tokens_per_minute: {TOKENS}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The usual file with three accounts under limits, one under none.  Paths in it are relative to where it lies."""
    folder = os.path.dirname(CONFIG)
    with open(CONFIG, encoding="utf-8") as file:
        text = file.read()
    text = text.replace("providers:\n", PROVIDERS, 1).replace("prices: ../../", f"{ROUTES}{folder}/../../", 1)
    path = tmp_path_factory.mktemp("accounts") / "nightshift.yaml"
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def stack(config):
    yield from running(Stack(broker="embedded", workers=3, config=config))


@pytest.fixture
def client(stack):
    name = f"a-{uuid.uuid4().hex[:12]}"
    _, key = tenant_key(stack.admin(), name)
    client = stack.api(key=key)
    client.tenant = name
    return client


def calls_of(stack, name, seq):
    return [call for call in calls_since(stack, seq) if call["provider"] == name]


def provider(stack, name):
    return next(one for one in stack.admin().get_json("/admin/v1/providers")["data"] if one["name"] == name)


def test_concurrency_of_an_account_is_the_fleets(stack, client):
    seq = stack.simulator.last_seq()
    _, jobs = fill(client, 120, model="narrow", tokens=2, delay_ms=1000)
    wait_for_reason(client, jobs, "concurrency")
    wait_until(lambda: len(ended(calls_of(stack, "narrow", seq))) >= 2 * AT_ONCE, 20, "two rounds of calls")
    begin = time.time()

    def used():
        end = time.time()
        span = max(begin, end - 6), end  # a crowded machine may spoil one span of time, not all
        return end - begin >= 6 and share_used(calls_of(stack, "narrow", seq), *span, AT_ONCE) >= 0.7
    wait_until(used, 18, "most of the limit to be used for 6 s", interval_s=0.5)
    assert most_at_once(calls_of(stack, "narrow", seq)) <= AT_ONCE
    cancel_all(client, jobs[30:])
    for job in jobs[:30]:
        assert client.ended(job)["state"] == "succeeded"


def test_requests_per_minute_of_an_account_are_the_fleets(stack, client):
    seq = stack.simulator.last_seq()
    _, jobs = fill(client, 90, model="slow", tokens=2)
    wait_for_reason(client, jobs, "rate_limit")
    for job in jobs:
        assert client.ended(job, timeout_s=40)["state"] == "succeeded"
    starts = starts_of(calls_of(stack, "slow", seq))
    for window_s in (3, 8):  # the burst of a tenth, its own share, and what is on its way jitters
        assert most_in_window(starts, window_s) <= PER_MINUTE * (6 + window_s) / 60 * 1.1 + 1


def test_what_a_provider_says_closes_its_account_to_the_fleet_until_then(stack, client):
    seq = stack.simulator.last_seq()
    client.run(chat("says", model="narrow", tokens=2, remaining=0, reset="3s"))
    begin = time.time()
    seen = wait_until(lambda: provider(stack, "narrow")["seen"], 5, "the fleet to be told")
    assert seen["remaining_requests"] == 0
    assert provider(stack, "narrow")["state"] == "closed" and provider(stack, "narrow")["closed_until"]
    _, jobs = fill(client, 12, model="narrow", tokens=2)
    wait_for_reason(client, jobs, "rate_limit", 2)
    for job in jobs:
        assert client.ended(job)["state"] == "succeeded"
    starts = starts_of(calls_of(stack, "narrow", seq))
    assert len(starts) == 13 and starts[1] - begin >= 2
    assert provider(stack, "narrow")["state"] == "open"
    assert provider(stack, "main")["seen"] is None


def test_an_account_without_limits_is_closed_to_all_workers_by_what_one_was_told(stack, client):
    seq = stack.simulator.last_seq()
    mark = uuid.uuid4().hex
    _, jobs = fill(client, 24, model="unlimited", tokens=2, hold=mark)
    wait_until(lambda: stack.simulator.holding(mark) == 24, 20, "all to be called: nothing limits them")
    assert len({stack.sql.run(job)["worker"] for job in jobs}) >= 2
    stack.simulator.release(mark)
    for job in jobs:
        assert client.ended(job)["state"] == "succeeded"
    with stack.simulator.fault("unlimited", status=429, remaining="0", reset="4s", times=1):
        job = client.submit(chat("no more", model="unlimited", tokens=2))["id"]
        wait_until(lambda: provider(stack, "unlimited")["state"] == "closed", 10, "the 429 to be heard")
    _, jobs = fill(client, 24, model="unlimited", tokens=2)
    wait_for_reason(client, jobs, "rate_limit", 3)
    for waiting in [job, *jobs]:
        assert client.ended(waiting)["state"] == "succeeded"
    calls = sorted(calls_of(stack, "unlimited", seq), key=lambda call: call["seq"])
    assert len(calls) == 24 + 1 + 25 and calls[24]["status"] == 429
    assert starts_of(calls[25:])[0] - seconds(calls[24]["ended_at"]) >= 3.9


def sized(model, max_tokens):
    return {**chat("sized", model=model, tokens=2), "max_tokens": max_tokens}


def test_what_no_account_of_a_route_has_in_a_minute_is_refused_at_submit(client):
    error = client.refused({"request": sized("tight", LARGE)})
    assert error["code"] == "never_fits"
    for word in ("tokens_per_minute", "provider tight", f" {TOKENS} "):
        assert word in error["message"]
    assert any(LARGE < int(word) < LARGE + 200 for word in error["message"].split() if word.isdigit()), error
    assert client.run(sized("tight", 20))["state"] == "succeeded"


def test_what_one_account_of_a_route_never_has_another_takes(stack, client):
    seq = stack.simulator.last_seq()
    assert client.run(sized("eased", LARGE))["state"] == "succeeded"
    assert [call["provider"] for call in calls_since(stack, seq)] == ["spare"]


@pytest.fixture
def generous(stack, config):
    """A producer that has not heard yet how small the account is, as workers have."""
    def tell(text):
        with open(config, "w", encoding="utf-8") as file:
            file.write(text)
        os.kill(stack.pid("producer-1"), signal.SIGHUP)
    with open(config, encoding="utf-8") as file:
        text = file.read()
    tell(text.replace(f"tokens_per_minute: {TOKENS}\n", f"tokens_per_minute: {TOKENS * TOKENS}\n"))
    yield
    tell(text)


@pytest.mark.usefixtures("generous")
def test_a_job_that_fits_no_account_any_more_does_not_stop_its_siblings(stack, client):
    body = {"request": sized("tight", LARGE)}

    def accepted():
        answer = client.client.post("/v1/jobs", json=body)
        return answer.json() if answer.status_code == 202 else None
    job = wait_until(accepted, 15, "the producer to read its file again")["id"]
    waiting = wait_for_reason(client, [job], "rate_limit")
    assert "tokens_per_minute of provider tight" in waiting["detail"], waiting
    assert client.run(sized("tight", 20))["state"] == "succeeded"
    assert client.job(job)["state"] == "queued"
    assert stack.sql.value("SELECT count(*) FROM gates WHERE tenant = %s", client.tenant) == 0
    wait_s = stack.sql.value("SELECT extract(epoch FROM ready_at - now()) FROM queue WHERE tenant = %s",
                             client.tenant)
    assert 3000 < float(wait_s) <= 3600
