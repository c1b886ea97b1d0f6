# SPDX-License-Identifier: Apache-2.0
"""Limits: their documents, and what intake refuses because of them."""

import collections
import itertools
import json
import re
import threading
import time
import uuid
from datetime import datetime, timezone

import httpx
import pytest

from conftest import running, tenant_key
from testenv.api import chat, soon
from testenv.limits import first_that_waits, intake_asked
from testenv.sql import job_uuid
from testenv.stack import Stack
from testenv.wait import wait_until

COUNTS = ("submits_per_minute", "requests_per_minute", "tokens_per_minute", "max_concurrency", "max_queued",
          "max_body_bytes")
KNOWN_S = 2  # a change is felt everywhere by then
MARKS = itertools.count(900_000_000)  # tokens per minute that no job reaches: shown in headers


def put(admin, path, body, expect=200):
    answer = admin.client.put(path, json=body)
    assert answer.status_code == expect, f"PUT {path}: {answer.status_code} {answer.text[:500]}"
    return answer.json()


def limit(stack, admin, client, body):
    """Limits of the client's tenant, known to all producers when this returns: a limit of tokens that
    is nobody else's shows in the headers of each."""
    mark = next(MARKS)
    put(admin, f"/admin/v1/tenants/{client.tenant}/limits", body)
    (key,) = admin.get_json(f"/admin/v1/tenants/{client.tenant}/keys")["data"]
    put(admin, f"/admin/v1/keys/{key['id']}/limits", {"tokens_per_minute": mark})

    def is_known(producer):
        answer = stack.api(producer=producer, key=client.key).client.get("/v1/jobs/none")
        policy = answer.headers.get("ratelimit-policy", "")
        return str(mark) in policy or (body.get("tokens_per_minute") is not None and policy)

    for producer in range(len(stack.urls)):
        wait_until(lambda number=producer: is_known(number), KNOWN_S, "the limits to be known")


def later(**fields):
    """A submit body whose job stays in the queue."""
    return {"request": chat(model="single"), "run_at": soon(hours=1), **fields}


def error_of(answer, status, code):
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:400]}"
    error = answer.json()["error"]
    assert error["code"] == code, error
    return error


# --- documents ------------------------------------------------------------------------------------

def test_a_tenant_without_limits_has_a_document_all_the_same(admin, tenant):
    document = admin.get_json(f"/admin/v1/tenants/{tenant.tenant}/limits")
    assert all(document[name] is None for name in (*COUNTS, "max_job_cost_usd", "time_zone"))
    assert document["budget_usd"] == {"day": None, "month": None, "total": None}
    assert document["budget_policy"] == "wait" and document["shadow"] is False
    assert document["workflows"] == document["users"] == document["models"] == {}


def test_what_was_put_is_read_again_and_replaced_whole(admin, tenant):
    path = f"/admin/v1/tenants/{tenant.tenant}/limits"
    body = {"requests_per_minute": 60, "max_job_cost_usd": "0.25", "budget_usd": {"day": "12.5"},
            "budget_policy": "fail", "time_zone": "Europe/Berlin",
            "workflows": {"nightly": {"max_concurrency": 3}}, "users": {"*": {"budget_usd": {"total": "1"}}},
            "models": {"single": {"tokens_per_minute": 9}}}
    made = put(admin, path, body)
    assert made == admin.get_json(path)
    assert made["budget_usd"] == {"day": "12.500000000", "month": None, "total": None}
    assert made["workflows"]["nightly"]["max_concurrency"] == 3
    assert made["users"]["*"]["budget_usd"]["total"] == "1.000000000"
    assert put(admin, path, made) == made
    replaced = put(admin, path, {"max_queued": 7})
    assert replaced["max_queued"] == 7 and replaced["requests_per_minute"] is None
    assert replaced["time_zone"] is None and replaced["users"] == {}


