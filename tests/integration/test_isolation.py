# SPDX-License-Identifier: Apache-2.0
"""One tenant never sees another's jobs, nor that they exist: every route of the producer's own table."""

import json
import os
import re
import uuid

import pytest

from conftest import tenant_key
from testenv.api import chat

ROUTES_C = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "producer", "routes.c")
LINE = json.dumps({"request": chat(tokens=1), "idempotency_key": "line"}).encode() + b"\n"  # both send it in bulk
OPEN = {"/healthz", "/readyz", "/openapi.json"}  # to everybody, and about nobody


def routes():
    """(method, pattern, scope) of each line of the table: a new route cannot be forgotten."""
    with open(ROUTES_C, encoding="utf-8") as file:
        found = re.findall(r'\{"([A-Z]+)", "([^"]+)",\s*(SCOPE_\w+),', file.read())
    assert len(found) > 40
    return found


def of_jobs(has_id):
    return [(method, path) for method, path, scope in routes()
            if scope in ("SCOPE_JOBS_READ", "SCOPE_JOBS_WRITE") and ("{" in path) == has_id]


@pytest.fixture(scope="module")
def owner(stack):
    """A tenant with an ended job, a waiting one, and a key of idempotency: (name, api, ended, waiting)."""
    name = f"owner-{uuid.uuid4().hex[:8]}"
    _, key = tenant_key(stack.admin(), name)
    api = stack.api(key=key)
    ended = api.submit(chat(tokens=1), metadata={"secret": name}, workflow=name, idempotency_key="mine")["id"]
    assert api.ended(ended)["state"] == "succeeded"
    waiting = api.submit(chat(tokens=1, hold=name))["id"]
    assert api.bulk([LINE])[1]["accepted"] == 1
    yield name, api, ended, waiting
    stack.simulator.release(name)
    api.ended(waiting)


@pytest.fixture(scope="module")
def stranger(stack):
    _, key = tenant_key(stack.admin(), f"stranger-{uuid.uuid4().hex[:8]}")
    return stack.api(key=key)


def facts(answer):
    """All of an answer but what is new in each: the request's id, the time, what is left of limits."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "date")}
    return answer.status_code, headers, answer.text


def test_the_table_has_no_route_of_an_unknown_kind():
    for method, path, scope in routes():
        assert scope in ("SCOPE_JOBS_READ", "SCOPE_JOBS_WRITE", "SCOPE_ADMIN") or path in OPEN, (method, path)
        assert (scope == "SCOPE_ADMIN") == (path.startswith("/admin/") or path == "/metrics"), (method, path)


@pytest.mark.parametrize("method,path", of_jobs(has_id=True))
def test_anothers_job_is_answered_like_one_that_never_was(owner, stranger, method, path):
    _, _, ended, waiting = owner
    unknown = facts(stranger.client.request(method, path.replace("{id}", "job_" + "0" * 12 + "7" + "0" * 19)))
    assert unknown[0] == 404
    for job in (ended, waiting):
        assert facts(stranger.client.request(method, path.replace("{id}", job))) == unknown


def test_a_strangers_cancel_does_nothing(owner, stranger):
    _, api, _, waiting = owner
    assert stranger.client.post(f"/v1/jobs/{waiting}/cancel").status_code == 404
    assert api.job(waiting)["cancel_requested"] is False


@pytest.mark.parametrize("method,path", of_jobs(has_id=False))
def test_what_is_not_about_one_job_says_nothing_of_another_tenants(owner, stranger, method, path):
    name, api, ended, waiting = owner
    is_bulk = path.endswith("/bulk")
    traces = [name, ended, waiting, *(answer["id"] for answer in api.bulk([LINE])[0] if is_bulk)]
    queries = ["", f"?workflow={name}", f"?metadata[secret]={name}", f"?after={ended}", "?group_by=workflow"]
    for query in queries if method == "GET" else [""]:
        answer = stranger.client.request(method, path + query, content=LINE if is_bulk else None,
                                         headers={"content-type": "application/x-ndjson"} if is_bulk else None)
        assert answer.status_code < 500
        assert not is_bulk or '"accepted":1' in answer.text.replace(" ", ""), answer.text
        text = answer.text.replace(query[7:] if query.startswith("?after=") else "\0", "")
        for trace in traces:
            assert trace not in text, f"{method} {path}{query}: {text}"


def test_the_same_idempotency_key_of_another_tenant_is_another_key(owner, stranger):
    _, _, ended, _ = owner
    job = stranger.submit(chat(tokens=1), idempotency_key="mine")
    assert job["id"] != ended
    assert stranger.ended(job["id"])["state"] == "succeeded"


def test_a_line_of_bulk_under_anothers_idempotency_key_is_a_job_of_its_own(owner, stranger):
    """The very bytes that the owner sent, who is answered with the same job again."""
    _, api, _, _ = owner
    (first,), (again,) = api.bulk([LINE])[0], api.bulk([LINE])[0]
    (made,), summary = stranger.bulk([LINE])
    assert first["id"] == again["id"] != made["id"] and summary["accepted"] == 1
    assert stranger.ended(made["id"])["state"] == "succeeded"
    assert stranger.client.get(f"/v1/jobs/{first['id']}").status_code == 404


@pytest.mark.parametrize("method,path", [(m, p) for m, p, scope in routes() if scope == "SCOPE_ADMIN"])
def test_no_tenants_key_opens_an_admin_route(owner, stranger, method, path):
    name, api, ended, _ = owner
    for parameter in re.findall(r"\{(\w+)\}", path):
        path = path.replace("{" + parameter + "}", name if parameter == "id" and "tenants" in path else ended)
    for key in (stranger, api):
        answer = key.client.request(method, path, json={} if method in ("POST", "PUT", "PATCH") else None)
        assert answer.status_code == 403, f"{method} {path}: {answer.text}"
        assert answer.json()["error"]["code"] == "missing_scope"


KEYS = {"nobody": {}, "admin": {"SCOPE_ADMIN"}, "reader": {"SCOPE_JOBS_READ"}, "writer": {"SCOPE_JOBS_WRITE"}}


@pytest.mark.parametrize("who", KEYS)
def test_a_key_opens_the_routes_of_its_scope_and_no_others(stack, who):
    """Neither does an admin's read or write jobs, and without a key nothing but what is open is answered."""
    client = stack.admin()
    if who in ("reader", "writer"):
        scope = "jobs:read" if who == "reader" else "jobs:write"
        client = stack.api(key=tenant_key(stack.admin(), f"scope-{uuid.uuid4().hex[:8]}", [scope])[1])
    elif who == "nobody":
        client.client.headers.pop("authorization")
    expected = (401, "missing_key") if who == "nobody" else (403, "missing_scope")
    for method, path, scope in routes():
        if scope in KEYS[who] or path in OPEN:
            continue
        path = re.sub(r"\{\w+\}", "job_" + "0" * 12 + "7" + "0" * 19, path)
        answer = client.client.request(method, path, json={} if method in ("POST", "PUT", "PATCH") else None)
        assert (answer.status_code, answer.json()["error"]["code"]) == expected, f"{method} {path}: {answer.text}"
