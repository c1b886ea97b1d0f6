# SPDX-License-Identifier: Apache-2.0
"""Errors as a client made for OpenAI's API understands them: the right exception, code and field."""

import uuid

import httpx
import openai
import pytest

from testenv.api import chat, soon


@pytest.fixture(scope="module")
def client(stack):
    made = openai.OpenAI(base_url=f"{stack.urls[0]}/v1", api_key=stack.environment["NIGHTSHIFT_API_KEY"],
                         max_retries=0, http_client=openai.DefaultHttpxClient(trust_env=False))
    with made:
        yield made


def post(client, body, path="/jobs", **options):
    return client.post(path, body=body, cast_to=object, options=options)


BAD = [
    ({"request": chat(model="nope")}, openai.NotFoundError, 404, "model_not_found", "request.model"),
    ({"request": {"model": "fast", "messages": [{"role": "usr", "content": "x"}]}}, openai.BadRequestError, 400,
     "invalid_value", "request.messages[0].role"),
    ({}, openai.BadRequestError, 400, "missing_field", "request"),
    ({"request": chat(), "priorty": "high"}, openai.BadRequestError, 400, "unknown_field", "priorty"),
    ({"request": chat(text="x" * (5 << 20))}, openai.APIStatusError, 413, "too_large", None),
]


@pytest.mark.parametrize("body,kind,status,code,param", BAD, ids=[case[3] for case in BAD])
def test_a_refused_submit_is_the_exception_of_its_status(client, body, kind, status, code, param):
    with pytest.raises(kind) as caught:
        post(client, body)
    error = caught.value
    assert (error.status_code, error.code, error.param) == (status, code, param)
    assert error.type == "invalid_request_error"
    assert error.request_id and error.body["message"] in str(error)


def test_a_key_that_is_none_and_one_that_may_not(client, stack):
    with pytest.raises(openai.AuthenticationError) as caught:
        post(client.with_options(api_key="ns_no_key"), {"request": chat()})
    assert (caught.value.code, caught.value.type) == ("invalid_key", "authentication_error")
    with pytest.raises(openai.PermissionDeniedError) as caught:
        post(client.with_options(api_key=stack.environment["NIGHTSHIFT_ADMIN_KEY"]), {"request": chat()})
    assert caught.value.type == "permission_error"


def test_conflicts_under_an_idempotency_key(client):
    key = {"idempotency-key": str(uuid.uuid4())}
    post(client, {"request": chat()}, headers=key)
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        post(client, {"request": chat()}, headers=key)
    assert caught.value.code == "idempotency_mismatch"
    job = post(client, {"request": chat(), "run_at": soon(hours=1)})
    with pytest.raises(openai.ConflictError) as caught:
        post(client, {}, path=f"/jobs/{job['id']}/replay")
    assert caught.value.code == "conflict"
    post(client, None, path=f"/jobs/{job['id']}/cancel")


def test_no_such_job_and_no_such_path(client):
    for path in ("/jobs/job_00000000000000000000000000000000", "/jobs/nonsense", "/nowhere"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.get(path, cast_to=httpx.Response)
        assert caught.value.code == "not_found"
