# SPDX-License-Identifier: Apache-2.0
"""POST /v1/jobs/{id}/replay: a new job that names the old one."""

import uuid

from testenv.api import chat, soon


def test_a_replay_is_a_new_job_like_the_old_one(api):
    request = chat(tokens=3)
    old = api.run(request, priority="high", workflow="w", metadata={"a": "b"}, user="u-1", max_attempts=2)
    new = api.post_json(f"/v1/jobs/{old['id']}/replay", expect=202)

    assert new["id"] != old["id"] and new["replay_of"] == old["id"]
    assert new["state"] == "queued" and new["attempts"] == 0
    for name in ("priority", "workflow", "metadata", "user", "model", "max_cost_usd"):
        assert new[name] == old[name]
    assert new["run_at"] is None and new["deadline"] > old["deadline"]
    ended = api.ended(new["id"])
    assert ended["state"] == "succeeded" and ended["result"]["text"] == old["result"]["text"]
    assert api.job(new["id"], include="request")["request"] == request
    assert api.job(old["id"]) == old


def test_a_failed_and_a_cancelled_job_can_be_replayed(api):
    failed = api.run(chat(model="single", status=400, times=1))
    assert failed["state"] == "failed"
    assert api.ended(api.post_json(f"/v1/jobs/{failed['id']}/replay", expect=202)["id"])["state"] == "succeeded"

    cancelled = api.cancel(api.submit(chat(tokens=1), run_at=soon(hours=1))["id"])
    again = api.post_json(f"/v1/jobs/{cancelled['id']}/replay", expect=202)
    assert again["run_at"] is None
    assert api.ended(again["id"])["state"] == "succeeded"


def test_a_job_that_has_not_ended_cannot_be_replayed(api):
    job = api.submit(run_at=soon(hours=1))
    answer = api.client.post(f"/v1/jobs/{job['id']}/replay")

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "conflict"
    assert answer.headers["x-should-retry"] == "false"
    api.cancel(job["id"])


def test_a_replay_takes_an_idempotency_key(api, other_producer):
    old = api.run(chat(tokens=1))
    key = {"idempotency-key": str(uuid.uuid4())}
    first = api.client.post(f"/v1/jobs/{old['id']}/replay", headers=key)
    second = other_producer.client.post(f"/v1/jobs/{old['id']}/replay", headers=key)

    assert first.status_code == second.status_code == 202
    assert first.content == second.content
    assert second.headers["idempotent-replayed"] == "true"
    other = api.run(chat(tokens=1))
    assert api.client.post(f"/v1/jobs/{other['id']}/replay", headers=key).status_code == 422


def test_a_replay_of_a_replay_names_its_own_predecessor(api):
    first = api.run(chat(tokens=1))
    second = api.ended(api.post_json(f"/v1/jobs/{first['id']}/replay", expect=202)["id"])
    third = api.post_json(f"/v1/jobs/{second['id']}/replay", expect=202)
    assert third["replay_of"] == second["id"]