def test_who_loses_against_others_is_told_to_try_again(stack, admin, tenant):
    """Many replace one document at a time: each is stored whole, or refused for the moment."""
    path = f"/admin/v1/tenants/{tenant.tenant}/limits"
    answers = []

    def replace(number):
        client = stack.admin(producer=number % 2).client
        answers.append(client.put(path, json={"max_queued": number}))

    threads = [threading.Thread(target=replace, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = [answer.json()["max_queued"] for answer in answers if answer.status_code == 200]
    assert admin.get_json(path)["max_queued"] in stored
    for answer in answers:
        if answer.status_code != 200:
            assert error_of(answer, 409, "conflict")["type"] == "invalid_request_error"
            assert answer.headers["x-should-retry"] == "true" and answer.headers["retry-after"] == "1"


def test_a_key_has_limits_of_its_own(admin, tenant):
    (key,) = admin.get_json(f"/admin/v1/tenants/{tenant.tenant}/keys")["data"]
    path = f"/admin/v1/keys/{key['id']}/limits"
    assert admin.get_json(path)["max_queued"] is None
    assert put(admin, path, {"max_queued": 3})["max_queued"] == 3
    assert admin.get_json(path)["max_queued"] == 3
    assert admin.get_json(f"/admin/v1/tenants/{tenant.tenant}/limits")["max_queued"] is None
    assert put(admin, path, {"time_zone": "UTC"}, 400)["error"]["param"] == "time_zone"


@pytest.mark.parametrize("path", ["/admin/v1/tenants/nobody-has-this/limits", "/admin/v1/keys/AAAAAAAA/limits"])
def test_limits_of_nobody_are_not_found(admin, path):
    assert admin.client.get(path).status_code == 404
    assert admin.client.put(path, json={"max_queued": 1}).status_code == 404


@pytest.mark.parametrize("body, code, param", [
    ({"requests_per_minute": -1}, "invalid_value", "requests_per_minute"),
    ({"tokens_per_minute": 1.5}, "invalid_value", "tokens_per_minute"),
    ({"max_concurrency": 10 ** 30}, "invalid_value", "max_concurrency"),
    ({"max_queued": "5"}, "invalid_value", "max_queued"),
    ({"budget_usd": {"day": "0.1234567891"}}, "invalid_value", "budget_usd.day"),
    ({"budget_usd": {"month": "9000001"}}, "invalid_value", "budget_usd.month"),
    ({"budget_usd": {"total": "-1"}}, "invalid_value", "budget_usd.total"),
    ({"budget_usd": {"total": 5}}, "invalid_value", "budget_usd.total"),
    ({"budget_policy": "explode"}, "invalid_value", "budget_policy"),
    ({"time_zone": "Mars/Olympus"}, "invalid_value", "time_zone"),
    ({"time_zone": "'; DROP TABLE limits; --"}, "invalid_value", "time_zone"),
    ({"users": {"u": {"max_queued": -5}}}, "invalid_value", "users.u.max_queued"),
    ({"requests_per_minut": 5}, "unknown_field", "requests_per_minut"),
    ({"workflows": {"w": {"time_zone": "UTC"}}}, "unknown_field", "workflows.w.time_zone"),
])
def test_a_bad_member_is_a_400_that_names_it(admin, tenant, body, code, param):
    path = f"/admin/v1/tenants/{tenant.tenant}/limits"
    error = put(admin, path, body, 400)["error"]
    assert (error["code"], error["param"]) == (code, param), error
    assert admin.get_json(path)["max_queued"] is None


def test_every_change_is_in_the_audit(stack, admin, tenant):
    put(admin, f"/admin/v1/tenants/{tenant.tenant}/limits", {"max_queued": 3})
    put(admin, f"/admin/v1/tenants/{tenant.tenant}/limits", {"max_queued": 4})
    rows = stack.sql.rows("SELECT * FROM audit WHERE object = %s ORDER BY seq", f"tenant:{tenant.tenant}")
    rows = [row for row in rows if row["action"] == "tenant.limits"]
    assert len(rows) == 2
    assert '"max_queued": 3' in str(rows[1]["before"]) or '"max_queued":3' in str(rows[1])


def test_a_books_generation_moves_with_its_accounts_alone(stack, admin, tenant):
    path = f"/admin/v1/tenants/{tenant.tenant}/limits"

    def generation():
        rows = stack.sql.rows("SELECT generation FROM budget_books WHERE tenant = %s", tenant.tenant)
        return rows[0]["generation"] if rows else 0

    put(admin, path, {"max_queued": 3})
    assert generation() == 0
    put(admin, path, {"budget_usd": {"day": "1"}})
    first = generation()
    assert first > 0
    put(admin, path, {"budget_usd": {"day": "2"}, "max_queued": 5})
    assert generation() == first
    put(admin, path, {"budget_usd": {"day": "2"}, "time_zone": "Asia/Tokyo"})
    assert generation() == first + 1
    (key,) = admin.get_json(f"/admin/v1/tenants/{tenant.tenant}/keys")["data"]
    put(admin, f"/admin/v1/keys/{key['id']}/limits", {"budget_usd": {"total": "2"}})
    assert generation() == first + 2


def test_a_put_opens_gates_and_wakes_who_waits_for_a_limit(stack, admin, tenant):
    jobs = [tenant.post_json("/v1/jobs", later(), 202)["id"] for _ in range(3)]
    stack.sql.rows("UPDATE queue SET wait_reason = 'budget' WHERE tenant = %s RETURNING 1", tenant.tenant)
    stack.sql.rows("INSERT INTO gates (tenant, kind, name, until, reason)"
                   " VALUES (%s, 'tenant', '', now() + interval '1 day', 'budget') RETURNING 1", tenant.tenant)
    put(admin, f"/admin/v1/tenants/{tenant.tenant}/limits", {"budget_usd": {"day": "100"}})
    assert not stack.sql.rows("SELECT FROM gates WHERE tenant = %s", tenant.tenant)
    for job in jobs:
        assert tenant.ended(job, 30)["state"] == "succeeded"


@pytest.mark.parametrize("limits, reason", [
    ({"requests_per_minute": 0}, "rate_limit"), ({"max_concurrency": 0}, "concurrency")])
def test_a_job_waits_at_zero_and_runs_soon_after_the_limit_is_lifted(stack, admin, tenant, limits, reason):
    limit(stack, admin, tenant, limits)
    job = first_that_waits(tenant, reason, lambda: chat(model="single"))[0]["id"]
    lifted = datetime.now(timezone.utc)
    put(admin, f"/admin/v1/tenants/{tenant.tenant}/limits", {})
    ended = tenant.ended(job, 10)
    assert ended["state"] == "succeeded"
    assert (datetime.fromisoformat(ended["calls"][0]["started_at"]) - lifted).total_seconds() < 2.5


# --- intake ---------------------------------------------------------------------------------------

def test_a_queue_is_never_longer_than_it_may_be(stack, admin, tenant):
    limit(stack, admin, tenant, {"max_queued": 20})
    results = []

    def submit_many(producer):
        client = stack.api(producer=producer, key=tenant.key)
        for _ in range(20):
            answer = client.client.post("/v1/jobs", json=later())
            results.append(answer.status_code)
            if answer.status_code == 429:
                error = error_of(answer, 429, "queue_full")
                assert error["type"] == "rate_limit_error"
                assert int(answer.headers["retry-after"]) >= 1 and answer.headers["x-should-retry"] == "true"

    threads = [threading.Thread(target=submit_many, args=(number % 2,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(202) == 20 and results.count(429) == 60
    assert stack.sql.rows("SELECT count(*) AS n FROM queue WHERE tenant = %s", tenant.tenant)[0]["n"] == 20


def test_an_accepted_submit_is_answered_again_when_the_queue_is_full(stack, admin, tenant):
    limit(stack, admin, tenant, {"max_queued": 1})
    body, key = json.dumps(later()).encode(), f"k-{uuid.uuid4()}"

    def post(content, name):
        return tenant.client.post("/v1/jobs", content=content, headers={"content-type": "application/json",
                                                                        "idempotency-key": name})

    first = post(body, key)
    assert first.status_code == 202
    second = json.dumps(later()).encode()
    error_of(post(second, "other"), 429, "queue_full")
    again = post(body, key)
    assert again.status_code == 202 and again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    # The refusal was not kept: with room the same key and body are accepted.
    limit(stack, admin, tenant, {"max_queued": 2})
    assert post(second, "other").status_code == 202


def test_each_line_of_a_bulk_is_judged_alone(stack, admin, tenant):
    limit(stack, admin, tenant, {"max_queued": 5, "max_body_bytes": 2000})
    lines = [later() for _ in range(8)]
    lines.insert(2, later(request=chat("x" * 3000, model="single")))
    answers, summary = tenant.bulk(lines)
    codes = [answer.get("error", {}).get("code") for answer in answers]
    assert codes[2] == "too_large"
    assert codes.count(None) == 5 and codes.count("queue_full") == 3
    assert summary == {"object": "bulk.summary", "accepted": 5, "rejected": 4}
    for answer in answers:
        if "id" in answer:
            assert tenant.job(answer["id"])["state"] == "queued"


def test_scopes_count_their_own(stack, admin, tenant):
    limit(stack, admin, tenant, {"workflows": {"w": {"max_queued": 1}}, "users": {"*": {"max_queued": 1}}})
    tenant.post_json("/v1/jobs", later(workflow="w"), 202)
    error = error_of(tenant.client.post("/v1/jobs", json=later(workflow="w")), 429, "queue_full")
    assert "workflow:w" in error["message"]
    tenant.post_json("/v1/jobs", later(workflow="v"), 202)
    tenant.post_json("/v1/jobs", later(user="a"), 202)
    tenant.post_json("/v1/jobs", later(user="b"), 202)
    error = error_of(tenant.client.post("/v1/jobs", json=later(user="a")), 429, "queue_full")
    assert "user:a" in error["message"]


def shadow_refusals(stack):
    """By dimension, the sum over all daemons."""
    counted = collections.Counter()
    for url in stack.environment["METRICS_URLS"].split(","):
        text = httpx.get(url, trust_env=False, timeout=10).text
        for dimension, value in re.findall(r'^nightshift_shadow_refusals_total{dimension="(\w+)"} (\d+)$', text, re.M):
            counted[dimension] += int(value)
    return counted


def test_a_shadow_limit_refuses_nothing(stack, admin, tenant):
    """And what it would have refused is counted: of jobs that were accepted, once."""
    limit(stack, admin, tenant, {"max_queued": 0, "max_body_bytes": 1, "tokens_per_minute": 0,
                                 "max_job_cost_usd": "0", "budget_usd": {"day": "0"}, "submits_per_minute": 0,
                                 "shadow": True})
    before = shadow_refusals(stack)
    tenant.post_json("/v1/jobs", later(), 202)
    body, named = later(), {"idempotency-key": str(uuid.uuid4())}
    for _ in range(2):
        assert tenant.client.post("/v1/jobs", json=body, headers=named).status_code == 202
    ids = [answer["id"] for answer in tenant.bulk([later()] * 3)[0]]
    assert len(set(ids)) == 3
    judged = {"body": 5, "job_cost": 5, "never_fits": 5}

    def is_counted():
        more = shadow_refusals(stack) - before
        return more["submits"] >= 5 and all(more[name] >= count for name, count in judged.items())
    wait_until(is_counted, 10, "what was not refused to be counted")
    more = shadow_refusals(stack) - before
    assert {name: more[name] for name in judged} == judged, more


def test_what_a_shadow_limit_lets_pass_is_not_counted(stack, admin, tenant):
    limit(stack, admin, tenant, {"max_body_bytes": 100_000, "tokens_per_minute": 100_000, "max_job_cost_usd": "5",
                                 "budget_usd": {"day": "5"}, "shadow": True})
    before = shadow_refusals(stack)
    tenant.post_json("/v1/jobs", later(), 202)
    put(admin, f"/admin/v1/tenants/{tenant.tenant}/limits", {"max_job_cost_usd": "0", "users": {"s": {
        "max_body_bytes": 1, "shadow": True}}})
    wait_until(lambda: tenant.client.post("/v1/jobs", json=later(user="s")).status_code == 400, KNOWN_S,
               "the limit to be known")
    error_of(tenant.client.post("/v1/jobs", json=later(user="s")), 400, "never_fits")
    assert shadow_refusals(stack) == before, "it was refused for something else"


@pytest.mark.parametrize("limits, status, code, words", [
    ({"max_body_bytes": 100}, 413, "too_large", "100 bytes"),
    ({"tokens_per_minute": 10}, 400, "never_fits", "tokens_per_minute"),
    ({"tokens_per_minute": 0}, 400, "never_fits", "tokens_per_minute"),
    ({"max_job_cost_usd": "0.000000001"}, 400, "never_fits", "max_job_cost_usd"),
    ({"max_job_cost_usd": "0"}, 400, "never_fits", "max_job_cost_usd"),
    ({"budget_usd": {"day": "0.000000001"}}, 400, "never_fits", "budget_usd.day"),
    ({"budget_usd": {"total": "0"}}, 400, "never_fits", "budget_usd.total"),
    ({"models": {"single": {"budget_usd": {"month": "0"}}}}, 400, "never_fits", "model:single"),
])
def test_what_can_never_pass_is_refused_at_once(stack, admin, tenant, limits, status, code, words):
    limit(stack, admin, tenant, limits)
    error = error_of(tenant.client.post("/v1/jobs", json=later()), status, code)
    assert words in error["message"] and error["type"] == "invalid_request_error"


def test_a_job_too_dear_for_its_own_ceiling_never_fits(tenant):
    error = error_of(tenant.client.post("/v1/jobs", json=later(max_cost_usd="0.000000001")), 400, "never_fits")
    assert error["param"] == "max_cost_usd"


def test_what_changes_the_price_unseen_is_refused_under_a_budget(stack, admin, tenant):
    body = later()
    body["request"]["service_tier"] = "priority"
    tenant.post_json("/v1/jobs", body, 202)
    limit(stack, admin, tenant, {"budget_usd": {"day": "100"}})
    error = error_of(tenant.client.post("/v1/jobs", json=body), 400, "invalid_value")
    assert error["param"] == "request.service_tier"


def with_plugins(**fields):
    body = later(**fields)
    body["request"].update({"plugins": [{"id": "web"}], "top_k": 40, "temperature": 0.5})
    return body


def test_a_field_that_nobody_knows_is_refused_under_a_budget(stack, admin, tenant):
    body = with_plugins()
    tenant.post_json("/v1/jobs", body, 202)
    limit(stack, admin, tenant, {"budget_usd": {"day": "100"}, "shadow": True})
    tenant.post_json("/v1/jobs", body, 202)
    limit(stack, admin, tenant, {"budget_usd": {"day": "100"}})
    error = error_of(tenant.client.post("/v1/jobs", json=body), 400, "invalid_value")
    assert error["param"] == "request.plugins" and error["type"] == "invalid_request_error"
    assert "remove it" in error["message"] and "priced_fields of the price of gpt-4o-mini" in error["message"]
    del body["request"]["plugins"]
    tenant.post_json("/v1/jobs", body, 202)


def test_a_field_that_nobody_knows_is_refused_under_a_ceiling_of_the_job(stack, admin, tenant):
    error = error_of(tenant.client.post("/v1/jobs", json=with_plugins(max_cost_usd="0.5")), 400, "invalid_value")
    assert error["param"] == "request.plugins"
    limit(stack, admin, tenant, {"max_job_cost_usd": "0.5"})
    error = error_of(tenant.client.post("/v1/jobs", json=with_plugins()), 400, "invalid_value")
    assert error["param"] == "request.plugins"


def test_a_field_that_nobody_knows_fails_a_job_that_was_there_before_the_budget(stack, admin, tenant):
    made = tenant.post_json("/v1/jobs", with_plugins(run_at=soon(seconds=4)), 202)
    limit(stack, admin, tenant, {"budget_usd": {"day": "100"}})
    ended = tenant.ended(made["id"], 30)
    assert ended["state"] == "failed" and ended["error"]["type"] == "budget", ended["error"]
    assert ended["error"]["message"].startswith("request.plugins: ")
    assert ended["calls"] == [] and ended["cost_usd"] == "0.000000000"


def test_zero_of_a_rate_or_of_concurrency_makes_jobs_wait(stack, admin, tenant):
    limit(stack, admin, tenant, {"requests_per_minute": 0, "max_concurrency": 0})
    tenant.post_json("/v1/jobs", later(), 202)


def test_a_disabled_tenant_is_refused_and_its_jobs_rest(stack, admin, tenant):
    request = chat(model="single")
    made = tenant.post_json("/v1/jobs", {"request": request, "run_at": soon(seconds=3)}, 202)
    admin.client.patch(f"/admin/v1/tenants/{tenant.tenant}", json={"disabled": True})
    for producer in (0, 1):
        client = stack.api(producer=producer, key=tenant.key)
        wait_until(lambda: client.client.post("/v1/jobs", json=later()).status_code == 403, KNOWN_S,
                   "the tenant to be refused")
        error_of(client.client.post("/v1/jobs", json=later()), 403, "tenant_disabled")
    at_rest = "SELECT count(*) FROM queue WHERE job = %s AND ready_at < now()"
    wait_until(lambda: stack.sql.value(at_rest, job_uuid(made["id"])), 10, "the job to be due")
    for _ in range(3):  # others run meanwhile
        assert stack.api().run(chat(model="single"))["state"] == "succeeded"
    assert stack.sql.value(at_rest, job_uuid(made["id"])) == 1 and stack.simulator.calls(request) == []
    admin.client.patch(f"/admin/v1/tenants/{tenant.tenant}", json={"disabled": False})
    wait_until(lambda: tenant.client.get("/v1/jobs").status_code == 200, KNOWN_S)
    assert tenant.ended(made["id"], 30)["state"] == "succeeded"
    assert len(stack.simulator.calls(request)) == 1


def test_limits_are_the_admins_alone(stack, admin):
    _, key = tenant_key(admin, f"t-{uuid.uuid4().hex[:12]}")
    client = stack.api(key=key)
    assert client.client.get("/admin/v1/tenants/x/limits").status_code == 403


# --- submits per minute ---------------------------------------------------------------------------

def statuses(client, count, **fields):
    return [client.client.post("/v1/jobs", json=later(**fields)).status_code for _ in range(count)]


def test_submits_are_limited_per_minute_with_a_burst_of_a_tenth(stack, admin, tenant):
    limit(stack, admin, tenant, {"submits_per_minute": 60})
    clients = [stack.api(producer=number, key=tenant.key).client for number in (0, 1)]
    began = time.monotonic()
    answers = [clients[number % 2].post("/v1/jobs", json=later()) for number in range(20)]
    passed = time.monotonic() - began
    codes = [answer.status_code for answer in answers]
    assert codes[:6] == [202] * 6 and 429 in codes and codes.count(202) <= 6 + passed + 1, codes
    answer = answers[codes.index(429)]
    error = error_of(answer, 429, "rate_limited")
    assert error["type"] == "rate_limit_error" and "60 submits per minute" in error["message"]
    assert answer.headers["retry-after"] == "1" and answer.headers["x-should-retry"] == "true"
    assert answer.headers["x-ratelimit-limit-requests"] == "60"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    wait_until(lambda: clients[0].post("/v1/jobs", json=later()).status_code == 202, 5, "the next submit")


def test_zero_submits_per_minute_is_a_429(stack, admin, tenant):
    limit(stack, admin, tenant, {"submits_per_minute": 0})
    answer = tenant.client.post("/v1/jobs", json=later())
    error_of(answer, 429, "rate_limited")
    assert int(answer.headers["retry-after"]) >= 1


def test_an_accepted_submit_is_answered_again_over_the_rate(stack, admin, tenant):
    headers = {"content-type": "application/json", "idempotency-key": str(uuid.uuid4())}
    body = json.dumps(later()).encode()
    first = tenant.client.post("/v1/jobs", content=body, headers=headers)
    limit(stack, admin, tenant, {"submits_per_minute": 0})
    again = tenant.client.post("/v1/jobs", content=body, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202) and first.content == again.content
    headers["idempotency-key"] = str(uuid.uuid4())
    error_of(tenant.client.post("/v1/jobs", content=body, headers=headers), 429, "rate_limited")
    limit(stack, admin, tenant, {})
    assert tenant.client.post("/v1/jobs", content=body, headers=headers).status_code == 202


def test_a_user_has_a_rate_of_his_own(stack, admin, tenant):
    limit(stack, admin, tenant, {"users": {"*": {"submits_per_minute": 10}}})
    assert statuses(tenant, 2, user="a") == [202, 429]
    assert statuses(tenant, 2, user="b") == [202, 429]
    assert statuses(tenant, 2) == [202, 202]


def test_bulk_lines_over_the_rate_are_refused_one_by_one(stack, admin, tenant):
    limit(stack, admin, tenant, {"submits_per_minute": 100})
    answers, summary = tenant.bulk([later() for _ in range(40)])
    codes = [answer.get("error", {}).get("code") for answer in answers]
    assert set(codes) == {None, "rate_limited"}
    assert 10 <= codes.count(None) <= 15 and summary["accepted"] == codes.count(None)
    assert stack.sql.rows("SELECT count(*) AS n FROM queue WHERE tenant = %s",
                          tenant.tenant)[0]["n"] == summary["accepted"]


def test_every_answer_to_a_limited_key_tells_its_limits(stack, admin, tenant):
    limit(stack, admin, tenant, {"submits_per_minute": 20, "tokens_per_minute": 100_000})
    job = tenant.post_json("/v1/jobs", later(), 202)["id"]
    answers = [tenant.client.get("/v1/jobs"), tenant.client.get(f"/v1/jobs/{job}"),
               tenant.client.get("/v1/jobs/none"), tenant.client.post("/v1/jobs", json={}),
               tenant.client.post("/v1/jobs", content=b"{", headers={"content-type": "application/json"}),
               tenant.client.post("/v1/jobs", json=later()), tenant.client.get("/v1/jobs?nonsense=1"),
               tenant.client.post(f"/v1/jobs/{job}/cancel"), tenant.client.get("/v1/nothing"),
               tenant.client.put("/v1/jobs", json={}), tenant.client.get("/admin/v1/tenants")]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 400, 400, 202, 400, 200, 404, 405, 403]
    for answer in answers:
        assert answer.headers["x-ratelimit-limit-requests"] == "20"
        assert answer.headers["x-ratelimit-limit-tokens"] == "100000"
        assert 0 <= int(answer.headers["x-ratelimit-remaining-requests"]) <= 20
        assert answer.headers["x-ratelimit-remaining-tokens"].isdigit()
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
        assert answer.headers["ratelimit-policy"] == '"requests";q=20;w=60, "tokens";q=100000;w=60'
        assert answer.headers["ratelimit"].startswith('"requests";r=')
    remaining = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers]
    assert remaining[5] < remaining[2]  # in 3 s one comes back


def timed(ask):
    """(answer, when it was asked for, when it was there)"""
    began = time.monotonic()
    return ask(), began, time.monotonic()


def left(answer):
    return int(answer.headers["x-ratelimit-remaining-requests"])


def test_a_burst_of_submits_asks_redis_once_for_each(stack, admin, tenant):
    limit(stack, admin, tenant, {"submits_per_minute": 600})
    with intake_asked(stack.environment["REDIS_URL"], tenant.tenant) as questions:
        submits = [timed(lambda: tenant.client.post("/v1/jobs", json=later())) for _ in range(50)]
    assert [answer.status_code for answer, _, _ in submits] == [202] * 50
    # What the first one took is known to the next, if that comes within a quarter of a second.
    late = sum(there - asked >= 0.25 for (_, asked, _), (_, _, there) in itertools.pairwise(submits))
    assert questions.count(1) == 50 and questions.count(0) <= 1 + late, (questions, late)
    back_per_s = 600 / 60
    for (before, asked, _), (after, _, there) in itertools.pairwise(submits):
        assert -(there - asked) * back_per_s <= left(before) - left(after) <= 1
    passed = submits[-1][2] - submits[0][1]
    assert 10 <= left(submits[-1][0]) <= 10 + passed * back_per_s


def test_submits_that_only_tokens_limit_take_nothing_of_redis(stack, admin, tenant):
    limit(stack, admin, tenant, {"tokens_per_minute": 100_000})
    with intake_asked(stack.environment["REDIS_URL"], tenant.tenant) as questions:
        submits = [timed(lambda: tenant.client.post("/v1/jobs", json=later())) for _ in range(20)]
    assert [answer.status_code for answer, _, _ in submits] == [202] * 20
    assert {answer.headers["x-ratelimit-remaining-tokens"] for answer, _, _ in submits} == {"10000"}
    passed = submits[-1][2] - submits[0][1]
    assert questions.count(1) == 0 and questions.count(0) <= 1 + passed / 0.25, (questions, passed)


@pytest.mark.parametrize("names, fields", [("users", {}), ("users", {"user": "a"}), ("models", {})],
                         ids=["of-the-tenant", "of-a-user-too", "of-a-model-too"])
def test_a_read_after_a_submit_tells_of_it_without_asking_redis(stack, admin, tenant, names, fields):
    limit(stack, admin, tenant, {"submits_per_minute": 60, names: {"*": {"submits_per_minute": 600}}})
    with intake_asked(stack.environment["REDIS_URL"], tenant.tenant) as questions:
        before, asked, _ = timed(lambda: tenant.client.get("/v1/jobs"))
        submit = tenant.client.post("/v1/jobs", json=later(**fields))
        after, _, there = timed(lambda: tenant.client.get("/v1/jobs"))
    assert submit.status_code == 202
    assert left(before) == 6 and 5 <= left(after) <= 5 + (there - asked)
    assert questions.count(1) == 1 and (questions.count(0) <= 1 or there - asked >= 0.25), questions


def test_who_has_no_limits_is_told_of_none(tenant):
    answer = tenant.client.get("/v1/jobs")
    assert not [name for name in answer.headers if "ratelimit" in name]


@pytest.fixture
def own_stack():
    yield from running(Stack(broker="embedded"))


def test_without_redis_a_limiter_of_the_process_stands_in(own_stack):
    admin = own_stack.admin()
    name = f"t-{uuid.uuid4().hex[:12]}"
    _, key = tenant_key(admin, name)
    client = own_stack.api(key=key)
    client.tenant = name
    limit(own_stack, admin, client, {"submits_per_minute": 60})
    own_stack.kill("redis")
    answers = [client.client.post("/v1/jobs", json=later()) for _ in range(30)]
    codes = [answer.status_code for answer in answers]
    assert codes[0] == 202 and set(codes) == {202, 429} and codes.count(202) <= 30
    assert all(answer.headers["x-ratelimit-limit-requests"] == "60" for answer in answers)
    assert all(left(answer) == 0 for answer in answers if answer.status_code == 429)
    own_stack.restart("redis")
