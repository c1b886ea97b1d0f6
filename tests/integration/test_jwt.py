# SPDX-License-Identifier: Apache-2.0
"""Tokens of an identity provider beside API keys."""

import time
import uuid

import httpx
import pytest

from conftest import running
from testenv.api import chat
from testenv.identity import IdentityProvider, Key
from testenv.stack import CONFIG, ROOT, Stack
from testenv.wait import Stopwatch, wait_until

TENANTS = {"org-1": "jwt-one", "org-2": "jwt-two", "org-3": "jwt-three"}  # the last is never made


@pytest.fixture(scope="module")
def provider():
    with IdentityProvider() as one:
        yield one


@pytest.fixture(scope="module")
def stack(provider, tmp_path_factory):
    path = tmp_path_factory.mktemp("jwt") / "nightshift.yaml"
    with open(CONFIG, encoding="utf-8") as file:
        text = file.read().replace("../../deploy", f"{ROOT}/deploy")
    tenants = ", ".join(f"{org}: {tenant}" for org, tenant in TENANTS.items())
    path.write_text(f"""{text}
identity_providers:
  corp:
    issuer: {provider.issuer}
    audience: {provider.audience}
    jwks_url: {provider.url}
    allow_networks: [127.0.0.0/8]
    tenant_claim: org
    tenants: {{{tenants}}}
""", encoding="utf-8")
    for one in running(Stack(broker="embedded", config=str(path))):
        for org in ("org-1", "org-2"):
            one.admin().post_json("/admin/v1/tenants", {"id": TENANTS[org], "name": org}, expect=201)
        yield one


def ask(stack, token, method="GET", path="/v1/jobs", **options):
    return httpx.request(method, stack.urls[0] + path, headers={"authorization": f"Bearer {token}"}, timeout=30,
                         **options)


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_a_token_submits_and_reads_its_tenants_jobs(stack, provider):
    answer = ask(stack, provider.token(), "POST", json={"request": chat("Hello")})
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    ended = ask(stack, provider.token(), path=f"/v1/jobs/{job}?wait=30").json()
    assert ended["state"] == "succeeded"
    row = stack.sql.one("SELECT tenant, key_id FROM jobs WHERE id = %s", job[4:])
    assert row == {"tenant": TENANTS["org-1"], "key_id": "jwt:corp"}
    assert [item["id"] for item in ask(stack, provider.token()).json()["data"]] == [job]
    assert ask(stack, provider.token(org="org-2"), path=f"/v1/jobs/{job}").status_code == 404
    assert ask(stack, provider.token(org="org-2")).json()["data"] == []


def test_scopes_are_what_the_token_says_and_never_admin(stack, provider):
    reader = provider.token(scope="openid jobs:read")
    assert ask(stack, reader).status_code == 200
    assert code(ask(stack, reader, "POST", json={"request": chat("x")})) == (403, "missing_scope")
    assert code(ask(stack, provider.token(scope=None))) == (403, "missing_scope")
    assert code(ask(stack, provider.token(scope="admin jobs:read"), path="/admin/v1/tenants")) == \
        (403, "missing_scope")


def bad_tokens(provider):
    key, now = provider.keys[0], int(time.time())
    good = provider.token()
    yield "expired", provider.token(exp=now - 60)
    yield "no expiry", provider.token(exp=None)
    yield "of the future", provider.token(nbf=now + 300)
    yield "issued in the future", provider.token(iat=now + 300)
    yield "wrong audience", provider.token(aud="other")
    yield "wrong issuer", provider.token(iss="https://other.example")
    yield "unsigned", provider.token(header={"alg": "none"}, signer=lambda _text: b"")
    yield "none with a signature", provider.token(header={"alg": "none"})
    yield "HS256 with the public key", provider.token(header={"alg": "HS256"}, signer=key.sign_as_secret)
    yield "RS256 with the public key as secret", provider.token(signer=key.sign_as_secret)
    yield "a stranger's signature", provider.token(signer=Key("one").sign)
    yield "one character changed", good[:-5] + ("A" if good[-5] != "A" else "B") + good[-4:]
    yield "a claim changed", good.replace(".ey", ".eY")
    yield "huge", provider.token(x="y" * 8192)
    yield "tenant not registered", provider.token(org=TENANTS["org-1"])
    yield "tenant registered but never made", provider.token(org="org-3")
    yield "no tenant", provider.token(org=None)
    yield "two tenants", provider.token(org=["org-1", "org-2"])


def test_no_bad_token_gets_in(stack, provider):
    for name, token in bad_tokens(provider):
        answer = ask(stack, token)
        assert code(answer) == (401, "invalid_key"), name
        assert token.split(".")[1] not in answer.text, name
    assert ask(stack, provider.token()).status_code == 200


def test_tokens_are_not_in_the_logs(stack, provider):
    token = provider.token(sub=f"canary-{uuid.uuid4().hex}")
    assert ask(stack, token).status_code == 200
    assert ask(stack, token + "A").status_code == 401
    for name in stack.log_names():
        assert token.split(".")[1] not in stack.log(name.removesuffix(".log")), name


def test_a_disabled_tenant_is_refused_within_a_second(stack, provider):
    tenant = f"/admin/v1/tenants/{TENANTS['org-2']}"
    token = provider.token(org="org-2")
    assert ask(stack, token).status_code == 200
    for is_disabled, status in ((True, 403), (False, 200)):
        assert stack.admin().client.patch(tenant, json={"disabled": is_disabled}).status_code == 200
        wait_until(lambda status=status: ask(stack, token).status_code == status, 2, f"status {status}")


def test_a_rotated_key_works_at_once_and_a_flood_asks_no_more(stack, provider):
    """Also when the provider is away: known keys serve on."""
    asked, watch = provider.asked, Stopwatch()
    fresh = Key("two")
    provider.keys.append(fresh)
    assert ask(stack, provider.token(key=fresh)).status_code == 200
    assert provider.asked > asked
    with httpx.Client(base_url=stack.urls[0]) as client:
        for number in range(300):
            token = provider.token(header={"kid": f"made-up-{number}"}, signer=lambda _text: b"x" * 256)
            assert client.get("/v1/jobs", headers={"authorization": f"Bearer {token}"}).status_code == 401
    # One for the rotated key, a regular one perhaps, and one a minute.
    assert provider.asked <= asked + 2 + watch.seconds // 60
    provider.stop()
    for key in provider.keys:
        assert ask(stack, provider.token(key=key)).status_code == 200


def test_api_keys_work_beside(stack):
    assert stack.api().client.get("/v1/jobs").status_code == 200
    answer = httpx.get(f"{stack.urls[0]}/v1/jobs", headers={"x-api-key": "a.b.c"})
    assert code(answer) == (401, "invalid_key")
