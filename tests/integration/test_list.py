# SPDX-License-Identifier: Apache-2.0
"""GET /v1/jobs: order, pages and filters."""

import uuid

import pytest

from conftest import tenant_key
from testenv.api import chat
from testenv.wait import wait_until


@pytest.fixture(scope="module")
def jobs(stack):
    """A tenant of its own with 30 ended jobs, oldest first."""
    name = f"list-{uuid.uuid4().hex[:8]}"
    _, key = tenant_key(stack.admin(), name)
    api = stack.api(key=key)
    ids = [api.submit(chat(tokens=1), workflow=f"w{number % 3}", priority=("high", "normal", "low")[number % 3],
                      metadata={"n": str(number), "half": str(number % 2)})["id"] for number in range(30)]
    for job in ids:
        assert api.ended(job)["state"] == "succeeded"
    return api, ids


def listed(api, **parameters):
    page = api.get_json("/v1/jobs", **parameters)
    assert set(page) >= {"object", "data", "first_id", "last_id", "has_more"}
    assert page["object"] == "list"
    if page["data"]:
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
    else:
        assert page["first_id"] is None and page["last_id"] is None
    return page


def ids_of(page):
    return [job["id"] for job in page["data"]]


def test_newest_first_twenty_at_a_time(jobs):
    api, ids = jobs
    page = listed(api)
    assert ids_of(page) == ids[::-1][:20] and page["has_more"] is True


def test_pages_join_without_gap_or_repeat(jobs):
    api, ids = jobs
    for order, expected in (("desc", ids[::-1]), ("asc", ids)):
        seen, after = [], None
        while True:
            page = listed(api, limit=7, order=order, **({"after": after} if after else {}))
            seen += ids_of(page)
            if not page["has_more"]:
                break
            after = page["last_id"]
        assert seen == expected


def test_items_are_short(jobs):
    api, _ = jobs
    for job in listed(api)["data"]:
        assert job["object"] == "job" and job["state"] == "succeeded"
        for name in ("partial", "result", "calls"):
            assert job.get(name) is None, name


def test_filters(jobs):
    api, ids = jobs
    assert ids_of(listed(api, workflow="w1", limit=100)) == ids[1::3][::-1]
    assert ids_of(listed(api, priority="low", limit=100)) == ids[2::3][::-1]
    assert ids_of(listed(api, **{"metadata[n]": "17"})) == [ids[17]]
    assert ids_of(listed(api, **{"metadata[half]": "1"}, workflow="w0", limit=100)) == \
        [ids[n] for n in range(29, -1, -1) if n % 2 == 1 and n % 3 == 0]
    assert len(ids_of(listed(api, state="succeeded", limit=100))) == 30
    assert ids_of(listed(api, state="failed")) == []
    assert ids_of(listed(api, state="queued")) == []


def test_created_bounds_are_exclusive(jobs):
    api, ids = jobs
    times = {job["id"]: job["created_at"] for job in listed(api, limit=100)["data"]}
    middle = times[ids[15]]
    after = ids_of(listed(api, created_after=middle, limit=100))
    before = ids_of(listed(api, created_before=middle, limit=100))

    assert ids[15] not in after and ids[15] not in before
    assert set(after) == {job for job in ids if times[job] > middle}
    assert set(before) == {job for job in ids if times[job] < middle}


def test_after_may_be_a_job_that_the_filter_leaves_out(jobs):
    api, ids = jobs
    page = listed(api, workflow="w0", after=ids[16], limit=100)
    assert ids_of(page) == [ids[n] for n in range(15, -1, -1) if n % 3 == 0]


def test_queued_and_running_jobs_are_listed_by_state(stack, tenant, simulator):
    admin = stack.admin()
    admin.post_json("/admin/v1/pause", {"tenant": tenant.tenant})
    try:
        queued = tenant.submit(chat(tokens=1))
        assert ids_of(listed(tenant, state="queued")) == [queued["id"]]
        assert listed(tenant, state="queued")["data"][0]["waiting"]["reason"] == "paused"
        assert ids_of(listed(tenant, state="running")) == []
    finally:
        admin.post_json("/admin/v1/resume", {"tenant": tenant.tenant})
    tenant.ended(queued["id"])
    running = tenant.submit(chat(tokens=3, hold="list-running"))
    wait_until(lambda: ids_of(listed(tenant, state="running")) == [running["id"]], 10)
    simulator.release("list-running")
    tenant.ended(running["id"])


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "order=up", "state=done", "priority=1",
                                   "created_after=yesterday", "colour=red", "after=nonsense",
                                   "after=job_00000000000000000000000000000000", "metadata[]=1",
                                   "limit=1&limit=2", "metadata[half]=1&metadata[half]=0", "workflow="])
def test_what_is_wrong_in_the_query_is_a_400(jobs, query):
    api, _ = jobs
    answer = api.client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("method, path", [
    ("POST", "/v1/jobs"), ("GET", "/v1/jobs"), ("POST", "/v1/jobs/bulk"), ("GET", "/v1/jobs/{id}"),
    ("GET", "/v1/jobs/{id}/events"), ("GET", "/v1/jobs/{id}/result"), ("POST", "/v1/jobs/{id}/cancel"),
    ("POST", "/v1/jobs/{id}/replay")])
def test_an_unknown_parameter_is_a_400_at_every_path(jobs, method, path):
    api, ids = jobs
    answer = api.client.request(method, path.format(id=ids[0]) + "?colour=red")
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("invalid_value", "colour")


def test_after_a_foreign_job_is_a_400_like_an_unknown_one(jobs, tenant):
    _, ids = jobs
    assert tenant.client.get(f"/v1/jobs?after={ids[0]}").status_code == 400


def test_a_tenant_sees_only_its_own(jobs, tenant):
    assert listed(tenant)["data"] == []
