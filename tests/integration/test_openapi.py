# SPDX-License-Identifier: Apache-2.0
"""/openapi.json: complete, and true of the running server."""

import json
import re

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import ignored_auth

from testenv.stack import ROOT


@pytest.fixture(scope="module")
def document(stack):
    return stack.api().get_json("/openapi.json")


def test_it_is_an_openapi_3_document(document):
    assert document["openapi"].startswith("3.")
    assert document["info"]["title"] and document["info"]["version"]


def test_every_route_of_the_table_is_described(document):
    """Taken from the table in producer/routes.c, so that a new route cannot be forgotten."""
    with open(f"{ROOT}/producer/routes.c", encoding="utf-8") as file:
        table = re.findall(r'"(GET|POST|PUT|PATCH|DELETE)",\s*(?:\.pattern = )?"(/[^"]*)"', file.read())
    assert len(table) > 20, "the table has another shape; mend this test"
    missing = [(method, path) for method, path in table
               if method.lower() not in document["paths"].get(path, {})]
    assert missing == []


def test_every_error_code_of_the_contract_is_named(document):
    text = json.dumps(document)
    for code in ("invalid_json", "missing_field", "unknown_field", "invalid_value", "model_not_found", "no_result",
                 "idempotency_mismatch", "too_large"):
        assert code in text, code


@schemathesis.serializer("application/x-ndjson")
class Lines:
    """A line of JSON, or what else the examples hold."""

    def as_requests(self, _context, value):
        return {"data": value if isinstance(value, bytes) else json.dumps(value).encode()}

    def as_werkzeug(self, context, value):
        return self.as_requests(context, value)


def probe(operation, key):
    """Some requests of one operation; the answers must be what the document says."""
    @settings(max_examples=12, deadline=None, database=None, derandomize=True,
              phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def ask(case):
        response = case.call(headers={"authorization": f"Bearer {key}"}, timeout=30)
        # The key is this call's own, so the check that goes without one would be misled.
        case.validate_response(response, excluded_checks=(ignored_auth,))
    ask()


# A stream without end; what would stop or change the tests beside this one.
LEFT_OUT = ("/v1/jobs/{id}/events", "/admin/v1/pause", "/admin/v1/resume")


def test_the_running_server_answers_as_described(stack):
    """Bounded examples of every operation, good and bad, by schemathesis."""
    schema = schemathesis.from_uri(f"{stack.urls[0]}/openapi.json", base_url=stack.urls[0])
    faults = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path in LEFT_OUT:
            continue
        is_admin = operation.path.startswith("/admin")
        try:
            probe(operation, stack.environment["NIGHTSHIFT_ADMIN_KEY" if is_admin else "NIGHTSHIFT_API_KEY"])
        except Exception as error:  # pylint: disable=broad-except # all faults are told, not the first
            faults.append(f"{operation.method.upper()} {operation.path}: {str(error)[:1500]}")
    assert not faults, "\n\n".join(faults)
    assert stack.api().client.get("/readyz").status_code == 200
