# SPDX-License-Identifier: Apache-2.0
"""/admin/v1/audit: every administrative act leaves a row, and the chain verifies."""

import json
import os
import re
import subprocess
import uuid

import psycopg
import pytest

from conftest import tenant_key
from test_isolation import routes
from testenv.api import chat
from testenv.sql import Sql
from testenv.stack import program
from testenv.wait import wait_until


def name():
    return f"au-{uuid.uuid4().hex[:12]}"


def rows(admin, **query):
    answer = admin.client.get("/admin/v1/audit", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def test_every_change_of_a_tenant_leaves_a_row(admin):
    tenant = name()
    admin.post_json("/admin/v1/tenants", {"id": tenant, "name": "Acme"}, expect=201)
    answer = admin.client.patch(f"/admin/v1/tenants/{tenant}", json={"weight": 5}, headers={
        "x-request-id": f"req-{tenant}", "x-nightshift-purpose": "support", "x-nightshift-data-class": "personal"})
    assert answer.status_code == 200
    made, changed = rows(admin, object=f"tenant:{tenant}")
    assert (made["action"], made["before"], made["after"]["name"]) == ("tenant.create", None, "Acme")
    assert changed["action"] == "tenant.change" and changed["request_id"] == f"req-{tenant}"
    assert (changed["purpose"], changed["data_class"]) == ("support", "personal")
    assert changed["before"]["weight"] == 1 and changed["after"]["weight"] == 5
    assert changed["address"] == "127.0.0.1" and changed["actor"] == f"key:{changed['key_id']}"


def test_keys_are_in_the_audit_without_their_secret(admin):
    tenant = name()
    admin.post_json("/admin/v1/tenants", {"id": tenant, "name": "x"}, expect=201)
    key = admin.post_json(f"/admin/v1/tenants/{tenant}/keys", {"name": "k", "scopes": ["jobs:read"]}, expect=201)
    assert admin.client.delete(f"/admin/v1/keys/{key['id']}").status_code == 204
    made, gone = rows(admin, object=f"key:{key['id']}")
    assert (made["action"], gone["action"]) == ("key.create", "key.revoke")
    assert made["after"]["scopes"] == gone["before"]["scopes"] == ["jobs:read"]
    assert key["key"].split("_")[2] not in json.dumps([made, gone])


def test_pages_follow_each_other_without_gap(admin):
    tenant = name()
    admin.post_json("/admin/v1/tenants", {"id": tenant, "name": "x"}, expect=201)
    for weight in range(2, 7):
        admin.client.patch(f"/admin/v1/tenants/{tenant}", json={"weight": weight})
    seen, after = [], 0
    while after is not None:
        answer = admin.client.get("/admin/v1/audit", params={"object": f"tenant:{tenant}", "limit": 2, "after": after})
        seen += [json.loads(line)["seq"] for line in answer.text.splitlines()]
        after = answer.headers.get("x-next-after")
    assert len(seen) == 6 and seen == sorted(set(seen))


@pytest.mark.parametrize("query", [{"from": "yesterday"}, {"limit": 0}, {"limit": 1001}, {"after": "x"}, {"after": -1},
                                   {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, {"actr": "x"},
                                   {"limit": [1, 1]}])
def test_a_bad_query_is_refused(admin, query):
    assert admin.client.get("/admin/v1/audit", params=query).status_code == 400


def test_a_bad_label_is_refused_before_anything_is_done(admin):
    tenant = name()
    answer = admin.client.post("/admin/v1/tenants", json={"id": tenant, "name": "x"},
                               headers={"x-nightshift-purpose": "two words"})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "x-nightshift-purpose"
    assert admin.client.get(f"/admin/v1/tenants/{tenant}").status_code == 404


def test_a_tenants_key_does_not_read_the_audit(stack):
    assert stack.api().client.get("/admin/v1/audit").status_code == 403
    assert stack.api().client.get("/admin/v1/audit/verify").status_code == 403


def test_the_chain_verifies_and_the_scheduler_seals_it(stack, admin):
    admin.post_json("/admin/v1/tenants", {"id": name(), "name": "x"}, expect=201)
    last = stack.sql.value("SELECT max(seq) FROM audit")
    wait_until(lambda: (stack.sql.value("SELECT max(seq) FROM audit_checkpoints") or 0) >= last, 30,
               "the scheduler sealed the audit")
    found = admin.get_json("/admin/v1/audit/verify")
    assert found["ok"] and found["first_bad"] == 0 and found["rows"] >= last and found["checkpoints"] >= 1
    line = logged_checkpoint(stack)
    assert admin.get_json(f"/admin/v1/audit/verify?checkpoint={line}")["ok"]
    assert admin.client.get("/admin/v1/audit/verify?checkpoint=1.2.3.4").status_code == 400


def command_verify(stack):
    """What `nightshift audit verify` prints, and its exit status."""
    done = subprocess.run([program("nightshift"), "audit", "verify"], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **stack.environment}, check=False)
    return done.stdout.strip(), done.returncode


def test_the_command_tells_the_first_bad_row(stack, admin):
    for _ in range(3):
        admin.post_json("/admin/v1/tenants", {"id": name(), "name": "x"}, expect=201)
    row = stack.sql.value("SELECT max(seq) - 1 FROM audit")
    assert command_verify(stack) == ("0", 0)
    stack.sql.rows("UPDATE audit SET object = object || 'x' WHERE seq = %s", row)
    try:
        assert command_verify(stack) == (str(row), 1)
        assert admin.get_json("/admin/v1/audit/verify")["first_bad"] == row
    finally:
        stack.sql.rows("UPDATE audit SET object = left(object, -1) WHERE seq = %s", row)
    assert command_verify(stack) == ("0", 0)


def logged_checkpoint(stack):
    found = [line for name in stack.log_names() if name.startswith("scheduler")
             for line in re.findall(r"audit checkpoint: (\S+)", stack.log(name.removesuffix(".log")))]
    assert found, "no scheduler logged a checkpoint"
    return max(found, key=lambda line: int(line.split(".")[0]))


def test_the_daemons_role_cannot_rewrite_the_audit(stack):
    daemons = Sql(stack.environment["DATABASE_APP_URL"])
    for sql in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit", "UPDATE audit_head SET seq = 0",
                "DELETE FROM audit_checkpoints", "INSERT INTO audit SELECT * FROM audit"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            daemons.rows(sql)
    daemons.close()


# --- every route that changes something -----------------------------------------------------------

CHANGING = [(method, path) for method, path, _ in routes() if path.startswith("/admin/") and method != "GET"]


class Scene:
    """A tenant with a canary in all its prompts, and what the routes act upon."""

    def __init__(self, stack):
        self.stack = stack
        self.admin = stack.admin()
        self.tenant = name()
        self.canary = f"canary{uuid.uuid4().hex}"
        self.api = stack.api(key=tenant_key(self.admin, self.tenant)[1])

    def key(self):
        return self.admin.post_json(f"/admin/v1/tenants/{self.tenant}/keys", {"name": "k", "scopes": ["jobs:read"]},
                                    expect=201)["id"]

    def endpoint(self):
        return self.admin.post_json(f"/admin/v1/tenants/{self.tenant}/endpoints",
                                    {"url": self.stack.simulator.hook_url(uuid.uuid4().hex)}, expect=201)["id"]

    def paused(self):
        tenant = name()
        tenant_key(self.admin, tenant)
        self.admin.post_json("/admin/v1/pause", {"tenant": tenant})
        return tenant

    def unknown_call(self):
        gate = uuid.uuid4().hex
        job = self.api.submit(chat(f"{self.canary} {gate}", model="single", tokens=9, after=2, hold=gate))["id"]
        wait_until(lambda: self.stack.simulator.holding(gate), 20, "the call")
        self.api.cancel(job)
        (call,) = self.api.ended(job)["calls"]
        assert call["state"] == "unknown"
        return call["id"]

    def delivery(self):
        hook = self.stack.simulator.hook_url(uuid.uuid4().hex)
        job = self.api.run(chat(f"{self.canary} {hook}", tokens=1), webhook={"url": hook})["id"]
        (row,) = wait_until(lambda: self.admin.get_json("/admin/v1/deliveries", job=job, state="delivered")["data"], 20,
                            "the delivery")
        return row["id"]

    def act(self, method, path):
        """Does it once: (its action and object, the rows that it left)."""
        action, prepare = RECIPES[method, path]
        parameters, body, thing = prepare(self)
        last = self.stack.sql.value("SELECT coalesce(max(seq), 0) FROM audit")
        answer = self.admin.client.request(method, path.format(**parameters), json=body)
        assert answer.status_code in (200, 201, 204), answer.text
        made = answer.json()["id"] if "{made}" in thing else None
        return action, thing.format(made=made), self.stack.sql.rows("SELECT * FROM audit WHERE seq > %s", last)


def on_tenant(body=None, thing=None):
    return lambda scene: ({"id": scene.tenant}, body, thing or f"tenant:{scene.tenant}")


def on_key(body=None):
    def prepare(scene):
        key = scene.key()
        return {"id": key}, body, f"key:{key}"
    return prepare


def on_endpoint(scene):
    made = scene.endpoint()
    return {"id": scene.tenant, "endpoint": made}, None, f"endpoint:{made}"


def on_new_endpoint(scene):
    return {"id": scene.tenant}, {"url": scene.stack.simulator.hook_url("new")}, "endpoint:{made}"


def on_delivery(scene):
    made = scene.delivery()
    return {"id": made}, None, f"delivery:{uuid.UUID(made.partition('_')[2])}"


def on_call(scene):
    made = scene.unknown_call()
    return {"id": made}, {"cost_usd": "0.000001"}, f"call:{made.partition('_')[2]}"


def on_pause(scene):
    return {}, {"tenant": scene.tenant}, f"tenant:{scene.tenant}"


def on_resume(scene):
    tenant = scene.paused()
    return {}, {"tenant": tenant}, f"tenant:{tenant}"


# What a route is called with: its action, and a function of the scene that gives the path's parameters, the body
# and the object of the row.
RECIPES = {
    ("POST", "/admin/v1/tenants"):
        ("tenant.create", lambda scene: ({}, {"id": name(), "name": "x"}, "tenant:{made}")),
    ("PATCH", "/admin/v1/tenants/{id}"): ("tenant.change", on_tenant({"weight": 3})),
    ("POST", "/admin/v1/tenants/{id}/webhook-secret/rotate"): ("tenant.rotate_secret", on_tenant()),
    ("POST", "/admin/v1/tenants/{id}/keys"):
        ("key.create", on_tenant({"name": "k", "scopes": ["jobs:read"]}, "key:{made}")),
    ("DELETE", "/admin/v1/keys/{id}"): ("key.revoke", on_key()),
    ("PUT", "/admin/v1/tenants/{id}/limits"): ("tenant.limits", on_tenant({"max_queued": 1000})),
    ("PUT", "/admin/v1/keys/{id}/limits"): ("key.limits", on_key({"max_queued": 1000})),
    ("POST", "/admin/v1/tenants/{id}/endpoints"): ("endpoint.create", on_new_endpoint),
    ("DELETE", "/admin/v1/tenants/{id}/endpoints/{endpoint}"): ("endpoint.delete", on_endpoint),
    ("POST", "/admin/v1/tenants/{id}/endpoints/{endpoint}/rotate"): ("endpoint.rotate_secret", on_endpoint),
    ("POST", "/admin/v1/tenants/{id}/endpoints/{endpoint}/test"): ("endpoint.test", on_endpoint),
    ("POST", "/admin/v1/deliveries/{id}/redeliver"): ("delivery.redeliver", on_delivery),
    ("POST", "/admin/v1/calls/{id}/resolve"): ("call.resolve", on_call),
    ("POST", "/admin/v1/pause"): ("pause", on_pause),
    ("POST", "/admin/v1/resume"): ("resume", on_resume),
}


@pytest.fixture
def scene(stack):
    made = Scene(stack)
    yield made
    made.admin.post_json("/admin/v1/resume", {"tenant": made.tenant})


@pytest.mark.parametrize("method,path", CHANGING)
def test_each_act_leaves_exactly_one_row(scene, method, path):
    assert (method, path) in RECIPES, "a new route: say above how it is called and what its row must tell"
    action, thing, left = scene.act(method, path)
    assert [(row["action"], row["object"]) for row in left] == [(action, thing)]
    key = scene.admin.key.split("_")[1]
    assert (left[0]["actor"], left[0]["key_id"], left[0]["address"]) == (f"key:{key}", key, "127.0.0.1")


def test_no_prompt_is_in_the_audit(stack, scene):
    """Neither of a job that ran, nor of one that an act was about."""
    lines, _ = scene.api.bulk([{"request": chat(scene.canary, tokens=1), "idempotency_key": "k"}])
    assert scene.api.ended(lines[0]["id"])["state"] == "succeeded"
    for route in (("POST", "/admin/v1/calls/{id}/resolve"), ("POST", "/admin/v1/deliveries/{id}/redeliver")):
        assert len(scene.act(*route)[2]) == 1
    jobs = "SELECT count(*) FROM jobs WHERE tenant = %s AND request LIKE %s"
    assert stack.sql.value(jobs, scene.tenant, f"%{scene.canary}%") == 3
    assert stack.sql.value("SELECT count(*) FROM audit a WHERE a::text LIKE %s", f"%{scene.canary}%") == 0
    assert scene.canary not in json.dumps(rows(scene.admin, object=f"tenant:{scene.tenant}"))
