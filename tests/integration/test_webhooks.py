# SPDX-License-Identifier: Apache-2.0
"""Webhooks: signed, repeated under one id, stopped where they must not go."""

import json
import uuid
from datetime import datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from testenv.api import chat, soon
from testenv.wait import wait_until


def deliveries(stack, name, count=1, timeout_s=20):
    """What arrived at a name of the sink, once there are so many."""
    return wait_until(lambda: (lambda got: got if len(got) >= count else None)(
        stack.simulator.deliveries(name)), timeout_s, f"{count} deliveries at {name}")


def verify(entry, *secrets):
    """The body, when the signature of one of the secrets is right."""
    headers = {name: entry["headers"][name] for name in
               ("webhook-id", "webhook-timestamp", "webhook-signature")}
    for number, secret in enumerate(secrets):
        try:
            return Webhook(secret).verify(entry["body"], headers)
        except WebhookVerificationError:
            if number == len(secrets) - 1:
                raise
    return None


def endpoint(admin, tenant, url, events=None):
    return admin.post_json(f"/admin/v1/tenants/{tenant}/endpoints",
                           {"url": url, **({"events": events} if events else {})}, expect=201)


def history(admin, **filters):
    return admin.get_json("/admin/v1/deliveries", **filters)["data"]


def test_a_jobs_own_webhook_is_signed_with_the_tenants_secret(stack, tenant):
    name = uuid.uuid4().hex
    job = tenant.run(chat(tokens=3), webhook={"url": stack.simulator.hook_url(name)}, workflow="w",
                     metadata={"a": "b"})
    (entry,) = deliveries(stack, name)
    body = verify(entry, tenant.webhook_secret)

    assert entry["headers"]["content-type"] == "application/json"
    assert entry["headers"]["user-agent"].startswith("Nightshift/")
    assert body["type"] == "job.succeeded" and body["timestamp"]
    data = body["data"]
    assert (data["id"], data["object"], data["state"]) == (job["id"], "job", "succeeded")
    assert data["workflow"] == "w" and data["metadata"] == {"a": "b"}
    assert data["usage"] == job["usage"] and data["cost_usd"] == job["cost_usd"]
    assert data["result_sha256"] == job["result"]["sha256"]
    assert data["result_url"] == f"/v1/jobs/{job['id']}" and data["sequence"] == 1


def test_a_wrong_secret_does_not_verify(stack, tenant, api):
    name = uuid.uuid4().hex
    tenant.run(chat(tokens=1), webhook={"url": stack.simulator.hook_url(name)})
    (entry,) = deliveries(stack, name)
    with pytest.raises(WebhookVerificationError):
        verify(entry, stack.environment["NIGHTSHIFT_WEBHOOK_SECRET"])


def test_endpoints_hear_of_their_events_each_with_its_own_secret(stack, tenant, admin):
    all_of, failed_only = uuid.uuid4().hex, uuid.uuid4().hex
    first = endpoint(admin, tenant.tenant, stack.simulator.hook_url(all_of))
    second = endpoint(admin, tenant.tenant, stack.simulator.hook_url(failed_only), ["job.failed"])
    assert first["secret"].startswith("whsec_") and first["secret"] != second["secret"]
    good = tenant.run(chat(tokens=1))
    bad = tenant.run(chat(model="single", status=400))
    gone = tenant.cancel(tenant.submit(run_at=soon(hours=1))["id"])

    heard = {verify(entry, first["secret"])["data"]["id"]: json.loads(entry["body"])["type"]
             for entry in deliveries(stack, all_of, 3)}
    assert heard == {good["id"]: "job.succeeded", bad["id"]: "job.failed", gone["id"]: "job.cancelled"}
    (only,) = deliveries(stack, failed_only)
    body = verify(only, second["secret"])
    assert body["data"]["id"] == bad["id"]
    assert body["data"]["result_sha256"] is None


def test_an_expired_job_is_told_too(stack, tenant, admin):
    name = uuid.uuid4().hex
    admin.post_json("/admin/v1/pause", {"tenant": tenant.tenant})
    try:
        tenant.submit(deadline=soon(seconds=1), webhook={"url": stack.simulator.hook_url(name)})
        (entry,) = deliveries(stack, name)
    finally:
        admin.post_json("/admin/v1/resume", {"tenant": tenant.tenant})
    body = verify(entry, tenant.webhook_secret)
    assert body["type"] == "job.expired" and body["data"]["usage"] is None


