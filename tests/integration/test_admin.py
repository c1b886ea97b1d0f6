# SPDX-License-Identifier: Apache-2.0
"""/admin/v1: tenants, keys, pauses and the state of the system."""

import uuid

import pytest

from conftest import tenant_key
from testenv.api import chat, soon
from testenv.wait import wait_until


def name():
    return f"a-{uuid.uuid4().hex[:12]}"


def test_a_tenant_is_made_read_changed_and_listed(admin):
    tenant = name()
    made = admin.post_json("/admin/v1/tenants", {"id": tenant, "name": "Acme", "weight": 3}, expect=201)
    assert made["id"] == tenant and made["weight"] == 3 and made["webhook_secret"].startswith("whsec_")
    read = admin.get_json(f"/admin/v1/tenants/{tenant}")
    assert "webhook_secret" not in read and read["name"] == "Acme"
    changed = admin.client.patch(f"/admin/v1/tenants/{tenant}", json={"weight": 5})
    assert changed.status_code == 200 and changed.json()["weight"] == 5
    listing = admin.get_json("/admin/v1/tenants")
    assert listing["object"] == "list" and tenant in [item["id"] for item in listing["data"]]


def test_a_tenant_cannot_be_made_twice(admin):
    tenant = name()
    admin.post_json("/admin/v1/tenants", {"id": tenant, "name": "x"}, expect=201)
    assert admin.client.post("/admin/v1/tenants", json={"id": tenant, "name": "x"}).status_code == 409


@pytest.mark.parametrize("body", [{}, {"id": ""}, {"id": "a b"}, {"id": "x" * 200, "name": "x"},
                                  {"id": "ok-1", "name": "x", "weight": 0}, {"id": "ok-1", "wait": 1}])
