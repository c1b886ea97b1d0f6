# SPDX-License-Identifier: Apache-2.0
"""/admin/v1/audit: every administrative act leaves a row, and the chain verifies."""

import json
import os
import re
import subprocess
import uuid

import psycopg
import pytest

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