def test_a_jobs_webhook_may_ask_for_some_events_only(stack, tenant):
    name = uuid.uuid4().hex
    tenant.run(chat(tokens=1), webhook={"url": stack.simulator.hook_url(name), "events": ["job.failed"]})
    marker = uuid.uuid4().hex
    tenant.run(chat(tokens=1), webhook={"url": stack.simulator.hook_url(marker)})
    deliveries(stack, marker)
    assert stack.simulator.deliveries(name) == []


def test_a_failure_is_tried_again_under_the_same_id_signed_afresh(stack, tenant):
    name = uuid.uuid4().hex
    tenant.run(chat(tokens=1), webhook={"url": stack.simulator.hook_url(name, status=500, times=2)})
    first, second, third = deliveries(stack, name, 3)

    assert len({entry["headers"]["webhook-id"] for entry in (first, second, third)}) == 1
    assert first["body"] == second["body"] == third["body"]
    for entry in (first, second, third):
        verify(entry, tenant.webhook_secret)
    assert (first["status"], second["status"], third["status"]) == (500, 500, 200)


@pytest.mark.parametrize("wish", [{"status": 404}, {"redirect": "http://127.0.0.1:1/"}, {"reset": 1},
                                  {"hang": 1}], ids=lambda wish: next(iter(wish)))
def test_what_counts_as_a_failure(stack, tenant, admin, wish):
    """Tried until the schedule ends (four tries here), then failed."""
    name = uuid.uuid4().hex
    url = stack.simulator.hook_url(name, **wish)
    job = tenant.run(chat(tokens=1), webhook={"url": url})
    entry = wait_until(lambda: (lambda rows: rows[0] if rows and rows[0]["state"] == "failed" else None)(
        history(admin, job=job["id"])), 40, "the delivery to fail")

    assert len(entry["tries"]) == 4 and entry["url"] == url
    assert all(one["error"] or one["status"] for one in entry["tries"])
    assert entry["webhook_id"].startswith("msg_") and entry["type"] == "job.succeeded"


def test_a_receiver_that_answers_without_end_is_read_to_a_cap(stack, tenant, admin):
    name = uuid.uuid4().hex
    job = tenant.run(chat(tokens=1), webhook={"url": stack.simulator.hook_url(name, big=1)})
    entry = wait_until(lambda: (lambda rows: rows[0] if rows and rows[0]["tries"] else None)(
        history(admin, job=job["id"])), 20)
    assert entry["state"] in ("delivered", "failed", "waiting")


def test_410_disables_the_endpoint(stack, tenant, admin):
    name = uuid.uuid4().hex
    made = endpoint(admin, tenant.tenant, stack.simulator.hook_url(name, status=410))
    tenant.run(chat(tokens=1))
    deliveries(stack, name)

    def disabled():
        (one,) = [e for e in admin.get_json(f"/admin/v1/tenants/{tenant.tenant}/endpoints")["data"]
                  if e["id"] == made["id"]]
        return one.get("disabled_at") or one.get("disabled")
    wait_until(disabled, 10, "the endpoint to be disabled")
    tenant.run(chat(tokens=1))
    assert len(stack.simulator.deliveries(name)) == 1


def test_a_rotated_secret_signs_beside_the_old_one(stack, tenant, admin):
    name = uuid.uuid4().hex
    made = endpoint(admin, tenant.tenant, stack.simulator.hook_url(name))
    rotated = admin.post_json(f"/admin/v1/tenants/{tenant.tenant}/endpoints/{made['id']}/rotate")
    assert rotated["secret"] != made["secret"]
    tenant.run(chat(tokens=1))
    (entry,) = deliveries(stack, name)

    assert len(entry["headers"]["webhook-signature"].split()) == 2
    verify(entry, made["secret"])
    verify(entry, rotated["secret"])


def test_the_tenants_own_secret_rotates_too(stack, tenant, admin):
    name = uuid.uuid4().hex
    rotated = admin.post_json(f"/admin/v1/tenants/{tenant.tenant}/webhook-secret/rotate")
    tenant.run(chat(tokens=1), webhook={"url": stack.simulator.hook_url(name)})
    (entry,) = deliveries(stack, name)
    verify(entry, tenant.webhook_secret)
    verify(entry, rotated["secret"])