def test_a_bad_tenant_is_refused(admin, body):
    answer = admin.client.post("/admin/v1/tenants", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_key_is_shown_once_and_never_stored(stack, admin):
    made, key = tenant_key(admin, name())
    listing = admin.get_json(f"/admin/v1/tenants/{made['id']}/keys")["data"]

    assert key.startswith("ns_") and len(listing) == 1
    assert set(listing[0]) >= {"id", "name", "scopes", "created_at", "expires_at", "last_used_at"}
    assert key not in str(listing) and "hash" not in listing[0]
    secret = key.split("_")[2]
    for row in stack.sql.rows("SELECT * FROM api_keys"):
        assert secret not in str(row)


def test_a_revoked_key_stops_within_a_second_at_every_producer(stack, admin):
    made, key = tenant_key(admin, name())
    clients = [stack.api(producer=number, key=key) for number in (0, 1)]
    for client in clients:
        client.get_json("/v1/jobs")
    (entry,) = admin.get_json(f"/admin/v1/tenants/{made['id']}/keys")["data"]
    assert admin.client.delete(f"/admin/v1/keys/{entry['id']}").status_code == 204
    for client in clients:
        wait_until(lambda: client.client.get("/v1/jobs").status_code == 401, 1.5, "the key to stop")
    assert admin.client.delete("/admin/v1/keys/doesnotexist").status_code == 404


def test_an_expired_key_is_refused(stack, admin):
    made, _ = tenant_key(admin, name())
    key = admin.post_json(f"/admin/v1/tenants/{made['id']}/keys",
                          {"name": "short", "scopes": ["jobs:read"], "expires_at": soon(seconds=1.5)}, 201)["key"]
    client = stack.api(key=key)
    assert client.client.get("/v1/jobs").status_code == 200
    wait_until(lambda: client.client.get("/v1/jobs").status_code == 401, 5)


@pytest.mark.parametrize("body", [{"name": "x"}, {"name": "x", "scopes": []}, {"name": "x", "scopes": ["admin"]},
                                  {"name": "x", "scopes": ["jobs:all"]},
                                  {"name": "x", "scopes": ["jobs:read"], "expires_at": "yesterday"}])
def test_a_bad_key_is_refused(admin, body):
    made, _ = tenant_key(admin, name())
    assert admin.client.post(f"/admin/v1/tenants/{made['id']}/keys", json=body).status_code == 400


def test_a_disabled_tenant_is_403_at_once_and_comes_back(stack, admin):
    made, key = tenant_key(admin, name())
    client = stack.api(key=key)
    job = client.submit(chat(tokens=1))
    assert admin.client.patch(f"/admin/v1/tenants/{made['id']}", json={"disabled": True}).status_code == 200
    wait_until(lambda: client.client.post("/v1/jobs", json={"request": chat()}).status_code == 403, 1.5)
    error = client.refused({"request": chat()}, status=403)
    assert error["code"] == "tenant_disabled"
    admin.client.patch(f"/admin/v1/tenants/{made['id']}", json={"disabled": False})
    wait_until(lambda: client.client.get(f"/v1/jobs/{job['id']}").status_code == 200, 3)


def test_the_admin_calls_need_an_admin_key(api):
    for method, path in (("GET", "/admin/v1/tenants"), ("POST", "/admin/v1/tenants"), ("GET", "/admin/v1/queues"),
                         ("POST", "/admin/v1/pause"), ("GET", "/admin/v1/deliveries")):
        answer = api.request(method, path, json={} if method == "POST" else None)
        assert answer.status_code == 403, (method, path, answer.text)


def test_a_paused_tenant_waits_and_others_do_not(stack, api, admin):
    made, key = tenant_key(admin, name())
    client = stack.api(key=key)
    admin.post_json("/admin/v1/pause", {"tenant": made["id"]})
    job = client.submit(chat(tokens=1))
    assert api.run(chat(tokens=1))["state"] == "succeeded"
    assert client.job(job["id"])["waiting"]["reason"] == "paused"
    admin.post_json("/admin/v1/resume", {"tenant": made["id"]})
    assert client.ended(job["id"])["state"] == "succeeded"


def test_a_paused_provider_is_passed_over(api, admin):
    """Workers look once a second."""
    admin.post_json("/admin/v1/pause", {"provider": "main"})
    try:
        wait_until(lambda: [call["provider"] for call in api.run(chat(tokens=1))["calls"]] == ["spare"], 5)
    finally:
        admin.post_json("/admin/v1/resume", {"provider": "main"})


def test_only_what_there_is_can_be_resumed(admin, sql):
    def resume(**what):
        answer = admin.client.post("/admin/v1/resume", json=what)
        return answer.status_code, answer.json()

    status, body = resume(provider="mian")
    assert status == 404 and body["error"]["code"] == "not_found"
    assert '"mian"' in body["error"]["message"] and 'did you mean "main"' in body["error"]["message"]
    status, body = resume(tenant="no-such-tenant")
    assert status == 404 and '"no-such-tenant"' in body["error"]["message"]
    status, body = resume(priority="urgent")
    assert status == 400 and body["error"]["param"] == "priority"
    # What there is but is not paused is no error, and twice is as good as once.
    for what in ({"provider": "main"}, {"tenant": "default"}, {"priority": "low"}):
        assert resume(**what) == (200, {"object": "pause", **what, "paused": False, "created_at": None})
    # One that went from the configuration while it was paused.
    gone = name()
    sql.rows("INSERT INTO pauses (kind, name) VALUES ('provider', %s)", gone)
    assert resume(provider=gone) == (200, {"object": "pause", "provider": gone, "paused": False,
                                           "created_at": None})
    assert sql.value("SELECT count(*) FROM pauses WHERE name = %s", gone) == 0
    assert resume(provider=gone)[0] == 404


def test_the_state_of_the_system_is_shown(api, admin):
    api.run(chat(tokens=1))
    workers = admin.get_json("/admin/v1/workers")["data"]
    assert len(workers) >= 2
    queues = admin.get_json("/admin/v1/queues")["data"]
    assert {queue["priority"] for queue in queues} >= {"high", "normal", "low"}
    providers = admin.get_json("/admin/v1/providers")["data"]
    assert "main" in str(providers) and "simulator" not in [str(p.get("api_key")) for p in providers]


def test_unknown_things_are_404(admin):
    for path in ("/admin/v1/tenants/nobody", "/admin/v1/tenants/nobody/keys", "/admin/v1/tenants/nobody/endpoints",
                 "/admin/v1/nothing"):
        assert admin.client.get(path).status_code == 404, path