def test_an_endpoint_can_be_tested_and_a_delivery_sent_again(stack, tenant, admin):
    name = uuid.uuid4().hex
    made = endpoint(admin, tenant.tenant, stack.simulator.hook_url(name))
    # It makes a delivery.
    admin.post_json(f"/admin/v1/tenants/{tenant.tenant}/endpoints/{made['id']}/test", expect=201)
    (entry,) = deliveries(stack, name)
    assert verify(entry, made["secret"])["type"] == "endpoint.test"

    job = tenant.run(chat(tokens=1))
    deliveries(stack, name, 2)
    row = wait_until(lambda: (lambda rows: rows[0] if rows and rows[0]["state"] == "delivered" else None)(
        history(admin, job=job["id"])), 10)
    admin.post_json(f"/admin/v1/deliveries/{row['id']}/redeliver")
    entries = deliveries(stack, name, 3)
    assert entries[2]["headers"]["webhook-id"] == entries[1]["headers"]["webhook-id"]


def test_a_deleted_endpoint_hears_nothing_more(stack, tenant, admin):
    name, marker = uuid.uuid4().hex, uuid.uuid4().hex
    made = endpoint(admin, tenant.tenant, stack.simulator.hook_url(name))
    assert admin.client.delete(f"/admin/v1/tenants/{tenant.tenant}/endpoints/{made['id']}").status_code == 204
    tenant.run(chat(tokens=1), webhook={"url": stack.simulator.hook_url(marker)})
    deliveries(stack, marker)
    assert stack.simulator.deliveries(name) == []


def test_an_endpoint_that_hangs_slows_nobody_else(stack, tenant, api, admin):
    hanging = endpoint(admin, tenant.tenant, stack.simulator.hook_url(uuid.uuid4().hex, hang=1))
    for _ in range(12):
        tenant.submit(chat(tokens=1))
    name = uuid.uuid4().hex
    job = api.run(chat(tokens=1), webhook={"url": stack.simulator.hook_url(name)})
    (entry,) = deliveries(stack, name, timeout_s=5)
    assert json.loads(entry["body"])["data"]["id"] == job["id"]
    admin.client.delete(f"/admin/v1/tenants/{tenant.tenant}/endpoints/{hanging['id']}")


def test_retry_after_is_honoured(stack, tenant):
    name = uuid.uuid4().hex
    tenant.run(chat(tokens=1), webhook={"url": stack.simulator.hook_url(name, status=503, retry_after=4, times=1)})
    first, second = deliveries(stack, name, 2, timeout_s=30)
    waited = datetime.fromisoformat(second["at"]) - datetime.fromisoformat(first["at"])
    assert 3.5 <= waited.total_seconds() < 15


REFUSED_AT_SUBMIT = ["http://10.0.0.1/", "http://192.168.1.1/", "http://172.16.0.1/", "http://169.254.169.254/",
                     "http://[fe80::1]/", "http://[fd00::1]/", "http://0.0.0.0/", "http://0x0a000001/",
                     "http://167772161/", "http://[::ffff:10.0.0.1]/", "http://100.64.0.1/", "http://224.0.0.1/",
                     "http://user:pass@example.com/", "gopher://example.com/", "http://example.com:0/"]


@pytest.mark.parametrize("url", REFUSED_AT_SUBMIT)
def test_literal_addresses_that_are_not_public_are_refused_at_once(tenant, admin, url):
    error = tenant.refused({"request": chat(), "webhook": {"url": url}})
    assert (error["code"], error["param"]) == ("invalid_value", "webhook.url")
    answer = admin.client.post(f"/admin/v1/tenants/{tenant.tenant}/endpoints", json={"url": url})
    assert answer.status_code == 400


def test_a_name_that_resolves_to_loopback_is_judged_at_delivery(stack, tenant, admin):
    """Loopback is allowed in this stack, so localhost is delivered, and only by its address."""
    name = uuid.uuid4().hex
    url = stack.simulator.hook_url(name).replace("127.0.0.1", "localhost")
    tenant.run(chat(tokens=1), webhook={"url": url})
    deliveries(stack, name)
